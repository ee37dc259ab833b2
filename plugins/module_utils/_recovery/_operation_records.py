# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validates the records of recovery operations. Pure. Private to this collection.

An earlier version or a person can have written the input. The functions return bounded data of known types, or null.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any, Mapping, TypedDict, cast

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries

SCHEMA_VERSION = 1
KINDS = ("restart", "backup", "proof", "restore")
# No other operation may run beside one of these; the others exclude each other for the same target.
EXCLUSIVE = ("restart", "restore")
ID = re.compile(r"[0-9A-Za-z-]{1,64}")
# Records in the file, and stopped containers of one of them.
RECORDS_MOST = 100
STOPPED_MOST = 1000
DATA_BYTES = 1 << 16
# The longest accepted lease. A clock that was set back must not make one endless.
LEASE_MOST = 86400.0
TEXTS = ("id", "name", "project", "service")


class Stopped(TypedDict):
    """A container that an operation stops and has to start again.

    ``asked`` is the time just before the stop, ``finished`` the time at which the engine says that the container ended,
    or null if the operation was interrupted before it read that.
    """

    id: str
    name: str
    project: str | None
    service: str | None
    asked: float
    grace: float
    finished: float | None


class Record(TypedDict):
    """One operation. Times are seconds since 1970.

    ``until`` is the end of the lease that holds the operation between two modules; null while a process holds it.
    ``pid`` is the process on this host, for people. ``controller``, ``controller_pid`` and ``controller_start`` are
    those of ``_runs``. ``data`` is what its kind has to know after an interruption.
    """

    id: str
    kind: str
    target: str
    who: str
    since: float
    until: float | None
    boot_id: str
    pid: int | None
    controller: str | None
    controller_pid: int | None
    controller_start: int | None
    stopped: list[Stopped]
    data: dict[str, Any]


def dumped(records: list[Record]) -> bytes:
    """Return the content of the file with these records."""
    content = {"schema_version": SCHEMA_VERSION, "operations": _journal_entries.plain(records)}
    return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode("utf-8")


def loaded(content: bytes) -> list[Record]:
    """Return the valid records of the file."""
    document = _journal_entries.parsed(content)
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        return []
    entries = document.get("operations")
    found = [record(entry) for entry in entries[:RECORDS_MOST]] if isinstance(entries, list) else []
    return list({each["id"]: each for each in found if each}.values())


def record(value: object) -> Record | None:
    """Return a valid record; null if ``value`` is not one."""
    if not isinstance(value, dict):
        return None
    texts = {name: _journal_entries.text(value.get(name)) for name in ("id", "target", "who", "boot_id")}
    since, until = _journal_entries.epoch(value.get("since")), _journal_entries.epoch(value.get("until"))
    if None in texts.values() or since is None or value.get("kind") not in KINDS:
        return None
    if not ID.fullmatch(str(texts["id"])) or (until is None and value.get("until") is not None):
        return None
    stopped = value.get("stopped")
    data = value.get("data")
    return cast(
        "Record",
        {
            **texts,
            "kind": value["kind"],
            "since": since,
            "until": until,
            "controller": _journal_entries.text(value.get("controller")),
            **{name: _number(value.get(name)) for name in ("pid", "controller_pid", "controller_start")},
            "stopped": [each for each in map(stopped_container, stopped[:STOPPED_MOST]) if each]
            if isinstance(stopped, list)
            else [],
            "data": data if isinstance(data, dict) and len(json.dumps(data)) <= DATA_BYTES else {},
        },
    )


def stopped_container(value: object) -> Stopped | None:
    """Return a valid entry of ``stopped``; null if ``value`` is not one."""
    if not isinstance(value, dict):
        return None
    texts = {name: _journal_entries.text(value.get(name)) for name in TEXTS}
    asked, grace = (_journal_entries.epoch(value.get(name)) for name in ("asked", "grace"))
    if not texts["id"] or not texts["name"] or asked is None or grace is None:
        return None
    finished = _journal_entries.epoch(value.get("finished"))
    return cast("Stopped", {**texts, "asked": asked, "grace": grace, "finished": finished})


def conflicts(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two operations of one host exclude each other."""
    return bool({one["kind"], other["kind"]} & set(EXCLUSIVE)) or one["target"] == other["target"]


def has_lease(operation: Record, now: float, boot_id: str) -> bool:
    """Return whether a lease holds an operation: it has not ended, and the host has not been started since."""
    until = operation["until"]
    return until is not None and operation["boot_id"] == boot_id and now < until <= now + LEASE_MOST


def is_unfinished(operation: Record) -> bool:
    """Return whether something is left to do after an operation that was interrupted."""
    return bool(operation["stopped"] or operation["data"])


def clock(epoch: float) -> str:
    """Return a time in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 64 else None
