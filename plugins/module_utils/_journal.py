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
import fcntl
import json
import os
import time

LOCK = "remediation.lock"
AUDIT = "audit.jsonl"
GUARD = ".guard"
# The part of the log that is read, and the size at which it is put aside (one old file is kept).
TAIL_BYTES = 1 << 20
ROTATE_BYTES = 8 << 20
# Entries handed out of each list.
MOST = 50
# The guard is held for a few file accesses; longer than this means that a disk hangs.
GUARD_SECONDS = 10.0


class CannotKeep(Exception):
    """The directory cannot be used. The message says why and names the option."""


class Journal:
    def __init__(self, directory, clock=time.time):
        self._directory = directory
        self._clock = clock

    def read(self):
        """``{lock, unfinished, done}``, without writing anything.

        ``lock``: the lock that is held, with ``stale`` (why it no longer counts, or null); null where there is none.
        ``unfinished``: intents without an outcome. ``done``: outcomes that changed something, the latest last.
        Raises CannotKeep.
        """
        try:
            lock, entries = self._lock(), self._entries()
        except OSError as exc:
            raise self._cannot(exc)
        unfinished = {}
        for entry in entries:
            key = (entry.get("run"), entry.get("action"))
            if entry.get("event") == "intent":
                unfinished[key] = entry
            else:
                unfinished.pop(key, None)
        done = [entry for entry in entries if entry.get("event") == "outcome" and entry.get("changed")]
        return {"lock": lock, "unfinished": list(unfinished.values())[-MOST:], "done": done[-MOST:]}

    def begin(self, run, entry, lease, cooldown, break_run=None, check_mode=False):
        """Takes or renews the lock for ``run`` and writes the intent ``entry``.

        Returns ``{go, reason, lock, until}``: ``reason`` is ``locked`` (by ``lock``) or ``cooling`` (until the epoch
        second ``until``) where the action must not be carried out. ``break_run`` is a run that the caller knows to be
        dead. In check mode nothing is written. Raises CannotKeep.
        """
        with self._guarded(check_mode):
            state = self.read()
            lock, now = state["lock"], self._clock()
            if lock and lock["run"] not in (run["run"], break_run) and not lock["stale"]:
                return {"go": False, "reason": "locked", "lock": lock, "until": None}
            until = cooling_until(state["done"], entry, cooldown)
            if until and until > now:
                return {"go": False, "reason": "cooling", "lock": None, "until": until}
            if not check_mode:
                self._write_lock(dict(run, since=now, until=now + lease, boot_id=boot_id()))
                append(self._path(AUDIT), [dict(entry, event="intent", time=now)])
            return {"go": True, "reason": None, "lock": None, "until": None}

    def end(self, run, entry, lease):
        """Writes what came of an action and renews the lock, where it is still ours. Raises CannotKeep."""
        with self._guarded():
            lock, now = self._lock(), self._clock()
            if lock and lock["run"] == run["run"]:
                self._write_lock(dict(lock, until=now + lease))
            append(self._path(AUDIT), [dict(entry, event="outcome", time=now)])

    def release(self, run, break_run=None):
        """Gives the lock back, unless another run that is alive has it by now.

        Notes that what earlier runs have left unfinished will never have an outcome: ``abandoned``. Returns these
        intents. Raises CannotKeep.
        """
        with self._guarded():
            state = self.read()
            lock = state["lock"]
            if lock and lock["run"] not in (run["run"], break_run) and not lock["stale"]:
                return []
            left = [entry for entry in state["unfinished"] if entry["run"] != run["run"]]
            append(self._path(AUDIT), [dict(entry, event="abandoned", time=self._clock()) for entry in left])
            if lock:
                os.unlink(self._path(LOCK))
            return left

    def _path(self, name):
        return os.path.join(self._directory, name)

    @contextlib.contextmanager
    def _guarded(self, check_mode=False):
        """Nobody else looks or writes meanwhile. In check mode, where nothing is written, nothing is guarded."""
        if check_mode:
            yield
            return
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            descriptor = os.open(self._path(GUARD), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise self._cannot(exc)
        try:
            self._wait_for(descriptor)
            try:
                yield
            except OSError as exc:
                raise self._cannot(exc)
        finally:
            os.close(descriptor)

    def _wait_for(self, descriptor):
        until = time.monotonic() + GUARD_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > until:
                    raise CannotKeep("directory: %s has been busy for %d s" % (self._path(GUARD), GUARD_SECONDS))
                time.sleep(0.02)

    def _lock(self):
        try:
            with open(self._path(LOCK), encoding="utf-8") as handle:
                lock = json.load(handle)
            lock["stale"] = self._stale(lock)
            return lock
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            # Written in one step, so never half: somebody else's file, which promises nothing.
            return None

    def _stale(self, lock):
        if lock["boot_id"] != boot_id():
            return "the machine has been started anew since"
        if lock["until"] < self._clock():
            return "its lease is over"
        return None

    def _write_lock(self, lock):
        lock.pop("stale", None)
        temporary = self._path(LOCK + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            json.dump(lock, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, self._path(LOCK))

    def _entries(self):
        """The entries at the end of the log; what is not a whole line of JSON is passed over."""
        try:
            with open(self._path(AUDIT), "rb") as handle:
                size = os.fstat(handle.fileno()).st_size
                handle.seek(max(0, size - TAIL_BYTES))
                lines = handle.read(TAIL_BYTES).split(b"\n")
        except FileNotFoundError:
            return []
        entries = []
        for line in lines:
            with contextlib.suppress(ValueError):
                entry = json.loads(line.decode("utf-8"))
                if isinstance(entry, dict):
                    entries.append(entry)
        return entries

    def _cannot(self, exc):
        return CannotKeep(
            "directory: %s cannot be used for the lock and the audit log: %s. "
            "Run with become: true, or name another directory" % (self._directory, exc.strerror or exc)
        )


def append(path, entries):
    """Adds entries to a log, one JSON line each, and brings them to the disk. Raises OSError."""
    if not entries:
        return
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_size > ROTATE_BYTES:
            os.replace(path, path + ".1")
    text = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in entries)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "rb+", buffering=0) as handle:
        size = os.fstat(descriptor).st_size
        # A line that a full disk or a sudden end has cut off must not take this one along.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            text = "\n" + text
        handle.write(text.encode("utf-8"))
        os.fsync(descriptor)


def cooling_until(done, action, cooldown):
    """Until when the remedy of ``action`` rests for its target, in epoch seconds; null where it has not acted on it.

    ``done`` are outcomes. Several hosts of an inventory may be measured, and mended, from one place.
    """
    names = ("host", "remedy", "target")
    times = [entry["time"] for entry in done if all(entry.get(name) == action[name] for name in names)]
    return max(times) + cooldown if times and cooldown else None


def boot_id():
    """What tells this start of the machine from the one before."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return ""
