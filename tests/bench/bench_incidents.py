#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Break the stack of the lab in each scenario, diagnose it, and print whether the first incident is the cause.

    tests/bench/bench_incidents.py [PART_OF_A_NAME...]    break and diagnose; record the findings
    tests/bench/bench_incidents.py --second [...]         the same with the second set, frozen before rows were tuned
    tests/bench/bench_incidents.py --third [...]          the same with the third set
    tests/bench/bench_incidents.py --links [...]          the same with the faults that cause the other links
    tests/bench/bench_incidents.py --replay               the table from the recorded findings
    tests/bench/bench_incidents.py --accept               the same, and the links of now become the expected ones

With --show, the report is printed as well. The findings of each scenario are kept in
tests/unit/plugins/plugin_utils/incidents/, which unit tests replay.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from tests.bench.goals import Goals  # noqa: E402
from tests.integration.incident_links import SETS  # noqa: E402
from tests.integration.incident_scenarios import SCENARIOS, invented, right, right_by_severity  # noqa: E402
from tests.integration.incident_second import SECOND  # noqa: E402
from tests.integration.incident_third import THIRD  # noqa: E402
from tests.integration.playbooks import run_playbook  # noqa: E402
from tests.lab.stack import Stack  # noqa: E402
from tests.unit.plugins.plugin_utils import recorded  # noqa: E402

OPTIONS = {"--second", "--third", "--links", "--replay", "--accept", "--show"}


def main() -> None:
    if not {each for each in sys.argv[1:] if each.startswith("--")} <= OPTIONS:
        sys.exit(__doc__)
    wanted = [each for each in sys.argv[1:] if not each.startswith("--")]
    sets = {"--links": SETS, "--second": SECOND, "--third": THIRD}
    scenarios = next((each for option, each in sets.items() if option in sys.argv), SCENARIOS)
    chosen = [each for each in scenarios if each.name in wanted]
    chosen = chosen or [each for each in scenarios if not wanted or any(part in each.name for part in wanted)]
    if "--accept" in sys.argv:
        links = {
            each.name: recorded.links(recorded.read(each.name))
            for each in (*SCENARIOS, *SECOND, *THIRD, *SETS)
            if recorded.path(each.name).exists()
        }
        recorded.FOLDER.joinpath("links.json").write_text(json.dumps(links, indent=1, sort_keys=True) + "\n")
    elif "--replay" not in sys.argv:
        lab = Stack()
        for scenario in chosen:
            started = time.monotonic()
            report = diagnosed(lab, scenario)
            recorded.write(scenario.name, report["findings"], lab.project, lab.project if scenario.all_projects else "")
            print("%-50s %4.0f s" % (scenario.name, time.monotonic() - started), flush=True)
            lab.wait_healthy(timeout=120)
    if "--links" in sys.argv:
        for scenario in chosen:
            print(scenario.name, *recorded.links(recorded.read(scenario.name)), sep="\n    ")
    else:
        table(chosen)


def diagnosed(lab, scenario) -> dict:
    """Return the report about the stack that a scenario has broken."""
    # Errors of the scenarios before are still in the logs.
    lab.logs_since, lab.within = time.time(), ()
    extra = scenario.extra()
    if extra.get("database_login_user") == "postgres":
        extra["database_login_password"] = lab.passwords["superuser"]
    with tempfile.TemporaryDirectory() as folder, scenario.broken(lab):
        # Some scenarios prepare the stack first.
        extra["logs_since"] = lab.logs_since
        inventory = scenario.inventory(lab, Path(folder))
        run = run_playbook("diagnose", inventory, Path(folder), extra=extra, within=lab.within)
    assert run.report, run.output
    if "--show" in sys.argv:
        print(run.output)
    return run.report


def table(scenarios) -> None:
    """Print a line for each scenario, and the sums."""
    sums = {"incidents": 0, "severity": 0, "invented": 0}
    print("%-48s %-7s %8s %8s %8s  %s" % ("scenario", "kind", "findings", "right", "severity", "first incident"))
    for scenario in scenarios:
        findings = recorded.read(scenario.name)
        incidents = recorded.incidents(findings)
        names = {finding["fingerprint"]: finding for finding in findings}
        good, plain = right(scenario, incidents, findings), right_by_severity(scenario, findings)
        wrong = invented(scenario, incidents, findings)
        sums["incidents"] += good
        sums["severity"] += plain
        sums["invented"] += len(wrong)
        first = names[incidents[0]["cause"]] if incidents else {"id": "-", "object": ""}
        shown = "%s [%s] + %d" % (first["id"], first["object"], len(incidents[0]["effects"]) if incidents else 0)
        row = (scenario.name, scenario.kind, len(findings), "yes" if good else "NO", "yes" if plain else "no", shown)
        print("%-48s %-7s %8d %8s %8s  %s" % row)
        for each in wrong:
            print("    invented: %s" % each)
    number = len(scenarios)
    goals = Goals()
    goals.check("first incidents right, of %d scenarios" % number, sums["incidents"] / number, at_least=0.9)
    # Within 25 points, the scenarios are too easy.
    goals.check("the same by severity alone", sums["severity"] / number, at_most=sums["incidents"] / number - 0.25)
    goals.check("invented links", sums["invented"], at_most=0)
    goals.exit()


if __name__ == "__main__":
    main()
