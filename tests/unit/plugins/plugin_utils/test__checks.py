# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks
from tests.unit.plugins.plugin_utils.conftest import CHECK, REMEDY


def test_a_valid_row_is_compiled(make_area):
    (check,) = _checks.load(make_area())
    assert check.path == ("broker", "queues")
    assert check.levels == ("critical", "warning")
    assert check.remedy.tasks == "remediate/purge"


def test_evidence_comes_from_the_expression(make_area):
    row = {**CHECK, "warning": "item.rates.publish > queues_ready_warning and item.ready > queues_ready_critical"}
    (check,) = _checks.load(make_area([row]))
    paths, variables = check.evidence["warning"]
    assert paths == [("rates", "publish"), ("ready",)]
    assert variables == ["queues_ready_critical", "queues_ready_warning"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"why": None}, "why: must be text"),
        ({"id": "cache.backlog"}, "id: must be queues.<name>"),
        ({"id": "queues.a.b"}, "id: must be queues.<name>"),
        ({"at": "broker"}, "exactly one of 'each' and 'at'"),
        ({"object": ""}, "object: "),
        ({"warning": "item.ready >", "critical": "true"}, "warning: "),
        ({"warning": "item.ready > queue_ready_warning"}, "warning: queue_ready_warning is no variable"),
        ({"warning": "item.ready | nosuch > 1"}, "warning: no filter or test named 'nosuch'"),
        ({"warning": "item.ready is nosuch"}, "warning: no filter or test named 'nosuch'"),
        ({"summary": "{{ item.name "}, "summary: "),
        ({"remedy": "queues.burn"}, "remedy: 'queues.burn' is not in remedies.yml"),
        ({"vars": 5}, "vars: must be a mapping"),
        ({"about": {"planet": "{{ item.name }}"}}, "about: unknown subject 'planet'"),
        ({"about": {"queue": 5}}, "about.queue: must be text"),
        ({"about": {"queue": "{{ itm.name }}"}}, "about.queue: itm is no variable"),
        ({"began": "item.since +"}, "began: "),
        ({"observe": [5]}, "observe: must be a list of fields"),
    ],
)
def test_an_invalid_row_is_rejected_with_file_id_and_reason(make_area, change, reason):
    row = {**CHECK, **change}
    with pytest.raises(_checks.BadRow) as refused:
        _checks.load(make_area([row]))
    assert str(refused.value).endswith(reason) or reason in str(refused.value)
    assert "checks.yml: row %s: " % row["id"] in str(refused.value)


@pytest.mark.parametrize("field", ["title", "summary", "guide", "why"])
def test_a_row_without_a_required_field_is_rejected(make_area, field):
    row = {key: value for key, value in CHECK.items() if key != field}
    with pytest.raises(_checks.BadRow, match="the field '%s' is missing" % field):
        _checks.load(make_area([row]))


def test_a_row_without_a_level_is_rejected(make_area):
    row = {key: value for key, value in CHECK.items() if key not in ("warning", "critical")}
    with pytest.raises(_checks.BadRow, match="at least one of critical, warning, info"):
        _checks.load(make_area([row]))


def test_an_id_is_used_once(make_area):
    with pytest.raises(_checks.BadRow, match="the id is already used"):
        _checks.load(make_area([CHECK, CHECK]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"risk": "harmless"}, "risk: must be one of safe, disruptive, destructive"),
        ({"data_loss": "all"}, "data_loss: must be one of none"),
        ({"id": "queues.burn"}, "there is no task file tasks/remediate/burn.yml"),
        ({"risk": "safe"}, "risk: a remedy that loses data is destructive"),
        ({"deny": "itm.name"}, "deny: itm is no variable"),
        ({"undo": "{{ item.name }}"}, "undo: item is no variable"),
        ({"cap": []}, "cap: must be a whole number or text"),
        ({"does": "{{ itm.name }}"}, "does: itm is no variable"),
    ],
)
def test_an_invalid_remedy_is_rejected(make_area, change, reason):
    with pytest.raises(_checks.BadRow, match=reason):
        _checks.load(make_area(remedies=[{**REMEDY, **change}]))


def test_a_file_without_its_list_is_rejected(make_area):
    area = make_area()
    area.checks_file.write_text("other: []")
    with pytest.raises(AnsibleError, match=r"checks\.yml: must be a list of checks"):
        _checks.load(area)


def test_a_users_row_may_have_its_own_thresholds(make_area):
    area = make_area()
    row = {**CHECK, "id": "queues.mine", "warning": "item.ready > most", "vars": {"most": 3}}
    rows = _checks.extra_rows_by_area([row], [area])["queues"]
    assert [check.id for check in _checks.load(area, rows)] == ["queues.backlog", "queues.mine"]


def test_a_users_row_for_another_area_is_ignored(make_area):
    row = {**CHECK, "id": "database.mine"}
    assert _checks.extra_rows_by_area([row], [make_area()]) == {"queues": []}


@pytest.mark.parametrize("rows", ["text", [5], [{"id": 7}], [{"id": "nodot"}]])
def test_extra_checks_that_are_no_rows_are_rejected(make_area, rows):
    with pytest.raises(_checks.BadRow, match="tracktion_extra_checks"):
        _checks.extra_rows_by_area(rows, [make_area()])
