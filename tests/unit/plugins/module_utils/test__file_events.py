# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pure parts of what is measured about files and watchers."""

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import Hung, bounded
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _directory_tree, _watcher
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners, _mounts, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _file_events_info

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


def test_a_path_that_is_not_utf8_can_be_shown():
    assert _mounts.printable(os.fsdecode(b"/m/caf\xe9")) == "/m/caf\\xe9"


@pytest.fixture
def music(tmp_path):
    """Seven directories with the root, one with a name that is not UTF-8; links that lead in a circle; three files."""
    for name in ("a/b/c", "a/d"):
        (tmp_path / name).mkdir(parents=True)
    os.mkdir(os.fsencode(str(tmp_path)) + b"/caf\xe9")
    os.mkdir(os.fsencode(str(tmp_path)) + b"/caf\xe9/x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "b" / "self").symlink_to(".")
    for name in ("a/1.mp3", "a/2.mp3", "a/3.mp3"):
        (tmp_path / name).touch()
    return str(tmp_path)


def test_a_tree_is_counted(music):
    tree = _directory_tree.walk(music, Deadline(5), 1000)
    assert (tree.directories, tree.entries, tree.unreadable, tree.complete) == (7, 11, 0, True)
    assert max(tree.fullest) == (6, music + "/a")


def test_directories_without_a_watch_are_counted_and_named(music):
    watched = {os.stat(music).st_ino, os.stat(music + "/a").st_ino}
    tree = _directory_tree.walk(music, Deadline(5), 1000, watched)
    assert tree.not_watched == 5
    assert len(tree.not_watched_examples) == 5
    assert music + "/caf\\xe9" in tree.not_watched_examples


def test_a_tree_is_cut_at_the_number(music):
    tree = _directory_tree.walk(music, Deadline(5), 3)
    assert (tree.directories, tree.complete) == (3, False)


def test_a_tree_is_cut_at_the_deadline(music):
    assert not _directory_tree.walk(music, Deadline(0), 1000).complete


def test_a_call_that_hangs_is_left_behind():
    started = time.monotonic()
    with pytest.raises(Hung, match="no answer within"):
        bounded(time.sleep, 0.1, 5)
    assert time.monotonic() - started < 2


def test_a_call_that_does_not_hang():
    assert bounded(sum, 5, (1, 2)) == 3
    with pytest.raises(FileNotFoundError):
        bounded(os.stat, 5, "/does/not/exist")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/bin/python3", "-u", "/app/main.py", "--password", "x"], "python3 /app/main.py"),
        (["python3.11", "-m", "file_watcher", "--token=x"], "python3.11 -m file_watcher"),
        (["python3", "-c", "print('secret')"], "python3 -c"),
        (["java", "-Xmx1g", "-jar", "app.jar", "secret"], "java -jar app.jar"),
        (["redis-server", "--requirepass", "x"], "redis-server"),
        (["nginx: worker process"], "nginx:"),
        (["python3"], "python3"),
        ([], None),
        ([""], None),
    ],
)
def test_a_command_is_named_without_its_arguments(words, expected):
    assert _processes.label(words) == expected


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 020014AC:9C4E 040014AC:1628 01 00000000:00000000 02:000A 00000000     0        0 111 2 0 20 4 0 10 -1
   1: 020014AC:9C4F 040014AC:1628 02 00000001:00000000 01:0013 00000000     0        0 222 2 0 20 4 0 10 -1
   2: 020014AC:9C50 040014AC:1628 08 00000000:00000000 00:0000 00000000     0        0 333 2 0 20 4 0 10 -1
   3: 020014AC:1628 040014AC:9C51 01 00000000:00000000 00:0000 00000000     0        0 444 2 0 20 4 0 10 -1
"""


def test_connections_to_a_port():
    assert list(_watcher.connections(TCP, 5672)) == [("01", "111", "172.20.0.4"), ("02", "222", "172.20.0.4")]


def test_addresses_of_both_kinds():
    assert _listeners.readable_address("0100007F") == "127.0.0.1"
    assert _listeners.readable_address("0000000000000000FFFF0000040014AC") == "::ffff:172.20.0.4"


STAYS, GONE, DIALS = ("01", "111", "10.0.0.1"), ("01", "222", "10.0.0.1"), ("02", "333", "10.0.0.1")


@pytest.mark.parametrize(
    ("first", "second", "connected", "connecting"),
    [
        ({STAYS}, {STAYS}, True, 0),
        # Refused at once, and dialled again.
        ({STAYS}, {GONE}, False, 2),
        ({DIALS}, {DIALS}, False, 1),
        (set(), set(), False, 0),
        (None, set(), None, None),
    ],
)
def test_a_connection_is_one_that_stays(first, second, connected, connecting):
    broker = _watcher.describe_broker(5672, first, second)
    assert (broker["connected"], broker["connecting"]) == (connected, connecting)


@pytest.mark.parametrize(
    ("left", "at_most", "needed", "complete", "expected"),
    [
        (10, 10, 5, True, True),
        (10, 10, 11, True, False),
        # More than could be counted will not fit either.
        (10, 10, 11, False, False),
        (None, 10, 11, True, False),
        (None, 10, 5, True, None),
        (10, 10, 5, False, None),
        (10, 10, None, True, None),
    ],
)
def test_whether_the_watches_are_enough(left, at_most, needed, complete, expected):
    assert _file_events_info.fits(left, at_most, needed, complete) is expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"directories": ["music"]}, "directories"),
        ({"seen_by": "watcher"}, "seen_by"),
        ({"watcher_command": "("}, "watcher_command"),
    ],
)
def test_a_bad_option_is_named(options, named):
    defaults = {name: option.get("default") for name, option in _file_events_info.ARGUMENT_SPEC.items()}
    with pytest.raises(BadOption, match=named):
        _file_events_info.measure({**defaults, **options})
