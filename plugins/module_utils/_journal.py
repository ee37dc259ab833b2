# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host remembers of remediations: who is at it now, and what was done. Private to this collection.

Two files in one directory. ``remediation.lock`` names the run that may act on this machine until its lease is over.
``audit.jsonl`` has a line before each action (event ``intent``) and one after it (``outcome``): an intent without an
outcome tells that its run was ended in the middle. Every look and every change is made under a lock of the kernel, so
that two runs that begin at one moment see each other.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory, Unsafe, beside

LOCK = "remediation.lock"
AUDIT = "audit.jsonl"
GUARD = ".guard"
# A lock has some 300 bytes.
LOCK_BYTES = 1 << 16
# The part of the log that is read, and the size at which it is put aside (one old file is kept).
TAIL_BYTES = 1 << 20
ROTATE_BYTES = 8 << 20
# Entries handed out of each list.
MOST = 50
# How far two clocks, or one before and after it was set, may differ.
CLOCK_SECONDS = 300
# The guard is held for a few file accesses; longer than this means that a disk hangs.
GUARD_SECONDS = 10.0


class CannotKeep(Exception):
    """The directory cannot be used. The message says why and names the option."""


class Journal:
    """``problems``: what was passed over in the files, one text each, for warnings."""

    def __init__(self, directory, clock=time.time):
        self._directory = directory
        self._clock = clock
        self.problems = []

    def read(self):
        """``{lock, unfinished, done}``, without writing anything.

        ``lock``: the lock that is held, with ``stale`` (why it no longer counts, or null); null where there is none.
        ``unfinished``: intents without an outcome. ``done``: outcomes that changed something, the latest last.
        Raises CannotKeep.
        """
        try:
            with Directory(self._directory) as directory:
                return self._state(directory)
        except FileNotFoundError:
            return {"lock": None, "unfinished": [], "done": []}
        except OSError as exc:
            raise self._cannot(exc)

    def _state(self, directory):
        lock, entries = self._lock(directory), self._entries(directory)
        unfinished = {}
        for entry in entries:
            key = (entry["run"], entry["action"])
            if entry["event"] == "intent":
                unfinished[key] = entry
            else:
                unfinished.pop(key, None)
        done = [entry for entry in entries if entry["event"] == "outcome" and entry["changed"]]
        return {"lock": lock, "unfinished": list(unfinished.values())[-MOST:], "done": done[-MOST:]}

    def begin(self, run, entry, lease, cooldown, break_run=None, check_mode=False):
        """Takes or renews the lock for ``run`` and writes the intent ``entry``.

        Returns ``{go, reason, lock, until}``: ``reason`` is ``locked`` (by ``lock``) or ``cooling`` (until the epoch
        second ``until``) where the action must not be carried out. ``break_run`` is a run that the caller knows to be
        dead. In check mode nothing is written. Raises CannotKeep.
        """
        with self._guarded(check_mode) as directory:
            state = self._state(directory) if directory else self.read()
            lock, now = state["lock"], self._clock()
            if lock and lock["run"] not in (run["run"], break_run) and not lock["stale"]:
                return {"go": False, "reason": "locked", "lock": lock, "until": None}
            until = cooling_until(state["done"], entry, cooldown, now)
            if until and until > now:
                return {"go": False, "reason": "cooling", "lock": None, "until": until}
            if directory:
                _write_lock(directory, dict(run, since=now, until=now + lease, boot_id=boot_id()))
                append_to(directory, AUDIT, [dict(entry, event="intent", time=now)])
            return {"go": True, "reason": None, "lock": None, "until": None}

    def end(self, run, entry, lease):
        """Writes what came of an action and renews the lock, where it is still ours. Raises CannotKeep."""
        with self._guarded() as directory:
            lock, now = self._lock(directory), self._clock()
            if lock and lock["run"] == run["run"]:
                _write_lock(directory, dict(lock, until=now + lease))
            append_to(directory, AUDIT, [dict(entry, event="outcome", time=now)])

    def release(self, run, break_run=None):
        """Gives the lock back, unless another run that is alive has it by now.

        Notes that what earlier runs have left unfinished will never have an outcome: ``abandoned``. Returns these
        intents. Raises CannotKeep.
        """
        with self._guarded() as directory:
            state = self._state(directory)
            lock = state["lock"]
            if lock and lock["run"] not in (run["run"], break_run) and not lock["stale"]:
                return []
            left = [entry for entry in state["unfinished"] if entry["run"] != run["run"]]
            append_to(directory, AUDIT, [dict(entry, event="abandoned", time=self._clock()) for entry in left])
            directory.remove(LOCK)
            return left

    @contextlib.contextmanager
    def _guarded(self, check_mode=False):
        """The directory, in which no other run reads or writes meanwhile; null in check mode, which writes nothing."""
        if check_mode:
            yield None
            return
        try:
            with Directory(self._directory, make=True) as directory, directory.locked(GUARD, GUARD_SECONDS):
                yield directory
        except OSError as exc:
            raise self._cannot(exc)

    def _lock(self, directory):
        try:
            content = directory.read(LOCK, LOCK_BYTES)
        except FileNotFoundError:
            return None
        except Unsafe as exc:
            if not exc.oversized:
                raise
            content = b""
        lock = _journal_entries.lock(_journal_entries.parsed(content))
        if lock is None:
            # It is written in one step, so never half: it is not a lock of this version, and holds nobody back.
            self._note("%s: it is not a lock and was passed over" % directory.file(LOCK))
            return None
        return dict(lock, stale=self._stale(lock))

    def _stale(self, lock):
        if lock["boot_id"] != boot_id():
            return "the machine has been started anew since"
        if lock["until"] < self._clock():
            return "its lease is over"
        return None

    def _entries(self, directory):
        """The entries at the end of the log; what is not a whole line of JSON is passed over."""
        try:
            lines = directory.tail(AUDIT, TAIL_BYTES).split(b"\n")
        except FileNotFoundError:
            return []
        if lines == [b""] and directory.size(AUDIT):
            # The end of one huge line.
            lines = [b"{"]
        read = [_journal_entries.entry(_journal_entries.parsed(line)) for line in lines if line.strip()]
        entries = [entry for entry in read if entry]
        if len(entries) < len(read):
            self._note("%s: lines that are not entries of an audit log were passed over" % directory.file(AUDIT))
        return entries

    def _note(self, problem):
        if problem not in self.problems:
            self.problems.append(problem)

    def _cannot(self, exc):
        if exc.errno == errno.EBUSY:
            return CannotKeep("directory: %s" % exc.strerror)
        return CannotKeep(
            "directory: %s cannot be used for the lock and the audit log: %s. "
            "Run with become: true, or name another directory (tracktion_state_dir)"
            % (self._directory, exc.strerror or exc)
        )


def _write_lock(directory, lock):
    lock.pop("stale", None)
    directory.replace(LOCK, json.dumps(_journal_entries.plain(lock)).encode("utf-8"), temporary=LOCK + ".new")


def append(path, entries, **how):
    """As append_to(), by the path of the log. ``how`` are arguments of Directory. Raises OSError."""
    directory, name = beside(path, **how)
    with directory:
        append_to(directory, name, entries)


def append_to(directory, name, entries):
    """Adds entries to a log, one JSON line each, and brings them to the disk. Raises OSError."""
    if not entries:
        return
    if directory.size(name) > ROTATE_BYTES:
        directory.rename(name, name + ".1")
    text = "".join(json.dumps(_journal_entries.plain(entry), sort_keys=True) + "\n" for entry in entries)
    directory.append(name, text.encode("utf-8"))


def cooling_until(done, action, cooldown, now):
    """Until when the remedy of ``action`` rests for its target, in epoch seconds; null where it has not acted on it.

    ``done`` are outcomes; those of the future, by a clock that was wrong, do not count. Several hosts may be measured,
    and mended, from one place.
    """
    names = ("host", "remedy", "target")
    past = [entry for entry in done if entry["time"] <= now + CLOCK_SECONDS]
    times = [entry["time"] for entry in past if all(entry[name] == action[name] for name in names)]
    return max(times) + cooldown if times and cooldown else None


def boot_id():
    """What tells this start of the machine from the one before."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return ""
