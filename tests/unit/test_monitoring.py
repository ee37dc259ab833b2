# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dashboard, alert rules and their page name metrics that report.prom has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _charts, _prometheus
from tests.unit.plugins.plugin_utils import sample_report

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
METRIC = re.compile(r"\btracktion_\w+\b")


def metrics():
    """Return the names of all metrics, with those of the charts of this collection."""
    charts = [
        sample_report.chart("music-1", row.id, unit=row.unit, limit=5 if row.of else None)
        for area in _areas.find()
        for row in _charts.load(area)
        if row.kind == "bars"
    ]
    report = sample_report.of_one_host()
    return set(re.findall(r"^# TYPE (\w+) ", _prometheus.render({**report, "charts": charts}), re.MULTILINE))


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_metrics_exist(name):
    named = set(METRIC.findall((FOLDER / name).read_text(encoding="utf-8"))) - {"tracktion_report_outputs"}
    assert len(named) > 4
    assert named <= metrics()


def test_the_page_lists_all_metrics():
    named = set(METRIC.findall((FOLDER / "README.md").read_text(encoding="utf-8")))
    of_charts = {"tracktion_%s" % area.name for area in _areas.find()}
    assert {name for name in metrics() if not name.startswith(tuple(of_charts))} - named <= {
        "tracktion_build_info",
        "tracktion_check_findings_left_out",
    }


def test_the_dashboard_has_no_panel_over_another():
    panels = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _y in cells) < 24
