# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incidents that recorded findings of real faults form. tests/bench/bench_incidents.py records them."""

from __future__ import annotations

import json

import pytest

from tests.integration.incident_scenarios import SCENARIOS as FIRST
from tests.integration.incident_scenarios import invented, right, right_by_severity
from tests.integration.incident_second import SECOND
from tests.integration.incident_third import THIRD
from tests.unit.plugins.plugin_utils import recorded

SCENARIOS = (*FIRST, *SECOND, *THIRD)
# Links by scenario. With a deleted row, its links are missing.
LINKS = json.loads((recorded.FOLDER / "links.json").read_text())
# The first incident is wrong. A server without connections rejects the diagnosis, too: its sessions are not measured.
# A busy Redis is reported by another check than was written down (cache.unreachable), with the right hint. Paths of two
# services to one target are two incidents, and the other fault comes third. A queue whose consumer two projects have is
# an incident of its own, before the other fault.
MISSED = (
    "row lock uses up all connections",
    "endless script in the cache",
    "packets to the cache dropped, cache of another project stopped",
    "consumer without names, consumer of another project stopped",
)


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


def test_every_row_has_a_record(rows):
    assert {edge.id for edge in rows} == {link.partition(":")[0] for links in LINKS.values() for link in links}
