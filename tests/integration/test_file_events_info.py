# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""file_events_info with real directories, file systems, watchers and sockets."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import tempfile
import time
from functools import partial

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify_probe
from tests.integration import inotify_faults as faults
from tests.integration.inotify_faults import OTHER_UID
from tests.integration.modules import run_module, run_module_in_container
from tests.lab.images import ensure_image
from tests.slack import SLACK

# No other process on the machine has this in its arguments.
MARK = "tracktion-test-watcher-%d" % os.getpid()
WATCH = (
    "import ctypes, os, sys, time\n"
    "libc = ctypes.CDLL(None)\n"
    "for root in sys.argv[2:]:\n"
    "    fd = libc.inotify_init1(0)\n"
    "    for folder, _names, _files in os.walk(root.encode()):\n"
    "        libc.inotify_add_watch(fd, folder, 0x120)\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)\n"
)


def measure(directories=(), **options):
    """Return the measurement of these directories, and the entry of the first one."""
    before = options.pop("before", None)
    result = run_module("file_events_info", {"directories": list(directories), **options}, before=before)
    assert "failed" not in result, result
    return result, result["directories"][0] if directories else None


@pytest.fixture
def music():
    """Yield a library of six directories, readable by all users."""
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        for name in ("artist/album", "artist/other", "incoming", "caf"):
            os.makedirs(os.path.join(root, name))
        os.rename(os.path.join(root, "caf"), os.fsencode(root) + b"/caf\xe9")
        yield root


@pytest.fixture
def watcher():
    """Yield a function that runs a watcher of directories (one instance for each) as a user until the test ends."""
    running = []

    def start(*roots, uid=OTHER_UID, **environment):
        words = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
        words += [faults.python(), "-c", WATCH, MARK, *roots]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "WATCH_EXTENSIONS": ".mp3", "SECRET": "x", **environment},
        )
        running.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    yield start
    for process in running:
        process.kill()
        process.wait()


# Directories


def test_a_missing_directory():
    _result, found = measure(["/does/not/exist"])
    assert (found["exists"], found["is_directory"], found["error"]) == (False, False, None)


def test_a_file_is_not_a_directory():
    _result, found = measure(["/etc/passwd"])
    assert (found["exists"], found["is_directory"], found["tree"]) == (True, False, None)


def test_opening_the_directory_gives_an_event_and_changes_nothing(music):
    before = os.stat(music).st_mtime_ns
    _result, found = measure([music])
    assert found["event"]["arrived"] is True
    assert found["event"]["trigger"] == "open"
    assert os.stat(music).st_mtime_ns == before


def test_the_test_file_is_removed(music):
    before, names = os.stat(music).st_mtime_ns, sorted(os.listdir(os.fsencode(music)))
    _result, found = measure([music], prove=True)
    assert (found["event"]["trigger"], found["event"]["arrived"]) == ("create", True)
    assert sorted(os.listdir(os.fsencode(music))) == names
    assert os.stat(music).st_mtime_ns > before


def test_only_one_watch_is_taken(music, watcher):
    """Nothing below the directory is opened or watched."""
    libc = ctypes.CDLL(None)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(fd, os.fsencode(music + "/artist"), 0xFFF)
    assert _inotify_probe.probe(music, "open", 1)["arrived"] is True
    with pytest.raises(BlockingIOError):
        os.read(fd, 4096)
    os.close(fd)


@pytest.mark.parametrize(
    ("prepare", "kind", "events"),
    [(faults.overlay, "overlay", "partial"), (faults.fuse_mount, "fuse.empty", "partial")],
)
def test_file_systems_with_partial_events(tmp_path, prepare, kind, events):
    _result, found = measure([str(tmp_path)], before=partial(prepare, str(tmp_path)))
    assert (found["file_system"]["type"], found["file_system"]["events"]) == (kind, events)
    assert found["file_system"]["mount_point"] == str(tmp_path)
    assert found["file_system"]["reason"]


def test_a_file_system_without_events():
    _result, found = measure(["/proc/sys/fs"])
    assert (found["file_system"]["type"], found["file_system"]["events"]) == ("proc", "none")


def test_a_mount_without_an_answer_does_not_delay_the_others(tmp_path, music):
    started = time.monotonic()
    result, dead = measure([str(tmp_path), music], timeout=0.4, before=partial(faults.dead_mount, str(tmp_path)))
    assert time.monotonic() - started < 5 * SLACK
    assert dead["error"]["kind"] == "no_answer"
    assert "fuse from dead" in dead["error"]["message"]
    assert dead["exists"] is None
    assert result["directories"][1]["tree"]["directories"] == 6
    assert {entry["part"] for entry in result["unknown"]} >= {"file_systems", "directories"}


def test_a_directory_that_the_watcher_cannot_enter(music, watcher):
    watcher(music)
    _result, found = measure([music + "/incoming"], watcher_command=MARK)
    assert found["watcher_readable"] is True
    os.chmod(music, 0o700)
    _result, found = measure([music + "/incoming"], watcher_command=MARK)
    assert (found["watcher_readable"], found["readable"]) == (False, True)


def test_a_watcher_that_runs_as_root_can_read_everything(music, watcher):
    os.chmod(music, 0)
    watcher(music, uid=0)
    _result, found = measure([music], watcher_command=MARK)
    assert found["watcher_readable"] is True


def test_the_size_of_a_tree(music):
    for number in range(3):
        open("%s/artist/album/%d.mp3" % (music, number), "w").close()
    _result, found = measure([music])
    tree = found["tree"]
    assert (tree["directories"], tree["entries"], tree["complete"], tree["unreadable"]) == (6, 8, True, 0)
    assert tree["fullest"][0] in ({"path": music, "entries": 3}, {"path": music + "/artist/album", "entries": 3})


def test_a_large_tree_is_cut_and_reported(music):
    result, found = measure([music], max_directories=2)
    assert (found["tree"]["directories"], found["tree"]["complete"]) == (2, False)
    assert {"directories.%s" % music: "not all of it was walked"}.items() <= {
        entry["part"]: entry["reason"] for entry in result["unknown"]
    }.items()


# Watchers


def test_the_watcher_of_a_directory(music, watcher):
    pid = watcher(music)
    result, found = measure([music], watcher_command=MARK, watcher_settings=["WATCH_EXTENSIONS", "IGNORE_PATTERNS"])
    assert found["watched"] is True
    assert (found["instances_at_least"], found["watcher_instances"]) == (1, 1)
    assert [(holder["pid"], holder["command"], holder["is_watcher"]) for holder in found["watchers"]] == [
        (pid, "python3 -c", True)
    ]
    assert found["tree"]["not_watched"] == 0
    running = result["watcher"]
    assert (running["running"], running["watches"], running["instances"]) == (True, 6, 1)
    assert [process["pid"] for process in running["processes"]] == [pid]
    assert abs(running["started"] - time.time()) < 30
    assert running["settings"] == {"WATCH_EXTENSIONS": ".mp3", "IGNORE_PATTERNS": None}


def test_a_watch_of_another_process_is_not_the_watchers(music, watcher):
    watcher(music + "/incoming")
    with faults.watching([music], OTHER_UID + 1):
        _result, found = measure([music], watcher_command=MARK)
    assert (found["watched"], found["instances_at_least"], found["watcher_instances"]) == (False, 1, 0)


def test_new_directories_without_a_watch(music, watcher):
    watcher(music)
    os.makedirs(music + "/new/newer")
    _result, found = measure([music], watcher_command=MARK)
    assert found["tree"]["not_watched"] == 2
    assert sorted(found["tree"]["not_watched_examples"]) == [music + "/new", music + "/new/newer"]


def test_a_watcher_that_watches_a_directory_twice(music, watcher):
    watcher(music, music + "/artist")
    result, found = measure([music + "/artist"], watcher_command=MARK)
    assert found["watcher_instances"] == 2
    assert result["watcher"]["watches"] == 9


def test_a_watcher_that_does_not_run(music):
    result, found = measure([music], watcher_command=MARK)
    assert (result["watcher"]["running"], result["watcher"]["broker"], result["watcher"]["queues"]) == (False, None, [])
    assert found["watched"] is False
    assert result["forecast"] == []


def test_no_watcher_is_expected(music):
    result, found = measure([music])
    assert (result["watcher"]["configured"], result["watcher"]["running"]) == (False, None)
    assert found["watcher_instances"] is None


def test_no_compose_service_is_expected_without_an_engine(tmp_path):
    result, _found = measure(watcher_service="file_watcher", docker_root=str(tmp_path))
    assert result["watcher"]["configured"] is False


def test_the_forecast_counts_the_watches_left_for_the_watchers_user(music, watcher):
    watcher(music)
    os.makedirs(music + "/new")
    with faults.watching([music], OTHER_UID):
        result, _found = measure([music], watcher_command=MARK)
    (forecast,) = result["forecast"]
    limit = int((faults.LIMITS / "max_user_watches").read_text())
    assert (forecast["uid"], forecast["directories"], forecast["complete"]) == (OTHER_UID, 7, True)
    assert (forecast["watches_held"], forecast["watches_left"], forecast["watches_needed"]) == (7, limit - 7, 1)
    assert (forecast["directories_left"], forecast["fits"]) == (limit - 8, True)


def test_queued_events_are_counted_and_not_consumed(music, watcher):
    pid = watcher(music)
    # The events of its own walk are in the queue.
    before = measure(watcher_command=MARK)[0]["watcher"]["queues"][0]["queued_bytes"]
    for number in range(50):
        os.close(os.open("%s/incoming/%d.mp3" % (music, number), os.O_CREAT | os.O_WRONLY))
    for _attempt in range(2):
        result, _found = measure(watcher_command=MARK)
        (queue,) = result["watcher"]["queues"]
        # Each file was created and opened: events of 16 bytes and a name of up to 15.
        assert (queue["pid"], queue["queued_bytes"]) == (pid, before + 50 * 2 * 32)
        assert queue["queued_events"] == pytest.approx(queue["queued_bytes"] / 32, abs=1)


def test_a_connection_to_the_broker_is_detected():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            "import socket, time; s = socket.create_connection(('127.0.0.1', %d)); print(1, flush=True); time.sleep(60)"
        )
        with faults.program(faults.python(), "-c", code % port, MARK, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"1\n"
            for expected, wanted in ((True, port), (False, port + 1)):
                result, _found = measure(watcher_command=MARK, broker_port=wanted, sample_seconds=0.05)
                broker = result["watcher"]["broker"]
                assert (broker["connected"], broker["connections"]) == (expected, int(expected))
    # A connection of another process in the same network namespace is not the watcher's.
    sleeper = (faults.python(), "-c", "import time; time.sleep(60)", MARK)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        faults.program(*sleeper),
    ):
        result, _found = measure(watcher_command=MARK, broker_port=server.getsockname()[1], sample_seconds=0.05)
    assert result["watcher"]["broker"]["connected"] is False


def test_without_privilege_values_are_unknown(music, watcher):
    watcher(music)
    result, found = measure([music], watcher_command=MARK, before=partial(faults.become, OTHER_UID + 1))
    assert result["watcher"]["running"] is True
    assert result["watcher"]["watches"] is result["watcher"]["queues"] is None
    assert result["watcher"]["broker"]["connected"] is None
    assert found["watched"] is None
    assert [entry["fits"] for entry in result["forecast"] or ()] in ([], [None])
    assert "watcher.*" in {entry["part"] for entry in result["unknown"]}


def test_inside_a_container_it_is_unknown_whether_the_watcher_runs():
    result = run_module_in_container(ensure_image("bookworm"), "file_events_info", {"watcher_command": MARK + " "})
    assert result["watcher"]["running"] is None


def test_directories_as_the_watcher_sees_them(music):
    name = "tracktion-test-watcher-%d" % os.getpid()
    words = ["docker", "run", "--rm", "--name", name, "--user", str(OTHER_UID), "--volume", music + ":/library:ro"]
    words += [ensure_image("bookworm"), "python3", "-c", WATCH, name, "/library"]
    try:
        with faults.program(*words, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            seen, inside = measure(["/library"], watcher_service=name, seen_by="watcher")
            _result, outside = measure([music], watcher_service=name)
    finally:
        subprocess.run(["docker", "rm", "--force", name], stdout=subprocess.DEVNULL, check=True, timeout=30)
    for found in (inside, outside):
        assert (found["exists"], found["watched"], found["watcher_readable"]) == (True, True, True)
        assert (found["tree"]["directories"], found["tree"]["not_watched"]) == (6, 0)
    assert inside["file_system"]["mount_point"] == "/library"
    assert (seen["watcher"]["container"], seen["watcher"]["state"], seen["watcher"]["restarts"]) == (name, "running", 0)


# Directories in the environment of the watcher


def paths_of(settings):
    result, _found = measure(watcher_command=MARK, directory_settings=settings)
    return [(found["path"], found["watched"]) for found in result["directories"]]


def test_the_directory_in_the_environment_of_the_watcher(music, watcher):
    watcher(music, DATA_DIR=music, OTHER="/nowhere", EMPTY="", RELATIVE="music")
    assert paths_of(["EMPTY", "UNSET", "DATA_DIR", "OTHER"]) == [(music, True)]
    assert paths_of(["UNSET", "EMPTY"]) == paths_of(["RELATIVE", "DATA_DIR"]) == []
    # Explicit directories take precedence.
    result, found = measure([music + "/artist"], watcher_command=MARK, directory_settings=["DATA_DIR"])
    assert [entry["path"] for entry in result["directories"]] == [found["path"]] == [music + "/artist"]


def test_a_directory_in_the_environment_that_is_not_watched(music, watcher):
    watcher(music + "/artist", DATA_DIR=music)
    assert paths_of(["DATA_DIR"]) == [(music, False)]


def test_the_environment_of_a_watcher_without_inotify(music, watcher):
    """Whether it needs a watch depends on whether it polls."""
    watcher(DATA_DIR=music)
    assert paths_of(["DATA_DIR"]) == [(music, False)]


# Inodes


def test_inodes_by_file_system(tmp_path):
    prepare = partial(faults.fill_inodes, str(tmp_path), 1000, 900)
    result, _found = measure(before=prepare)
    (found,) = [entry for entry in result["file_systems"] if entry["mount_point"] == str(tmp_path)]
    # The root of the file system uses one inode.
    assert (found["inodes"], found["inodes_used"], found["inodes_free"]) == (1000, 901, 99)
    assert result["file_systems"][0]["inodes_ratio"] == max(entry["inodes_ratio"] for entry in result["file_systems"])
    assert not {entry["type"] for entry in result["file_systems"]} & {"proc", "sysfs", "squashfs"}
