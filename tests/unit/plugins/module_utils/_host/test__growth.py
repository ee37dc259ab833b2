# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _growth
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context, numbers
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import TICKS, Process, Table
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

ID = "4f1c0d5a9e37" + "0" * 52
# Of a beam.smp on Linux 6.18, from VmPeak to VmSwap.
STATUS = """Name:\tbeam.smp
VmPeak:\t 2230340 kB
VmHWM:\t  125968 kB
VmRSS:\t  124992 kB
RssAnon:\t   64124 kB
RssFile:\t   60868 kB
RssShmem:\t       0 kB
VmSwap:\t    1024 kB
"""
V1 = {
    "memory.usage_in_bytes": "134217728\n",
    "memory.limit_in_bytes": "268435456\n",
    "memory.stat": "cache 999\ntotal_cache 50331648\ntotal_swap 1048576\ntotal_inactive_file 16777216\n"
    "total_active_file 33554432\n",
}
V2 = {
    "memory.current": "134217728\n",
    "memory.max": "268435456\n",
    "memory.swap.current": "1048576\n",
    "memory.stat": "anon 1\nfile 50331648\ninactive_file 16777216\nactive_file 29360128\nslab_reclaimable 4194304\n",
}
UNLIMITED = {
    "memory.usage_in_bytes": {**V1, "memory.limit_in_bytes": "9223372036854771712\n"},
    "memory.current": {**V2, "memory.max": "max\n"},
}


def process(pid, started=500, resident=1 << 20, parent=1):
    return Process(pid, "name", "S", parent, 0, started, 1, resident)


def write(folder, files):
    os.makedirs(folder, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return str(folder)


def context(tmp_path, statuses=()):
    for pid, text in dict(statuses).items():
        write(tmp_path / "proc" / str(pid), {"status": text, "cgroup": "0::/\n"})
    return Context({"docker_root": None, "top": 5}, Deadline(5), Deadline(5), proc=str(tmp_path / "proc"))


def table(*processes):
    found = Table()
    found.update({each.pid: each for each in processes})
    return found


def test_the_memory_of_a_process_is_private_and_swapped():
    assert _growth.private_bytes(numbers(STATUS)) == (64124 + 1024) * 1024


def test_before_linux_4_5_the_resident_size_counts():
    assert _growth.private_bytes({"VmRSS": 10}) == 10240
    assert _growth.private_bytes({}) is None


@pytest.mark.parametrize(
    ("resident", "swapped", "largest", "peak"),
    [(100, 0, 100, True), (97, 0, 100, False), (50, 50, 100, True), (0, 0, 0, True)],
)
def test_the_peak_of_a_process(resident, swapped, largest, peak):
    assert _growth.is_at_peak({"VmRSS": resident, "VmSwap": swapped, "VmHWM": largest}) is peak


def test_without_a_counted_peak_nothing_is_known():
    assert _growth.is_at_peak({"VmRSS": 5}) is None


def test_processes_are_the_largest_and_have_a_key_of_their_own(tmp_path):
    found = _growth.processes(
        context(tmp_path, {7: STATUS, 8: STATUS, 9: STATUS}),
        # 9 is a thread of the kernel; 10 has ended.
        table(process(7), process(8, started=900, resident=2 << 20), process(9, parent=2), process(10)),
    )
    assert [(one.key, one.pid) for one in found] == [("p:8:900", 8), ("p:7:500", 7)]
    assert found[0].used == (64124 + 1024) * 1024
    assert found[0].started == 900 / TICKS
    assert found[0].at_peak is True


def test_processes_are_bounded(tmp_path):
    pids = range(10, 10 + 2 * _growth.MOST_PROCESSES)
    many = context(tmp_path, dict.fromkeys(pids, STATUS))
    assert len(_growth.processes(many, table(*map(process, pids)))) == _growth.MOST_PROCESSES


@pytest.mark.parametrize("files", [V1, V2])
def test_the_memory_of_a_container_is_what_cannot_be_reclaimed(tmp_path, files):
    """Usage less 48 MiB of cache (and slab), and 1 MiB that is swapped out."""
    memory = write(tmp_path / "group", files)
    assert _growth.unreclaimable(memory) == (134217728 - 50331648, 1048576, 268435456)


@pytest.mark.parametrize("files", UNLIMITED.values())
def test_no_limit_is_null(tmp_path, files):
    found = _growth.unreclaimable(write(tmp_path / "group", files))
    assert found is not None
    assert found[2] is None


def test_a_container_that_has_gone_is_left_out(tmp_path):
    groups = {ID: {"memory": str(tmp_path / "gone")}, "b" * 64: {}}
    assert _growth.containers(context(tmp_path), groups, table()) == []


def test_a_container_starts_with_its_first_process(tmp_path):
    memory = write(tmp_path / "group", {**V2, "cgroup.procs": "30\n31\n99\n"})
    processes = table(process(30, started=4000), process(31, started=4500, resident=5 << 20))
    (found,) = _growth.containers(context(tmp_path, {30: STATUS, 31: STATUS}), {ID: {"memory": memory}}, processes)
    assert found.key == "c:4f1c0d5a9e37:%d" % os.stat(memory).st_ino
    assert (found.pid, found.started, found.at_peak) == (31, 4000 / TICKS, True)
    assert found.used == 134217728 - 50331648 + 1048576
    assert (found.limit, found.room) == (268435456, 268435456 - (134217728 - 50331648))


def test_a_container_without_visible_processes_has_no_start(tmp_path):
    memory = write(tmp_path / "group", V2)
    (found,) = _growth.containers(context(tmp_path), {ID: {"memory": memory}}, table())
    assert (found.pid, found.started, found.at_peak) == (None, None, None)


def part(**how):
    found = {"mount_point": "/srv", "source": "/dev/sda1", "type": "ext4", "device": 1, "in_memory": False}
    return {**found, "container": None, "read_only": False, "used_bytes": 5, "available_bytes": 7, **how}


def test_file_systems_that_can_fill():
    parts = [part(), part(read_only=True), part(used_bytes=None), part(in_memory=True, container="web-1")]
    assert [(one.key, one.used, one.room) for one in _growth.file_systems(parts)] == [
        ("disk /srv /dev/sda1 ", 5, 7),
        ("memory /srv /dev/sda1 web-1", 5, 7),
    ]


def test_file_systems_are_measured_again(tmp_path):
    parts = [part(mount_point=str(tmp_path)), part(container="web-1"), part(mount_point=str(tmp_path / "gone"))]
    (found,) = _growth.again(context(tmp_path), _growth.file_systems(parts), 1.0)
    sizes = os.statvfs(tmp_path)
    assert found.used == pytest.approx((sizes.f_blocks - sizes.f_bfree) * sizes.f_frsize, rel=0.05)
    assert found.room == pytest.approx(sizes.f_bavail * sizes.f_frsize, rel=0.05)
