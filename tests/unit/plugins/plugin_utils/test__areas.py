# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks, _options, _rows
from tests.unit.plugins.plugin_utils.conftest import CHECK

ROOT = Path(__file__).resolve().parents[4]
AREAS = _areas.find()
MAY_HOLD_ONE = ("_password", "_endpoints", "_commands", "_paths")


def test_an_installed_collection_calls_its_playbook_by_name(monkeypatch):
    monkeypatch.setattr("ansible.constants.COLLECTIONS_PATHS", ["/nowhere", str(ROOT / "playbooks" / "collections")])
    assert _areas.playbook("remediate") == "tracktion.ops.remediate"


def test_a_clone_calls_its_playbook_by_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr("ansible.constants.COLLECTIONS_PATHS", ["~/.ansible/collections"])
    monkeypatch.chdir(ROOT)
    assert _areas.playbook("remediate") == "playbooks/remediate.yml"
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / _areas.playbook("remediate")).resolve() == ROOT / "playbooks" / "remediate.yml"


@pytest.mark.parametrize("area", AREAS, ids=lambda area: area.name)
def test_options_with_a_secret_are_private(area):
    """A password, and options that may contain one: URLs, headers, environments."""
    private = set(area.argument_spec) - area.public
    may_hold_one = {
        name
        for name in area.argument_spec
        if name.endswith(("_password", "_endpoints", "_commands", "_paths", "_poolers"))
    }
    assert private == may_hold_one


def test_a_row_cannot_name_a_private_option(make_area):
    area = make_area(checks=[{**CHECK, "summary": "{{ item.name }} {{ queues_names }}"}])
    assert _checks.load(area)
    area.argument_spec["queues_names"]["no_log"] = True
    assert _options.is_private(area.argument_spec["queues_names"])
    area.__dict__.pop("public", None)
    with pytest.raises(_rows.BadRow, match="queues_names is no variable of its role"):
        _checks.load(area)
