# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection is found as a plain clone, installed, and as an AWX project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas
from tests.integration.playbooks import LOCAL, ROOT, inventory

BIN = Path(sys.executable).parent


def run(*command, cwd, **environment):
    done = subprocess.run(
        [str(BIN / command[0]), *map(str, command[1:])],
        cwd=cwd,
        env={**{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of this checkout in a folder whose name has a space."""
    target = tmp_path_factory.mktemp("some where") / "clone"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        source, copy = ROOT / name, target / name
        if source.is_symlink() or source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    return target


@pytest.fixture
def arguments(tmp_path):
    """Arguments to diagnose the inotify limits of this machine, which needs no server."""
    hosts = inventory(tmp_path / "hosts.yml", {"here": LOCAL})
    return ["-i", hosts, "-e", '{"tracktion_areas": ["file_watching"], "tracktion_report_dir": "%s"}' % tmp_path]


def test_a_plain_clone_diagnoses(clone, arguments):
    code, output = run("ansible-playbook", "playbooks/diagnose.yml", *arguments, cwd=clone)
    assert code == 0, output
    assert "file_watching" in output


def test_a_plain_clone_diagnoses_from_any_directory(clone, arguments, tmp_path):
    code, output = run("ansible-playbook", clone / "playbooks" / "diagnose.yml", *arguments, cwd=tmp_path)
    assert code == 0, output
    assert "file_watching" in output


def test_a_built_and_installed_collection_diagnoses_by_name(clone, arguments, tmp_path):
    code, output = run("ansible-galaxy", "collection", "build", clone, "--output-path", tmp_path, cwd=tmp_path)
    assert code == 0, output
    (archive,) = tmp_path.glob("tracktion-ops-*.tar.gz")
    code, output = run("ansible-galaxy", "collection", "install", archive, "-p", tmp_path / "here", cwd=tmp_path)
    assert code == 0, output
    code, output = run(
        "ansible-playbook",
        "tracktion.ops.diagnose",
        *arguments,
        cwd=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "here"),
    )
    assert code == 0, output
    assert "file_watching" in output


def test_a_plain_clone_can_be_installed(clone, tmp_path):
    """Also with its own ansible.cfg: the collection in the clone does not count as installed."""
    code, output = run("ansible-galaxy", "collection", "install", ".", cwd=clone, HOME=str(tmp_path))
    assert code == 0, output
    assert "tracktion.ops:%s was installed successfully" % _areas.version() in output
    installed = tmp_path / ".ansible" / "collections" / "ansible_collections" / "tracktion" / "ops"
    assert (installed / "playbooks" / "diagnose.yml").is_file()
    assert not installed.is_symlink()


def test_as_a_project_of_awx_the_playbook_finds_the_collection_beside_it(clone, arguments, tmp_path):
    """As in a job: the collections path of AWX, and a playbook of the project."""
    code, output = run(
        "ansible-playbook",
        "playbooks/diagnose.yml",
        *arguments,
        cwd=clone,
        ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "requirements_collections"),
    )
    assert code == 0, output
    assert "file_watching" in output
