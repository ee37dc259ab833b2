# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A minimal area role, and measurements for it."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas

CHECK = {
    "id": "queues.backlog",
    "title": "Messages pile up",
    "each": "broker.queues",
    "object": "{{ item.name }}",
    "warning": "item.ready >= queues_ready_warning",
    "critical": "item.ready >= queues_ready_critical",
    "summary": "{{ item.name }} holds {{ item.ready }} messages",
    "remedy": "queues.purge",
    "guide": "Message Queue Issues",
    "why": "Work is done later than it arrives.",
}
REMEDY = {
    "id": "queues.purge",
    "title": "Empty the queue",
    "risk": "destructive",
    "data_loss": "message",
    "does": "removes {{ item.ready }} messages of {{ item.name }}",
    "vars": {"queues_names": "{{ [item.name] }}"},
}
SETTINGS = {"queues_ready_warning": 10, "queues_ready_critical": 100, "queues_names": []}


@pytest.fixture
def make_area(tmp_path):
    """A function that writes an area role with these rows and returns the area."""

    def make(checks=(CHECK,), remedies=(REMEDY,), causes=()):
        role = tmp_path / "queues"
        options = {name: {"type": "list" if isinstance(value, list) else "int"} for name, value in SETTINGS.items()}
        contents = {
            "meta/argument_specs.yml": {"argument_specs": {"main": {"options": options}}},
            "diagnosis/checks.yml": list(checks),
            "diagnosis/remedies.yml": list(remedies),
            "diagnosis/causes.yml": list(causes),
            "tasks/remediate/purge.yml": [],
        }
        for name, data in contents.items():
            file = role / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump(data))
        return _areas.Area("tracktion.ops.queues", role)

    return make


def outcome(queues, **measurement):
    """Return the outcome of a visit for an area with one probe, ``broker``."""
    broker = {"reachable": True, "error": None, "unknown": [], "queues": queues, **measurement}
    return {"measurement": {"broker": broker}, "error": None, "seconds": 0.1}
