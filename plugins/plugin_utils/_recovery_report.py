# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a run that makes, proves or restores backups: pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from ansible_collections.tracktion.ops.plugins.plugin_utils import _text, _units

PRODUCTS = ("postgresql", "redis", "rabbitmq")
HEADINGS = ("host", "what", "result", "size", "time", "where")
# Results of modules that are a success.
TITLES = {"backup": "Backups", "prove": "Proofs", "restore": "Restores"}
MESSAGE_LENGTH = 1000
WIDTH = 120
ITEMS_MOST = 200


class Item(TypedDict):
    """One backup, proof or restore. ``status``: ``done``, ``planned``, ``failed`` or ``unreachable``.

    ``result`` is that of the module, ``seconds`` and ``bytes`` may be null.
    """

    host: str
    product: str
    name: str
    status: str
    result: str | None
    path: str | None
    bytes: int | None
    estimated_bytes: int | None
    seconds: float | None
    removed: list[str]
    message: str | None


class RecoveryReport(TypedDict):
    """The content of backup.json, prove.json or restore.json. ``finished`` is UTC in ISO 8601."""

    schema: str
    schema_version: int
    collection_version: str
    finished: str
    what: str
    check_mode: bool
    complete: bool
    items: list[Item]


def items(what: str, host: str, variables: Mapping[str, Any]) -> list[Item]:
    """Return the results of a host from its variables ``recovery_<what>_<product>``, also those of a loop."""
    found = []
    for product in PRODUCTS:
        registered = variables.get("recovery_%s_%s" % (what, product))
        if not isinstance(registered, Mapping) or registered.get("skipped"):
            continue
        results = registered.get("results")
        each = results if isinstance(results, list) else [registered]
        found += [_item(host, product, result) for result in each if isinstance(result, Mapping)]
    return [item for item in found if item]


def _item(host: str, product: str, result: Mapping[str, Any]) -> Item | None:
    if result.get("skipped"):
        return None
    status = "planned" if result.get("result") == "planned" else "done"
    if result.get("unreachable"):
        status = "unreachable"
    elif result.get("failed"):
        status = "failed"
    name = result.get("name") or result.get("database") or result.get("item") or ""
    removed = result.get("removed")
    return {
        "host": host,
        "product": product,
        "name": str(name),
        "status": status,
        "result": _string(result.get("result")),
        "path": _string(result.get("path")),
        "bytes": _whole(result.get("bytes")),
        "estimated_bytes": _whole(result.get("estimated_bytes")),
        "seconds": _number(result.get("seconds")),
        "removed": [str(path) for path in removed] if isinstance(removed, list) else [],
        "message": " ".join(str(result.get("msg") or "").split())[:MESSAGE_LENGTH] or None,
    }


def build(what: str, found: Iterable[Item], check_mode: bool, version: str, finished: str) -> RecoveryReport:
    """Return the report, failures first."""
    ordered = sorted(found, key=lambda each: (not _has_failed(each), each["host"]))
    return {
        "schema": "tracktion.ops/recovery",
        "schema_version": 1,
        "collection_version": version,
        "finished": finished,
        "what": what,
        "check_mode": check_mode,
        "complete": not any(_has_failed(each) for each in ordered),
        "items": ordered,
    }


def failed_hosts(report: RecoveryReport) -> list[str]:
    """Return the hosts on which something failed."""
    return sorted({each["host"] for each in report["items"] if _has_failed(each)})


def _has_failed(each: Item) -> bool:
    return each["status"] in ("failed", "unreachable")


def summary(report: RecoveryReport) -> dict[str, Any]:
    """Return the data for set_stats, with at most 200 items: job artifacts are limited in size."""
    fields = ("host", "product", "name", "status", "path", "bytes", "message")
    shown = [{field: each.get(field) for field in fields} for each in report["items"][:ITEMS_MOST]]
    return {"complete": report["complete"], "check_mode": report["check_mode"], "items": shown}


def render(report: RecoveryReport, path: str | None = None) -> str:
    """Return the report for a terminal: a table, then the reasons of failures."""
    report = _text.cleaned(report)
    counts = [(status, _count(report, status)) for status in ("done", "planned", "failed", "unreachable")]
    totals = ", ".join("%d %s" % (number, status) for status, number in counts if number)
    lines = ["%s: %s" % (TITLES[report["what"]], totals), ""]
    rows = [_row(each) for each in report["items"]]
    widths = [max(map(_text.columns, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines += ["  " + "  ".join(map(_text.pad, row, widths)).rstrip() for row in (HEADINGS, *rows)]
    for each in report["items"]:
        if each["removed"]:
            verb = "would remove" if report["check_mode"] else "removed"
            text = "%s: %s %s" % (each["name"], verb, _text.few(each["removed"]))
            lines += ["", *_text.wrap(text, WIDTH, " " * 2, " " * 4)]
    for each in report["items"]:
        if each["message"]:
            what = ("%s %s" % (each["product"], each["name"])).strip()
            text = "%s, %s: %s" % (each["host"], what, each["message"])
            lines += ["", *_text.wrap(text, WIDTH, " " * 2, " " * 4)]
    return "\n".join([*lines, *(["", "Report: %s" % path] if path else [])])


def _count(report: RecoveryReport, status: str) -> int:
    return sum(each["status"] == status for each in report["items"])


def _row(each: Item) -> tuple[str, ...]:
    size = _units.size(each["bytes"]) if each["bytes"] is not None else ""
    if not size and each["estimated_bytes"] is not None:
        size = "at most %s" % _units.size(each["estimated_bytes"])
    seconds = _units.duration(each["seconds"]) if each["seconds"] is not None else ""
    what = "%s %s" % (each["product"], each["name"])
    result = each["status"] if each["status"] != "done" else (each["result"] or "done")
    return (each["host"], what.strip(), result, size, seconds, each["path"] or "")


def _string(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> float | None:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None  # type: ignore[arg-type]


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
