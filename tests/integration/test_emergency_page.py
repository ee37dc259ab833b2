# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/emergency.md: every command of the page, in its order, on a stack whose database volume was deleted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.following import Operator
from tests.integration.playbooks import ROOT

COMMAND = re.compile(r"^ *\$ (.+)$", re.MULTILINE)
# Where the volume is deleted: before the commands that bring its data back.
LOST = "## The data of PostgreSQL is lost or wrong"
# A table of this test, which the image of the server does not create again.
TABLES = ("artists", "albums", "kept")


def contents(lab):
    """Return what the tables hold, as the server says."""
    hashed = "select md5(string_agg(t::text, '' order by t::text)) from %s t"
    return [lab.psql(hashed % table) for table in TABLES]


@pytest.fixture
def kept(lab):
    """A table in the database of the stack; when the test ends, the database is the one without it."""
    lab.wait_healthy()
    lab.psql("create table kept as select n, md5(n::text) as value from generate_series(1, 1000) n")
    yield
    for name in lab.psql("select datname from pg_database where datname ~ '^tracktion_'").split():
        lab.psql('drop database "%s"' % name)
    lab.psql("drop table if exists kept")
    lab.wait_healthy()


class Reader:
    """A person who copies the commands of the page, in the directory of the compose file."""

    def __init__(self, lab, directory):
        self.lab, self.directory = lab, directory
        hosts = yaml.safe_load(lab.inventory.read_text())
        hosts["all"]["vars"] = {
            **hosts["all"].get("vars", {}),
            "tracktion_compose_project": lab.project,
            "tracktion_report_dir": str(directory / "reports"),
            "tracktion_state_dir": str(directory / "state"),
            # The tests themselves keep this machine busy.
            "tracktion_starved_slowdown": 1e9,
            "tracktion_areas": ["containers", "database", "recovery"],
            "recovery_directory": str(directory / "backups"),
            "recovery_products": ["postgresql"],
            "recovery_row_hashes": True,
            "recovery_superuser": "postgres",
            "recovery_superuser_password": lab.passwords["superuser"],
            "recovery_accept_cve": ["CVE-2026-116314"],
        }
        self.hosts = directory / "hosts.yml"
        self.hosts.write_text(yaml.safe_dump(hosts))

    def run(self, command):
        """Run one command of the page, which must succeed; return what it prints."""
        environment = {
            **Operator().environment(),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks/collections"),
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), Operator().environment()["PATH"])),
        }
        done = subprocess.run(
            ["bash", "-c", command.replace("hosts.yml", str(self.hosts))],
            cwd=self.lab.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, (command, done.stdout[-3000:] + done.stderr[-2000:])
        return done.stdout

    def report(self, name):
        """Return the items of a report about backups."""
        return json.loads((self.directory / "reports" / (name + ".json")).read_text())["items"]


def test_the_page_brings_a_lost_database_back(lab, kept, tmp_path):
    page = (ROOT / "docs/emergency.md").read_text(encoding="utf-8")
    before, after = (COMMAND.findall(part) for part in page.split(LOST))
    reader = Reader(lab, tmp_path)
    committed = contents(lab)
    for command in before:
        reader.run(command)
    assert [item["result"] for item in reader.report("prove")] == ["proven"]

    # The server still answers.
    look, *rest = after
    reader.run(look)
    lab.docker("rm", "--force", lab.container("postgres"))
    lab.docker("volume", "rm", "%s_postgres-data" % lab.project)
    for command in rest:
        if "recovery_undo" in command:
            assert contents(lab) == committed
        reader.run(command)
    # The last command went back to the database of the new server.
    assert lab.psql("select to_regclass('kept') is null").strip() == "t"
    aside = [name for name in lab.psql("select datname from pg_database").split() if "_undone_" in name]
    assert len(aside) == 1, aside
