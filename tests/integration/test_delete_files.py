# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module delete_files on real files, mounts and open files. What is left is asked from the file system."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _delete_files, _removable
from tests.integration.modules import run_module
from tests.lab.file_systems import namespace

OLD = 1_000_000_000
PATTERNS = ["*.gz", "*.[0-9]"]
# Kept, although their names match.
KEPT = {"open.gz": "open", "link.gz": "not_regular", "fifo.gz": "not_regular", "hard.gz": "hard_linked"}
HOSTILE = [b"-rf.gz", b"new\nline.gz", b"\xf6\xff.gz", b"sub/..gz", b"a b;$(id).1", "ä\u202e.gz".encode()]


def make(path, size=1000, modified=OLD):
    path = os.fsencode(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(b"x" * size)
    os.utime(path, (modified, modified))


def names(folder):
    """All files below a directory, as bytes."""
    folder = os.fsencode(folder)
    return {
        os.path.relpath(os.path.join(path, name), folder) for path, _folders, files in os.walk(folder) for name in files
    }


def delete(folder, check=False, before=None, **options):
    options = {"roots": [str(folder)], "patterns": PATTERNS, "older_than": 3600, **options}
    return run_module("delete_files", options, check=check, diff=True, before=before)


def test_four_beats(tmp_path):
    """Check mode shows what the run does, and the second of both does nothing."""
    for name in HOSTILE:
        make(os.fsencode(tmp_path) + b"/" + name)
    make(tmp_path / "active.log")
    make(tmp_path / "young.gz", modified=time.time())
    make(tmp_path / "future.gz", modified=time.time() + 1e6)
    for name in ("open.gz", "hard.gz"):
        make(tmp_path / name)
    os.link(tmp_path / "hard.gz", tmp_path / "other")
    os.symlink(tmp_path / "active.log", tmp_path / "link.gz")
    os.mkfifo(tmp_path / "fifo.gz")
    everything = names(tmp_path)
    with open(tmp_path / "open.gz", "rb"):
        planned = delete(tmp_path, check=True)
        assert names(tmp_path) == everything
        done = delete(tmp_path)
        left = names(tmp_path)
        assert everything - left == set(HOSTILE)
        again = delete(tmp_path, check=True), delete(tmp_path)
        assert names(tmp_path) == left
    assert planned["changed"]
    assert done["changed"]
    assert planned["complete"]
    for name in ("before", "after", "complete", "deleted_total", "kept", "kept_total", "diff"):
        assert planned[name] == done[name], name
    assert [dict(each, result="deleted") for each in planned["deleted"]] == done["deleted"]
    assert done["deleted_total"] == done["before"]["count"] == len(HOSTILE)
    assert {each["path"].rpartition("/")[2]: each["reason"] for each in done["kept"]} == KEPT
    for result in again:
        assert not result["changed"]
        assert result["deleted"] == []
        assert result["before"] == result["after"] == {"count": 0, "bytes": 0}
    # Once it is closed, it goes too.
    assert delete(tmp_path)["deleted_total"] == 1


def test_a_file_that_a_process_elsewhere_has_open_is_kept(tmp_path):
    """In another mount namespace, under another path; also a file that is only mapped into memory."""
    make(tmp_path / "logs" / "open.gz", 5000)
    make(tmp_path / "logs" / "mapped.gz", 5000)
    make(tmp_path / "logs" / "closed.gz", 5000)
    other = tmp_path / "elsewhere"
    other.mkdir()
    hold = (
        "import mmap, sys; a = open(sys.argv[1] + '/open.gz', 'rb'); b = open(sys.argv[1] + '/mapped.gz', 'rb')\n"
        "m = mmap.mmap(b.fileno(), 0, prot=mmap.PROT_READ); b.close(); print('ready', flush=True); sys.stdin.read()"
    )
    with namespace() as found:
        found.run("mount", "--bind", tmp_path / "logs", other)
        command = ["nsenter", "--mount", "--target", str(found.pid), "--", sys.executable, "-c", hold, str(other)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            try:
                assert holder.stdout.readline() == "ready\n"
                done = delete(tmp_path / "logs")
                assert names(tmp_path / "logs") == {b"open.gz", b"mapped.gz"}
                assert done["kept_total"] == {"open": 2}
            finally:
                holder.kill()


def test_other_mounts_below_the_root_are_kept(tmp_path):
    """Another file system, and a bind mount of the same one."""
    for name in ("own", "tmpfs", "bind", "source"):
        (tmp_path / name).mkdir()
    with namespace() as found:
        inner = found.tmpfs(tmp_path / "tmpfs", "1m")
        make(inner / "a.gz")
        found.run("mount", "--bind", tmp_path / "source", tmp_path / "bind")
        make(tmp_path / "source" / "b.gz")
        make(tmp_path / "own" / "c.gz")
        done = delete(tmp_path, before=found.enter, roots=[str(tmp_path)])
        assert os.path.exists(inner / "a.gz")
        assert {each["path"].rpartition("/")[2] for each in done["kept"]} == {"tmpfs", "bind"}
        assert done["kept_total"] == {"mount_point": 2}
        # By its own path it belongs to the root.
        assert names(tmp_path / "own") == names(tmp_path / "source") == set()


def test_a_link_that_replaces_a_directory_is_not_followed(tmp_path):
    """While files are deleted, a directory is replaced by a link to another one, again and again."""
    victim = tmp_path / "victim"
    make(victim / "a.gz")
    root = tmp_path / "root"
    end = threading.Event()

    def swap():
        number = 0
        while not end.is_set():
            number += 1
            os.rename(root / "sub", root / ("moved-%d" % number))
            os.symlink(victim, root / "sub")
            os.unlink(root / "sub")
            os.rename(root / ("moved-%d" % number), root / "sub")

    for number in range(50):
        make(root / "sub" / ("%d.gz" % number))
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _run in range(5):
            delete(root)
    finally:
        end.set()
        thread.join()
    assert names(victim) == {b"a.gz"}


def test_a_file_that_is_replaced_meanwhile_is_kept(tmp_path, monkeypatch):
    """Between the search and the deletion, which a test cannot hit by chance."""
    make(tmp_path / "old.gz")
    real = _removable.find

    def find(*arguments):
        yield from list(real(*arguments))
        make(tmp_path / "new", modified=OLD)
        os.rename(tmp_path / "new", tmp_path / "old.gz")

    monkeypatch.setattr(_removable, "find", find)
    options = {"roots": [str(tmp_path)], "patterns": PATTERNS, "older_than": 1.0, "deny": [], "max_files": 10}
    done = _delete_files.delete({**options, "max_bytes": None, "deadline": 30.0}, False)
    assert done["kept_total"] == {"changed": 1}
    assert names(tmp_path) == {b"old.gz"}


def test_without_leases_the_open_files_of_all_processes_are_read(tmp_path):
    make(tmp_path / "open.gz")
    make(tmp_path / "closed.gz")

    with open(tmp_path / "open.gz", "rb"):
        done = delete(tmp_path, before=_no_leases)
    # A machine may hide a process even from root: then it is not known about the other one.
    assert {each["path"].rpartition("/")[2]: each["reason"] for each in done["kept"]}["open.gz"] == "open"
    assert b"open.gz" in names(tmp_path)
    assert done["kept_total"].get("maybe_open", 0) + done["deleted_total"] == 1


def _no_leases():
    _delete_files._lease = lambda descriptor: "unsupported"


def test_caps_and_order(tmp_path):
    for number in range(6):
        make(tmp_path / ("%d.gz" % number), 8192, OLD + number)
    done = delete(tmp_path, max_files=2)
    assert [each["path"].rpartition("/")[2] for each in done["deleted"]] == ["0.gz", "1.gz"]
    assert done["kept_total"] == {"over_cap": 4}
    assert done["after"]["count"] == 4
    size = done["deleted"][0]["bytes"]
    assert delete(tmp_path, max_bytes=3 * size)["deleted_total"] == 3
    assert names(tmp_path) == {b"5.gz"}


def test_denied_paths_and_databases_are_kept(tmp_path):
    for name in ("a/x.gz", "b/x.gz", "c/x.gz", "pg/x.gz", "pg/base/x.gz"):
        make(tmp_path / name)
    make(tmp_path / "pg" / "PG_VERSION")
    done = delete(tmp_path, deny=[str(tmp_path / "a"), str(tmp_path / "b" / "x.gz")])
    assert done["kept_total"] == {"denied": 2, "database": 1}
    assert names(tmp_path) == {b"a/x.gz", b"b/x.gz", b"pg/x.gz", b"pg/base/x.gz", b"pg/PG_VERSION"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"roots": ["/"]}, "roots"),
        ({"roots": ["/var/log/../.."]}, "roots"),
        ({"roots": ["//etc"]}, "roots"),
        ({"roots": ["/usr/share/doc"]}, "roots"),
        ({"roots": ["/home"]}, "roots"),
        ({"roots": ["/var/lib/postgresql/17/main"]}, "roots"),
        ({"roots": ["/var/lib/docker/containers"]}, "roots"),
        ({"roots": ["/proc/self/cwd"]}, "roots"),
        ({"patterns": ["*"]}, "patterns"),
        ({"patterns": ["*.*"]}, "patterns"),
        ({"patterns": ["[a-z]*"]}, "patterns"),
        ({"patterns": ["sub/*.gz"]}, "patterns"),
        ({"patterns": [""]}, "patterns"),
        ({"older_than": -1}, "older_than"),
        ({"max_files": 0}, "max_files"),
        ({"max_bytes": 0}, "max_bytes"),
    ],
)
def test_invalid_options_are_rejected_by_name(tmp_path, options, named):
    make(tmp_path / "a.gz")
    failed = delete(tmp_path, **options)
    assert failed["failed"]
    assert failed["kind"] == "bad_option"
    assert failed["msg"].startswith(named + ": ")
    assert "`%s`" % named in failed["hint"]
    assert names(tmp_path) == {b"a.gz"}


def test_a_root_behind_a_link_is_rejected(tmp_path):
    make(tmp_path / "real" / "a.gz")
    os.symlink(tmp_path / "real", tmp_path / "link")
    failed = delete(tmp_path / "link")
    assert failed["kind"] == "bad_option"
    assert "readlink -f" in failed["hint"]
    assert names(tmp_path / "real") == {b"a.gz"}


def test_a_missing_root_is_left_out(tmp_path):
    make(tmp_path / "a.gz")
    assert delete(tmp_path, roots=[str(tmp_path / "missing"), str(tmp_path)])["deleted_total"] == 1
