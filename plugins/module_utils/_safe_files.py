# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads and writes files in directories that no other user can change. Private to this collection.

A path is opened component by component, relative to the descriptor of the parent. Each directory of the path must
belong to root or to the user of this process and must not be writable by others; a symbolic link in the path must
belong to one of them. So no other user can redirect a path, neither before nor while it is used. Files are opened with
O_NOFOLLOW and must be regular files with one name and a trusted owner, which excludes planted links, FIFOs and devices.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import secrets
import stat
import time
from typing import Any, Callable, Iterable, Iterator

from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

# Accepted modes of files of this collection. Any other mode is set to the first one.
PRIVATE_MODES = (0o600, 0o640)
LINKS_MOST = 40
FIX = "`%s`, or use another directory"
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


class Unsafe(OSError):
    """A path that another user can change, or that is not a regular file of a trusted user.

    ``strerror`` and ``str()`` are the same text: the path, the reason and the command that fixes it, between backticks.
    ``oversized``: the only reason is the size of the file.
    """

    def __init__(self, path: str, reason: str, command: str = "", oversized: bool = False) -> None:
        self.oversized = oversized
        text = "%s %s" % (shell_quote(path), reason)
        super().__init__(errno.EPERM, "%s. Run %s" % (text, command) if command else text, path)

    def __str__(self) -> str:
        return str(self.strerror)


class Directory:
    """An open directory that only root, the user of this process and the ``trusted`` user ids can change.

    ``make``: create the missing directories of the path, with ``mode``. ``sticky``: accept a directory such as /tmp,
    in which others can create files but not replace those of this user. ``ancestors``: check its ancestors too.
    Raises Unsafe, and OSError if the directory cannot be opened. A context manager.
    """

    def __init__(
        self,
        path: str,
        make: bool = False,
        mode: int = 0o700,
        sticky: bool = False,
        trusted: Iterable[int] = (),
        ancestors: bool = True,
    ) -> None:
        self._trusted = frozenset((0, os.geteuid()) + tuple(trusted))
        self._sticky = sticky
        self._ancestors = ancestors
        self.path, descriptor = self._walk(os.path.abspath(path), make, mode)
        try:
            self.descriptor = os.open(".", os.O_RDONLY | FOLDER, dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor of the directory."""
        os.close(self.descriptor)

    def _walk(self, path: str, make: bool, mode: int) -> tuple[str, int]:
        """Return the real path of the directory and a descriptor of it."""
        names: list[str] = []
        links = 0
        opened = [os.open("/", _path_flag() | FOLDER)]
        pending = path.split("/")[::-1]
        try:
            self._check_directory("/", os.fstat(opened[0]), last=not any(pending))
            while pending:
                name = pending.pop()
                if name == ".." and names:
                    os.close(opened.pop())
                    names.pop()
                if name in ("", ".", ".."):
                    continue
                here = "/" + "/".join(names + [name])
                info = _entry(name, opened[-1], make, mode)
                if stat.S_ISLNK(info.st_mode):
                    links += 1
                    if links > LINKS_MOST:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    self._check_owner(here, info, "is a symbolic link of %s")
                    target = os.readlink(name, dir_fd=opened[-1])
                    if target.startswith("/"):
                        while names:
                            os.close(opened.pop())
                            names.pop()
                    pending += target.split("/")[::-1]
                    continue
                if not stat.S_ISDIR(info.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), here)
                opened.append(os.open(name, _path_flag() | FOLDER, dir_fd=opened[-1]))
                names.append(name)
                self._check_directory(here, os.fstat(opened[-1]), last=not any(pending))
            return "/" + "/".join(names), opened.pop()
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _check_directory(self, path: str, info: os.stat_result, last: bool) -> None:
        if not (last or self._ancestors):
            return
        self._check_owner(path, info, "belongs to %s, who can replace what is in it")
        if info.st_mode & stat.S_ISVTX and (self._sticky or not last):
            return
        if info.st_mode & 0o002:
            raise Unsafe(path, "can be written by every user", FIX % ("chmod o-w %s" % shell_quote(path)))
        if info.st_mode & 0o020 and not _private_group(info):
            group = _name(grp.getgrgid, info.st_gid)
            command = FIX % ("chmod g-w %s" % shell_quote(path))
            raise Unsafe(path, "can be written by the group %s" % group, command)

    def _check_owner(self, path: str, info: os.stat_result, reason: str) -> None:
        if info.st_uid not in self._trusted:
            command = "chown -h %s %s" % (_name(pwd.getpwuid, os.geteuid()), shell_quote(path))
            raise Unsafe(path, reason % _name(pwd.getpwuid, info.st_uid), FIX % command)

    def file(self, name: str) -> str:
        """Return the path of a file in the directory, for messages."""
        return os.path.join(self.path, name)

    def open(self, name: str, flags: int) -> int:
        """Return a descriptor of a regular file. With O_CREAT it is made private. Raises Unsafe, OSError."""
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=self.descriptor)
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                self._check_file(name, os.stat(name, dir_fd=self.descriptor, follow_symlinks=False))
            raise
        try:
            info = os.fstat(descriptor)
            self._check_file(name, info)
            if flags & os.O_ACCMODE == os.O_RDONLY:
                self._check_readable(name, info)
            elif stat.S_IMODE(info.st_mode) not in PRIVATE_MODES:
                os.fchmod(descriptor, PRIVATE_MODES[0])
            return descriptor
        except BaseException:
            os.close(descriptor)
            raise

    def check(self, name: str) -> None:
        """Raise Unsafe if ``name`` exists and is not a regular file of a trusted user."""
        with contextlib.suppress(FileNotFoundError):
            self._check_file(name, os.stat(name, dir_fd=self.descriptor, follow_symlinks=False))

    def _check_file(self, name: str, info: os.stat_result) -> None:
        reason = ""
        if not stat.S_ISREG(info.st_mode):
            kind = next((kind for matches, kind in KINDS if matches(info.st_mode)), "a device")
            reason = "is %s, not a regular file" % kind
        elif info.st_uid not in self._trusted:
            reason = "belongs to %s" % _name(pwd.getpwuid, info.st_uid)
        elif info.st_nlink != 1:
            reason = "is a file with %d names (hard links)" % info.st_nlink
        if reason:
            path = self.file(name)
            raise Unsafe(path, reason, "`mv -T %s %s`" % (shell_quote(path), shell_quote(path + ".moved")))

    def _check_readable(self, name: str, info: os.stat_result) -> None:
        """Raise Unsafe if users other than its owner can write the file."""
        if info.st_mode & 0o002 or (info.st_mode & 0o020 and not _private_group(info)):
            path = self.file(name)
            raise Unsafe(path, "can be written by other users", "`chmod go-w %s`" % shell_quote(path))

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file. Raises Unsafe if it is larger than ``most`` bytes."""
        with os.fdopen(self.open(name, READ), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(most + 1) if size <= most else b""
        if size > most or len(content) > most:
            raise Unsafe(self.file(name), "has %d bytes, more than the %d that are read" % (size, most), oversized=True)
        return content

    def tail(self, name: str, most: int) -> bytes:
        """Return the whole lines among the last ``most`` bytes of a file."""
        with os.fdopen(self.open(name, READ), "rb") as stream:
            start = max(0, os.fstat(stream.fileno()).st_size - most)
            # The byte before shows whether the first line is complete.
            stream.seek(max(0, start - 1))
            content = stream.read(most + bool(start))
        return content.partition(b"\n")[2] if start else content

    def append(self, name: str, text: bytes) -> None:
        """Append text to a file and flush it to the disk. An incomplete last line is terminated first."""
        with os.fdopen(self.open(name, WRITE | os.O_CREAT | os.O_APPEND), "rb+", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size and os.pread(stream.fileno(), 1, size - 1) != b"\n":
                text = b"\n" + text
            _write_all(stream.fileno(), text)
            os.fsync(stream.fileno())

    def create(self, name: str, mode: int = 0o600) -> int:
        """Return a descriptor of a new file, open for writing. Raises FileExistsError."""
        descriptor = os.open(name, NEW, mode, dir_fd=self.descriptor)
        # Independent of the umask.
        os.fchmod(descriptor, mode)
        return descriptor

    def replace(
        self, name: str, content: bytes, mode: int = 0o600, sync: bool = True, temporary: str | None = None
    ) -> None:
        """Replace a file atomically: a reader never sees half of it, even if this process is killed.

        ``temporary`` is the name under which the file is written, for a caller that holds a lock: a process that is
        killed leaves only the file of that name, which the next call removes.
        """
        if temporary is None:
            temporary = ".%s.%s.new" % (name[:100], secrets.token_hex(6))
        else:
            self.remove(temporary)
        descriptor = self.create(temporary, mode)
        try:
            try:
                _write_all(descriptor, content)
                if sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.rename(temporary, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self.unlink(temporary)
            raise
        if sync:
            self.sync()

    def rename(self, name: str, other: str) -> None:
        """Rename a file. If ``other`` is a link, it is replaced, not followed."""
        try:
            os.rename(name, other, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except (IsADirectoryError, NotADirectoryError):
            self._check_file(other, os.stat(other, dir_fd=self.descriptor, follow_symlinks=False))
            raise

    def unlink(self, name: str) -> None:
        """Remove a file or a link. Raises OSError, for a directory too."""
        os.unlink(name, dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Unlink ``name`` if it exists. Raises Unsafe for a directory."""
        try:
            self.unlink(name)
        except FileNotFoundError:
            return
        except OSError:
            self._check_file(name, os.stat(name, dir_fd=self.descriptor, follow_symlinks=False))
            raise

    def size(self, name: str) -> int:
        """Return the size of a file in bytes; 0 if it does not exist."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def sync(self) -> None:
        """Flush the entries of the directory to the disk."""
        os.fsync(self.descriptor)

    @contextlib.contextmanager
    def locked(self, name: str, seconds: float) -> Iterator[int]:
        """Hold a lock of the kernel on the file ``name``, and yield its descriptor.

        Raises OSError (EBUSY) if others hold it for ``seconds``.
        """
        descriptor = self.open(name, WRITE | os.O_CREAT)
        try:
            until = time.monotonic() + seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        reason = "%s has been busy for %d s" % (shell_quote(self.file(name)), seconds)
                        raise OSError(errno.EBUSY, reason, self.file(name))
                    time.sleep(0.02)
            yield descriptor
        finally:
            os.close(descriptor)


def beside(path: str, **how: Any) -> tuple[Directory, str]:
    """Return the directory of a file, and the name of the file in it. ``how`` are arguments of Directory."""
    folder, name = os.path.split(os.path.abspath(path))
    if not name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return Directory(folder, **how), name


def linked(path: str, **how: Any) -> tuple[Directory, str]:
    """Return the same as beside(), for the file to which symbolic links of trusted users lead."""
    for _step in range(LINKS_MOST):
        directory, name = beside(path, **how)
        try:
            info = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
            if not stat.S_ISLNK(info.st_mode):
                return directory, name
            directory._check_owner(directory.file(name), info, "is a symbolic link of %s")
            path = os.path.join(directory.path, os.readlink(name, dir_fd=directory.descriptor))
        except FileNotFoundError:
            return directory, name
        except BaseException:
            directory.close()
            raise
        directory.close()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def check_place(path: str, follow: bool = False, **how: Any) -> None:
    """Raise Unsafe if a file cannot be written safely. Nothing is created.

    ``follow``: if it is a symbolic link of a trusted user, follow it. ``how`` are arguments of Directory.
    """
    existing = os.path.dirname(os.path.abspath(path))
    if os.path.lexists(existing):
        # A dangling link points to a directory that will be created.
        with contextlib.suppress(FileNotFoundError):
            directory, name = linked(path, **how) if follow else beside(path, **how)
            with directory:
                directory.check(name)
        return
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    with contextlib.suppress(FileNotFoundError):
        Directory(existing, **dict(how, sticky=True)).close()


def read_regular(path: str, most: int) -> bytes:
    """Return the content of a regular file of any owner. Raises Unsafe for other types, which could block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise Unsafe(path, "is not a regular file")
        content = stream.read(most + 1)
    if len(content) > most:
        raise Unsafe(path, "has more than the %d bytes that are read" % most, oversized=True)
    return content


def behind_sudo() -> tuple[int, ...]:
    """Return the id of the user who started this process by sudo, to trust files of that user. For the controller only.

    That user chose the command line.
    """
    text = os.environ.get("SUDO_UID", "")
    return (int(text),) if os.geteuid() == 0 and text.isascii() and text.isdigit() else ()


def _entry(name: str, folder: int, make: bool, mode: int) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=folder)
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _path_flag() -> int:
    # Ancestors need not be readable. Only Linux has O_PATH.
    return getattr(os, "O_PATH", os.O_RDONLY)


def _private_group(info: os.stat_result) -> bool:
    """Return whether the owner is the only member of the group, as with one group per user."""
    try:
        members = set(grp.getgrgid(info.st_gid).gr_mem)
    except KeyError:
        return False
    members -= {_name(pwd.getpwuid, info.st_uid), "root"}
    if members or info.st_gid == 0:
        return not members
    return all(user.pw_uid in (0, info.st_uid) for user in pwd.getpwall() if user.pw_gid == info.st_gid)


def _name(look_up: Callable[[int], Any], number: int) -> str:
    """Return the name of a user or a group, or its number."""
    try:
        return look_up(number)[0]
    except KeyError:
        return str(number)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
