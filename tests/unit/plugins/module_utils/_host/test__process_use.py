# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who uses the CPU and the memory."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host import _process_use
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import TICKS
from tests.unit.plugins.module_utils._host.trees import context, process, table

ID = "126e9272ccad5f013e656348d3d5c0d5e3e724c610a990958f35b8afbc11f96b"
CONFIG = (
    """{"ID": "%s", "Name": "/music-analysis-1", "State": {"Running": true, "StartedAt": "2026-01-01T00:00:00Z"},
"Config": {"Labels": {"com.docker.compose.service": "analysis", "com.docker.compose.project": "music"}},
"NetworkSettings": {"Ports": {"8001/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9001"}], "1/tcp": null}}}"""
    % ID
)
FILES = {
    "proc/70/cmdline": b"/usr/bin/python3\0-m\0analysis\0--password=hunter2\0",
    "proc/70/cgroup": "0::/system.slice/docker-%s.scope\n" % ID,
    "proc/70/smaps_rollup": "55-7f [rollup]\nRss: 900 kB\nPss: 800 kB\n",
    "proc/80/cmdline": b"postgres: writer\0",
    "proc/80/cgroup": "12:memory:/user.slice\n0::/system.slice/postgresql@17-main.service\n",
    "proc/90/cmdline": b"",
    "docker/containers/%s/config.v2.json" % ID: CONFIG,
}


def made(folder):
    found = context(folder, FILES)
    found.first = table(
        process(70, "python3", ticks=0, size=900000), process(80, ticks=50), process(90, "kworker", parent=2), at=1.0
    )
    found.second = table(
        process(70, "python3", "R", ticks=2 * TICKS, size=1000000),
        process(80, ticks=50 + TICKS // 2, size=5000000),
        process(90, "kworker", "D", parent=2),
        # Started in the interval, with the pid of no other process.
        process(95, "short", ticks=TICKS // 4),
        at=3.0,
    )
    found.__dict__["own"] = frozenset((95,))
    return found


def test_the_cpu_time_of_the_interval_is_attributed(tmp_path):
    context = made(tmp_path)
    found = _process_use.describe(context, _process_use.proportional(context), 4, 10000000)
    by_cpu = found["by_cpu"]
    assert [(item["pid"], item["cpu_ratio"]) for item in by_cpu] == [(70, 1.0), (80, 0.25), (95, 0.125)]
    first = by_cpu[0]
    assert (first["command"], first["container"], first["service"], first["project"]) == (
        "python3 -m analysis", "music-analysis-1", "analysis", "music",
    )  # fmt: skip
    assert first["cpu_of_host_ratio"] == 0.25
    assert (first["proportional_bytes"], first["memory_ratio"]) == (800 * 1024, 0.0819)
    assert (by_cpu[1]["command"], by_cpu[1]["unit"]) == ("postgres:", "postgresql@17-main.service")
    assert (by_cpu[2]["command"], by_cpu[2]["own"]) == ("short", True)
    assert [item["pid"] for item in found["by_memory"]] == [80, 70]
    assert (found["total"], found["kernel"], found["running"], found["blocked"]) == (4, 1, 1, 1)
    assert found["cpu_ratio"] == 1.375


def test_the_pid_of_another_process_counts_from_its_start():
    first, second = table(process(7, ticks=500, started=1)), table(process(7, ticks=10, started=2))
    assert _process_use.cpu(first, second, 1.0) == {7: 10 / TICKS}
    # The counter of one process never falls, but if it does it is not known.
    assert _process_use.cpu(table(process(7, ticks=500)), table(process(7, ticks=10)), 1.0) == {}


def test_a_process_is_stuck_if_it_waits_in_both_samples_and_does_nothing():
    waits, works = process(5, state="D", ticks=3), process(6, state="D", ticks=3)
    second = table(waits, works._replace(ticks=4), process(7, state="D"))
    assert _process_use.stuck(table(waits, works), second) == [waits]


def test_the_container_that_publishes_a_port_is_known(tmp_path):
    assert made(tmp_path).publisher("tcp", 9001)["container"] == "music-analysis-1"
    assert made(tmp_path).publisher("udp", 9001)["container"] is None
