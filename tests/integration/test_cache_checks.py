# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the cache fires on a real fault, and stays quiet without it."""

from __future__ import annotations

import pytest

from tests.integration import redis_lab
from tests.lab import faults
from tests.lab.servers import redis_server

FAULTS = {name: fault for name, fault in faults.every().items() if fault.area == "cache"}
CASES = [(name, check) for name, fault in FAULTS.items() for check in fault.fires]

# Where a fault needs a threshold of its own to show in a test.
SETTINGS = {
    "save-overdue": {"cache_rdb_age_warning": 0},
    "keys-many": {"cache_distribution": "whole", "cache_deadline": 1},
    # Seconds, not what a person would wait for.
    "redis-hanging": {"cache_timeout": 0.3},
}
# Checks that are no surprise on a machine whose memory and huge pages are not ours.
LOUD = ("critical", "warning", "unknown")


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def lab(request):
    with redis_server(request.param, "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru") as server:
        yield redis_lab.Lab(server)


def loud(found):
    return {finding["id"] for finding in found if finding["status"] in LOUD}


def test_nothing_fires_on_a_healthy_server(lab):
    assert redis_lab.findings(lab.server) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(lab, name):
    before = {finding["id"] for finding in redis_lab.findings(lab.server)}
    with faults.injected(name, lab):
        found = redis_lab.findings(lab.server, **SETTINGS.get(name, {}))
        fired = {finding["id"] for finding in found if finding["status"] != "unknown"}
    expected = set(FAULTS[name].fires)
    assert expected <= fired
    assert not expected & before


def test_every_check_has_a_fault():
    assert {check.id for check in redis_lab.CHECKS} == {check for fault in FAULTS.values() for check in fault.fires}
