# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incidents that recorded findings of real faults form. tests/bench/bench_incidents.py records them."""

from __future__ import annotations

import json

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _causes, _incidents
from tests.integration.incident_scenarios import SCENARIOS as FIRST
from tests.integration.incident_scenarios import invented, right, right_by_severity
from tests.integration.incident_second import SECOND
from tests.unit.plugins.plugin_utils import recorded
from tests.unit.plugins.plugin_utils.test__incidents import finding

SCENARIOS = (*FIRST, *SECOND)
# Links by scenario. With a deleted row, its links are missing.
LINKS = json.loads((recorded.FOLDER / "links.json").read_text())
# The first incident is wrong. The server rejects the diagnosis as well, so that its sessions are not measured.
MISSED = ("row lock uses up all connections",)


# Rows without a record: cause, its status, what was observed of it; effect, what was observed of it.
PAIRS = {
    "network.rules_missing": ("network.docker_rules_missing", "critical", {}, "network.path_timeout", {}),
}


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


@pytest.mark.parametrize("row", sorted(PAIRS))
def test_a_row_without_a_record_connects_two_findings(rows, row):
    cause, status, seen, effect, followed = PAIRS[row]
    (edge,) = [each for each in rows if each.id == row]
    alone = _causes.Edges([edge], _causes._rank([edge]))
    for names, linked in ((("x", "x"), 1), (("x", "y"), 0)):
        ends = [
            finding(
                cause,
                names[0],
                status=status,
                observed=seen,
                about={of_cause: [names[0]] for of_cause, _of_effect in edge.same},
            ),
            finding(
                effect, names[1], observed=followed, about={of_effect: [names[1]] for _of_cause, of_effect in edge.same}
            ),
        ]
        incidents = _incidents.build(ends, alone, [])
        # Without a subject, only the host connects them.
        assert sum(len(each["effects"]) for each in incidents) == (linked or not edge.same)


def test_every_row_has_a_test(rows):
    recorded_rows = {link.partition(":")[0] for links in LINKS.values() for link in links}
    assert {edge.id for edge in rows} == recorded_rows | set(PAIRS)
