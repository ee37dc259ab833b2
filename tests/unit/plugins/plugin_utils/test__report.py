# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shlex

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _fleet, _report, _report_file, _terminal
from tests.unit.plugins.plugin_utils.conftest import SETTINGS, outcome

NOW = 1795400000.0


@pytest.fixture
def report(make_area):
    """A function that reports the visits of these hosts."""
    compiled = _report.CompiledChecks([make_area()])

    def build(visits):
        hosts, findings = [], []
        for name, result in visits.items():
            host, found = _report.host_report(name, [result], compiled)
            hosts.append(host)
            findings.extend(found)
        return _report.build(hosts, findings, "1.2.3", NOW - 1, NOW, ["/inv/hosts.yml"])

    return build


def visit(queues):
    return {"areas": {"queues": {**outcome(queues), "settings": SETTINGS}}, "extra_checks": []}


BAD = visit([{"name": "a", "ready": 500}])
GOOD = visit([{"name": "a", "ready": 1}])
GONE = {"unreachable": True, "msg": "Connection timed out", "areas": {}}


def test_the_worst_host_comes_first(report):
    made = report({"good": GOOD, "gone": GONE, "bad": BAD})
    assert [host["name"] for host in made["hosts"]] == ["bad", "gone", "good"]
    assert made["status"] == "critical"
    assert made["counts"]["critical"] == 2
    assert made["counts"]["ok"] == 1


def test_an_area_without_any_result_is_named(report):
    blind = {"areas": {"queues": {"measurement": {}, "error": None, "seconds": 0.1, "settings": SETTINGS}}}
    made = report({"blind": {**blind, "extra_checks": []}, "good": GOOD, "gone": GONE, "empty": visit([])})
    assert _report.not_evaluated(made) == ["blind: queues"]


def test_an_unreachable_host_is_a_critical_finding(report):
    (finding,) = report({"gone": GONE})["findings"]
    assert (finding["id"], finding["status"]) == ("host.unreachable", "critical")
    assert "Connection timed out" in finding["summary"]


def test_a_failed_visit_quotes_the_output_of_the_host(report):
    failed = {"msg": "Module result deserialization failed", "module_stderr": "python3: not found", "areas": {}}
    (finding,) = report({"web": failed})["findings"]
    assert finding["id"] == "host.visit_failed"
    assert "python3: not found" in finding["summary"]


def test_the_command_of_a_remedy_is_one_shell_line_that_only_shows(report):
    (finding,) = report({"bad": BAD})["findings"]
    words = shlex.split(finding["remedy"]["command"])
    assert words[:2] == ["ansible-playbook", _areas.playbook("remediate")]
    assert words[words.index("-i") + 1] == "/inv/hosts.yml"
    assert words[words.index("--limit") + 1] == "bad"
    assert words[words.index("-e") + 1] == "tracktion_only=" + finding["fingerprint"]
    assert "tracktion_remediate_risk=destructive" in words
    assert '{"tracktion_confirm": ["queues.purge:a"]}' in words
    assert "--check" in words


def test_only_named_fields_are_in_the_report(report):
    secret = visit([{"name": "a", "ready": 500, "password": "hunter2"}])
    secret["areas"]["queues"]["settings"] = {**SETTINGS, "queues_login_password": "hunter2"}
    assert "hunter2" not in json.dumps(report({"bad": secret}))


def test_a_report_is_read_back_unchanged(report, tmp_path):
    made = report({"bad": BAD})
    path = tmp_path / "new" / "report.json"
    _report_file.write(made, str(path))
    assert json.loads(path.read_text(encoding="ascii")) == made
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


def test_the_summary_is_small(report):
    made = report({"host%03d" % number: BAD for number in range(200)})
    summary = _report.summary(made)
    assert len(summary["findings"]) == 20
    assert summary["findings_left_out"] == 180
    assert len(json.dumps(summary)) < 20000


def test_the_terminal_shows_values_consequence_and_remedy(report):
    text = _terminal.render(report({"bad": BAD}), path="/r/report.json")
    for part in (
        "CRITICAL  queues.backlog [a]",
        "a holds 500 messages",
        "ready=500",
        "limit: queues_ready_critical=100",
        "Work is done later",
        "queues.purge (destructive, loses: message)",
        "--check --diff",
        "/r/report.json",
    ):
        assert part in text


def test_the_terminal_shows_one_reason_of_many_unknowns_once(report):
    text = _terminal.render(report({"web": visit([{"name": name, "ready": None} for name in "abc"])}))
    assert text.count("ready was not measured") == 1
    assert "1 check could not run" in text


def test_unknown_checks_refer_to_the_finding_with_their_reason(report):
    """All checks of a server that cannot be reached are unknown for the reason that its finding has."""
    made = report({"web": visit([{"name": name, "ready": None} for name in "abc"])})
    assert "They need" not in _terminal.render(made)
    unknown = made["findings"][0]
    made["findings"] += [
        {**unknown, "id": "queues.check_%02d" % number, "fingerprint": "%016d" % number} for number in range(12)
    ]
    cause = {**unknown, "id": "queues.unreachable", "status": "critical", "summary": "refused: " + unknown["summary"]}
    made["findings"].append({**cause, "fingerprint": "f" * 16})
    text = _terminal.render(made)
    assert "They need what queues.unreachable is about; see there." in text
    assert "backlog, check_00, check_01, check_02, check_03, check_04, check_05, check_06 and 5 more" in " ".join(
        text.split()
    )
    assert "check_11" in _terminal.render(made, full=True)
    made["findings"][-1]["host"] = "another"
    assert "They need" not in _terminal.render(made)


def test_what_one_right_hides_is_shown_once(report):
    made = report({"web": visit([{"name": name, "ready": None} for name in "abc"])})
    unknown = made["findings"][0]
    grant = "Run as a superuser: `GRANT pg_monitor TO viewer`"
    made["findings"] = [
        {**unknown, "id": "queues.c%d" % number, "summary": "part %s is hidden" % "abcde"[number], "hint": grant}
        for number in range(5)
    ]
    text = _terminal.render(made)
    assert text.count("5 checks could not run") == text.count("GRANT") == 1
    assert "part c is hidden" in text
    assert "part d is hidden" not in text
    assert "and 2 more reasons" in text
    assert "part e is hidden" in _terminal.render(made, full=True)


def test_the_terminal_prints_a_command_once_per_host(report):
    both = visit([{"name": "a", "ready": 500}, {"name": "a", "ready": 600}])
    text = _terminal.render(report({"bad": both}))
    assert text.count("--check --diff") == 1
    assert "queues.purge, as for queues.backlog above" in text


def test_colour_only_on_request(report):
    made = report({"bad": BAD})
    assert "\033[" not in _terminal.render(made)
    assert "\033[" in _terminal.render(made, colour=True)


def test_an_area_of_a_probe_host_is_reported_if_the_host_is_unreachable(make_area):
    compiled = _report.CompiledChecks([make_area()])
    host, findings = _report.host_report("web", [GONE, {**BAD, "probe_host": "probe1"}], compiled)
    assert [finding["id"] for finding in findings] == ["host.unreachable", "queues.backlog"]
    assert not host["reachable"]
    assert [area["name"] for area in host["areas"]] == ["queues"]


PRESENCE = """
- id: queues.unused
  defaults: [queues_names]
  each: broker.queues
  object: queue {{ item.name }}
  belongs: here.has(item.name)
"""


def test_what_does_not_belong_to_a_host_is_counted_and_no_finding(make_area):
    area = make_area()
    area.presence_file.write_text(PRESENCE)
    compiled = _report.CompiledChecks([area])
    visits = {}
    for name, given in (("default", []), ("set", ["queues_names"])):
        visits[name] = visit([{"name": "a", "ready": 500}])
        visits[name]["areas"]["queues"]["given"] = given
        visits[name]["presence"] = {"known": True, "services": [], "programs": []}
    hosts, findings = [], []
    for name, result in visits.items():
        host, found = _report.host_report(name, [result], compiled)
        hosts.append(host)
        findings += found
    made = _report.build(hosts, findings, "1.2.3", NOW - 1, NOW, ["/inv/hosts.yml"])
    assert [(finding["host"], finding["status"]) for finding in made["findings"]] == [("set", "critical")]
    (absent,) = (host["areas"][0] for host in made["hosts"] if host["name"] == "default")
    assert (absent["status"], absent["not_here"], absent["counts"]["items"]) == ("ok", ["queue a"], 0)
    assert made["counts"]["not_here"] == 1
    assert _report.not_evaluated(made) == []
    text = _fleet.render(made)
    assert "1 not here" in text.splitlines()[0]
    assert "  NOT HERE  queues on default: queue a" in text
    alone = {**made, "hosts": made["hosts"][1:]}
    assert "  NOT HERE  queues: queue a" in _terminal.render(alone)
    assert "default  OK  queues not here" in _terminal.render(alone)
