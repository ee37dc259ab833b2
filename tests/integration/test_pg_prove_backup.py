# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module pg_prove_backup against real servers."""

from __future__ import annotations

import json
import subprocess

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from tests.integration.modules import run_module
from tests.integration.recovery_databases import backed_up, module_options, rich

NAME = "proof_source"


@pytest.fixture(scope="module", params=["pg15", "pg17"])
def source(request, tmp_path_factory):
    """A database with one of everything, and a directory with a backup of it."""
    pg = request.getfixturevalue(request.param)
    directory = tmp_path_factory.mktemp("backups")
    with rich(pg, NAME):
        artefact = backed_up(pg, NAME, directory)
        yield pg, directory, artefact


def prove(pg, directory, check=False, **options):
    return run_module("pg_prove_backup", module_options(pg, NAME, directory, **options), check=check)


def proof(artefact):
    return json.loads(artefact.path and open(artefact.path + "/proof.json").read())


def scratches(pg):
    return pg.psql("select count(*) from pg_database where datname like 'tracktion_ops_%'")


def containers():
    listed = ["docker", "ps", "--all", "--quiet", "--filter", "label=tracktion.ops.scratch"]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("scratch", ["container", "server"])
def test_a_good_backup_is_proven(source, scratch):
    pg, directory, artefact = source
    planned = prove(pg, directory, check=True, scratch=scratch)
    assert (planned["result"], planned["changed"]) == ("planned", True)
    assert planned["space"]["free"] > planned["space"]["needed"] > 0
    found = prove(pg, directory, scratch=scratch)
    assert not found.get("failed"), found["msg"]
    assert found["result"] == proof(artefact)["result"] == "proven"
    assert (Store(str(directory)).list("postgresql", NAME)[0]).proven
    assert scratches(pg) == "0"
