# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounted file systems: /proc/<pid>/mountinfo, and which types give events."""

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts

LINE = "36 25 254:0 / /mnt/with\\040space rw,relatime shared:1 - ext4 /dev/vda rw\n"
TABLE = [
    _mounts.Mount(1, "/", "ext4", "/dev/vda"),
    _mounts.Mount(2, "/srv", "xfs", "/dev/vdb"),
    _mounts.Mount(3, "/srv/music", "nfs4", "nas:/music"),
    _mounts.Mount(4, "/srv", "btrfs", "/dev/vdc"),
]


def test_a_line_of_mountinfo():
    mount = _mounts.parse(LINE)
    assert (mount.device, mount.point, mount.type, mount.source) == (254 << 20, "/mnt/with space", "ext4", "/dev/vda")


@pytest.mark.parametrize(
    ("path", "device"),
    [("/", 1), ("/srv/musical", 4), ("/srv/music", 3), ("/srv/music/a", 3), ("/srvx", 1)],
)
def test_the_mount_of_a_path(path, device):
    assert _mounts.mount_of(path, TABLE).device == device


@pytest.mark.parametrize(
    ("kind", "events"),
    [
        ("ext4", "all"),
        ("tmpfs", "all"),
        ("nfs4", "partial"),
        ("cifs", "partial"),
        ("9p", "partial"),
        ("fuse.sshfs", "partial"),
        ("overlay", "partial"),
        ("proc", "none"),
    ],
)
def test_which_file_systems_give_events(kind, events):
    delivered, reason = _mounts.delivery(kind)
    assert delivered == events
    assert bool(reason) == (events != "all")


def test_a_path_that_is_not_utf8_is_printable():
    assert _mounts.printable(os.fsdecode(b"/m/caf\xe9")) == "/m/caf\\xe9"
