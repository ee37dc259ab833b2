# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _kernel_log

OOM = "a" * 64


class Engine:
    def container(self, identity):
        return {"name": "hungry"} if identity == OOM else {"name": None}


# Formats of kernels 5.10 to 6.18.
RECORDS = [
    ("oom_kill", "python3", "Memory cgroup out of memory: Killed process 4711 (python3) total-vm:100kB, anon-rss:7kB"),
    ("oom_kill", "java", "Out of memory: Killed process 12 (java) total-vm:100kB, oom_score_adj:0"),
    ("oom_kill", "mysqld", "Out of memory: Kill process 12 (mysqld) score 900 or sacrifice child"),
    ("io_error", "sda", "blk_update_request: I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1"),
    ("io_error", "loop0", "I/O error, dev loop0, sector 16384 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0"),
    ("io_error", "nvme0n1", "critical medium error, dev nvme0n1, sector 12 op 0x0:(READ) flags 0x80700"),
    ("io_error", "sdb1", "Buffer I/O error on dev sdb1, logical block 0, lost async page write"),
    ("io_error", "loop0", "EXT4-fs error (device loop0): ext4_find_entry:1455: inode #2: comm ls: reading directory"),
    ("io_error", "dm-0", "XFS (dm-0): metadata I/O error in xfs_trans_read_buf_map at daddr 0x2 len 1 error 5"),
    ("io_error", "ata1.00", "ata1.00: failed command: READ FPDMA QUEUED"),
    ("io_error", "nvme0", "nvme nvme0: I/O 12 QID 3 timeout, aborting"),
    ("read_only_fs", "loop0", "EXT4-fs (loop0): Remounting filesystem read-only"),
    ("read_only_fs", "sda1", "BTRFS info (device sda1 state E): forced readonly"),
    ("read_only_fs", "dm-0", "XFS (dm-0): Filesystem has been shut down due to log error (0x2)."),
    ("hung_task", "jbd2/sda1-8", "INFO: task jbd2/sda1-8:233 blocked for more than 120 seconds."),
    ("hung_task", "dd", "INFO: task dd:99 <writer> blocked in I/O wait for more than 241 seconds."),
    ("segfault", "python3", "python3[77]: segfault at 0 ip 00007f sp 00007f error 4 in libc.so.6[7f+15]"),
    ("segfault", "a b", "a b[77]: segfault at 0 ip 00007f sp 00007f error 4"),
    ("segfault", "essentia", "traps: essentia[5] general protection fault ip:7f sp:7f error:0 in libessentia.so"),
    ("segfault", "x", "traps: x[5] trap invalid opcode ip:7f sp:7f error:0 in x[400]"),
    ("conntrack_full", "nf_conntrack", "nf_conntrack: nf_conntrack: table full, dropping packet"),
]


def grouped(*records, begin=1000):
    return _kernel_log.grouped(list(records), begin, 1000.0, Engine(), 10)


@pytest.mark.parametrize(("kind", "name", "text"), RECORDS)
def test_records_of_the_kernel(kind, name, text):
    (group,) = grouped("3,5,2500000,-;" + text)["groups"]
    assert (group["kind"], group["object"], group["count"], group["last"]) == (kind, name, 1, 1002.5)


@pytest.mark.parametrize(
    "record",
    [
        "11,5,2500000,-;Out of memory: Killed process 1 (written by a program)",
        "6,5,2500000,-;eth0: link up",
        "6,5,2500000,-;EXT4-fs (loop0): re-mounted. Opts: errors=remount-ro",
        "nonsense",
        "3,5,x,-;I/O error, dev sda, sector 1",
    ],
)
def test_other_records_are_ignored(record):
    assert grouped(record)["groups"] == []


def test_kill_names_the_container():
    found = grouped(
        "6,7,1000000,-;oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/docker/%s,task_memcg=/x,task=py,pid=42,uid=0"
        % OOM,
        "3,8,1000100,-;Memory cgroup out of memory: Killed process 42 (py) total-vm:1kB",
        "3,9,2000000,-;Out of memory: Killed process 43 (py) total-vm:1kB",
    )
    assert {group["container"] for group in found["groups"]} == {"hungry", None}


def test_older_records_and_overwritten_records():
    io = "3,%d,%d,-;I/O error, dev sda, sector 1"
    assert grouped(io % (0, 10**6), io % (1, 9 * 10**6), begin=1005)["groups"][0]["count"] == 1
    assert grouped(io % (0, 9 * 10**6))["complete"]
    assert grouped(io % (70, 10**6), begin=1005)["complete"]
    assert not grouped(io % (70, 9 * 10**6), begin=1005)["complete"]
    assert grouped()["complete"]


def test_escaped_bytes():
    assert _kernel_log.parse("3,1,1000000,-;a\\x0ab\\x5c") == (1.0, "a\nb\\")


@pytest.mark.parametrize("text", ["[", "traps: ", "XFS (a): ", "INFO: task "])
def test_long_records_are_fast(text):
    began = time.process_time()
    grouped("3,1,1000000,-;" + text * 100000)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ("36 35 8:1 / /music rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro", True),
        # The kernel has made the file system read-only; the mount itself still says rw.
        ("36 35 8:1 / /music rw,noatime shared:1 - ext4 /dev/sda1 ro,errors=remount-ro", False),
        ("36 35 8:2 / /music rw shared:1 - ext4 /dev/sda2 rw", None),
        ("", None),
    ],
)
def test_whether_a_file_system_is_writable_again(tmp_path, mounts, expected):
    (tmp_path / "sda1").mkdir()
    (tmp_path / "8:1").symlink_to(tmp_path / "sda1")
    (tmp_path / "mountinfo").write_text("22 1 0:21 / /proc rw - proc proc rw\n%s\n" % mounts)
    assert _kernel_log.is_writable("sda1", str(tmp_path / "mountinfo"), str(tmp_path)) is expected
    assert _kernel_log.is_writable("sda1", str(tmp_path / "none"), str(tmp_path)) is None
