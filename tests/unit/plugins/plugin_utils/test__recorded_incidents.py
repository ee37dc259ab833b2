# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incidents that recorded findings of real faults form. tests/bench/bench_incidents.py records them."""

from __future__ import annotations

import json

import pytest

from tests.integration.incident_scenarios import SCENARIOS, invented, right, right_by_severity
from tests.unit.plugins.plugin_utils import recorded

# Links by scenario. With a deleted row, its links are missing.
LINKS = json.loads((recorded.FOLDER / "links.json").read_text())
# The first incident is wrong: the server rejects the diagnosis as well, so that its sessions are not measured.
MISSED = ("row lock uses up all connections",)


@pytest.fixture(scope="module")
def rows():
    return recorded.edges()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_first_incidents_are_the_causes_and_no_link_is_invented(rows, scenario):
    findings = recorded.read(scenario.name)
    incidents = recorded.incidents(findings, rows)
    assert right(scenario, incidents, findings) == (scenario.name not in MISSED)
    assert invented(scenario, incidents, findings) == []


@pytest.mark.parametrize("name", sorted(LINKS))
def test_the_links_are_those_of_the_record(rows, name):
    assert recorded.links(recorded.read(name), rows) == LINKS[name]


def test_severity_alone_is_right_much_less_often():
    by_severity = sum(right_by_severity(scenario, recorded.read(scenario.name)) for scenario in SCENARIOS)
    assert by_severity + 0.25 * len(SCENARIOS) <= len(SCENARIOS) - len(MISSED)
