# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _charts, _rows
from tests.unit.plugins.plugin_utils import sample_report

ROW = {
    "id": "things.size",
    "title": "Sizes",
    "path": "main.things",
    "label": ["name"],
    "value": "bytes",
    "unit": "bytes",
}
AREAS = [area for area in _areas.find() if area.charts_file.exists()]


@pytest.fixture
def area(tmp_path):
    """A function that makes an area with these chart rows."""

    def make(*rows):
        path = tmp_path / "things" / "diagnosis" / "charts.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(list(rows)), encoding="utf-8")
        _charts.load.cache_clear()
        return _areas.Area("tracktion.ops.things", tmp_path / "things")

    return make


def charts(area, things):
    return _charts.of_area(area, "music-1", {"main": {"things": things}})


def test_the_largest_come_first_and_the_rest_is_counted(area):
    things = [{"name": "t%d" % number, "bytes": number} for number in range(20)]
    (chart,) = charts(area({**ROW, "top": 3}), things)
    assert [item["label"] for item in chart["items"]] == ["t19", "t18", "t17"]
    assert (chart["left_out"], chart["host"], chart["area"]) == (17, "music-1", "things")


def test_the_fullest_come_before_the_largest(area):
    things = [{"name": "large", "bytes": 50, "limit": 1000}, {"name": "full", "bytes": 9, "limit": 10}]
    (chart,) = charts(area({**ROW, "of": "limit"}), things)
    assert [(item["label"], item["of"]) for item in chart["items"]] == [("full", 10), ("large", 1000)]


def test_values_with_the_same_label_are_summed_and_others_left_out(area):
    things = [
        {"state": "idle", "kind": "client", "bytes": 3},
        {"state": "idle", "kind": "client", "bytes": 4},
        {"state": "idle", "kind": "server", "bytes": 100},
        {"state": None, "kind": "client", "bytes": 1},
    ]
    (chart,) = charts(area({**ROW, "label": ["state"], "only": {"kind": "client"}}), things)
    assert [(item["label"], item["value"]) for item in chart["items"]] == [("idle", 7), ("(no name)", 1)]


@pytest.mark.parametrize("value", [None, True, "5", -1, float("nan"), float("inf"), 10**400, [], {}])
def test_what_is_no_number_is_not_drawn(area, value):
    assert charts(area(ROW), [{"name": "a", "bytes": value}]) == []


@pytest.mark.parametrize("found", [None, "text", 5, [], [None, 5, "x", []], {"bytes": None}])
def test_a_malformed_measurement_has_no_chart(area, found):
    assert charts(area(ROW), found) == []
    tree = {**ROW, "kind": "tree", "children": "waiters", "key": "pid", "parent": "blocked_by"}
    assert all(not item["value"] for chart in charts(area(tree), found) for item in chart["items"])


def test_values_of_other_types_cost_their_chart_only(area):
    tree = {**ROW, "id": "things.tree", "kind": "tree", "children": "waiters", "key": "pid", "parent": "blocked_by"}
    things = [{"name": "a", "bytes": 5, "waiters": [{"pid": [], "blocked_by": 5}]}]
    assert [chart["id"] for chart in charts(area(tree, ROW), things)] == ["things.size"]


def test_a_mapping_is_one_item(area):
    (chart,) = charts(area({**ROW, "label": None, "name": "Redis"} | {"label": []}), {"bytes": 5})
    assert [(item["label"], item["value"]) for item in chart["items"]] == [("Redis", 5)]


def test_sessions_are_below_the_one_that_they_wait_for(area):
    row = {**ROW, "kind": "tree", "label": ["pid"], "value": "wait", "unit": "seconds"}
    row.update(children="waiters", key="pid", parent="blocked_by")
    waiters = [
        {"pid": 4, "blocked_by": [2], "wait": 5},
        {"pid": 2, "blocked_by": [1], "wait": 9},
        {"pid": 3, "blocked_by": [1], "wait": 7},
        # A circle that does not reach the root is left out, and ends.
        {"pid": 8, "blocked_by": [9], "wait": 1},
        {"pid": 9, "blocked_by": [8], "wait": 1},
    ]
    (chart,) = charts(area(row), [{"pid": 1, "waiters": waiters}])
    assert [(item["label"], item["depth"]) for item in chart["items"]] == [("1", 0), ("2", 1), ("4", 2), ("3", 1)]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other.size"}, {"kind": "pie"}, {"unit": "GB"}, {"top": 1000}, {"value": "item.bytes | max"},
        {"label": ["{{ x }}"]}, {"path": "__class__"}, {"kind": "tree"}, {"columns": [{"title": "x"}]}, {"query": "x"},
        {"label": []},
    ],
    ids=str,
)  # fmt: skip
def test_invalid_rows_are_rejected(area, change):
    with pytest.raises(_rows.BadRow):
        _charts.load(area({**ROW, **change}))


def test_two_rows_with_one_id_are_rejected(area):
    with pytest.raises(_rows.BadRow):
        _charts.load(area(ROW, ROW))


def test_a_shared_service_is_charted_once_and_the_worst_host_first():
    hosts = [sample_report.host(name, []) for name in ("b", "a", "c")]
    for host in hosts[1:]:
        host["areas"][3]["identity"] = "postgresql:1"
    made = [sample_report.chart(name, "database.sessions") for name in ("a", "b", "c")]
    assert [chart["host"] for chart in _charts.of_report(made, hosts)] == ["b", "a"]
    assert len(_charts.of_report(made * 500, hosts[:1])) == _charts.CHARTS_MOST


@pytest.mark.parametrize("area", AREAS, ids=lambda area: area.name)
def test_rows_of_the_collection_name_fields_that_are_documented(area):
    """Each path is in the documentation of the module that measures it."""
    probes = area.probes()
    for row in _charts.load(area):
        probe, *path = row.path.split(".")
        text = Path(_areas._own_path(), "plugins", "modules", "%s.py" % probes[probe]["module"]).read_text(
            encoding="utf-8"
        )
        fields = [
            row.value,
            row.of,
            *(row.label or []),
            *(row.only or {}),
            *row._column_fields,
            row.key,
            row.parent,
            row.children,
        ]
        for field in [*path, *filter(None, fields)]:
            for part in field.split("."):
                assert part in text, "%s: %s" % (row.id, part)


def test_no_row_names_a_text_that_may_hold_a_secret():
    """A query or a log line may hold one; names, states and numbers do not."""
    for area in AREAS:
        text = json.dumps(area.rows("charts"))
        for word in ("query", "command", "message", "excerpt", "body", "log", "environment", "url"):
            assert '"%s"' % word not in text
