# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Incidents of real faults on the stack: the cause comes first, and two faults stay two incidents.

tests/bench/bench_incidents.py runs all scenarios.
"""

from __future__ import annotations

import pytest

from tests.integration.incident_scenarios import SCENARIOS, invented, right
from tests.integration.playbooks import run_playbook

CHOSEN = ("api stopped and row lock", "table lock fills the pool of the api")


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.name in CHOSEN], ids=lambda each: each.name)
def test_the_causes_come_first(lab, tmp_path, scenario):
    with scenario.broken(lab):
        run = run_playbook("diagnose", lab.inventory, tmp_path, extra=scenario.extra())
    findings, incidents = run.report["findings"], run.report["incidents"]
    assert right(scenario, incidents, findings), run.output
    assert invented(scenario, incidents, findings) == []
    # Each finding is shown once: as a cause or as what follows from one.
    members = [each["cause"] for each in incidents] + [one["finding"] for each in incidents for one in each["effects"]]
    assert sorted(members) == sorted(each["fingerprint"] for each in findings if each["status"] != "unknown")
    assert "Follows:" in run.output
    # A command is not wrapped, so that it can be copied.
    texts = [line for line in run.output.splitlines() if line.startswith("    ") and "`" not in line]
    assert max(len(line) for line in texts if not line.startswith("      Try:")) <= 100
