# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chart rows of areas, and the measured values that they name. Pure. Private to this collection.

Nothing else of a measurement is in a report than what its findings name and what ``charts.yml`` lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.plugin_utils._areas import Area
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import BadRow, FieldType, Row
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Chart, ChartColumn, ChartItem, HostReport

KINDS = ("bars", "tree")
FIELD = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
UNIT = re.compile(r"[a-z][a-z_]*")
# Items of a chart unless its row has another ``top``, and the most that a row can have.
TOP = 8
TOP_MOST = 30
LABEL_LENGTH = 100
# Charts of one report: those of the worst hosts.
CHARTS_MOST = 400
# Measured numbers are smaller.
LARGEST = 1e18
SEPARATOR = " \u00b7 "


class ChartRow(Row):
    """One row of ``charts.yml``: where a chart finds its values."""

    FIELDS: ClassVar[Mapping[str, FieldType]] = {
        "id": str,
        "title": str,
        "kind": str,
        "path": str,
        "only": dict,
        "label": list,
        "name": str,
        "value": str,
        "of": str,
        "unit": str,
        "columns": list,
        "children": str,
        "key": str,
        "parent": str,
        "top": int,
        "trend": bool,
    }
    REQUIRED: ClassVar[Sequence[str]] = ("id", "title", "path", "value", "unit")

    title: str
    path: str
    only: dict[str, Any] | None
    label: list[str] | None
    name: str | None
    value: str
    of: str | None
    unit: str
    children: str | None
    key: str | None
    parent: str | None
    trend: bool | None

    def __init__(self, row: Any, source: str, area: Area) -> None:
        super().__init__(row, source)
        self.kind: str = self.field("kind") or "bars"
        self.top: int = self.field("top") or TOP
        self.columns: list[ChartColumn] = []
        fields = [self.path, self.value, *(self.label or []), *(self.only or {})]
        if not self.id.startswith(area.name + ".") or self.id.count(".") != 1:
            raise self.bad("id: must be %s.<name>" % area.name)
        if self.kind not in KINDS:
            raise self.bad("kind: must be one of %s" % ", ".join(KINDS))
        if not UNIT.fullmatch(self.unit):
            raise self.bad("unit: must be a word in lower case")
        if not 1 <= self.top <= TOP_MOST:
            raise self.bad("top: must be from 1 to %d" % TOP_MOST)
        if not self.label and not self.name:
            raise self.bad("label (fields of an item) or name (of the only item) is required")
        if self.kind == "tree" and not (self.children and self.key and self.parent and self.label):
            raise self.bad("a tree needs label, children, key and parent")
        for column in self.field("columns") or []:
            if not isinstance(column, dict) or not {"title", "field"} <= set(column) <= {"title", "field", "unit"}:
                raise self.bad("columns: each has title, field and, if it needs one, unit")
            fields.append(column["field"])
            self.columns.append({"title": str(column["title"]), "unit": column.get("unit")})
        self._column_fields = [column["field"] for column in self.field("columns") or []]
        for each in [*fields, *filter(None, (self.of, self.children, self.key, self.parent))]:
            if not isinstance(each, str) or not FIELD.fullmatch(each):
                raise self.bad("%r is not the path of a field" % (each,))

    def chart(self, host: str, area: str, measurement: Mapping[str, Any]) -> Chart | None:
        """Return the chart of a measurement; null if it has no value for it."""
        found = _follow(measurement, self.path)
        items = self._tree(found) if self.kind == "tree" else self._bars(found)
        if not items:
            return None
        return {
            "id": self.id,
            "area": area,
            "host": host,
            "title": self.title,
            "kind": "tree" if self.kind == "tree" else "bars",
            "unit": self.unit,
            "columns": self.columns,
            "items": items[: self.top],
            "left_out": max(0, len(items) - self.top),
            "trend": bool(self.trend),
            "earlier": [],
        }

    def _bars(self, found: Any) -> list[ChartItem]:
        """Return the items with a value, the largest first; items with the same label are one."""
        items: dict[str, ChartItem] = {}
        for each in found if isinstance(found, list) else [found]:
            value = _number(_follow(each, self.value))
            if value is None or any(_follow(each, field) != wanted for field, wanted in (self.only or {}).items()):
                continue
            item = self._item(each, value)
            if item["label"] in items:
                items[item["label"]]["value"] += value
            else:
                items[item["label"]] = item
        return sorted(items.values(), key=lambda item: (-_fill(item), -item["value"], item["label"]))

    def _tree(self, found: Any) -> list[ChartItem]:
        """Return roots and, after each, what waits for it, in depth-first order."""
        items: list[ChartItem] = []
        for root in found if isinstance(found, list) else []:
            below: dict[Any, list[Any]] = {}
            children = _follow(root, self.children or "")
            known = {_follow(each, self.key or "") for each in children or []}
            for each in children or []:
                parents = _follow(each, self.parent or "")
                # One of the sessions that it waits for: another waiting one, if there is such, else the root.
                parent = next((name for name in parents or [] if name in known), None)
                below.setdefault(parent, []).append(each)
            items.append({**self._item(root, _number(_follow(root, self.value))), "depth": 0})
            pending = [(each, 1) for each in reversed(below.pop(None, []))]
            while pending and len(items) <= TOP_MOST:
                each, depth = pending.pop()
                items.append({**self._item(each, _number(_follow(each, self.value))), "depth": min(depth, 8)})
                following = below.pop(_follow(each, self.key or ""), [])
                pending += [(child, depth + 1) for child in reversed(following)]
        return items

    def _item(self, each: Any, value: float | None) -> ChartItem:
        names = [_follow(each, field) for field in self.label or []]
        texts = dict.fromkeys(_text(name) for name in names if name is not None and name != "")
        return {
            "label": cut(SEPARATOR.join(texts) or self.name or "(no name)", LABEL_LENGTH),
            "value": value if value is not None else 0,
            "of": (_number(_follow(each, self.of)) or None) if self.of else None,
            "columns": [_cell(_follow(each, field)) for field in self._column_fields],
            "depth": 0,
        }


@cache
def load(area: Area) -> list[ChartRow]:
    """Return the chart rows of an area role. Raises BadRow."""
    path = str(area.charts_file)
    rows = [ChartRow(row, path, area) for row in area.rows("charts")]
    if len({row.id for row in rows}) < len(rows):
        raise BadRow(path, None, "two rows have the same id")
    return rows


def of_area(area: Area, host: str, measurement: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of one area of one host. Raises BadRow."""
    charts = []
    for row in load(area):
        try:
            chart = row.chart(host, area.name, measurement)
        except Exception:  # noqa: S112  # pylint: disable=broad-except
            # A malformed measurement: its checks report that.
            continue
        if chart:
            charts.append(chart)
    return charts


def of_report(charts: Iterable[Chart], hosts: Sequence[HostReport]) -> list[Chart]:
    """Return the charts that a report keeps: each shared service once, those of the worst hosts first."""
    order = {host["name"]: number for number, host in enumerate(hosts)}
    services = {(host["name"], area["name"]): area["identity"] for host in hosts for area in host["areas"]}
    kept: list[Chart] = []
    seen: set[tuple[str, str]] = set()
    for chart in sorted(charts, key=lambda chart: (order.get(chart["host"], len(order)), chart["id"])):
        service = services.get((chart["host"], chart["area"]))
        if service:
            if (chart["id"], service) in seen:
                continue
            seen.add((chart["id"], service))
        kept.append(chart)
    return kept[:CHARTS_MOST]


def _follow(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> float | None:
    """Return a number as charts can show it; null for anything else, and for infinite and negative numbers."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and 0 <= value < LARGEST else None


def _fill(item: ChartItem) -> float:
    """Return how full an item is, to list the fullest first; 0 if it has no limit."""
    return item["value"] / item["of"] if item["of"] else 0.0


def _cell(value: Any) -> str | float | None:
    if isinstance(value, bool) or value is None:
        return None
    return _number(value) if isinstance(value, (int, float)) else cut(_text(value), LABEL_LENGTH)


def _text(value: Any) -> str:
    return " ".join(str(value).split())
