# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validates a lock and the lines of an audit log. Pure. Private to this collection.

An earlier version, a forged file or a compromised host can have written the input. The functions return bounded data of
known types, or null. The controller uses them too, on what a host sends.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypedDict, cast

EVENTS = ("intent", "outcome", "abandoned")
# Text fields of a line that are read again. Its other fields, such as variables and results, are for people.
TEXTS = ("action", "remedy", "who", "target", "does", "outcome")
LENGTH = 1000
# The longest accepted lease: no run holds a lock for a year.
LEASE_MOST = 366 * 86400
# Python neither prints nor reads integers of more than 4300 digits.
MOST_BITS = 14000
# The year 9999, the last year of a datetime.
LAST_SECOND = 253402300799
NEEDED = {
    "lock": ("run", "who", "since", "until", "boot_id"),
    "entry": ("run", "who", "host", "action", "remedy", "time"),
}


class Lock(TypedDict):
    """The lock of a run. Times are epoch seconds."""

    run: str
    who: str
    since: float
    until: float
    boot_id: str
    controller: str | None
    pid: int | None
    pid_start: int | None


class Entry(TypedDict):
    """A line of an audit log, as far as it is read again. ``event`` is one of EVENTS."""

    run: str
    host: str
    who: str
    action: str
    remedy: str
    target: str | None
    does: str | None
    outcome: str | None
    event: str
    time: float
    changed: bool


def parsed(text: bytes) -> object:
    """Return the value of a JSON text; null if it is not JSON or nested too deeply."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def lock(value: object) -> Lock | None:
    """Return a valid lock; null if ``value`` is not one."""
    if not isinstance(value, dict):
        return None
    made: dict[str, Any] = {name: text(value.get(name)) for name in ("run", "who", "boot_id", "controller")}
    made.update({name: epoch(value.get(name)) for name in ("since", "until")})
    made.update({name: _number(value.get(name)) for name in ("pid", "pid_start")})
    if _lacks(made, "lock") or made["until"] - made["since"] > LEASE_MOST:
        return None
    return cast("Lock", made)


def entry(value: object) -> Entry | None:
    """Return the fields of a line of an audit log that are read again; null if it is not such a line."""
    if not isinstance(value, dict) or value.get("event") not in EVENTS:
        return None
    made: dict[str, Any] = {name: text(value.get(name)) for name in ("run", "host", *TEXTS)}
    made.update(event=value["event"], time=epoch(value.get("time")), changed=value.get("changed") is True)
    # A remedy may have no target. A target of another type is forged.
    if _lacks(made, "entry") or not isinstance(value.get("target"), (str, type(None))):
        return None
    return cast("Entry", made)


def text(value: object) -> str | None:
    """Return a text, cut to LENGTH; null for anything else."""
    return value[:LENGTH] if isinstance(value, str) else None


def epoch(value: object) -> float | None:
    """Return seconds since 1970 that can be printed as a date; null for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= LAST_SECOND else None


def plain(value: object, depth: int = 50) -> object:
    """Return ``value`` as JSON can hold it: invalid numbers as null, values of other types as the name of the type."""
    if depth == 0:
        return "(left out: nested too deeply)"
    if isinstance(value, dict):
        return {str(key): plain(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, depth - 1) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value.bit_length() < MOST_BITS else None
    if value is None or isinstance(value, (bool, str)):
        return value
    # Not its text, which for an encrypted value is the secret.
    return "(%s)" % type(value).__name__


def _number(value: object) -> int | None:
    # A process id has at most 22 bits, its start at most 64.
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 64 else None


def _lacks(made: dict[str, Any], kind: str) -> bool:
    return any(made[name] is None or (made[name] == "" and name != "boot_id") for name in NEEDED[kind])


def _no_constant(name: str) -> None:
    raise ValueError("%s is not JSON" % name)
