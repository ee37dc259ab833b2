# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the cache fires on a real fault, and does not fire without it."""

from __future__ import annotations

import shlex

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks
from tests.integration.followed_hints import CACHE
from tests.integration.following import Operator, follow
from tests.integration.pasting import commands
from tests.integration.redis_lab import cache
from tests.lab import faults
from tests.lab.shell import run, wait_until

CHECKS = {check.id for check in _checks.load(_areas.find(["cache"])[0])}
FAULTS = {name: fault for name, fault in faults.every().items() if fault.area == "cache"}
# These come first: memory that the allocator keeps after other faults would fire their checks.
FIRST = ("fragmented", "memory-peak")
ORDER = [*FIRST, *(name for name in FAULTS if name not in FIRST)]
# Faults for which Redis 7.0 and 8.0 reply or count differently.
DIFFERENT_ON_8 = (
    *FIRST,
    "aof-failing",
    "client-not-reading",
    "clients-blocked",
    "evicting",
    "latency-events",
    "lookups-missing",
    "memory-full",
    "replica-stuck",
    "save-failing",
)
CASES = [("bookworm", name) for name in ORDER] + [("trixie", name) for name in DIFFERENT_ON_8]

# Checks of servers that are started for them: test_cache_servers.py.
ELSEWHERE = {
    "cache.cluster_node",
    "cache.cluster_state",
    "cache.intrusion_signs",
    "cache.open_without_password",
}

# For faults that need too much time, or more than the machine has.
SETTINGS = {
    "save-overdue": {"cache_rdb_age_warning": 0},
    "keys-many": {"cache_distribution": "whole", "cache_deadline": 0.7},
    "replica-stuck": {"cache_replica_lag_warning": 2},
    "redis-hanging": {"cache_timeout": 0.3},
    # Other work on the machine uses the core too.
    "command-busy": {"cache_cpu_warning": 0.05, "cache_command_busy_warning": 0.2, "tracktion_sample_seconds": 1},
}


@pytest.fixture(scope="module")
def fresh(request):
    """A server of the suite that no other test file uses."""
    with cache(request.param) as found:
        yield found


def fired(found):
    """Return the ids of the checks that fired."""
    return {name for name, findings in found.items() if any(finding["status"] != "unknown" for finding in findings)}


@pytest.mark.parametrize("fresh", ["bookworm", "trixie"], indirect=True)
def test_no_check_fires_on_a_healthy_server(fresh):
    assert fresh.findings() == {}


@pytest.mark.parametrize(("fresh", "name"), CASES, indirect=["fresh"])
def test_a_fault_fires_its_checks_and_they_do_not_fire_without_it(fresh, name):
    expected = set(FAULTS[name].fires)
    # The allocator takes a moment to return the memory of the fault before.
    fresh.redis().memory_purge()
    wait_until(lambda: not expected & fired(fresh.findings()), "quiet", 10)
    with fresh.fault(name):
        found = fresh.findings(**SETTINGS.get(name, {}))
        assert expected <= fired(found)
        for check in expected:
            assert found[check][0]["summary"] != found[check][0]["title"]
        if fresh.server.suite == "bookworm":
            operator = Operator(container=fresh.server.name, redis_password=fresh.server.password)
            follow(operator, CACHE[name], found, lambda: fresh.findings(**SETTINGS.get(name, {})))


def test_every_check_has_a_fault():
    assert {check for fault in FAULTS.values() for check in fault.fires} | ELSEWHERE == CHECKS


def test_a_missing_server_is_one_finding_and_all_other_checks_are_unknown(redis8):
    found = redis8.findings(cache_login_port=1)
    assert found.pop("cache.unreachable")[0]["status"] == "critical"
    assert set(found) == CHECKS - {"cache.unreachable"}
    assert {finding["status"] for findings in found.values() for finding in findings} == {"unknown"}


def test_the_hint_for_a_paused_server_names_the_variable_and_shows_the_container(redis8):
    with redis8.fault("redis-hanging"):
        (finding,) = redis8.findings(cache_timeout=0.5)["cache.unreachable"]
        assert "Raise `cache_timeout`" in finding["hint"]
        paused, processes = commands(finding["hint"])
        assert redis8.server.name in redis8.docker(*paused.split()[1:])
    assert redis8.server.name not in redis8.docker(*paused.split()[1:])
    assert "redis-server" in run(*shlex.split(processes))


def test_a_remedy_gets_its_variables_from_the_evidence(redis8):
    with redis8.fault("keys-forever"):
        (finding,) = redis8.findings(cache_delete_idle_seconds=0)["cache.keys_without_ttl"]
    assert finding["remedy"]["vars"] == {"pattern": "lab:*", "database": 0}
    with redis8.fault("memory-unbounded"):
        (finding,) = redis8.findings()["cache.maxmemory_unset"]
    assert finding["remedy"]["risk"] == "disruptive"
    assert finding["remedy"]["vars"]["maxmemory"] > 10**9
