# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lets restart, backup, proof and restore of one host exclude each other. Private to this collection.

``recovery.json`` in the state directory has a record of each operation, and each has a file beside it on which its
process holds a lock of the kernel. The kernel releases that lock when the process ends, so that an operation that was
killed never blocks another. Between the modules of one playbook a lease holds an operation.

    with _operations.begin(directory, "backup", "postgresql:tracktion", who) as operation:
        subprocess.run([...], pass_fds=(operation.descriptor,))
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
from typing import Any, Callable, Collection, Iterator, Mapping, Sequence, cast

from ansible_collections.tracktion.ops.plugins.module_utils._journal import GUARD_SECONDS, boot_id
from ansible_collections.tracktion.ops.plugins.module_utils._local_user import local_user
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operation_records
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._operation_records import Record, clock
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import READ, WRITE, Directory, Unsafe

RECORDS = "recovery.json"
GUARD = ".recovery-guard"
LOCK = "recovery-%s.lock"
# A record with the most containers has 400 KB.
MOST_BYTES = 8 << 20
STATE_DIR = "/var/lib/tracktion-ops"
# Another process tests a lock for a moment only.
TEST_SECONDS = 2.0

SPEC = {
    "state_dir": {"type": "path", "default": STATE_DIR},
    "operation": {"type": "str"},
    "run": {"type": "dict", "default": {}},
    "broken": {"type": "list", "elements": "str", "default": []},
}


class CannotKeep(Failure):
    """The directory cannot be used. The message says why."""

    kind = "cannot_keep"


class Busy(Failure):
    """Other operations exclude this one. ``holders`` are their records."""

    kind = "busy"

    def __init__(self, holders: Sequence[Record]) -> None:
        self.holders = holders
        super().__init__(
            "another operation is running on this host: %s" % "; ".join(map(described, holders)),
            _next_step(holders),
            holders=list(holders),
        )


class Operation:
    """An operation that this process holds. A context manager.

    ``interrupted``: the records of earlier operations that ended before they were finished. ``descriptor``: pass it to
    a program (``pass_fds``) that must end before another operation may begin, also if this process is killed.
    At the end the record is removed. After an exception it is kept if something is left to do, and blocks nothing.
    """

    def __init__(self, store: _Store, record: Record, interrupted: list[Record], descriptor: int) -> None:
        self._store = store
        self._lease: float | None = None
        self._is_unfinished = False
        self.record = record
        self.interrupted = interrupted
        self.descriptor = descriptor

    @property
    def id(self) -> str:
        """The id, with which a later module of the same playbook continues the operation."""
        return self.record["id"]

    def update(self, **fields: Any) -> None:
        """Replace ``stopped`` or ``data`` of the record, on the disk when this returns. Raises CannotKeep."""
        record = cast("Record", {**self.record, **fields})
        if _operation_records.record(record) != record:
            raise CannotKeep("the record of the operation %s is invalid or too large" % self.id)
        self._store.put([record])
        self.record = record

    def adopt(self, interrupted: Record) -> None:
        """Take over the stopped containers of an interrupted operation, in one step. Raises CannotKeep.

        Its record remains without them if it has ``data``, which only an operation of its kind can use.
        """
        known = {each["id"] for each in self.record["stopped"]}
        stopped = self.record["stopped"] + [each for each in interrupted["stopped"] if each["id"] not in known]
        record = cast("Record", {**self.record, "stopped": stopped})
        rest = cast("Record", {**interrupted, "stopped": []})
        self._store.put([record, rest] if rest["data"] else [record], without=interrupted["id"])
        self.record = record
        self.interrupted = [each for each in self.interrupted if each["id"] != interrupted["id"]]

    def forget(self, interrupted: Record) -> None:
        """Remove the record of an interrupted operation, after it was completed. Raises CannotKeep."""
        self._store.remove(interrupted["id"])
        self.interrupted = [each for each in self.interrupted if each["id"] != interrupted["id"]]

    def interrupted_before(self) -> list[Record]:
        """Return the records of interrupted operations of the same kind and target."""
        mine = self.record["kind"], self.record["target"]
        return [each for each in self.interrupted if (each["kind"], each["target"]) == mine]

    def keep(self, seconds: float) -> None:
        """Let a lease of ``seconds`` hold the operation after the end of this process, for the next module."""
        self._lease = min(seconds, _operation_records.LEASE_MOST)

    def leave_unfinished(self) -> None:
        """At the end, keep the record if something is left to do, as after an exception."""
        self._is_unfinished = True

    def __enter__(self) -> Operation:
        return self

    def __exit__(self, kind: object, exc: object, traceback: object) -> None:
        try:
            if kind is None and self._lease is not None:
                self.record["until"] = self._store.now() + self._lease
                self.record["pid"] = None
                self._store.put([self.record])
            elif not _operation_records.is_unfinished(self.record) or (kind is None and not self._is_unfinished):
                # A record that remains without its process blocks nothing.
                with contextlib.suppress(CannotKeep):
                    self._store.remove(self.id)
        finally:
            os.close(self.descriptor)


def begin(
    directory: str,
    kind: str,
    target: str,
    run: Mapping[str, Any] | None = None,
    join: str | None = None,
    broken: Collection[str] = (),
    clock: Callable[[], float] = time.time,
) -> Operation:
    """Begin an operation of one of ``_operation_records.KINDS``. Raises Busy and CannotKeep.

    ``target`` is what it changes or reads, such as ``postgresql:tracktion``. ``run`` has ``who``, ``controller``,
    ``pid`` and ``pid_start`` of ``_runs.start()``. ``join`` is the id of an operation that an earlier module has kept:
    it goes on. In one process, pass the Operation on; it cannot be joined there.
    ``broken`` are ids of operations whose controller is known to be dead: their leases do not count.
    """
    return _Store(directory, clock).begin(kind, target, run or {}, join or None, broken)


def check(
    directory: str, kind: str, target: str, join: str | None = None, broken: Collection[str] = ()
) -> list[Record]:
    """Return the interrupted operations, and write nothing: for check mode. Raises Busy and CannotKeep."""
    live, interrupted = _without_dead(*read(directory), broken=set(broken) - {join})
    _raise_if_busy(live, {"kind": kind, "target": target}, join)
    return interrupted


def read(directory: str) -> tuple[list[Record], list[Record]]:
    """Return the running operations, and those that were interrupted. Nothing is written. Raises CannotKeep."""
    store = _Store(directory, time.time)
    try:
        with Directory(directory) as opened:
            return store.divided(opened)
    except FileNotFoundError:
        return [], []
    except OSError as exc:
        raise store.cannot_keep(exc) from exc


def described(record: Mapping[str, Any]) -> str:
    """Return what an operation is, who has begun it, and when."""
    return "%s of %s by %s, since %s" % (record["kind"], record["target"], record["who"], clock(record["since"]))


def _next_step(holders: Sequence[Record]) -> str:
    for holder in holders:
        if holder["pid"]:
            return "Run again when it has ended. Look at its process: `ps -ww -o pid,etime,args -p %d`" % holder["pid"]
    until = max([holder["until"] or 0.0 for holder in holders])
    return "Run again when it has ended, or after %s, when its lease ends" % clock(until)


def _without_dead(
    live: Sequence[Record], interrupted: Sequence[Record], broken: Collection[str | None]
) -> tuple[list[Record], list[Record]]:
    """Return both lists after moving the leases of dead controllers: what they have left to do is interrupted."""
    dead = [each for each in live if each["id"] in broken and each["until"] is not None]
    unfinished = [cast("Record", {**each, "until": None}) for each in dead if _operation_records.is_unfinished(each)]
    return [each for each in live if each not in dead], [*interrupted, *unfinished]


def _raise_if_busy(live: Sequence[Record], wanted: Mapping[str, Any], join: str | None) -> None:
    others = [each for each in live if each["id"] != join and _operation_records.conflicts(each, wanted)]
    if others:
        raise Busy(others)


class _Store:
    """The records and locks in one directory."""

    def __init__(self, directory: str, now: Callable[[], float]) -> None:
        self._directory = directory
        self.now = now

    def begin(
        self, kind: str, target: str, run: Mapping[str, Any], join: str | None, broken: Collection[str]
    ) -> Operation:
        """Return the operation that ``begin`` describes. Raises Busy and CannotKeep."""
        with self._guarded() as directory:
            live, interrupted = _without_dead(*self.divided(directory), broken=set(broken) - {join})
            _raise_if_busy(live, {"kind": kind, "target": target}, join)
            joined = next((each for each in live + interrupted if each["id"] == join), None)
            record = joined or self._new(kind, target, run, join)
            record = cast("Record", {**record, "until": None, "pid": os.getpid(), "boot_id": boot_id()})
            descriptor = self._locked(directory, record)
            try:
                others = [each for each in live + interrupted if each["id"] != record["id"]]
                self._write(directory, [*others, record])
                self._sweep(directory, [*others, record])
            except BaseException:
                os.close(descriptor)
                raise
            return Operation(self, record, [each for each in others if each not in live], descriptor)

    def _new(self, kind: str, target: str, run: Mapping[str, Any], join: str | None) -> Record:
        now = self.now()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        fields: dict[str, Any] = {
            # A joined operation whose record was lost keeps its id for the modules after this one.
            "id": join
            if join and _operation_records.ID.fullmatch(join)
            else "%s-%s-%s" % (kind, stamp, secrets.token_hex(4)),
            "kind": kind,
            "target": target,
            "who": run.get("who") or local_user(),
            "since": now,
            "until": None,
            "boot_id": boot_id(),
            "pid": os.getpid(),
            "controller": run.get("controller"),
            "controller_pid": run.get("pid"),
            "controller_start": run.get("pid_start"),
            "stopped": [],
            "data": {},
        }
        record = _operation_records.record(fields)
        if record is None:
            raise ValueError("%s of %s is not a valid operation" % (kind, target))
        return record

    def put(self, records: Sequence[Record], without: str | None = None) -> None:
        """Replace records, and remove the one with the id ``without``. Raises CannotKeep."""
        gone = {without, *(each["id"] for each in records)}
        with self._guarded() as directory:
            others = [each for each in self._records(directory) if each["id"] not in gone]
            if without is not None:
                directory.remove(LOCK % without)
            self._write(directory, [*others, *records])

    def remove(self, identity: str) -> None:
        """Remove a record and its lock. Raises CannotKeep."""
        with self._guarded() as directory:
            # First the lock: one without a record belongs to an operation whose record was lost.
            directory.remove(LOCK % identity)
            self._write(directory, [each for each in self._records(directory) if each["id"] != identity])

    def divided(self, directory: Directory) -> tuple[list[Record], list[Record]]:
        """Return the records of running operations, and those of interrupted ones that left something to do."""
        records = self._records(directory)
        live = [each for each in records if self._is_live(directory, each)]
        known = {each["id"] for each in records}
        # The locks are still there if the file of the records was removed or damaged.
        lost = [identity for identity in _lock_ids(directory) if identity not in known]
        live += [_unknown(identity, self.now()) for identity in lost if _is_locked(directory, identity)]
        return live, [each for each in records if each not in live and _operation_records.is_unfinished(each)]

    def _is_live(self, directory: Directory, record: Record) -> bool:
        return _is_locked(directory, record["id"]) or _operation_records.has_lease(record, self.now(), boot_id())

    def _records(self, directory: Directory) -> list[Record]:
        """Return the records of the file. It is replaced in one step, so what is not a record was never one."""
        try:
            return _operation_records.loaded(directory.read(RECORDS, MOST_BYTES))
        except FileNotFoundError:
            return []
        except Unsafe as exc:
            if not exc.oversized:
                raise
            return []

    def _locked(self, directory: Directory, record: Record) -> int:
        """Return a descriptor that holds the lock of an operation. Raises Busy if a process of it is still running."""
        descriptor = directory.open(LOCK % record["id"], WRITE | os.O_CREAT)
        until = time.monotonic() + TEST_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(descriptor)
                    raise Busy([record])
                time.sleep(0.02)

    def _write(self, directory: Directory, records: list[Record]) -> None:
        if records:
            directory.replace(RECORDS, _operation_records.dumped(records), temporary=RECORDS + ".new")
        else:
            directory.remove(RECORDS)
            directory.sync()

    def _sweep(self, directory: Directory, records: Sequence[Record]) -> None:
        """Remove the locks that dead processes have left without a record."""
        known = {each["id"] for each in records}
        for identity in _lock_ids(directory):
            if identity not in known and not _is_locked(directory, identity):
                directory.remove(LOCK % identity)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[Directory]:
        """Yield the directory while no other process reads or writes the records."""
        try:
            with Directory(self._directory, make=True) as directory, directory.locked(GUARD, GUARD_SECONDS):
                yield directory
        except OSError as exc:
            raise self.cannot_keep(exc) from exc

    def cannot_keep(self, exc: OSError) -> CannotKeep:
        """Return the failure that an error of the directory means."""
        if exc.errno == errno.EBUSY:
            return CannotKeep(str(exc.strerror))
        return CannotKeep(
            "%s cannot be used for the record of the operation: %s" % (self._directory, exc.strerror or exc),
            "Run with become: true, or name another directory (tracktion_state_dir)",
        )


def _lock_ids(directory: Directory) -> list[str]:
    start, end = LOCK.split("%s")
    names = [name for name in os.listdir(directory.descriptor) if name.startswith(start) and name.endswith(end)]
    found = [name[len(start) : -len(end)] for name in names]
    return [identity for identity in found if _operation_records.ID.fullmatch(identity)]


def _is_locked(directory: Directory, identity: str) -> bool:
    """Return whether a process holds the lock of an operation."""
    try:
        descriptor = directory.open(LOCK % identity, READ)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _unknown(identity: str, now: float) -> Record:
    """Return a record of an operation whose own record was lost. It excludes all others while its process runs."""
    fields = {"id": identity, "kind": "restart", "target": "unknown (its record is lost)", "who": "unknown",
              "since": now, "until": None, "boot_id": ""}  # fmt: skip
    return cast("Record", _operation_records.record(fields))
