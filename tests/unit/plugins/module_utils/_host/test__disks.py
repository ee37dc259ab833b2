# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disks, from recorded text of /proc/diskstats."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _disks
from tests.unit.plugins.module_utils._host.trees import context, table

FIRST = """\
   7       0 loop0 1189 0 20068 185 87 0 174 118 0 284 406 0 0 0 0 87 102
   7       1 loop1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
   8       0 sda 1000 10 80000 4000 2000 20 160000 9000 0 10000 13000
   8       1 sda1 1000 10 80000 4000 2000 20 160000 9000 0 10000 13000
 259       0 nvme0n1 5000 0 400000 900 7000 0 800000 2100 1 2500 3000
 259       1 nvme0n1p1 5000 0 400000 900 7000 0 800000 2100 0 2500 3000
 253       0 zram0 10 0 80 0 5 0 40 0 0 0 0
 252       0 dm-0 100 0 800 10 50 0 400 10 0 20 20
   1       0 ram0 3 0 24 0 0 0 0 0 0 0 0
"""
# Two seconds later: 100 reads and 100 writes of sda took 20 s together.
SECOND = FIRST.replace(
    "sda 1000 10 80000 4000 2000 20 160000 9000 0 10000 13000",
    "sda 1100 10 81000 9000 2100 20 162000 24000 9 12000 33000",
)
DEVICES = ("loop0", "loop1", "sda", "nvme0n1", "zram0", "dm-0", "ram0")


def described(folder, first, second):
    files = {"sys/block/%s/queue/rotational" % name: "0\n" for name in DEVICES}
    files.update({"sys/block/sda/queue/rotational": "1\n", "sys/block/sda/size": "1000\n"})
    made = context(folder, files)
    made.first, made.second = table(at=1.0), table(at=3.0)
    samples = [_disks.sample(context(folder, {"proc/diskstats": text})) for text in (first, second)]
    return _disks.describe(made, *samples)


def test_whole_devices_that_were_used_are_listed_the_busiest_first(tmp_path):
    found = described(tmp_path, FIRST, SECOND)
    assert [item["name"] for item in found["disks"]] == ["sda", "loop0", "nvme0n1", "dm-0"]
    assert found["disks_total"] == 4
    assert [item["name"] for item in found["disks"] if item["stacked"]] == ["loop0", "dm-0"]


def test_the_figures_are_those_of_iostat(tmp_path):
    disk = described(tmp_path, FIRST, SECOND)["disks"][0]
    assert disk["utilisation_ratio"] == 1.0
    assert disk["queue_length"] == 10.0
    assert (disk["reads_per_second"], disk["writes_per_second"]) == (50, 50)
    assert (disk["read_bytes_per_second"], disk["written_bytes_per_second"]) == (256000, 512000)
    assert (disk["read_latency_seconds"], disk["write_latency_seconds"]) == (0.05, 0.15)
    assert disk["latency_seconds"] == 0.1
    assert (disk["in_flight"], disk["requests"]) == (9, 200)
    assert (disk["rotational"], disk["parallel"], disk["size_bytes"]) == (True, False, 512000)


def test_without_a_request_there_is_no_latency(tmp_path):
    disk = described(tmp_path, FIRST, SECOND)["disks"][2]
    assert (disk["name"], disk["latency_seconds"], disk["utilisation_ratio"]) == ("nvme0n1", None, 0)
    assert disk["parallel"]


@pytest.mark.parametrize(
    "later",
    [
        # A reboot, or another disk of the name.
        FIRST.replace("sda 1000", "sda 3"),
        # The time of writes has wrapped at 2^32 ms.
        SECOND.replace("24000 9 12000", "100 9 12000"),
    ],
)
def test_a_reset_counter_gives_no_figure(tmp_path, later):
    (disk,) = (item for item in described(tmp_path, FIRST, later)["disks"] if item["name"] == "sda")
    for name in ("utilisation_ratio", "queue_length", "reads_per_second", "latency_seconds", "requests"):
        assert disk[name] is None, name


def test_a_new_device_has_no_rate(tmp_path):
    (disk,) = (item for item in described(tmp_path, "", FIRST)["disks"] if item["name"] == "sda")
    assert disk["reads_per_second"] is None
    assert disk["in_flight"] == 0


def test_a_kernel_without_the_table_is_noted_once(tmp_path):
    made = context(tmp_path)
    assert [made.part("disks", _disks.sample) for _each in range(2)] == [None, None]
    (unknown,) = made.unknown.parts
    assert unknown["part"] == "disks"
    assert "No such file" in unknown["reason"]
