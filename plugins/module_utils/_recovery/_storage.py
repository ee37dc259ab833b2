# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the code of backups shares: their type, failures of the file system. Private to this collection."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import Any, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import Manifest, Proof
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory, Unsafe


class CannotStore(Failure):
    """A backup cannot be written, read or removed: a full disk, a missing right, a path that others can change."""

    kind = "cannot_store"


class Busy(Failure):
    """Another run writes or removes backups of this name."""

    kind = "busy"


class Damaged(Failure):
    """What was written is not what is on the disk."""

    kind = "damaged"


class Artefact(NamedTuple):
    """A complete backup. ``problem`` says why its manifest cannot be used; ``manifest`` is null then.

    ``proof`` is that of exactly this manifest, or null; ``proof_problem`` says why a proof was ignored.
    ``manifest_sha256`` is the checksum of the file, for a proof. ``time`` is that of the stamp, in seconds since 1970.
    """

    kind: str
    name: str
    stamp: str
    path: str
    time: float
    manifest: Manifest | None
    manifest_sha256: str | None
    problem: str | None
    proof: Proof | None
    proof_problem: str | None

    @property
    def bytes(self) -> int | None:
        """The size of its files, or null."""
        return sum(each["bytes"] for each in self.manifest["files"]) if self.manifest else None

    @property
    def contents(self) -> Mapping[str, Any]:
        """The contents of its manifest; empty without one."""
        return self.manifest["contents"] if self.manifest else {}

    @property
    def proven(self) -> bool:
        """Whether the last proof succeeded."""
        return bool(self.proof and self.proof["result"] == "proven")


class Leftover(NamedTuple):
    """An incomplete backup. ``active``: a run is working on it, or null if that is not known."""

    stamp: str
    path: str
    active: bool | None


def cannot_store(exc: OSError, path: str) -> CannotStore:
    """Return the failure that an error of the system means."""
    reason = "%s: %s" % (shell_quote(exc.filename or path), exc.strerror) if exc.strerror else str(exc)
    if isinstance(exc, Unsafe):
        reason = str(exc)
    failure = CannotStore(reason)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        failure.hint = "Free space, or use another `directory`: `df -h -- %s`." % shell_quote(os.path.dirname(path))
    elif exc.errno in (errno.EACCES, errno.EPERM) and not isinstance(exc, Unsafe):
        failure.hint = "Run with become: true, or use another `directory`."
    elif exc.errno == errno.EROFS:
        failure.hint = "Use another `directory`: `findmnt --target=%s`." % shell_quote(os.path.dirname(path))
    return failure


def entries(path: str) -> list[str]:
    """Return the names in a directory, in order; none if it does not exist. Raises CannotStore."""
    try:
        with Directory(path) as directory:
            return sorted(os.listdir(directory.descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise cannot_store(exc, path)


def remove(path: str) -> None:
    """Remove a directory with all below it, or what else is there. Links are removed, not followed."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(info.st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def sync_directory(path: str) -> None:
    """Flush the entries of a directory to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
