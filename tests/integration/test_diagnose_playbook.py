# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""diagnose.yml with an area outside of the collection, which measures a dump with ansible.builtin.stat."""

from __future__ import annotations

import copy
import json
import re
import time

import jsonschema
import pytest
import yaml

from tests.integration.playbooks import LOCAL, ROOT, inventory, run_playbook
from tests.slack import SLACK
from tests.unit.plugins.hostile import FORGED, unsafe

CHECKS = [
    {
        "id": "backups.missing",
        "title": "No backup",
        "at": "dump.stat",
        "critical": "not item.exists",
        "summary": "{{ backups_file }} is not there",
        "guide": "Backup Restoration",
        "why": "What is lost now stays lost.",
    },
    {
        "id": "backups.small",
        "title": "The backup is small",
        "at": "dump.stat",
        "when": "item.exists",
        "warning": "item.size < backups_size_warning",
        "summary": "{{ backups_file }} has {{ item.size | bytes }}",
        "remedy": "backups.take",
        "guide": "Backup Restoration",
        "why": "An empty dump looks like a backup until it is needed.",
    },
]
DEFAULTS = {
    "backups_file": "/nonexistent/dump",
    "backups_size_warning": 1000,
    "backups_login_password": "hunter2",
    "backups_deadline": 5,
    "backups_probe_host": "",
}
REMEDIES = [
    {
        "id": "backups.take",
        "title": "Take a backup",
        "risk": "safe",
        "data_loss": "none",
        "does": "writes {{ backups_file }}",
    }
]


@pytest.fixture
def roles(tmp_path):
    """A roles path with the role ``backups``; a function that changes its checks."""
    role = tmp_path / "roles" / "backups"
    types = {str: "str", int: "int"}

    def write(checks=None):
        contents = {
            "defaults/main.yml": DEFAULTS,
            "meta/argument_specs.yml": {
                "argument_specs": {
                    "main": {
                        "options": {
                            key: {"type": types[type(value)], "no_log": key == "backups_login_password"}
                            for key, value in DEFAULTS.items()
                        }
                    }
                }
            },
            "diagnosis/probes.yml": {
                "probes": {
                    "dump": {"module": "ansible.builtin.stat", "options": {"path": "{{ backups_file }}"}},
                    "key": {"module": "ansible.builtin.stat", "options": {"path": "/{{ backups_login_password }}"}},
                }
            },
            "diagnosis/checks.yml": checks or CHECKS,
            "diagnosis/remedies.yml": REMEDIES,
            "tasks/remediate/take.yml": [],
        }
        for name, data in contents.items():
            path = role / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(data))

    write()
    return write


@pytest.fixture
def diagnose(roles, tmp_path):
    """A function that diagnoses the area ``backups`` on these hosts."""

    def run(hosts=None, *arguments, extra=None, **variables):
        hosts = {"web": LOCAL} if hosts is None else hosts
        path = inventory(tmp_path / "hosts.yml", hosts, **variables)
        return run_playbook(
            "diagnose",
            path,
            tmp_path / "reports",
            *arguments,
            extra={"tracktion_areas": ["backups"], **(extra or {})},
            environment={"ANSIBLE_ROLES_PATH": str(tmp_path / "roles")},
        )

    return run


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "dump"
    path.write_bytes(b"x" * 5000)
    return str(path)


def test_a_fault_is_found_shown_and_reported(diagnose):
    run = diagnose()
    assert run.code == 0
    (finding,) = run.findings("backups.missing")
    assert finding["status"] == "critical"
    assert "CRITICAL  backups.missing" in run.output
    assert "What is lost now stays lost." in run.output
    assert "changed=0" in run.output


def test_hostile_text_is_escaped_on_the_terminal(diagnose):
    name = "/nonexistent/\x1b]0;title\x07\x9b31m\u202e\u2028\ufeff\n%s\r%s\x7f" % (FORGED, FORGED)
    hosts = {"web": LOCAL, "other": LOCAL, "gone": {"ansible_host": "192.0.2.1\x1b[31m\u202e"}}
    run = diagnose(hosts, "-v", extra={"backups_file": name})
    assert len(run.findings("backups.missing")) == 2
    assert not unsafe(run.output), run.output
    assert not re.search("^ {0,7}%s" % FORGED, run.output, re.MULTILINE)


def test_a_healthy_host_has_no_finding(diagnose, dump):
    run = diagnose(backups_file=dump)
    assert run.report["findings"] == []
    assert run.report["status"] == "ok"
    assert run.report["counts"]["ok"] == 2


def test_the_report_keeps_its_schema(diagnose, dump):
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    for run in (diagnose(), diagnose(backups_file=dump, extra={"backups_size_warning": 9000})):
        jsonschema.validate(run.report, schema)


def test_variables_keep_ansibles_precedence_and_text_becomes_a_number(diagnose, dump):
    hosts = {"low": LOCAL, "high": {**LOCAL, "backups_size_warning": 9000}}
    run = diagnose(hosts, backups_file=dump)
    assert [finding["host"] for finding in run.findings("backups.small")] == ["high"]
    run = diagnose(hosts, "-e", "backups_size_warning=7000", backups_file=dump)
    assert [finding["threshold"] for finding in run.findings("backups.small")] == [{"backups_size_warning": 7000}] * 2


def test_an_invalid_number_makes_its_area_unknown_on_its_host(diagnose, dump):
    hosts = {"web": LOCAL, "bad": {**LOCAL, "backups_size_warning": "many"}}
    run = diagnose(hosts, backups_file=dump)
    assert run.code == 0, run.output
    assert {finding["host"] for finding in run.findings()} == {"bad"}
    assert {finding["summary"] for finding in run.findings(status="unknown")} == {
        "backups_size_warning: must be a whole number"
    }


def test_a_password_never_leaves_the_host(diagnose, tmp_path):
    run = diagnose(None, "-vvv", backups_login_password="correct horse battery staple")
    assert "correct horse" not in json.dumps(run.report)
    assert "correct horse" not in run.output


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("colour", "red", "unknown field 'colour'"),
        ("critical", "item.exists is", "critical: "),
        ("critical", "not item.exists or backup_file == ''", "backup_file is no variable of its role"),
        ("remedy", "backups.burn", "'backups.burn' is not in remedies.yml"),
    ],
)
def test_an_invalid_row_is_rejected_before_any_visit(diagnose, roles, field, value, reason):
    checks = copy.deepcopy(CHECKS)
    checks[0][field] = value
    roles(checks)
    run = diagnose()
    assert run.code != 0
    assert "checks.yml: row backups.missing" in run.output
    assert reason in run.output
    assert "Measure all areas" not in run.output
    assert run.report is None


def test_a_users_own_check_is_evaluated(diagnose, dump):
    row = {
        "id": "backups.huge",
        "title": "Huge",
        "at": "dump.stat",
        "info": "item.size > most",
        "vars": {"most": 100},
        "summary": "{{ item.size }} bytes",
        "guide": "own",
        "why": "own",
    }
    run = diagnose(backups_file=dump, tracktion_extra_checks=[row])
    (finding,) = run.findings("backups.huge")
    assert (finding["status"], finding["threshold"]) == ("info", {"most": 100})
    run = diagnose(backups_file=dump, tracktion_extra_checks=[{**row, "info": "item.size >"}])
    assert run.code != 0
    assert "tracktion_extra_checks: row backups.huge: info: " in run.output


def test_an_unreachable_host_is_a_finding_and_the_others_are_measured(diagnose):
    run = diagnose({"web": LOCAL, "dead": {"ansible_host": "127.0.0.1", "ansible_port": 1}})
    assert [finding["id"] for finding in run.findings(host="dead")] == ["host.unreachable"]
    assert run.findings("backups.missing", host="web")


def test_a_host_without_python_is_a_finding(diagnose):
    run = diagnose({"web": {**LOCAL, "ansible_python_interpreter": "/nonexistent/python"}})
    (finding,) = run.findings(area="host") or run.findings("backups.missing")
    assert finding["status"] in ("critical", "unknown")
    assert "/nonexistent/python" in finding["summary"]


def test_a_host_that_never_answers_is_a_finding_after_the_timeout(diagnose, tmp_path):
    hung = tmp_path / "python"
    hung.write_text("#!/bin/sh\nexec sleep 600\n")
    hung.chmod(0o755)
    # Not for both hosts: on a busy machine, the other one may need longer.
    limited = {"ansible_python_interpreter": str(hung), "tracktion_visit_timeout": 3}
    started = time.monotonic()
    run = diagnose({"hung": {**LOCAL, **limited}, "web": LOCAL})
    assert time.monotonic() - started < 20 * SLACK
    assert run.findings("backups.missing", host="web")
    (finding,) = run.findings(host="hung")
    assert (finding["id"], finding["status"]) == ("host.visit_failed", "critical")


def test_an_area_is_measured_from_another_host(diagnose, dump):
    hosts = {"web": {"ansible_host": "127.0.0.1", "ansible_port": 1, "backups_probe_host": "probe"}, "probe": LOCAL}
    run = diagnose(hosts, "--limit", "web", backups_file=dump)
    assert [area["status"] for host in run.report["hosts"] for area in host["areas"]] == ["ok"]


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_the_run_fails_at_the_chosen_severity_after_the_report(diagnose, dump, severity):
    bad = diagnose(extra={"tracktion_fail_at": severity})
    assert bad.code != 0
    assert bad.findings("backups.missing")
    good = diagnose(backups_file=dump, extra={"tracktion_fail_at": severity})
    assert good.code == 0


def test_a_summary_is_passed_to_set_stats(diagnose, monkeypatch):
    # Ansible prints the stats of set_stats on request.
    monkeypatch.setenv("ANSIBLE_SHOW_CUSTOM_STATS", "1")
    run = diagnose()
    assert "CUSTOM STATS" in run.output
    assert "tracktion_report" in run.output.partition("CUSTOM STATS")[2]


def test_a_run_that_matches_no_host_fails(diagnose):
    for run in (
        diagnose({}),
        diagnose({"web": LOCAL}, "-e", "tracktion_hosts=nosuch"),
        diagnose({"web": LOCAL}, "--limit", "no"),
    ):
        assert run.code != 0
        assert run.report is None


def test_an_unwritable_report_is_a_warning(diagnose, tmp_path):
    (tmp_path / "file").write_text("")
    run = diagnose(extra={"tracktion_report_dir": str(tmp_path / "file" / "below")})
    assert run.code == 0
    assert "CRITICAL  backups.missing" in run.output
    assert "directory: the report cannot be written" in run.output
