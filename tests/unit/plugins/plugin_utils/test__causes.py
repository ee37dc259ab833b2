# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _causes, _checks
from tests.unit.plugins.plugin_utils.conftest import CHECK

ROOT = Path(__file__).resolve().parents[4]
CAUSE = {
    "id": "queues.backlog_no_consumer",
    "cause": "queues.no_consumer",
    "effect": "queues.backlog",
    "same": ["queue"],
    "mechanism": "No consumer takes messages from {{ effect.object }}.",
}
CHECKS = (CHECK, {**CHECK, "id": "queues.no_consumer"})


@pytest.fixture
def load(make_area):
    """A function that loads these rows of an area, or of the user, as before a run."""

    def read(*rows, extra=()):
        area = make_area(CHECKS, causes=rows)
        return _causes.load([area], extra, [check.id for check in _checks.load(area)])

    return read


def test_a_valid_row_is_compiled(load):
    (edge,) = load({**CAUSE, "same": {"service": "queue"}, "when": "cause.host == effect.host"})
    assert (edge.causes, edge.effects) == (("queues.no_consumer",), ("queues.backlog",))
    assert edge.same == (("service", "queue"),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"mechanism": 5}, "mechanism: must be text"),
        ({"id": "queues"}, "id: must be <area>.<name>"),
        ({"id": "cache.backlog"}, "effect: queues.backlog is not of the area cache"),
        ({"effect": "cache.unreachable"}, "effect: cache.unreachable is not of the area queues"),
        ({"cause": "queues.nosuch"}, "cause: there is no check queues.nosuch"),
        ({"cause": ["queues.no_consumer", "nosuch.at_all"]}, "cause: there is no check nosuch.at_all"),
        ({"effect": ["queues.backlog", "queues.nosuch"]}, "effect: there is no check queues.nosuch"),
        ({"cause": []}, "cause: must be the id of a check"),
        ({"cause": [5]}, "cause: must be the id of a check"),
        ({"same": ["queue", "planet"]}, "same: unknown subject 'planet'"),
        ({"same": {"queue": "planet"}}, "same: unknown subject 'planet'"),
        ({"same": [["queue"]]}, "same: unknown subject ['queue']"),
        ({"same": "queue"}, "same: must be a list or a mapping"),
        ({"when": "cause.status =="}, "when: "),
        ({"when": "item.status == 'critical'"}, "when: item is no variable"),
        ({"mechanism": "{{ queues_ready_warning }}"}, "mechanism: queues_ready_warning is no variable"),
        ({"mechanism": "{{ cause.object | nosuch }}"}, "mechanism: no filter or test named 'nosuch'"),
        ({"effect": "queues.no_consumer"}, "the rows form a cycle: queues.no_consumer -> queues.no_consumer"),
    ],
)
@pytest.mark.parametrize("source", ["causes.yml", "tracktion_extra_causes"])
def test_an_invalid_row_is_rejected_with_its_source_id_and_reason(load, change, reason, source):
    row = {**CAUSE, **change}
    with pytest.raises(_causes.BadRow) as rejected:
        load(*([row] if source == "causes.yml" else []), extra=[row] if source != "causes.yml" else ())
    assert reason in str(rejected.value) or "id: must be queues.<name>" in str(rejected.value)
    assert "%s: row %s: " % (source, row["id"]) in str(rejected.value)


@pytest.mark.parametrize("field", ["id", "cause", "effect", "mechanism"])
def test_a_row_without_a_required_field_is_rejected(load, field):
    with pytest.raises(_causes.BadRow, match="the field '%s' is missing" % field):
        load({key: value for key, value in CAUSE.items() if key != field})


def test_a_cycle_over_several_rows_is_rejected_with_its_path(load):
    back = {**CAUSE, "id": "queues.back", "cause": "queues.backlog", "effect": "queues.no_consumer"}
    with pytest.raises(_causes.BadRow, match=r"cycle: queues\.no_consumer -> queues\.backlog -> queues\.no_consumer"):
        load(CAUSE, extra=[back])


@pytest.mark.parametrize("rows", [{}, "text", 5, [5], ["x"]])
def test_extra_causes_that_are_no_rows_are_rejected(load, rows):
    if rows:
        with pytest.raises(_causes.BadRow, match="tracktion_extra_causes"):
            load(extra=rows)


def test_an_id_is_used_once(load):
    with pytest.raises(_causes.BadRow, match="already used"):
        load(CAUSE, extra=[CAUSE])


def test_a_row_for_an_area_that_is_not_diagnosed_is_left_out(load):
    row = {**CAUSE, "id": "spool.waits", "cause": "spool.full", "effect": "spool.waits"}
    assert load(extra=[row]) == []


def test_the_example_of_the_documentation_is_valid():
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = [each for each in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "tracktion_extra_causes" in each]
    areas = _areas.find(["file_watching"])
    (edge,) = [
        edge
        for edge in _causes.load(
            areas, yaml.safe_load(block)["tracktion_extra_causes"], ["file_watching.few_instances"]
        )
        if edge.source == "tracktion_extra_causes"
    ]
    assert edge.effects == ("file_watching.instances_used",)


def test_the_rows_of_the_collection_are_valid():
    areas = _areas.find()
    checks = [check.id for area in areas for check in _checks.load(area)]
    edges = _causes.load(areas, (), checks)
    assert len({edge.id for edge in edges}) == len(edges)
