# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The backups in a directory: writes, lists, verifies and removes them. Private to this collection.

    <directory>/<kind>/<name>/.lock                  held by the run that writes or removes backups of this name
    <directory>/<kind>/<name>/.<stamp>.incomplete/   is written, or is left by a run that was killed
    <directory>/<kind>/<name>/<stamp>/               a complete backup

A backup becomes complete by one rename, after its files and its manifest are on the disk. Before it is removed, it is
renamed to an incomplete one. So a process that is killed at any point leaves a complete backup or an incomplete one,
which the next run removes: nothing incomplete has the name of a complete backup.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from typing import Any, Iterator, List

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _manifests, _scratch_directory
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._files import (
    MANIFEST_BYTES,
    NEW_PROOF,
    verify_files,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._names import (
    INCOMPLETE,
    STAMP,
    quoted,
    stamp_key,
    stamp_of,
    stamp_time,
    unquoted,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pending import Pending
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import (
    Artefact,
    Busy,
    CannotStore,
    Leftover,
    cannot_store,
    entries,
    remove,
    sync_directory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import MANIFEST, PROOF, Proof
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import READ, Directory

KINDS = ("postgresql", "redis", "rabbitmq")
LOCK = ".lock"
NOTE_BYTES = 1000
PROOF_BYTES = 4 << 20
# A measurement holds the lock for an instant.
LOCK_SECONDS = 5.0


Strings = List[str]
Artefacts = List[Artefact]
Leftovers = List[Leftover]


class Store:
    """The backups below one directory, which is created when the first one is written.

    The methods raise CannotStore, Busy and BadOption. Nothing but ``create``, ``rotate`` and ``write_proof`` changes
    a file.
    """

    def __init__(self, directory: str) -> None:
        if not os.path.isabs(directory):
            raise BadOption("directory: %s is not an absolute path" % cut(directory, 100))
        self.directory = os.path.normpath(directory)
        self._held: set[str] = set()

    def folder(self, kind: str, name: str) -> str:
        """Return the path of the directory for the backups of one name. Raises BadOption."""
        if kind not in KINDS:
            raise BadOption("kind: %s is none of %s" % (cut(kind, 50), ", ".join(KINDS)))
        return os.path.join(self.directory, kind, quoted(name))

    def names(self) -> list[tuple[str, str]]:
        """Return the kinds and names of which there are backups, complete or not, in order."""
        found = []
        for kind in KINDS:
            for entry in entries(os.path.join(self.directory, kind)):
                name = unquoted(entry)
                if name is not None and self._stamps(kind, name):
                    found.append((kind, name))
        return found

    def list(self, kind: str, name: str) -> Artefacts:
        """Return the complete backups, the newest first. Those that cannot be read have a ``problem``."""
        stamps = [stamp for stamp in self._stamps(kind, name) if STAMP.match(stamp)]
        found = [self.read(kind, name, stamp) for stamp in sorted(stamps, key=stamp_key, reverse=True)]
        return [artefact for artefact in found if artefact]

    def read(self, kind: str, name: str, stamp: str) -> Artefact | None:
        """Return one complete backup, or null if it does not exist."""
        if not STAMP.match(stamp):
            raise BadOption("stamp: %s is not the stamp of a backup" % cut(stamp, 50))
        path = os.path.join(self.folder(kind, name), stamp)
        empty = Artefact(kind, name, stamp, path, stamp_time(stamp), None, None, None, None, None)
        try:
            with Directory(path) as directory:
                text = directory.read(MANIFEST, MANIFEST_BYTES)
                manifest, problem = _manifests.parsed(text, kind, name, stamp)
                checksum = _manifests.checksum(text)
                proof, proof_problem = _proof(directory, checksum)
        except FileNotFoundError as exc:
            if os.path.lexists(path):
                return empty._replace(problem="%s is missing" % os.path.basename(exc.filename or MANIFEST))
            return None
        except OSError as exc:
            return empty._replace(problem=str(exc.strerror or exc))
        return empty._replace(
            manifest=manifest,
            manifest_sha256=checksum,
            problem=problem,
            proof=proof,
            proof_problem=proof_problem,
        )

    def incomplete(self, kind: str, name: str) -> Leftovers:
        """Return what was not finished: by the run that is working now, or by one that was killed."""
        folder = self.folder(kind, name)
        stamps = [stamp for stamp in self._stamps(kind, name) if INCOMPLETE.match(stamp)]
        active = self._active(folder) if stamps else None
        return [Leftover(stamp_of(entry), os.path.join(folder, entry), active) for entry in sorted(stamps)]

    def _stamps(self, kind: str, name: str) -> Strings:
        found = entries(self.folder(kind, name))
        return [entry for entry in found if STAMP.match(entry) or INCOMPLETE.match(entry)]

    def _active(self, folder: str) -> bool | None:
        """Return whether a run holds the lock of a name. It is tested by a shared lock, which is released at once."""
        if folder in self._held:
            return True
        try:
            with Directory(folder) as directory:
                descriptor = directory.open(LOCK, READ)
        except FileNotFoundError:
            return False
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return False

    @contextlib.contextmanager
    def locked(self, kind: str, name: str, what: str = "backup", seconds: float | None = None) -> Iterator[None]:
        """Hold the lock of a name, which excludes all other runs that write or remove backups of it. Raises Busy.

        The kernel releases it when the process ends. This process may take it again.
        """
        folder = self.folder(kind, name)
        if folder in self._held:
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                directory = stack.enter_context(Directory(folder, make=True))
                for path in (folder, os.path.dirname(folder), self.directory, os.path.dirname(self.directory)):
                    sync_directory(path)
                descriptor = stack.enter_context(directory.locked(LOCK, LOCK_SECONDS if seconds is None else seconds))
            except OSError as exc:
                if exc.errno != errno.EBUSY:
                    raise cannot_store(exc, folder)
                raise Busy(
                    "another run works on the backups of %s %s%s" % (kind, name, _holder(directory)),
                    hint="Wait until it has ended: `fuser -v %s`." % shell_quote(os.path.join(folder, LOCK)),
                )
            note = {"pid": os.getpid(), "since": time.time(), "what": what}
            # Only a note for other runs: a full disk does not matter here.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(note).encode("ascii"), 0)
            self._held.add(folder)
            stack.callback(self._held.discard, folder)
            yield

    @contextlib.contextmanager
    def create(self, kind: str, name: str, what: str = "backup", stamp: str | None = None) -> Iterator[Pending]:
        """Yield a new backup, to write files below ``.path`` and call ``.finish(manifest)``.

        What is not finished is removed. Leftovers of runs that were killed are removed first. ``stamp`` is that of a
        copy of another store.
        """
        with self.locked(kind, name, what):
            folder = self.folder(kind, name)
            try:
                self._remove_leftovers(folder)
                _scratch_directory.sweep(self.directory)
                pending = Pending(kind, name, folder, stamp or self.next_stamp(kind, name))
            except OSError as exc:
                raise cannot_store(exc, folder)
            try:
                yield pending
            finally:
                # After a failure, what cannot be removed now is removed by the next run.
                with contextlib.suppress(OSError):
                    if not pending.finished:
                        remove(pending.path)

    def next_stamp(self, kind: str, name: str) -> str:
        """Return a stamp after all others, also if the clock was set back: the last backup is the newest one."""
        base = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        last, number = max((stamp_key(stamp_of(entry)) for entry in self._stamps(kind, name)), default=("", 0))
        return base if last < base else "%s-%d" % (last, number + 1)

    def _remove_leftovers(self, folder: str) -> Strings:
        """Remove incomplete backups of dead runs. The caller holds the lock, so no other run is alive."""
        left = [entry for entry in entries(folder) if INCOMPLETE.match(entry)]
        for entry in left:
            remove(os.path.join(folder, entry))
        return left

    @contextlib.contextmanager
    def in_use(self, artefact: Artefact) -> Iterator[None]:
        """Keep a backup from being removed while it is read. Raises CannotStore if it was removed already."""
        try:
            with Directory(artefact.path) as directory:
                descriptor = directory.open(MANIFEST, READ)
        except OSError as exc:
            raise cannot_store(exc, artefact.path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            info = os.fstat(descriptor)
            try:
                now = os.stat(os.path.join(artefact.path, MANIFEST))
            except OSError as exc:
                raise cannot_store(exc, artefact.path)
            if (now.st_dev, now.st_ino) != (info.st_dev, info.st_ino):
                raise CannotStore("%s was removed" % shell_quote(artefact.path))
            yield
        finally:
            os.close(descriptor)

    def verify(self, artefact: Artefact, deadline: Deadline) -> Strings:
        """Return what differs from the manifest: missing and additional files, sizes, checksums. Empty: nothing.

        Raises OutOfTime.
        """
        if artefact.manifest is None:
            return [artefact.problem or "%s cannot be read" % MANIFEST]
        return verify_files(artefact.path, artefact.manifest, deadline)

    def rotate(self, kind: str, name: str, keep: int, max_age_seconds: float, protect: str | None = None) -> Artefacts:
        """Remove the backups that ``rotation`` selects, and leftovers of dead runs. Return the backups.

        A backup that is in use is kept until the next rotation.
        """
        removed = []
        folder = self.folder(kind, name)
        # Within create(), the incomplete backup is the one that this process writes.
        own_lock = folder not in self._held
        with self.locked(kind, name, "rotation"):
            for artefact in rotation(self.list(kind, name), keep, max_age_seconds, time.time(), protect):
                if self._discard(artefact):
                    removed.append(artefact)
            if own_lock:
                self._remove_leftovers(folder)
        return removed

    def _discard(self, artefact: Artefact) -> bool:
        """Remove a complete backup; return false if it is in use."""
        hidden = os.path.join(os.path.dirname(artefact.path), ".%s.incomplete" % artefact.stamp)
        try:
            with Directory(artefact.path) as directory:
                descriptor = directory.open(MANIFEST, READ)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(hidden)
                os.rename(artefact.path, hidden)
            except BlockingIOError:
                return False
            finally:
                os.close(descriptor)
            sync_directory(os.path.dirname(artefact.path))
            remove(hidden)
        except OSError as exc:
            raise cannot_store(exc, artefact.path)
        return True

    def write_proof(self, artefact: Artefact, proof: Proof) -> None:
        """Write the proof beside the manifest, atomically. Raises BadOption if it is one of another manifest."""
        if proof["manifest_sha256"] != artefact.manifest_sha256:
            raise BadOption("manifest_sha256: the proof is not one of the manifest of %s" % artefact.path)
        problem = _manifests.proof_problem(proof)
        if problem:
            raise BadOption("proof: %s" % problem)
        try:
            with Directory(artefact.path) as directory:
                directory.replace(PROOF, _manifests.written(proof), temporary=NEW_PROOF)
        except OSError as exc:
            raise cannot_store(exc, artefact.path)


def rotation(
    artefacts: list[Artefact], keep: int, max_age_seconds: float, now: float, protect: str | None = None
) -> list[Artefact]:
    """Return the backups to remove, the oldest first. ``artefacts`` are those of one name, the newest first.

    A backup is removed if ``keep`` newer ones are complete, or if it is older than ``max_age_seconds``; 0 is no limit.
    Never removed: the newest complete one, the newest proven one, the one with the stamp ``protect``, and what cannot
    be read, because its files may still be of use.
    """
    usable = [artefact for artefact in artefacts if artefact.problem is None]
    kept = {artefact.stamp for artefact in usable[:1]}
    kept.update([artefact.stamp for artefact in usable if artefact.proven][:1])
    kept.add(protect or "")
    removed = []
    for place, artefact in enumerate(usable):
        too_many = 0 < keep <= place
        too_old = 0 < max_age_seconds < now - artefact.time
        if (too_many or too_old) and artefact.stamp not in kept:
            removed.append(artefact)
    return removed[::-1]


def _holder(directory: Directory) -> str:
    """Return what is known of the run that holds the lock."""
    try:
        note: Any = json.loads(directory.read(LOCK, NOTE_BYTES))
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(note["since"]))
        return " since %s (%s, pid %d)" % (since, cut(str(note["what"]), 40), note["pid"])
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return ""


def _proof(directory: Directory, checksum: str) -> tuple[Proof | None, str | None]:
    try:
        proof, problem = _manifests.parsed_proof(directory.read(PROOF, PROOF_BYTES))
    except FileNotFoundError:
        return None, None
    except OSError as exc:
        return None, str(exc.strerror or exc)
    if proof and proof["manifest_sha256"] != checksum:
        return None, "%s is one of another manifest" % PROOF
    return proof, problem
