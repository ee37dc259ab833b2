# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The geometry of the drawings in the HTML report: chains, bars and trends. Pure. Private to this collection.

All drawings are 400 pixels wide, so that their text can be read on a phone. The template draws them as SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.tracktion.ops.plugins.plugin_utils import _text, _units
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Chart, ChartItem, ChartRun, Values

WIDTH = 400
# Mean width of a character at 13 pixels, in a font without serifs; wide, so that text stays within its box.
CHARACTER = 7.0
LINE = 17
PAD = 8
INDENT = 22
DEPTH_MOST = 6
LINES_MOST = 3
# Height of a label with its bar.
ROW = 40
# Lines of a trend, and the height of the area in which they are drawn.
LINES_DRAWN = 4
TREND_HEIGHT = 110
TREND_LEFT = 8
DASHES = ("none", "6 3", "2 3", "8 3 2 3")
# Earlier runs in the table of a trend.
RUNS_LISTED = 10


class Node(NamedTuple):
    """A node of a tree, in the order from top to bottom: ``depth`` is 0 for a root."""

    text: str
    depth: int
    status: str


def tree(nodes: Sequence[Node]) -> Values:
    """Return the boxes and the connecting lines of a tree: ``width``, ``height``, ``boxes``, ``links``."""
    boxes: list[Values] = []
    links: list[str] = []
    latest: dict[int, Values] = {}
    y = 1.0
    for node in nodes:
        depth = min(node.depth, DEPTH_MOST)
        x = depth * INDENT + 1
        width = WIDTH - x - 1
        lines = _lines(node.text, int((width - 2 * PAD) / CHARACTER))
        height = len(lines) * LINE + PAD
        box: Values = {"x": x, "y": _round(y), "width": width, "height": height, "status": node.status}
        box["lines"] = [{"x": x + PAD, "y": _round(y + LINE * (number + 1)), "text": line}
                        for number, line in enumerate(lines)]  # fmt: skip
        parent = latest.get(depth - 1) if depth else None
        if parent:
            left, top = parent["x"] + INDENT // 2, parent["y"] + parent["height"]
            links.append("M%s %sV%sH%s" % (_round(left), _round(top), _round(y + height / 2), _round(x)))
        latest[depth] = box
        boxes.append(box)
        y += height + 8
    return {"width": WIDTH, "height": _round(y), "boxes": boxes, "links": links}


def bars(chart: Chart) -> Values:
    """Return the bars of a chart: ``width``, ``height``, ``bars``. The longest is as long as the drawing is wide.

    A bar whose limit is known is a part of the whole width.
    """
    items = chart["items"]
    largest = max((item["value"] for item in items if not item["of"]), default=0) or 1
    made = []
    for number, item in enumerate(items):
        whole = item["of"] or (1 if chart["unit"] == "ratio" else largest)
        value = _with_limit(item, chart["unit"])
        made.append(
            {
                "y": number * ROW,
                "label": _shortened(item["label"], int((WIDTH - 2 * PAD) / CHARACTER) - _text.columns(value) - 1),
                "value": value,
                "length": _round(max(1.0, min(1.0, item["value"] / whole) * WIDTH)) if item["value"] else 0,
                "limited": bool(item["of"]) or chart["unit"] == "ratio",
            }
        )
    return {"width": WIDTH, "height": len(items) * ROW, "bars": made}


def trend(chart: Chart, now: str) -> Values | None:
    """Return the lines of a chart over earlier runs and this one; null with fewer than two earlier values.

    ``lines`` have ``label``, ``points`` and ``dash``; ``rows`` are the values of the last runs, the newest first.
    """
    latest: ChartRun = {"time": now, "values": {item["label"]: item["value"] for item in chart["items"]}}
    runs = [*chart["earlier"], latest]
    labels = [item["label"] for item in chart["items"][:LINES_DRAWN]]
    largest = max((run["values"].get(label, 0) for run in runs for label in labels), default=0)
    if len(runs) < 3 or not largest:
        return None
    step = (WIDTH - 2 * TREND_LEFT) / (len(runs) - 1)
    lines = []
    for number, label in enumerate(labels):
        points = [
            (
                _round(TREND_LEFT + step * place),
                _round(TREND_HEIGHT - (TREND_HEIGHT - 20) * run["values"][label] / largest),
            )
            for place, run in enumerate(runs)
            if label in run["values"]
        ]
        text = " ".join("%s,%s" % point for point in points)
        lines.append({"label": label, "points": text, "dash": DASHES[number], "number": number, "last": points[-1]})
    return {
        "width": WIDTH,
        "height": TREND_HEIGHT + 22,
        "base": TREND_HEIGHT,
        "largest": quantity(largest, chart["unit"]),
        "first": runs[0]["time"],
        "latest": runs[-1]["time"],
        "lines": lines,
        "labels": labels,
        "rows": [
            {
                "time": run["time"],
                "values": [
                    quantity(run["values"][label], chart["unit"]) if label in run["values"] else "" for label in labels
                ],
            }
            for run in runs[: -RUNS_LISTED - 1 : -1]
        ],
        "runs": len(runs),
    }


def quantity(value: Any, unit: str | None) -> str:
    """Return a value with its unit: ``1.5 KiB``, ``3 min``, ``91.5 %``, ``12``; empty for null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if unit == "bytes":
        return _units.size(value)
    if unit == "seconds":
        return _units.duration(value)
    if unit == "ratio":
        return _units.percent(value)
    return "%d" % value if value == int(value) or abs(value) >= 1000 else "%.3g" % value


def _with_limit(item: ChartItem, unit: str) -> str:
    text = quantity(item["value"], unit)
    if not item["of"]:
        return text
    return "%s of %s (%s)" % (text, quantity(item["of"], unit), _units.percent(item["value"] / item["of"]))


def _lines(text: str, width: int) -> list[str]:
    """Return clean text in at most LINES_MOST lines; a word that is longer than a line is broken."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < LINES_MOST:
        end = _fits(rest, width)
        if end < len(rest):
            space = rest.rfind(" ", 0, end + 1)
            end = space if space > end // 2 else end
        lines.append(rest[:end].strip())
        rest = rest[end:].strip()
    if rest:
        lines[-1] = _text.cut(lines[-1] + " " + rest, width).replace("`", "'")
    return lines or [""]


def _shortened(text: str, width: int) -> str:
    """Return a name in at most ``width`` columns, cut in its middle: names often differ at their ends."""
    if _text.columns(text) <= width or width < 5:
        return text if _text.columns(text) <= width else _text.cut(text, max(2, width))
    end = width // 2
    return _text.cut(text, width - end) + text[-(end if text.isascii() else end // 2) :]


def _fits(text: str, width: int) -> int:
    """Return how many characters of a text fit into so many columns, at least one."""
    if text.isascii():
        return min(len(text), width)
    used = 0
    for number, character in enumerate(text):
        used += _text.columns(character)
        if used > width:
            return max(1, number)
    return len(text)


def _round(number: float) -> float | int:
    rounded = round(number, 1)
    return int(rounded) if rounded == int(rounded) else rounded
