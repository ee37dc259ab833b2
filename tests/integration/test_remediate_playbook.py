# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""remediate.yml with remedies outside of the collection, which fill files."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass

import jsonschema
import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _journal
from ansible_collections.tracktion.ops.plugins.plugin_utils import _runs
from tests.integration import dumps_role
from tests.integration.playbooks import LOCAL, ROOT, Run, inventory, playbook_command, run_playbook

OTHER_RUN = {"run": "20260101T030000Z-abcdef", "who": "operator@elsewhere", "controller": "elsewhere", "pid": 1}


class Dumps:
    """A host with dumps, and remediate.yml for it."""

    def __init__(self, tmp_path, roles):
        self.tmp_path = tmp_path
        self.directory = tmp_path / "dumps"
        self.state = tmp_path / "state"
        self.reports = tmp_path / "reports"
        self.audit = self.reports / "audit.jsonl"
        self.directory.mkdir()
        self.environment = {"ANSIBLE_ROLES_PATH": str(roles)}

    def empty(self, *names):
        for name in names:
            (self.directory / name).write_text("")

    def contents(self):
        return {path.name: path.read_text() for path in sorted(self.directory.iterdir())}

    def hosts(self, hosts=None, **variables):
        known = {"dumps_directory": str(self.directory), "tracktion_state_dir": str(self.state)}
        return inventory(self.tmp_path / "hosts.yml", hosts or {"web": LOCAL}, **{**known, **variables})

    def run(self, *arguments, hosts=None, inventory_path=None, **extra):
        return run_playbook(
            "remediate",
            inventory_path or self.hosts(hosts),
            self.reports,
            *arguments,
            extra={"tracktion_areas": ["dumps"], **extra},
            environment=self.environment,
        )

    def start(self, **extra):
        """Start a run in the background."""
        extra = {"tracktion_areas": ["dumps"], **extra}
        return subprocess.Popen(
            playbook_command("remediate", self.hosts(), self.reports, extra=extra),
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def journal(self):
        return _journal.Journal(str(self.state))

    def log(self, of="host"):
        path = self.state / "audit.jsonl" if of == "host" else self.audit
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def roles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roles")
    dumps_role.write(folder)
    return folder


@pytest.fixture
def dumps(tmp_path, roles):
    return Dumps(tmp_path, roles)


def actions(run, **fields):
    made = run.report["remediation"]["actions"]
    return [action for action in made if all(action[name] == value for name, value in fields.items())]


def changes(run):
    return {entry["object"].rpartition("/")[2]: entry["change"] for entry in run.report["remediation"]["changes"]}


def schema():
    return json.loads((ROOT / "docs" / "report.schema.json").read_text())


@dataclass
class Beats:
    """The runs with and without check mode of one host with an empty file, and what was there after each."""

    dumps: Dumps
    checked: Run
    after_check: dict
    run: Run
    again: Run


@pytest.fixture(scope="module")
def beats(tmp_path_factory, roles):
    dumps = Dumps(tmp_path_factory.mktemp("beats"), roles)
    dumps.empty("a.safe")
    checked = dumps.run("--check")
    after_check = {"contents": dumps.contents(), "state": dumps.state.exists(), "audit": dumps.audit.exists()}
    return Beats(dumps, checked, after_check, dumps.run(), dumps.run())


def test_check_mode_shows_it_a_run_carries_it_out_a_second_run_finds_nothing(beats):
    assert beats.checked.code == 0
    assert beats.after_check == {"contents": {"a.safe": ""}, "state": False, "audit": False}
    (action,) = actions(beats.checked)
    assert (action["status"], action["outcome"], action["undo"]) == ("planned", "changed", None)
    assert "WOULD DO  dumps.fill [web a.safe]" in beats.checked.output
    assert "+full" in beats.checked.output, "the difference that it would make"

    assert beats.run.code == 0
    (action,) = actions(beats.run)
    assert (action["outcome"], action["result"]["size"]) == ("changed", 4)
    assert action["undo"] == "truncate -s 0 %s" % (beats.dumps.directory / "a.safe")
    assert changes(beats.run) == {"a.safe": "fixed"}
    assert beats.run.report["findings"] == []
    for each in (beats.checked, beats.run):
        jsonschema.validate(each.report, schema())

    assert actions(beats.again) == []
    assert "changed=0" in beats.again.output
    assert beats.dumps.contents() == {"a.safe": "full"}


def test_both_logs_have_user_action_and_evidence(beats):
    dumps, run = beats.dumps, beats.run
    for log in (dumps.log("host"), dumps.log("controller")):
        assert [entry["event"] for entry in log] == ["intent", "outcome"]
        for entry in log:
            assert entry["run"] == run.report["remediation"]["run"]
            assert "@" in entry["who"]
            assert (entry["remedy"], entry["target"], entry["host"]) == ("dumps.fill", "a.safe", "web")
            assert [about["id"] for about in entry["findings"]] == ["dumps.empty_safe"]
        assert (log[1]["outcome"], log[1]["result"]["size"]) == ("changed", 4)
    assert (dumps.state / "audit.jsonl").stat().st_mode & 0o077 == 0
    assert "hunter2" not in json.dumps([dumps.log("host"), dumps.log("controller"), run.report]) + run.output
    assert not (dumps.state / "remediation.lock").exists()


def test_without_a_finding_there_is_no_action(dumps):
    (dumps.directory / "a.safe").write_text("mine")
    run = dumps.run(tracktion_remediate_risk="destructive")
    assert run.code == 0
    assert run.report["remediation"]["actions"] == []
    assert dumps.contents() == {"a.safe": "mine"}
    assert not dumps.state.exists()


def test_a_run_carries_out_only_allowed_actions(dumps):
    dumps.empty("a.safe", "b.disruptive", "c.destructive")
    run = dumps.run()
    assert dumps.contents() == {"a.safe": "full", "b.disruptive": "", "c.destructive": ""}
    (refused,) = actions(run, remedy="dumps.rewrite")
    assert refused["reason"] == "it is disruptive: set tracktion_remediate_risk: disruptive"
    (refused,) = actions(run, remedy="dumps.replace")
    assert "tracktion_confirm: ['dumps.replace:c.destructive']" in refused["reason"]
    assert changes(run) == {"a.safe": "fixed", "b.disruptive": "still there", "c.destructive": "still there"}

    run = dumps.run(tracktion_remediate_risk="destructive")
    assert dumps.contents() == {"a.safe": "full", "b.disruptive": "full", "c.destructive": ""}
    (refused,) = actions(run, remedy="dumps.replace")
    assert (
        refused["reason"]
        == "it loses data (files) and is not confirmed: set tracktion_confirm: ['dumps.replace:c.destructive']"
    )
    dumps.run(tracktion_remediate_risk="destructive", tracktion_confirm=["dumps.replace:c.destructive"])
    assert dumps.contents()["c.destructive"] == "full"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tracktion_only", ["dumps.emtpy_safe"]),
        ("tracktion_plan_file", "/nonexistent/plan.json"),
        ("tracktion_plan", "bm8gcGxhbg=="),
        ("tracktion_remediate_risk", "reckless"),
    ],
)
def test_an_invalid_option_is_named_and_there_is_no_action(dumps, option, value):
    dumps.empty("a.safe")
    run = dumps.run(**{option: value})
    assert run.code != 0
    assert option.replace("tracktion_remediate_", "") in run.output
    assert dumps.contents() == {"a.safe": ""}


def test_only_and_skip_select_by_id_remedy_pattern_and_fingerprint(dumps):
    """Each entry of both lists selects in its own way; test__plan.py has every combination."""
    dumps.empty("a.safe", "b.safe", "c.disruptive", "d.stubborn")
    found = dumps.run("--check", tracktion_only="dumps.fill", tracktion_remediate_risk="disruptive")
    assert {action["target"] for action in actions(found)} == {"a.safe", "b.safe"}
    of_b = next(finding["fingerprint"] for finding in found.findings() if finding["object"].endswith("b.safe"))
    only = [of_b, "dumps.rewrite", "dumps.empty_stubborn"]
    run = dumps.run(tracktion_only=only, tracktion_skip=["*.rewrite"], tracktion_remediate_risk="disruptive")
    assert {action["target"] for action in actions(run)} == {"b.safe", "d.stubborn"}
    assert dumps.contents() == {"a.safe": "", "b.safe": "full", "c.disruptive": "", "d.stubborn": ""}


def test_deny_lists_caps_and_the_largest_number_of_actions_apply(dumps):
    other = dumps.tmp_path / "other"
    other.mkdir()
    dumps.empty("a.safe", "b.safe", "c.safe", "d.safe", "../other/e.safe", "../other/f.safe")
    hosts = {"one": {**LOCAL, "dumps_deny": ["a.safe"], "dumps_most": 2}}
    hosts["two"] = {**LOCAL, "dumps_directory": str(other), "tracktion_state_dir": str(dumps.tmp_path / "state-2")}
    run = dumps.run(hosts=hosts, tracktion_remediate_max_actions=3)
    reasons = {action["target"]: action["reason"] for action in actions(run)}
    assert reasons["a.safe"] == "a deny list of the role dumps protects it"
    assert "one run carries this out at most 2 times on a host" in reasons.values()
    assert any("tracktion_remediate_max_actions" in (reason or "") for reason in reasons.values()), reasons
    assert sorted(dumps.contents().values()) == ["", "", "full", "full"]
    assert sorted(path.read_text() for path in other.iterdir()) == ["", "full"]


def test_only_the_actions_of_a_plan_are_carried_out(dumps):
    """A plan that is old or was edited is rejected. An action whose evidence has changed since is refused."""
    dumps.empty("a.disruptive", "c.disruptive")
    path = dumps.tmp_path / "plans" / "plan.json"
    planned = dumps.run("--check", tracktion_remediate_risk="disruptive", tracktion_plan_file=str(path))
    assert planned.code == 0
    sealed = path.read_text()
    plan = json.loads(sealed)
    assert [action["target"] for action in plan["actions"]] == ["a.disruptive", "c.disruptive"]

    old = dumps.run(tracktion_plan_file=str(path), tracktion_plan_max_age=0)
    assert "longer ago than tracktion_plan_max_age" in old.output
    plan["actions"][0]["vars"]["path"] = "/etc/passwd"
    # The attacker knows everything except the key.
    del plan["seal"]
    plan["seal"] = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(plan))
    edited = dumps.run(tracktion_plan_file=str(path))
    assert "was changed after it was made" in edited.output
    assert (old.code, edited.code) == (2, 2)
    assert dumps.contents() == {"a.disruptive": "", "c.disruptive": ""}

    path.write_text(sealed)
    dumps.empty("b.disruptive", "other")
    # Another file with the same name.
    os.replace(dumps.directory / "other", dumps.directory / "c.disruptive")
    applied = dumps.run(tracktion_plan_file=str(path))
    assert dumps.contents() == {"a.disruptive": "full", "b.disruptive": "", "c.disruptive": ""}
    assert {action["target"]: action["reason"] for action in actions(applied)} == {
        "a.disruptive": None,
        "c.disruptive": "its evidence has changed since the plan was made: plan again",
    }
    # A second time, the finding no longer exists.
    again = dumps.run(tracktion_plan_file=str(path))
    (refused,) = actions(again, target="a.disruptive")
    assert refused["reason"] == "its evidence is gone: the finding no longer exists"


def test_a_plan_is_passed_by_set_stats_as_in_a_workflow_of_awx(dumps, monkeypatch):
    key = "0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("ANSIBLE_SHOW_CUSTOM_STATS", "1")
    monkeypatch.setenv("TRACKTION_PLAN_KEY", key)
    dumps.empty("a.disruptive")
    file = dumps.tmp_path / "plan.json"
    planned = dumps.run(
        "--check", "-vvv", awx_job_id=7, tracktion_remediate_risk="disruptive", tracktion_plan_file=str(file)
    )
    stats = json.loads(planned.output.partition("CUSTOM STATS")[2].partition("RUN: ")[2].partition("\n")[0])
    summary = stats["tracktion_plan_summary"]
    assert (summary["planned"], summary["actions"][0]["target"]) == (1, "a.disruptive")
    assert summary["actions"][0]["does"] == "fills %s" % (dumps.directory / "a.disruptive")
    # The output names no path in the container of the job.
    assert "Report: " not in planned.output
    assert "tracktion_plan_file" not in planned.output.partition("Plan: ")[2].partition("TASK")[0]
    (finding,) = planned.findings("dumps.empty_disruptive")
    assert finding["remedy"]["command"] == (
        "Launch the remediation job template with job type Check, limit `web` and extra variables "
        '`{"tracktion_areas": ["dumps"], "tracktion_only": "%s", "tracktion_remediate_risk": "disruptive"}`'
        % finding["fingerprint"]
    )
    monkeypatch.delenv("TRACKTION_PLAN_KEY")
    without = dumps.run(awx_job_id=8, tracktion_plan=stats["tracktion_plan"])
    assert without.code == 2
    assert "its seal cannot be verified: no tracktion_plan_key is set" in without.output
    assert dumps.contents() == {"a.disruptive": ""}
    monkeypatch.setenv("TRACKTION_PLAN_KEY", key)
    run = dumps.run("-vvv", awx_job_id=8, tracktion_plan=stats["tracktion_plan"])
    assert run.code == 0, run.output
    assert dumps.contents() == {"a.disruptive": "full"}
    assert key not in planned.output + run.output + file.read_text() + json.dumps([stats, run.report, dumps.log()])


def test_damaged_files_of_a_host_refuse_only_its_actions(dumps):
    """One host has a state directory that all users can write; the files of the other host are damaged."""
    dumps.empty("a.safe")
    evil = dumps.tmp_path / "evil"
    for folder, bits in ((evil, 0o777), (dumps.state, 0o755), (dumps.reports, 0o755)):
        folder.mkdir()
        folder.chmod(bits)
    (evil / "audit.jsonl").symlink_to(dumps.tmp_path / "cron.d")
    (dumps.state / "remediation.lock").write_text('{"run": {}, "until": "soon"}')
    (dumps.state / "audit.jsonl").write_text('[]\n{"event": "outcome", "changed": true, "time": "x", "action": []}\n')
    (dumps.reports / "history").mkdir(mode=0o755)
    earlier = dumps.reports / "history" / "20260101T000000Z-000000.jsonl"
    earlier.write_text('{"schema": "tracktion.ops/run", "findings": [{"fingerprint": ["x"]}')
    (dumps.reports / "report.json").write_text("{")
    for path in (dumps.state / "audit.jsonl", dumps.reports / "report.json", earlier):
        path.chmod(0o664)
    umask = os.umask(0)
    try:
        run = dumps.run(hosts={"web": LOCAL, "evil": {**LOCAL, "tracktion_state_dir": str(evil)}})
    finally:
        os.umask(umask)
    # The refused action of one host is a failure; that of the other host was carried out.
    assert run.code == 2
    (done,), (refused,) = actions(run, host="web"), actions(run, host="evil")
    assert (done["outcome"], refused["blocked"]) == ("changed", True)
    assert "%s can be written by every user. Run `chmod o-w %s`" % (evil, evil) in refused["reason"]
    assert dumps.contents() == {"a.safe": "full"}
    assert not (dumps.tmp_path / "cron.d").exists()
    for text in ("it is not a lock", "not entries of an audit log", "%s is not used: it is" % earlier.name):
        assert text in " ".join(run.output.split())
    files = [dumps.state / "audit.jsonl", dumps.audit, dumps.audit.with_name("audit.jsonl.guard")]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 3
    assert (dumps.reports / "report.json").stat().st_mode & 0o777 == 0o640


def test_without_a_log_there_is_no_action(dumps):
    dumps.empty("a.safe")
    (dumps.tmp_path / "file").write_text("")
    run = dumps.run(tracktion_audit_file=str(dumps.tmp_path / "file" / "audit.jsonl"))
    assert run.code != 0
    assert "tracktion_audit_file" in run.output
    run = dumps.run(inventory_path=dumps.hosts(tracktion_state_dir=str(dumps.tmp_path / "file" / "state")))
    assert run.code != 0
    assert "directory" in run.output
    assert dumps.contents() == {"a.safe": ""}


def test_after_a_failed_remedy_only_safe_actions_go_on(dumps):
    """On the host itself from its first failure, on other hosts from tracktion_remediate_max_failures."""
    other = dumps.tmp_path / "other"
    other.mkdir()
    dumps.empty("a.safe", "b.safe", "c.disruptive", "../other/d.disruptive")
    two = {"dumps_directory": str(other), "tracktion_state_dir": str(dumps.tmp_path / "state-2")}
    hosts = {"one": {**LOCAL, "dumps_before": "/bin/false"}, "two": {**LOCAL, **two}}
    run = dumps.run(hosts=hosts, tracktion_remediate_risk="disruptive")
    assert run.code == 2
    # Safe actions are still carried out.
    assert [action["outcome"] for action in actions(run, remedy="dumps.fill")] == ["failed", "failed"]
    (stopped,) = actions(run, target="c.disruptive")
    assert stopped["reason"] == "dumps.fill of a.safe failed on this host: only safe actions go on"
    (stopped,) = actions(run, target="d.disruptive")
    assert (
        stopped["reason"] == "2 actions of this run failed (tracktion_remediate_max_failures): only safe actions go on"
    )
    assert (other / "d.disruptive").read_text() == ""
    assert "non-zero return code" in run.output
    assert [entry["outcome"] for entry in dumps.log() if entry["event"] == "outcome"] == ["failed", "failed"]
    assert not (dumps.state / "remediation.lock").exists()


def test_an_action_is_not_repeated_within_its_cooldown(dumps):
    dumps.empty("a.stubborn")
    run = dumps.run(tracktion_remediate_risk="disruptive")
    assert [action["outcome"] for action in actions(run)] == ["changed"]
    assert changes(run) == {"a.stubborn": "still there"}
    (refused,) = actions(dumps.run(tracktion_remediate_risk="disruptive"))
    assert refused["status"] == "refused"
    assert refused["reason"].startswith("this was done to a.stubborn less than 1 h ago; not again before 2")
    assert len(dumps.log()) == 2
    dumps.run(tracktion_remediate_risk="disruptive", tracktion_remediate_cooldown=0)
    assert len(dumps.log()) == 4


def test_a_host_that_another_run_has_locked_is_not_changed(dumps):
    dumps.empty("a.safe")
    entry = {"action": "1", "remedy": "dumps.fill", "target": "other", "host": "web", "does": "fills"}
    dumps.journal().begin({**OTHER_RUN}, {**OTHER_RUN, **entry}, lease=60, cooldown=0)
    run = dumps.run(tracktion_fail_if_refused=True)
    assert run.code == 2
    assert "All approved actions were refused (tracktion_fail_if_refused)" in run.output
    assert "No host had an action, so none was measured again: the 1 finding remains." in run.output
    (refused,) = actions(run)
    assert "another run holds the lock of this host: %s of operator@elsewhere" % OTHER_RUN["run"] in refused["reason"]
    assert dumps.contents() == {"a.safe": ""}
    assert "UNFINISHED" not in run.output


def test_stale_locks_are_replaced(dumps):
    """Of a run whose lease is over, of another boot, and of a process of this controller that no longer exists."""
    hosts = {}
    for why in ("lease", "boot", "process"):
        root = dumps.tmp_path / why
        root.mkdir()
        (root / "a.safe").write_text("")
        state = root / "state"
        hosts[why] = {**LOCAL, "dumps_directory": str(root), "tracktion_state_dir": str(state)}
        holder = dict(OTHER_RUN)
        if why == "process":
            holder.update(controller=_runs.controller(), pid=os.getpid(), pid_start=1)
        entry = {"action": "1", "remedy": "dumps.fill", "target": "other", "host": why, "does": "fills other"}
        lease = 0.01 if why == "lease" else 600
        _journal.Journal(str(state)).begin(holder, {**holder, **entry}, lease=lease, cooldown=0)
        if why == "boot":
            lock = state / "remediation.lock"
            lock.write_text(lock.read_text().replace(_journal.boot_id(), "another"))
    run = dumps.run(hosts=hosts)
    for why in hosts:
        assert (dumps.tmp_path / why / "a.safe").read_text() == "full", why
        assert "UNFINISHED  dumps.fill [%s other]" % why in run.output
        # Reported once: the log then has it as abandoned.
        log = (dumps.tmp_path / why / "state" / "audit.jsonl").read_text().splitlines()
        events = [entry["event"] for entry in map(json.loads, log) if entry["run"] == OTHER_RUN["run"]]
        assert events == ["intent", "abandoned"], why
    assert "UNFINISHED" not in dumps.run(hosts=hosts).output


def test_a_killed_run_is_reported_and_completed_by_the_next(dumps):
    dumps.empty("a.safe")
    marker = dumps.tmp_path / "begun"
    started = dumps.start(dumps_before="sh -c 'touch %s; exec sleep 30'" % marker)
    try:
        wait_for(marker.exists)
    finally:
        # Ansible, its workers and their processes, as in a power failure of the controller.
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
    assert dumps.contents() == {"a.safe": ""}
    assert [entry["event"] for entry in dumps.log()] == ["intent"]
    assert (dumps.state / "remediation.lock").exists()

    run = dumps.run()
    assert run.code == 0
    assert "UNFINISHED  dumps.fill [web a.safe]" in run.output
    assert [entry["remedy"] for entry in run.report["remediation"]["unfinished"]] == ["dumps.fill"]
    assert dumps.contents() == {"a.safe": "full"}
    assert [entry["event"] for entry in dumps.log()] == ["intent", "intent", "outcome", "abandoned"]
    assert not (dumps.state / "remediation.lock").exists()


def test_two_parallel_runs_do_not_change_one_host(dumps):
    dumps.empty("a.safe")
    trace = dumps.tmp_path / "trace"
    work = "sh -c 'echo begin >> %s; sleep 3; echo end >> %s'" % (trace, trace)
    first, second = dumps.start(dumps_before=work), dumps.start(dumps_before=work)
    outputs = [run.communicate(timeout=90)[0] for run in (first, second)]
    assert trace.read_text().split() in (["begin", "end"], ["begin", "end"] * 2)
    if trace.read_text().split() == ["begin", "end"]:
        assert any("another run holds the lock of this host" in output for output in outputs)
    assert dumps.contents() == {"a.safe": "full"}


def test_a_remedy_runs_on_the_probe_host(dumps):
    dumps.empty("a.safe")
    hosts = {"web": {"ansible_host": "127.0.0.1", "ansible_port": 1, "dumps_probe_host": "probe"}, "probe": LOCAL}
    run = dumps.run("--limit", "web", hosts=hosts)
    assert run.code == 0, run.output
    assert dumps.contents() == {"a.safe": "full"}
    assert [entry["event"] for entry in dumps.log()] == ["intent", "outcome"]


def test_a_run_that_matches_no_host_fails(dumps):
    for arguments in (("-e", "tracktion_hosts=nosuch"), ("--limit", "no")):
        assert dumps.run(*arguments).code != 0


def test_a_remaining_finding_can_fail_the_run(dumps):
    dumps.empty("a.disruptive")
    run = dumps.run(tracktion_fail_at="critical")
    assert run.code == 2
    assert run.report["remediation"]["actions"][0]["status"] == "refused"


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
