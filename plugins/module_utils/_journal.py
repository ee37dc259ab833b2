# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the lock and the audit log of remediations on a host. Private to this collection.

Both files are in one directory. ``remediation.lock`` names the run that may act on this machine until its lease
expires. ``audit.jsonl`` has a line before each action (event ``intent``) and one after it (``outcome``): an intent
without an outcome shows that its run was interrupted. Each read and each change holds a lock of the kernel, so that two
runs that start at the same moment see each other.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.module_utils._journal_entries import Entry, Lock
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory, Unsafe, beside

LOCK = "remediation.lock"
AUDIT = "audit.jsonl"
GUARD = ".guard"
# A lock has about 300 bytes.
LOCK_BYTES = 1 << 16
# The part of the log that is read, and the size at which the log is rotated (one old file is kept).
TAIL_BYTES = 1 << 20
ROTATE_BYTES = 8 << 20
# Entries returned of each list.
MOST = 50
# Largest accepted difference between two clocks, or between one before and after it was set.
CLOCK_SECONDS = 300
# The guard is held for a few file accesses; longer than this means that a disk hangs.
GUARD_SECONDS = 10.0


class HeldLock(Lock):
    """A lock that was read, with the reason why it no longer counts, or null."""

    stale: str | None


class State(TypedDict):
    """``unfinished``: intents without an outcome; ``done``: outcomes that changed something, the latest last."""

    lock: HeldLock | None
    unfinished: list[Entry]
    done: list[Entry]


class Permission(TypedDict):
    """Whether an action may be carried out. If not, ``reason`` is ``locked`` (by ``lock``) or ``cooling``.

    ``until`` is the epoch second at which the cooldown ends.
    """

    go: bool
    reason: str | None
    lock: HeldLock | None
    until: float | None


class CannotKeep(Exception):
    """The directory cannot be used. The message says why and names the option."""


class Journal:
    """The lock and the audit log in one directory.

    ``problems``: what was ignored in the files, one text each, for warnings. ``run`` in the methods is a mapping with
    the fields ``run``, ``who``, ``controller``, ``pid`` and ``pid_start`` of a lock.
    """

    def __init__(self, directory: str, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock
        self.problems: list[str] = []

    def read(self) -> State:
        """Return the state, and write nothing. Raises CannotKeep."""
        try:
            with Directory(self._directory) as directory:
                return self._state(directory)
        except FileNotFoundError:
            return {"lock": None, "unfinished": [], "done": []}
        except OSError as exc:
            raise self._cannot_keep(exc)

    def _state(self, directory: Directory) -> State:
        lock, entries = self._lock(directory), self._entries(directory)
        unfinished: dict[tuple[str, str], Entry] = {}
        for entry in entries:
            key = (entry["run"], entry["action"])
            if entry["event"] == "intent":
                unfinished[key] = entry
            else:
                unfinished.pop(key, None)
        done = [entry for entry in entries if entry["event"] == "outcome" and entry["changed"]]
        return {"lock": lock, "unfinished": list(unfinished.values())[-MOST:], "done": done[-MOST:]}

    def begin(
        self,
        run: Mapping[str, Any],
        entry: Mapping[str, Any],
        lease: float,
        cooldown: float,
        break_run: str | None = None,
        check_mode: bool = False,
    ) -> Permission:
        """Take or renew the lock for ``run`` and write the intent ``entry``, if no other run or cooldown forbids it.

        ``break_run`` is a run that the caller knows to be dead. In check mode nothing is written. Raises CannotKeep.
        """
        guard: contextlib.AbstractContextManager[Directory | None]
        guard = contextlib.nullcontext() if check_mode else self._guarded()
        with guard as directory:
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

    def end(self, run: Mapping[str, Any], entry: Mapping[str, Any], lease: float) -> None:
        """Write the outcome of an action, and renew the lock if ``run`` still holds it. Raises CannotKeep."""
        with self._guarded() as directory:
            lock, now = self._lock(directory), self._clock()
            if lock and lock["run"] == run["run"]:
                _write_lock(directory, dict(lock, until=now + lease))
            append_to(directory, AUDIT, [dict(entry, event="outcome", time=now)])

    def release(self, run: Mapping[str, Any], break_run: str | None = None) -> list[Entry]:
        """Release the lock, unless another live run holds it now. Return the unfinished intents of earlier runs.

        These will never have an outcome: the event ``abandoned`` is written for each. Raises CannotKeep.
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
    def _guarded(self) -> Iterator[Directory]:
        """Yield the directory while no other run reads or writes it."""
        try:
            with Directory(self._directory, make=True) as directory, directory.locked(GUARD, GUARD_SECONDS):
                yield directory
        except OSError as exc:
            raise self._cannot_keep(exc)

    def _lock(self, directory: Directory) -> HeldLock | None:
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
            # A lock is written in one step, so this is not half of one: it blocks no run.
            self._note("%s: it is not a lock and was ignored" % directory.file(LOCK))
            return None
        return {**lock, "stale": self._stale(lock)}

    def _stale(self, lock: Lock) -> str | None:
        if lock["boot_id"] != boot_id():
            return "the machine has been rebooted since"
        if lock["until"] < self._clock():
            return "its lease has expired"
        return None

    def _entries(self, directory: Directory) -> list[Entry]:
        """Return the entries at the end of the log. A line that is not a whole entry is ignored."""
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
            self._note("%s: lines that are not entries of an audit log were ignored" % directory.file(AUDIT))
        return entries

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _cannot_keep(self, exc: OSError) -> CannotKeep:
        if exc.errno == errno.EBUSY:
            return CannotKeep("directory: %s" % exc.strerror)
        return CannotKeep(
            "directory: %s cannot be used for the lock and the audit log: %s. "
            "Run with become: true, or name another directory (tracktion_state_dir)"
            % (self._directory, exc.strerror or exc)
        )


def _write_lock(directory: Directory, lock: dict[str, Any]) -> None:
    lock.pop("stale", None)
    directory.replace(LOCK, json.dumps(_journal_entries.plain(lock)).encode("utf-8"), temporary=LOCK + ".new")


def append(path: str, entries: Sequence[Mapping[str, Any]], **how: Any) -> None:
    """Call append_to() for the log at ``path``. ``how`` are arguments of Directory. Raises OSError."""
    directory, name = beside(path, **how)
    with directory:
        append_to(directory, name, entries)


def append_to(directory: Directory, name: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Append entries to a log, one JSON line each, and flush them to the disk. Raises OSError."""
    if not entries:
        return
    if directory.size(name) > ROTATE_BYTES:
        directory.rename(name, name + ".1")
    text = "".join(json.dumps(_journal_entries.plain(entry), sort_keys=True) + "\n" for entry in entries)
    directory.append(name, text.encode("utf-8"))


def cooling_until(
    done: Iterable[Mapping[str, Any]], action: Mapping[str, Any], cooldown: float, now: float
) -> float | None:
    """Return the epoch second at which the cooldown of an action's remedy for its target ends; null if there is none.

    ``done`` are outcomes; those in the future, from a wrong clock, do not count. Several hosts may share a probe host
    and its log, so the host is compared too.
    """
    names = ("host", "remedy", "target")
    past = [entry for entry in done if entry["time"] <= now + CLOCK_SECONDS]
    times = [entry["time"] for entry in past if all(entry[name] == action[name] for name in names)]
    return max(times) + cooldown if times and cooldown else None


def boot_id() -> str:
    """Return the id of this boot of the machine; empty if the kernel does not give one."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return ""
