# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the cache fires on a real fault, and stays quiet without it."""

from __future__ import annotations

import pytest

from tests.integration import redis_lab
from tests.lab import faults
from tests.lab.servers import redis_server
from tests.lab.shell import wait_until

FAULTS = {name: fault for name, fault in faults.every().items() if fault.area == "cache"}
# A server remembers its peak: the fault that makes one comes first.
ORDER = sorted(FAULTS, key=lambda name: name != "memory-peak")

# Where a fault needs a threshold of its own to show in a test.
SETTINGS = {
    "save-overdue": {"cache_rdb_age_warning": 0},
    "keys-many": {"cache_distribution": "whole", "cache_deadline": 1},
    "replica-stuck": {"cache_replica_lag_warning": 2},
    "redis-hanging": {"cache_timeout": 0.3},
    # Other work on the machine takes its share of the core.
    "command-busy": {"cache_cpu_warning": 0.3, "cache_command_busy_warning": 0.3},
}


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def lab(request):
    with redis_server(request.param, "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru") as server:
        yield redis_lab.Lab(server)


def test_nothing_fires_on_a_healthy_server(lab):
    assert redis_lab.findings(lab.server) == []


def ids(server, **settings):
    return {finding["id"] for finding in redis_lab.findings(server, **settings) if finding["status"] != "unknown"}


@pytest.mark.parametrize("name", ORDER)
def test_a_fault_is_found_and_nothing_is_found_without_it(lab, name):
    expected = set(FAULTS[name].fires)
    # The allocator takes a moment to give back what the fault before has used.
    lab.redis().memory_purge()
    wait_until(lambda: not expected & ids(lab.server), "quiet", 10)
    with faults.injected(name, lab):
        assert expected <= ids(lab.server, **SETTINGS.get(name, {}))


def test_every_check_has_a_fault():
    assert {check.id for check in redis_lab.CHECKS} == {check for fault in FAULTS.values() for check in fault.fires}
