# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which mounts are measured, and by which path, from recorded /proc/<pid>/mountinfo."""

from __future__ import annotations

import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _file_systems, _places
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts

# A host with the automounter, a share below it, an overlay of a container, binds and hidden mounts.
HOST = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=12334460k
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,errors=remount-ro
42 27 254:0 /var/lib/docker /var/lib/docker rw,relatime shared:1 - ext4 /dev/vda rw
43 27 0:50 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=2466892k
46 42 0:39 / /var/lib/docker/overlay2/5f4a/merged rw - overlay overlay upperdir=/var/lib/docker/overlay2/5f4a/diff
60 27 0:60 / /net rw,relatime shared:9 - autofs systemd-1 rw,fd=29,pgrp=1,timeout=0,direct
61 60 0:61 / /net/nas rw,relatime - nfs4 nas:/export rw,vers=4.2,hard
62 61 8:1 / /net/nas/local rw,relatime - xfs /dev/sda1 rw
63 27 8:2 / /srv rw,relatime - ext4 /dev/sda2 rw
64 63 8:3 / /srv/hidden rw,relatime - ext4 /dev/sda3 rw
65 63 8:4 / /srv rw,relatime - ext4 /dev/sda4 rw
66 27 7:1 / /snap/core ro,nodev - squashfs /dev/loop1 ro
67 27 0:70 / /mnt/new\040line\012 rw - fuse.sshfs user@nas:/ rw
""".strip()
CONTAINER = r"""
700 600 0:39 / / rw,relatime - overlay overlay rw,lowerdir=/l/A,upperdir=/var/lib/docker/overlay2/5f4a/diff
701 700 0:80 / /proc rw - proc proc rw
702 701 0:81 / /proc/acpi ro - tmpfs tmpfs ro
703 700 0:82 / /dev/shm rw - tmpfs shm rw,size=65536k
704 700 254:0 /var/lib/docker/containers/x/hosts /etc/hosts rw - ext4 /dev/vda rw
705 700 0:83 / /tmp rw - tmpfs tmpfs rw,size=8192k
""".strip()


def parsed(text):
    return [_mounts.parse(line) for line in text.splitlines()]


def measured(table, *arguments):
    return {place.mount.point: place for place in _places.of_table(_mounts.visible(parsed(table)), *arguments)}


def test_mounts_of_a_host():
    places = measured(HOST)
    # autofs is not among them: to read it could mount something.
    assert set(places) == {"/", "/var/lib/docker", "/run", "/net/nas", "/net/nas/local", "/srv", "/mnt/new line\n"}
    assert places["/srv"].mount.source == "/dev/sda4"


def test_what_may_hang():
    """A share, FUSE, and a local disk whose mount point is on a share."""
    hanging = {point for point, place in measured(HOST).items() if place.may_hang}
    assert hanging == {"/net/nas", "/net/nas/local", "/mnt/new line\n"}


def test_mounts_of_a_container():
    places = measured(CONTAINER, 4711, "a" * 64)
    assert set(places) == {"/dev/shm", "/etc/hosts", "/tmp"}
    assert places["/tmp"].path == "/proc/4711/root/tmp"


def test_each_file_system_is_measured_once():
    kept = {}
    for place in [*measured(HOST).values(), *measured(CONTAINER, 4711, "a" * 64).values()]:
        _places.keep(kept, place)
    points = [place.mount.point for place in kept.values()]
    assert len(points) == len(set(points))
    assert "/var/lib/docker" not in points
    assert "/etc/hosts" not in points


def test_the_memory_of_a_container_is_named_as_the_container_sees_it():
    """The engine mounts it on the host too."""
    on_host = _mounts.parse("50 42 0:82 / /var/lib/docker/containers/x/mounts/shm rw - tmpfs shm rw,size=65536k")
    kept = {}
    for place in [*_places.of_table([on_host]), *measured(CONTAINER, 4711, "a" * 64).values()]:
        _places.keep(kept, place)
    assert kept[on_host.device].mount.point == "/dev/shm"


def test_an_overlay_uses_the_space_of_its_upper_directory():
    table = parsed(HOST)
    assert _places.backing(table) == {39: 254 << 20}
    view = _places.View(table, [], _places.backing(table))
    assert view.device(39) == 254 << 20
    assert view.device(50) == 50


def test_an_overlay_is_measured_only_as_the_own_root():
    assert "/" in measured("700 600 0:39 / / rw - overlay overlay rw,lowerdir=/l/A")


def test_many_mounts_of_one_disk():
    """10,000 bind mounts and 10,000 mounts on one directory: no recursion, and no time that grows with the square."""
    lines = ["27 1 254:0 / / rw - ext4 /dev/vda rw"]
    lines += ["%d 27 254:0 /a /binds/%d rw - ext4 /dev/vda rw" % (100 + number, number) for number in range(10000)]
    lines += [
        "%d %d 0:%d / /stacked rw - tmpfs t rw" % (20000 + number, 19999 + number if number else 27, 100 + number)
        for number in range(10000)
    ]
    started = time.process_time()
    kept = {}
    for place in _places.of_table(_mounts.visible(parsed("\n".join(lines)))):
        _places.keep(kept, place)
    assert {place.mount.point for place in kept.values()} == {"/", "/stacked"}
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("27 1 8:1 / /data rw - ext4 /dev/sda1 rw,errors=remount-ro", None),
        # The kernel stopped to write: of the mount, nothing has changed.
        ("27 1 8:1 / /data rw - ext4 /dev/sda1 ro,errors=remount-ro", "errors"),
        ("27 1 8:1 / /data rw - ext4 /dev/sda1 rw,emergency_ro,errors=remount-ro", "errors"),
        ("27 1 8:1 / /data rw - ext4 /dev/sda1 rw,shutdown", "errors"),
        # mount -o ro, where fstab has it writable, and where it has not.
        ("27 1 8:1 / /data ro - ext4 /dev/sda1 ro", "fstab"),
        ("27 1 8:1 / /auto ro - xfs /dev/sda1 ro", "fstab"),
        ("27 1 8:1 / /archive ro - ext4 /dev/sda1 ro", None),
        ("27 1 8:1 / /other ro - ext4 /dev/sda1 ro", None),
        # Another file system than that of fstab.
        ("27 1 8:1 / /data ro - iso9660 /dev/sr0 ro", None),
    ],
)
def test_why_a_file_system_is_read_only(tmp_path, line, reason):
    fstab = tmp_path / "fstab"
    fstab.write_text(
        "# /data\n/dev/sda1 /data ext4 defaults,noatime 0 2\n/dev/sda1 /auto auto defaults\n"
        "/dev/sda1 /archive ext4 ro,noatime 0 2\nUUID=x none swap sw\nbroken line\n"
    )
    wanted = _file_systems.writable_in_fstab(str(fstab))
    assert _file_systems.read_only_reason(_mounts.parse(line), wanted) == reason


def test_a_missing_fstab_wants_nothing():
    assert _file_systems.writable_in_fstab("/missing") == {}
