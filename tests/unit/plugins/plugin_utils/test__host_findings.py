# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _host_state
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _host_findings

LIMITS = {name: float(_areas.own_role("visit").defaults[name]) for name in _host_findings.LIMITS}
QUIET = {
    "started": 1000.4, "finished": 1002.4, "cores": 2, "load": [0.1, 0.1, 0.1], "slowdown": 1.02, "waited_seconds": 0.1,
    "waited_of_seconds": 2.0, "pressure": {"cpu_some": 0.9, "memory_full": 0.0, "io_full": None},
}  # fmt: skip


def state(sent=1000.0, received=1002.6, **changes):
    return _host_findings.state({**copy.deepcopy(QUIET), **changes}, sent, received)


def findings(host, covered=()):
    return {each["id"]: each for each in _host_findings.findings("web", "web", host, LIMITS, covered, ["/inv"])}


def test_a_quiet_host_has_no_finding():
    assert findings(state()) == {}
    assert findings(None) == {}


def test_the_state_of_this_machine_has_the_documented_shape():
    measured = _host_state.at_end(_host_state.at_start(), [(0.1, 2.0), (0.5, 1.0)])
    host = _host_findings.state(measured, measured["started"], measured["finished"])
    assert host["skew"] == 0
    assert (host["waited_seconds"], host["waited_of_seconds"]) == (0.5, 1.0)
    assert host["slowdown"] >= 1
    assert _host_findings.state(_host_state.at_end(_host_state.at_start(), []), 0, 0) is not None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"slowdown": 8.5}, "short of CPU: a process took 8.5 times its CPU time"),
        (
            {"waited_seconds": 6.0, "waited_of_seconds": 10.0},
            "short of CPU: a measuring process waited 6.0 s of 10 s",
        ),
        ({"pressure": {"cpu_some": 0, "memory_full": 0.7, "io_full": 0}}, "short of memory"),
        ({"pressure": {"cpu_some": 0, "memory_full": 0, "io_full": 0.7}}, "short of disks"),
    ],
)
def test_a_starved_host_is_one_warning_with_the_ids_of_its_checks(changes, reason):
    (finding,) = findings(state(**changes), ["service_health.slow"]).values()
    assert (finding["id"], finding["status"], finding["object"]) == ("host.starved", "warning", None)
    assert reason in finding["summary"]
    assert "service_health.slow" in finding["summary"]
    assert "`ansible web -i /inv -m ansible.builtin.raw -a 'uptime;" in finding["hint"]


def test_the_hint_of_a_starved_host_refers_to_the_finding_that_names_the_cause():
    ids = ["host_resources.cpu_saturated"]
    (finding,) = _host_findings.findings("web", "web", state(slowdown=8.5), LIMITS, [], ["/inv"], ids)
    assert finding["hint"].startswith("Correct the cause (host_resources.cpu_saturated), then repeat")


@pytest.mark.parametrize(
    ("check_id", "status", "expected"),
    [
        ("host.starved", "warning", True),
        ("host_resources.cpu_saturated", "critical", True),
        ("host_resources.cpu_saturated", "unknown", False),
        ("host_resources.cpu_hog", "warning", False),
        ("database.blocked_sessions", "critical", False),
    ],
)
def test_an_overload_is_a_finding_that_the_host_has_no_capacity_left(check_id, status, expected):
    assert _host_findings.is_overload({"id": check_id, "status": status}) == expected


def test_every_overload_is_a_finding_that_exists():
    ids = {row["id"] for area in _areas.find() for row in area.rows("checks")}
    assert ids | {"host.starved"} >= _host_findings.OVERLOAD


def test_a_short_wait_for_other_areas_is_no_starvation():
    assert findings(state(waited_seconds=1.8, waited_of_seconds=2.0)) == {}


@pytest.mark.parametrize("skew", [-3600.0, -6.0, 6.0, 3600.0])
def test_a_clock_skew_is_a_warning(skew):
    (finding,) = findings(state(started=1000.4 + skew, finished=1002.4 + skew)).values()
    assert (finding["id"], finding["status"]) == ("host.clock_skew", "warning")
    assert finding["observed"]["skew"] == pytest.approx(skew, abs=0.2)
    assert ("ahead of" if skew > 0 else "behind") in finding["summary"]


def test_a_slow_connection_is_no_clock_skew():
    # A late start and an immediate result: the estimate is wrong by half of the round trip.
    assert findings(state(sent=980.0, received=1002.4)) == {}


@pytest.mark.parametrize(
    "measured",
    [None, [], "x", {}, {**QUIET, "load": "x"}, {**QUIET, "started": None}, {**QUIET, "slowdown": float("inf")}],
)
def test_a_malformed_state_is_no_state(measured):
    assert _host_findings.state(copy.deepcopy(measured), 0.0, 1.0) is None


def test_a_host_without_waiting_times_is_compared_by_the_other_values():
    nothing = {"waited_seconds": None, "waited_of_seconds": None, "load": None, "cores": None, "pressure": None}
    assert findings(state(**nothing)) == {}
    assert list(findings(state(**nothing, slowdown=9.0))) == ["host.starved"]
