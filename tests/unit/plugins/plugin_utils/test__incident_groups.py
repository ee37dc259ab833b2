# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Incidents on the terminal: of one host, and equal ones of several hosts."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _evaluation,
    _fleet,
    _incident_groups,
    _incidents,
    _terminal,
)
from tests.unit.plugins.plugin_utils import recorded, sample_report

CHAIN = "table lock fills the pool of the api"
NAMES = ("web1", "web2", "web3")


def of_host(name, findings):
    """Return the findings as those of a host of this name."""
    text = json.dumps(findings).replace("tracktion-lab", name)
    made = json.loads(text)
    for finding in made:
        finding.update(host=name, hosts=[name], guide="g", first_seen="2026-01-01T00:00:00Z")
        finding["fingerprint"] = _evaluation.fingerprint(finding["id"], name, finding["object"])
    return made


def report(*names, scenario=CHAIN):
    rows = recorded.edges()
    findings = [each for name in names for each in of_host(name, recorded.read(scenario))]
    unmeasured = [each for each in findings if each["status"] == "unknown"]
    counts = {**_evaluation.no_counts(), "checks": 300}
    areas = [{"name": "database", "status": "critical", "counts": counts, "not_here": [], "identity": None}]
    return {
        "finished": "2026-01-01T00:00:00Z", "counts": counts, "findings": findings, "history": None,
        "incidents": _incidents.build(findings, rows, unmeasured),
        "hosts": [{"name": name, "reachable": True, "status": "critical", "areas": areas} for name in names],
    }  # fmt: skip


def test_an_incident_shows_its_cause_what_follows_and_what_to_do():
    lines = _terminal.render(report("lab")).splitlines()
    (cause,) = [number for number, line in enumerate(lines) if "  WARNING  database.idle_in_transaction [pid" in line]
    follows = next(number for number, line in enumerate(lines) if line.startswith("      Follows:"))
    fix = next(number for number, line in enumerate(lines) if line.startswith("      Fix:"))
    assert cause < follows < fix
    (wrong,) = [line for line in lines if "CRITICAL service_health.wrong_status" in line]
    (blocked,) = [line for line in lines if "WARNING database.blocked_sessions" in line]
    # What follows is indented by its distance from the cause.
    assert wrong.index("CRITICAL") > blocked.index("WARNING")
    assert any(line.startswith("      Since:   20") for line in lines)


@pytest.mark.parametrize("scenario", ["broker stopped", CHAIN, "cache full and watcher stopped"])
@pytest.mark.parametrize("names", [["lab"], NAMES])
def test_lines_have_at_most_100_columns(names, scenario):
    for line in _fleet.render(report(*names, scenario=scenario)).splitlines():
        # Recorded texts are cut, so that the backticks of a command may not pair.
        assert len(line) <= 100 or "`" in line


def test_an_effect_comes_after_its_own_cause():
    followers = _incident_groups.each(report("lab", scenario="broker stopped"))[0].followers
    depths = [follower.depth for follower in followers]
    assert depths[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(depths))


def test_full_shows_every_finding():
    made = report("lab")
    short, full = _terminal.render(made), _terminal.render(made, full=True)
    assert len(full) > len(short)
    for finding in made["findings"]:
        assert finding["id"] in full
        assert " ".join(finding["summary"].split())[:40] in " ".join(full.split())


def test_equal_incidents_of_several_hosts_are_shown_once():
    text = _fleet.render(report(*NAMES))
    assert text.count("WARNING  database.idle_in_transaction") == 1
    assert "on 3 hosts (web1, web2, web3)" in text
    below = text.partition("  WARNING  database.idle_in_transaction")[2]
    (line,) = [line for line in below.splitlines() if "containers.unhealthy" in line]
    assert "and 2 more on 3 hosts" in " ".join(text.split())
    assert line.startswith("  ")


def test_texts_from_the_hosts_do_not_keep_equal_incidents_apart():
    """A stopped container quotes the end of its log, which differs on each host."""
    made = report(*NAMES, scenario="broker stopped")
    stopped = [each for each in made["findings"] if each["id"] == "containers.stopped"]
    assert len(stopped) == 3
    for finding, text in zip(stopped, ("one", "another", "third"), strict=True):
        finding["object"] = "tracktion-rabbitmq-1"
        finding["summary"] = "tracktion-rabbitmq-1 is exited; its log ends with: %s" % text
        finding["hint"] = "Read its log: `docker logs --tail 50 tracktion-rabbitmq-1`"
    lines = _fleet.render(made).splitlines()
    assert len([line for line in lines if line.startswith("  CRITICAL  containers.stopped")]) == 1
    # Another cause has another hint.
    stopped[0]["hint"] = "Give it more memory: the kernel has killed it"
    lines = _fleet.render(made).splitlines()
    assert len([line for line in lines if line.startswith("  CRITICAL  containers.stopped")]) == 2


def test_a_possible_cause_is_named_once():
    made = report(*NAMES)
    causes = {each["fingerprint"] for each in made["findings"] if each["id"] == "database.idle_in_transaction"}
    blocked = [incident for incident in made["incidents"] if incident["cause"] in causes]
    assert len(blocked) == 3
    for number, incident in enumerate(blocked):
        incident["possible"] = [
            {"check": "host_resources.disk_slow", "edge": "x.y", "mechanism": None, "reason": "reason %d" % number}
        ]
    assert _fleet.render(made).count("Perhaps:") == 1


def test_an_effect_names_its_other_causes():
    made = report("lab")
    other = next(each for each in made["findings"] if each["id"] == "logs.error_burst")
    made["incidents"][0]["effects"][0]["also"] = [{"by": other["fingerprint"], "edge": "x.y", "mechanism": "m"}]
    assert "Also explained by logs.error_burst." in " ".join(_terminal.render(made).split())


def test_a_possible_cause_names_the_reason():
    made = report("lab")
    made["incidents"][0]["possible"] = [
        {"check": "host_resources.disk_slow", "edge": "x.y", "mechanism": None, "reason": "permission denied"}
    ]
    text = " ".join(_terminal.render(made).split())
    assert "Perhaps: host_resources.disk_slow, which could not be measured: permission denied" in text


def test_seen_has_the_measured_numbers_and_nothing_that_only_cause_rows_compare():
    observed = {"check": "cache.memory_used", "container": {"name": "x"}, "ok": False, "count": 12, "ratio": 0.5}
    lines = _terminal.body(sample_report.finding("web", "logs.known", None, "warning", "text", observed=observed), {})
    assert any(line.split() == ["Seen:", "count=12,", "ratio=0.5", "limit:", "limit=100"] for line in lines), lines
    named = sample_report.finding("web", "logs.known", None, "warning", "text", observed={"check": "cache.memory_used"})
    assert not any("Seen" in line for line in _terminal.body(named, {}))
