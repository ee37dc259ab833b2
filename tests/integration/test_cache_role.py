# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role alone diagnoses, and its remedies do what they say when ansible runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.playbooks import LOCAL, ROOT, inventory

PLAY = """
- hosts: all
  gather_facts: false
  roles:
    - role: tracktion.ops.cache
"""


def ansible(program, *arguments):
    """Run ansible or ansible-playbook from the root of the checkout; its output."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def hosts(redis8, tmp_path):
    """An inventory of one host, whose cache is the server."""
    variables = {"cache_" + name: value for name, value in redis8.login().items()}
    return inventory(tmp_path / "inventory.yml", {"here": LOCAL}, **variables, tracktion_report_dir=str(tmp_path))


def test_the_role_alone_diagnoses_and_shows_no_password(redis8, hosts, tmp_path):
    (tmp_path / "play.yml").write_text(PLAY)
    with redis8.fault("keys-forever"):
        output = ansible("ansible-playbook", tmp_path / "play.yml", "-i", hosts)
    report = (tmp_path / "report.json").read_text()
    assert "cache.keys_without_ttl" in {finding["id"] for finding in json.loads(report)["findings"]}
    assert redis8.server.password not in report + output


def remediate(hosts, name, *arguments, **variables):
    return ansible(
        "ansible",
        "all",
        "-i",
        hosts,
        "-m",
        "ansible.builtin.include_role",
        "-a",
        "name=tracktion.ops.cache tasks_from=remediate/" + name,
        "-e",
        json.dumps(variables),
        *arguments,
    )


def test_each_remedy_does_nothing_in_check_mode_and_then_what_it_said(redis8, hosts):
    client = redis8.redis()
    client.flushall()
    client.config_set("maxmemory", "256mb")
    client.config_set("maxmemory-policy", "noeviction")
    client.mset({"old:1": "x", "old:2": "x", "new:1": "x"})
    cases = [
        (
            "set_maxmemory",
            {"cache_set_maxmemory_bytes": 400 << 20},
            lambda: int(client.config_get("maxmemory")["maxmemory"]),
        ),
        ("set_policy", {}, lambda: client.config_get("maxmemory-policy")["maxmemory-policy"]),
        ("delete_keys", {"cache_delete_pattern": "old:*", "cache_delete_idle_seconds": 0}, client.dbsize),
    ]
    states = []
    for name, variables, state in cases:
        before = state()
        assert "CHANGED" in remediate(hosts, name, "--check", "--diff", **variables)
        assert state() == before
        assert "CHANGED" in remediate(hosts, name, **variables)
        states.append(state())
        assert "SUCCESS" in remediate(hosts, name, **variables)
    assert states == [400 << 20, "allkeys-lru", 1]
