# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role alone diagnoses, and its remedies work when ansible runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from tests.integration.pasting import commands
from tests.integration.playbooks import LOCAL, ROOT, inventory, play, run_playbook
from tests.lab.faults.cache import fill

PLAY = """
- hosts: all
  gather_facts: false
  roles:
    - role: tracktion.ops.cache
"""


REMEDIES = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: tracktion.ops.cache
        tasks_from: "remediate/{{ item.name }}"
      vars:
        tracktion_remedy: {maxmemory: 419430400, pattern: "old:*", database: 0}
        cache_delete_idle_seconds: 0
      loop:
        - {name: set_maxmemory}
        - {name: set_policy}
        - {name: delete_keys}
"""


@pytest.fixture
def hosts(redis8, tmp_path):
    """An inventory of one host whose cache is the server."""
    variables = {"cache_" + name: value for name, value in redis8.login().items()}
    variables.update({name: str(tmp_path / name) for name in ("recovery_directory", "tracktion_state_dir")})
    return inventory(tmp_path / "inventory.yml", {"here": LOCAL}, **variables, tracktion_report_dir=str(tmp_path))


def test_the_role_alone_diagnoses_and_shows_no_password(redis8, hosts, tmp_path):
    with redis8.fault("keys-forever"):
        output = play(PLAY, hosts, tmp_path)
    report = (tmp_path / "report.json").read_text()
    assert "cache.keys_without_ttl" in {finding["id"] for finding in json.loads(report)["findings"]}
    assert redis8.server.password not in report + output


def test_remedies_change_nothing_in_check_mode_and_then_what_it_reported(redis8, hosts, tmp_path):
    client = redis8.redis()
    client.flushall()
    client.config_set("maxmemory", "256mb")
    client.config_set("maxmemory-policy", "noeviction")
    client.mset({"old:1": "x", "old:2": "x", "new:1": "x"})

    def state():
        settings = client.config_get("maxmemory", "maxmemory-policy")
        return int(settings["maxmemory"]), settings["maxmemory-policy"], client.dbsize()

    def backups():
        """Return the number of keys in each backup, the oldest first."""
        found = Store(str(tmp_path / "recovery_directory" / "remedies")).list("redis", "redis")
        return [each.manifest["contents"]["keys_total"] for each in found[::-1]]

    # Both remedies that remove keys make a backup first.
    assert "changed=5 " in play(REMEDIES, hosts, tmp_path, "--check", "--diff")
    assert (state(), backups()) == ((256 << 20, "noeviction", 3), [])
    assert "changed=5 " in play(REMEDIES, hosts, tmp_path)
    assert (state(), backups()) == ((400 << 20, "allkeys-lru", 1), [3, 3])
    assert "changed=0 " in play(REMEDIES, hosts, tmp_path)
    assert backups() == [3, 3]
    # Without a place for the backup, nothing is removed.
    client.set("old:3", "x")
    (tmp_path / "file").touch()
    nowhere = ["-e", "recovery_directory=%s/file/below" % tmp_path]
    deleting = "".join(line for line in REMEDIES.splitlines(True) if "{name: set_" not in line)
    output = play(deleting, hosts, tmp_path, *nowhere, fails=True)
    assert "Nothing was removed, because the backup failed: " in output
    assert client.dbsize() == 2
    assert "changed=1 " in play(deleting, hosts, tmp_path, *nowhere, "-e", "cache_backup_first=false")
    assert client.dbsize() == 1


def test_the_undo_command_of_deleted_keys_restores_them(redis8, hosts, tmp_path):
    """As the report prints it, run in a shell whose inventory is that of the run."""
    client = redis8.redis()
    client.flushall()
    client.set("new:1", "x", ex=3600)
    wanted = {
        "tracktion_sample_seconds": 0.2,
        "tracktion_areas": ["cache"],
        "cache_delete_idle_seconds": 0,
        "cache_delete_max_count": 100000,
        "tracktion_remediate_risk": "destructive",
        "tracktion_confirm": ["cache.delete_keys:0:lab:*"],
    }
    fill(client, "lab:%d", 2000, 8192)
    before = {key: client.dump(key) for key in client.scan_iter(count=1000)}
    run = run_playbook("remediate", hosts, tmp_path, extra=wanted)
    assert client.keys() == [b"new:1"], run.output
    client.set("new:2", "since then")
    (action,) = [each for each in run.report["remediation"]["actions"] if each["remedy"] == "cache.delete_keys"]
    (command,) = commands(action["undo"])
    environment = {"ANSIBLE_INVENTORY": str(hosts), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks/collections")}
    bin_directory = str(Path(sys.executable).parent)
    path = os.pathsep.join((bin_directory, os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, **environment, "PATH": path},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert {key: client.dump(key) for key in client.scan_iter(count=1000)} == before
    held = [number for number in range(1, 16) if redis8.redis(db=number).get("new:2") == b"since then"]
    assert len(held) == 1
    client.flushall()
