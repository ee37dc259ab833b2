# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parse Redis' INFO, sizes and names of keys. Pure functions. Private to this collection."""

from __future__ import annotations

import re

from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import AnyFields, Database, Fields

_UNITS = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1024,
    "m": 1000**2,
    "mb": 1024**2,
    "g": 1000**3,
    "gb": 1024**3,
}


def parse_info(reply: bytes) -> Fields:
    """Return the fields of a reply to INFO: name -> text."""
    fields = {}
    for line in reply.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            fields[name] = value
    return fields


def integer(info: AnyFields, name: str) -> int | None:
    """Return the field ``name`` as an int; null if the server does not report it."""
    try:
        return int(info[name])
    except (KeyError, ValueError):
        return None


def decimal(info: AnyFields, name: str) -> float | None:
    """Return the field ``name`` as a float; null if the server does not report it, or reports ``nan`` or ``inf``."""
    try:
        value = float(info[name])
    except (KeyError, ValueError):
        return None
    return value if value - value == 0.0 else None


def pairs(value: str | None) -> Fields:
    """Return the pairs in a field such as ``calls=3,usec=12``: name -> text; empty for null."""
    return {name: text for name, equals, text in (part.partition("=") for part in (value or "").split(",")) if equals}


def ratio(part: float | None, whole: float | None) -> float | None:
    """Return part / whole, rounded to six places; null if either is unknown or the whole is zero."""
    return None if part is None or not whole else round(part / whole, 6)


def difference(later: int | None, earlier: int | None) -> int | None:
    """Return the increase of a counter, 0 if it was reset in between; null if either value is unknown."""
    return None if later is None or earlier is None else increase(later, earlier)


def increase(later: int, earlier: int) -> int:
    """Return the increase of a counter, 0 if it was reset in between."""
    return max(0, later - earlier)


def databases(info: Fields) -> list[Database]:
    """Return the databases that hold keys, ordered by number."""
    found: list[Database] = []
    for name, value in info.items():
        if re.match(r"db\d+$", name):
            counts = pairs(value)
            found.append(
                {
                    "database": int(name[2:]),
                    "key_count": int(counts.get("keys", 0)),
                    "expiring_count": int(counts.get("expires", 0)),
                    "average_ttl_seconds": int(counts.get("avg_ttl", 0)) / 1000.0,
                }
            )
    return sorted(found, key=lambda each: each["database"])


def parse_bytes(text: str) -> int:
    """Return a size of redis.conf in bytes: 1gb is 1024 ** 3, 1g is 1000 ** 3. Raises ValueError."""
    match = re.match(r"(\d+)\s*([a-z]*)$", str(text).strip().lower())
    if not match or match.group(2) not in _UNITS:
        raise ValueError("%r is not a size such as 1gb, 512mb or a number of bytes" % (text,))
    return int(match.group(1)) * _UNITS[match.group(2)]


def readable(name: bytes) -> str:
    """Return a name or an argument as text: unprintable characters are escaped, backslashes doubled."""
    text = name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
