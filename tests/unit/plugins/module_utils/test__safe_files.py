# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths that another user can change, and planted files. Needs root, for a second user."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import stat
import subprocess
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory, Unsafe
from tests.slack import SLACK
from tests.users import UNPRIVILEGED, as_other_user, shared_directory


@pytest.fixture
def victim(tmp_path):
    """A file of root to which a planted link points."""
    path = tmp_path / "victim"
    path.write_text("untouched")
    return path


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def plant(kind, path, victim):
    """Create something other than a file of this user at ``path``."""
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(victim.with_name("cron.d"))
    elif kind == "hard link":
        os.link(victim, path)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "file of another user":
        path.write_text("forged")
        os.chown(path, UNPRIVILEGED, UNPRIVILEGED)


KINDS = ["link", "dangling link", "hard link", "FIFO", "directory", "socket", "file of another user"]
USES = {
    "read": lambda directory: directory.read("name", 100),
    "tail": lambda directory: directory.tail("name", 100),
    "append": lambda directory: directory.append("name", b"x\n"),
    "lock": lambda directory: directory.locked("name", 1).__enter__(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_file_is_rejected_by_every_operation(tmp_path, victim, kind):
    folder = tmp_path / "state"
    folder.mkdir()
    plant(kind, folder / "name", victim)
    before = sorted(path.name for path in tmp_path.iterdir())
    with Directory(str(folder)) as directory:
        for use in USES.values():
            began = time.monotonic()
            with pytest.raises(Unsafe, match=r"Run `mv -T \S+/state/name \S+/state/name.moved`"):
                use(directory)
            assert time.monotonic() - began < 1 * SLACK, "a FIFO blocks"
    assert victim.read_text() == "untouched"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "directory"])
def test_replacing_does_not_follow_links(tmp_path, victim, kind):
    plant(kind, tmp_path / "name", victim)
    with Directory(str(tmp_path)) as directory:
        directory.replace("name", b"new")
        directory.replace("other", b"new", temporary="name")
    assert not (tmp_path / "name").exists()
    assert (tmp_path / "other").read_text() == "new"
    assert victim.read_text() == "untouched"
    assert not victim.with_name("cron.d").exists()


def test_a_directory_instead_of_a_file_is_named(tmp_path):
    (tmp_path / "name").mkdir()
    with Directory(str(tmp_path)) as directory:
        for change in (
            lambda: directory.replace("name", b""),
            lambda: directory.replace("other", b"", temporary="name"),
            lambda: directory.remove("name"),
        ):
            with pytest.raises(Unsafe, match=r"name is a directory, not a regular file\. Run `mv"):
                change()
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


@pytest.mark.parametrize(
    ("bits", "owner", "reason"),
    [
        (0o777, 0, r"can be written by every user\. Run `chmod o-w \S+shared`"),
        (0o1777, 0, r"can be written by every user\. Run `chmod o-w \S+shared`"),
        (0o775, 0, r"can be written by the group nogroup\. Run `chmod g-w \S+shared`"),
        (0o700, UNPRIVILEGED, r"belongs to nobody, who can replace what is in it\. Run `chown -h root \S+shared`"),
    ],
)
def test_a_directory_that_others_can_write_is_rejected(bits, owner, reason):
    with shared_directory() as shared:
        os.chown(shared, owner, UNPRIVILEGED)
        shared.chmod(bits)
        with pytest.raises(Unsafe, match=reason):
            Directory(str(shared))


def test_the_commands_in_the_messages_fix_the_directory():
    with shared_directory(0o777) as shared:
        os.chown(shared, UNPRIVILEGED, UNPRIVILEGED)
        commands = []
        for _step in range(4):
            with contextlib.suppress(Unsafe):
                Directory(str(shared)).close()
                break
            with pytest.raises(Unsafe) as caught:
                Directory(str(shared))
            assert str(caught.value) == caught.value.strerror
            commands.append(str(caught.value).split("`")[1])
            subprocess.run(commands[-1], shell=True, check=True)
        assert [command.split()[0] for command in commands] == ["chown", "chmod", "chmod"]


@pytest.mark.parametrize("make", [False, True])
def test_a_directory_below_one_that_others_can_write_is_rejected(make):
    """Another user can replace it by a link at any moment."""
    with shared_directory() as shared:
        if not make:
            (shared / "state").mkdir(mode=0o700)
        with pytest.raises(Unsafe, match="can be written by every user"):
            Directory(str(shared / "state"), make=make)
        assert make is not (shared / "state").exists()


def test_an_own_directory_in_one_with_the_sticky_bit_is_accepted():
    with shared_directory(0o1777) as shared:
        Directory(str(shared / "state"), make=True).close()
        assert mode(shared / "state") == 0o700
        as_other_user((shared / "theirs").mkdir)
        with pytest.raises(Unsafe, match="belongs to nobody"):
            Directory(str(shared / "theirs"))


def test_a_link_in_the_path_is_accepted_by_its_owner(tmp_path):
    with shared_directory(0o1777) as shared:
        (tmp_path / "real").mkdir()
        (shared / "mine").symlink_to(tmp_path)
        with Directory(str(shared / "mine" / "real")) as directory:
            assert directory.path == str(tmp_path / "real")
        as_other_user(lambda: (shared / "theirs").symlink_to(tmp_path))
        with pytest.raises(Unsafe, match=r"theirs is a symbolic link of nobody\. Run `chown -h root"):
            Directory(str(shared / "theirs" / "real"))


def test_relative_links_and_loops(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to("../a/./b")
    (tmp_path / "loop").symlink_to("loop")
    with Directory(str(tmp_path / "a" / "up")) as directory:
        assert directory.path == str(tmp_path / "a" / "b")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        Directory(str(tmp_path / "loop"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        Directory(str(tmp_path / "file" / "state"), make=True)


def test_a_group_without_other_members_may_write(tmp_path):
    tmp_path.chmod(0o770)
    Directory(str(tmp_path)).close()


def test_files_are_private_for_any_umask_and_earlier_mode(tmp_path, umask):
    with Directory(str(tmp_path / "made" / "below"), make=True) as directory:
        directory.append("log", b"1\n")
        directory.replace("file", b"")
        with directory.locked("guard", 1):
            pass
        os.close(directory.create("new"))
    folder = tmp_path / "made" / "below"
    assert {mode(path) for path in folder.iterdir()} == {0o600}
    assert {mode(folder), mode(folder.parent)} == {0o700}
    for path in folder.iterdir():
        path.chmod(0o666)
    with Directory(str(folder)) as directory:
        directory.append("log", b"2\n")
        directory.replace("file", b"", mode=0o640)
        with directory.locked("guard", 1):
            pass
    assert [mode(folder / name) for name in ("log", "file", "guard")] == [0o600, 0o640, 0o600]
    assert (folder / "log").read_text() == "1\n2\n"


def test_a_file_that_others_can_write_is_not_read(tmp_path):
    path = tmp_path / "name"
    path.write_text("forged")
    path.chmod(0o666)
    with Directory(str(tmp_path)) as directory, pytest.raises(Unsafe, match="Run `chmod go-w"):
        directory.read("name", 100)


def test_reads_are_bounded(tmp_path):
    path = tmp_path / "name"
    with open(path, "wb") as stream:
        stream.truncate(10 << 30)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\nlast\n")
    with Directory(str(tmp_path)) as directory:
        assert directory.tail("name", 1 << 16) == b"last\n"
        with pytest.raises(Unsafe, match="has 10737418246 bytes, more than the 100 that are read") as caught:
            directory.read("name", 100)
        assert caught.value.oversized
        path.write_bytes(b"12\n45\n")
        assert directory.tail("name", 3) == b"45\n"
        assert directory.tail("name", 2) == b""
        assert directory.tail("name", 6) == b"12\n45\n"


def test_read_regular_accepts_any_owner(tmp_path):
    path = tmp_path / "plan"
    path.write_text("plan")
    os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    assert _safe_files.read_regular(str(path), 10) == b"plan"
    with pytest.raises(Unsafe, match="more than the 3 bytes"):
        _safe_files.read_regular(str(path), 3)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Unsafe, match="is not a regular file"):
        _safe_files.read_regular(str(tmp_path / "fifo"), 10)


def test_an_own_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to("../b")
    (tmp_path / "b").symlink_to("c")
    directory, name = _safe_files.linked(str(tmp_path / "a" / "link"))
    with directory:
        assert (directory.path, name) == (str(tmp_path), "c")
    os.chown(tmp_path / "b", UNPRIVILEGED, UNPRIVILEGED, follow_symlinks=False)
    with pytest.raises(Unsafe, match="b is a symbolic link of nobody"):
        _safe_files.linked(str(tmp_path / "a" / "link"))


def test_the_user_of_sudo_is_trusted_on_the_controller(monkeypatch):
    with shared_directory(0o700) as shared:
        os.chown(shared, UNPRIVILEGED, UNPRIVILEGED)
        monkeypatch.setenv("SUDO_UID", str(UNPRIVILEGED))
        Directory(str(shared), trusted=_safe_files.behind_sudo()).close()
        with pytest.raises(Unsafe):
            Directory(str(shared))
        for value in ("", "x", "-1", "\u0661"):
            monkeypatch.setenv("SUDO_UID", value)
            assert _safe_files.behind_sudo() == ()


def test_no_descriptor_is_left_open(tmp_path):
    (tmp_path / "name").symlink_to("x")
    before = len(os.listdir("/proc/self/fd"))
    Directory(str(tmp_path / "made" / "below"), make=True).close()
    with pytest.raises(FileNotFoundError):
        Directory(str(tmp_path / "missing"))
    with Directory(str(tmp_path)) as directory:
        for use in USES.values():
            with pytest.raises(Unsafe):
                use(directory)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_race_with_another_user_is_safe(tmp_path):
    """Another user swaps a directory and a link in /tmp as fast as possible."""
    with shared_directory(0o1777) as shared:

        def swap():
            changes = [
                lambda: os.symlink(str(tmp_path), shared / "state"),
                lambda: os.unlink(shared / "state"),
                lambda: os.mkdir(shared / "state"),
                lambda: os.rmdir(shared / "state"),
            ]
            for change in itertools.cycle(changes):
                with contextlib.suppress(OSError):
                    change()

        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
            os.setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
            swap()
        try:
            tried = 0
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                tried += 1
                with contextlib.suppress(OSError):
                    with Directory(str(shared / "state"), make=True) as directory:
                        assert os.fstat(directory.descriptor).st_uid == 0
                        directory.append("log", b"x\n")
                        directory.unlink("log")
                    os.rmdir(shared / "state")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert tried > 1
        assert list(tmp_path.iterdir()) == []
