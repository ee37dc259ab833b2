# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventories: what YAML reads is what was meant."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from tests.lab import inventory
from tests.lab.stack import PASSWORDS, PORTS


@pytest.fixture
def stack(tmp_path):
    return SimpleNamespace(
        project="tracktion-lab",
        directory=tmp_path,
        watched_directory=tmp_path / "music",
        ports={name: 20000 + number for number, name in enumerate(PORTS)},
        passwords={owner: f"of {owner}" for owner in PASSWORDS},
    )


@pytest.mark.parametrize(
    "value",
    [
        {"text": "yes", "number": 7, "truth": True, "nothing": None},
        {"list": ["a: b", "- c", "#d", "{{ e }}"], "nested": {"f": {"g": [1, 2]}}},
        {"empty": {}, "none": []},
    ],
)
def test_what_is_written_reads_back_the_same(value):
    assert yaml.safe_load(inventory.as_yaml(value)) == value


def test_the_lab_host_reaches_published_ports_on_loopback(stack):
    host = yaml.safe_load(inventory.of_stack(stack))["all"]["hosts"]["lab"]

    assert host["ansible_connection"] == "local"
    assert (host["database_login_host"], host["database_login_port"]) == ("127.0.0.1", stack.ports["postgres"])
    assert host["database_login_password"] == "of operator"


def test_managed_hosts_reach_services_by_name(stack, tmp_path):
    hosts = {"host-01": {"ansible_host": "192.0.2.1"}}
    fleet = yaml.safe_load(inventory.of_hosts(stack, hosts, tmp_path / "key"))["fleet"]

    assert fleet["hosts"] == hosts
    assert (fleet["vars"]["cache_login_host"], fleet["vars"]["cache_login_port"]) == ("redis", 6379)


def test_both_views_set_the_same_variables(stack):
    assert inventory.variables(stack).keys() == inventory.variables(stack, inside=True).keys()
