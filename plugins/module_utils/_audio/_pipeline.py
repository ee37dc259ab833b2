# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares the library with the database, and reads the statistics of the service. Private to this collection."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

MOST_STATES = 50


class Unusable(Failure):
    """The answer does not have the fields that are needed."""

    kind = "unusable"


def _client_options(own: Mapping[str, Any], spec: Mapping[str, Any], deadline: Deadline) -> Part:
    """Return the options of a connection: those that are given, else the defaults of its client."""
    given = {name: own.get(name) for name in spec}
    options = {
        name: option.get("default") if given[name] in (None, "") else given[name] for name, option in spec.items()
    }
    for name in ("login_port", "timeout"):
        options[name] = type(spec[name]["default"])(options[name])
    return {**options, "deadline": deadline.step(options["timeout"])}


def rows(own: Mapping[str, Any], pending: Sequence[str], deadline: Deadline) -> Part:
    """Return the rows of the query by state. Raises Failure.

    The query returns a column ``state``, a column ``rows``, and perhaps ``oldest_seconds``.
    """
    from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql

    client = _postgresql.connect(_client_options(own, _postgresql.CONNECTION_SPEC, deadline))
    found = client.rows(str(own["query"]))
    if found and not {"state", "rows"} <= set(found[0]):
        raise Unusable(
            "the query returns the columns %s, not state and rows" % ", ".join(found[0]),
            "Correct `database.query`: SELECT ... AS state, count(*) AS rows, ... AS oldest_seconds",
        )
    states = [
        {
            "state": cut(printable(str(row["state"])), 60),
            "rows": _number(row["rows"]),
            "oldest_seconds": _number(row.get("oldest_seconds")),
            "pending": str(row["state"]) in pending,
        }
        for row in found[:MOST_STATES]
    ]
    waiting = [row for row in states if row["pending"]]
    ages = [row["oldest_seconds"] for row in waiting if row["oldest_seconds"] is not None]
    return {
        "rows": sum(row["rows"] or 0 for row in states),
        "states": states,
        "pending": sum(row["rows"] or 0 for row in waiting),
        "oldest_pending_seconds": max(ages) if ages else None,
    }


def _number(value: Any) -> int | float | None:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def compare(found: Part, music: Sequence[Part] | None) -> Part:
    """Return the part ``pipeline``: the rows, with ``files`` of the library and those without a row (``missing``)."""
    files = None
    if music and all(part["complete"] and part["files"] is not None for part in music):
        files = sum(part["files"] for part in music)
    return {**found, "files": files, "missing": None if files is None else max(0, files - found["rows"])}


def statistics(own: Mapping[str, Any], deadline: Deadline) -> Part:
    """Return ``failed``, ``completed`` and their ``failed_ratio`` from a hash of Redis. Raises Failure."""
    from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis

    client = _redis.connect(_client_options(own, _redis.CONNECTION_SPEC, deadline))
    key, names = str(own["key"]), (str(own["failed"]), str(own["completed"]))
    try:
        values = client.ask("HMGET", key, *names)
    except _redis.ReplyError as exc:
        raise Unusable(str(exc), client.hint(exc, "HMGET", key, *names))
    failed, completed = (_counted(value) for value in values)
    if failed is None or completed is None:
        raise Unusable(
            "the hash %s has no numbers in %s and %s" % (key, *names),
            "Correct `statistics`: its fields are shown by `redis-cli HGETALL %s`" % key.replace("`", "'"),
        )
    total = failed + completed
    return {"failed": failed, "completed": completed, "failed_ratio": round(failed / total, 4) if total else None}


def _counted(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def of_options(options: Options) -> tuple[bool, bool]:
    """Return whether the database, and whether the statistics are to be read."""
    return bool(options["database"].get("query")), bool(options["statistics"].get("key"))
