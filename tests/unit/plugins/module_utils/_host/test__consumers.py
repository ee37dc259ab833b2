# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What uses the most, with and without hidden processes."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host import _consumers
from tests.unit.plugins.module_utils._host.trees import context, process, table

ID = "126e9272ccad5f013e656348d3d5c0d5e3e724c610a990958f35b8afbc11f96b"
COMMON = {"user": "root", "unit": None, "service": None, "project": None, "own": False, "proportional_bytes": None}
IN_CONTAINER = {
    **COMMON, "pid": 70, "command": "python3 -m analysis", "container": "music-analysis-1", "service": "analysis",
    "cpu_ratio": 0.5, "cpu_of_host_ratio": 0.125, "resident_bytes": 1000000,
}  # fmt: skip
OUTSIDE = {
    **COMMON, "pid": 80, "command": "postgres:", "container": None, "cpu_ratio": 0.75, "cpu_of_host_ratio": 0.1875,
    "resident_bytes": 5000000,
}  # fmt: skip
OWN = {**OUTSIDE, "pid": 95, "command": "python3", "cpu_ratio": 3.0, "own": True}
CONTAINER = {
    "id": ID, "container": "music-analysis-1", "service": "analysis", "project": "music", "cpu_ratio": 0.6,
    "cpu_of_host_ratio": 0.15, "memory_bytes": 7000000,
}  # fmt: skip
PROCESSES = {"by_cpu": [OWN, OUTSIDE, IN_CONTAINER], "by_memory": [OUTSIDE, IN_CONTAINER]}


def test_consumers_are_containers_and_processes_outside_of_them():
    found = _consumers.by_cpu(PROCESSES, [CONTAINER], _consumers.Demand({}, {}, {}), 1.5, 10)
    assert [(item["kind"], item["name"], item["pid"]) for item in found] == [
        ("process", "postgres: (pid 80)", 80),
        ("container", "music-analysis-1", 70),
    ]
    assert (found[1]["service"], found[1]["command"]) == ("analysis", "python3 -m analysis")
    assert [item["demand_ratio"] for item in found] == [0.5, 0.4]
    found = _consumers.by_memory(PROCESSES, [CONTAINER], 1)
    assert [(item["name"], item["memory_bytes"]) for item in found] == [("music-analysis-1", 7000000)]


def test_many_runnable_processes_ask_for_more_than_they_get():
    wanted = _consumers.Demand({ID: 30.0}, {80: 1.0}, {ID: {**COMMON, "pid": 71, "command": "sh -c"}})
    first, second = _consumers.by_cpu(PROCESSES, [CONTAINER], wanted, 40.0, 10)
    assert (first["name"], first["runnable"], first["demand_ratio"]) == ("music-analysis-1", 30.0, 0.75)
    assert (second["runnable"], second["demand"]) == (1.0, 1.0)
    # The busiest process is named, else one that waits.
    assert (first["pid"], first["command"]) == (70, "python3 -m analysis")
    (alone,) = _consumers.by_cpu({"by_cpu": []}, [CONTAINER], wanted, 40.0, 10)
    assert (alone["pid"], alone["command"]) == (71, "sh -c")
    # More than were counted for the whole host: two looks that differ.
    assert _consumers.by_cpu(PROCESSES, [CONTAINER], wanted, 20.0, 10)[0]["demand_ratio"] == 1.0
    assert _consumers.by_cpu(PROCESSES, [CONTAINER], wanted, None, 10)[0]["demand_ratio"] is None


def test_the_demand_is_the_mean_of_both_samples_without_this_diagnosis(tmp_path):
    made = context(tmp_path, {"proc/%d/cgroup" % pid: "0::/docker/%s\n" % ID for pid in (5, 6)})
    made.first = table(process(5, state="R"), process(6, state="S"), process(7, state="R"), process(8, state="R"))
    made.second = table(process(5, state="R"), process(6, state="R"), process(7, state="D"))
    made.__dict__["own"] = frozenset((8,))
    found = _consumers.demand(made)
    assert (found.of_container, found.of_process) == ({ID: 1.5}, {7: 0.5})
    assert found.example[ID]["pid"] in (5, 6)


def test_with_hidden_processes_the_largest_is_certain_only_with_half_of_all():
    items = [{"demand": 4.0}]
    assert _consumers.certain(items, "demand", 9.0, False) == items[0]
    assert _consumers.certain(items, "demand", 9.0, True) is None
    assert _consumers.certain(items, "demand", 7.0, True) == items[0]
    assert _consumers.certain(items, "demand", None, True) is None
    assert _consumers.certain([], "demand", 7.0, False) is None
