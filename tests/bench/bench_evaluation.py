#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validation and evaluation: 10,000 items, by 10 check rows, against Ansible's templar for each item.

python tests/bench/bench_evaluation.py
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.template import Templar, trust_as_template  # noqa: E402
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks, _evaluation, _shape  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402

ITEMS, ROWS = 10_000, 10
SAMPLE = 200
# The module whose items have the most fields.
MODULE, LIST = "container_state_info", "containers"


def area(folder):
    rows = [
        {
            "id": "queues.check_%d" % number,
            "title": "Messages pile up",
            "each": "broker.queues",
            "object": "{{ item.name }}",
            "warning": "item.ready >= queues_warning and item.state == 'running'",
            "critical": "item.ready >= queues_critical",
            "summary": "{{ item.name }} holds {{ item.ready }}",
            "guide": "g",
            "why": "w",
        }
        for number in range(ROWS)
    ]
    options = {"queues_warning": {"type": "int"}, "queues_critical": {"type": "int"}}
    for name, data in {
        "meta/argument_specs.yml": {"argument_specs": {"main": {"options": options}}},
        "diagnosis/checks.yml": rows,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(data))
    return _areas.Area("tracktion.ops.queues", folder)


def measurement():
    """A measurement as a host sends it, with so many items, and how many fields an item has."""
    contains = _shape.documented(MODULE)
    values = {"int": 5, "str": "abc", "bool": True, "float": 0.5, "list": [], "dict": {}}
    item = {name: values[field["type"]] for name, field in contains[LIST]["contains"].items()}
    found = {**dict.fromkeys(contains), "reachable": True, "error": None, "unknown": [], LIST: [item] * ITEMS}
    return json.dumps(found), len(item)


def main():
    queues = [{"name": "q%d" % number, "ready": number % 1000, "state": "running"} for number in range(ITEMS)]
    outcome = {"measurement": {"broker": {"reachable": True, "error": None, "unknown": [], "queues": queues}}}
    settings = {"queues_warning": 900, "queues_critical": 990}
    sent, fields = measurement()
    reading = time.process_time()
    document = _shape.Document(sent)
    validating = time.process_time()
    _shape.checked(document.value, MODULE, document.is_plain)
    validated = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        checks = _checks.load(area(Path(folder)))
        loaded = time.process_time()
        _findings, counts = _evaluation.evaluate("queues", checks, "host", outcome, settings)
        evaluated = time.process_time()
    expected = {"critical": 100 * ROWS, "warning": 900 * ROWS, "ok": 9000 * ROWS}
    if {status: counts[status] for status in expected} != expected:
        sys.exit("wrong counts: %s" % counts)

    expression = trust_as_template("{{ item.ready >= queues_critical or item.ready >= queues_warning }}")
    templating = time.process_time()
    for queue in queues[:SAMPLE]:
        Templar(loader=DataLoader(), variables={**settings, "item": queue}).template(expression)
    per_item = (time.process_time() - templating) / SAMPLE

    print("%-56s %11s" % ("%d items x %d rows" % (ITEMS, ROWS), "CPU seconds"))
    print("%-56s %10.3f" % ("read %.1f MB of JSON" % (len(sent) / 1e6), validating - reading))
    print("%-56s %10.3f" % ("validate %d items of %d fields" % (ITEMS, fields), validated - validating))
    print("%-56s %10.3f" % ("read and compile the rows", loaded - started))
    print("%-56s %10.3f" % ("evaluate", evaluated - loaded))
    print("%-56s %10.3f" % ("Ansible's templar (from %d evaluations)" % SAMPLE, per_item * ITEMS * ROWS))
    goals = Goals()
    goals.check("Ansible's templar / evaluate", per_item * ITEMS * ROWS / (evaluated - loaded))
    goals.check("seconds to evaluate %d items x %d rows" % (ITEMS, ROWS), evaluated - loaded, at_most=1)
    goals.exit()


if __name__ == "__main__":
    main()
