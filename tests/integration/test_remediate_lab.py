# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every remedy of a service on the real stack: in check mode, carried out, repeated, unconfirmed, and too late.

What a remedy did is asked of the server that it did it to. The runs are made once for all remedies, each test looks at
one cell of the matrix. What only plans, without a confirmation, is evaluated in this process.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _plan
from tests.integration import inotify_faults
from tests.integration.areas import diagnose
from tests.integration.followed_hints import MESSAGE_QUEUE
from tests.integration.following import Operator, follow
from tests.integration.playbooks import ROOT, run_playbook
from tests.lab.faults import injected
from tests.lab.inventory import variables
from tests.lab.shell import wait_until

LIMIT = inotify_faults.LIMITS / "max_queued_events"
FAULTS = (
    "blocked-transaction",
    "dead-tuples",
    "interrupted-index",
    "memory-full",
    "orphaned-queue",
    "queue-without-consumer",
)
WITHOUT_OWNER = ("message_queue.restart_consumers", "lab.orphaned")
# The engine's own remedies are tried on containers, volumes and networks of their own.
ELSEWHERE = {
    "audio_processing": "test_audio_processing_*.py",
    "containers": "test_containers_*.py",
    "host_resources": "test_*file*.py",
    "network": "test_network_checks.py",
}
# What of it loses data, and so has to be named.
CONFIRM = ["cache.set_policy:maxmemory-policy", "cache.delete_keys:0:lab:*", "message_queue.purge:lab.orphaned"]


def blockers(lab):
    return int(lab.psql("select count(*) from pg_stat_activity where application_name = 'lab blocker'"))


def of_tracks(lab, column):
    return lab.psql("select coalesce(%s::text, 'never') from pg_stat_user_tables where relname = 'tracks'" % column)


def index_is_valid(lab):
    return lab.psql("select indisvalid from pg_index where indexrelid = 'lab_interrupted_id'::regclass")


def setting(lab, name):
    return lab.redis().config_get(name)[name]


def started(lab, service):
    return lab.docker("inspect", "--format", "{{.State.StartedAt}}", lab.container(service)).strip()


def ready(lab, name):
    with lab.amqp() as connection:
        return connection.channel().queue_declare(name, passive=True).method.message_count


# By remedy: what the server says about the thing that it changes.
STATE = {
    "database.end_sessions": blockers,
    "database.analyze": lambda lab: of_tracks(lab, "last_analyze"),
    "database.vacuum": lambda lab: of_tracks(lab, "last_vacuum"),
    "database.reindex": index_is_valid,
    "cache.set_maxmemory": lambda lab: setting(lab, "maxmemory"),
    "cache.set_policy": lambda lab: setting(lab, "maxmemory-policy"),
    # The services have keys, too.
    "cache.delete_keys": lambda lab: sum(1 for _key in lab.redis().scan_iter("lab:*", count=1000)),
    "message_queue.purge": lambda lab: ready(lab, "lab.orphaned"),
    "message_queue.restart_consumers": lambda lab: started(lab, "analysis_service"),
    "file_watching.raise_limits": lambda lab: LIMIT.read_text().strip(),
}
DESTRUCTIVE = [remedy for remedy in STATE if remedy in {entry.partition(":")[0] for entry in CONFIRM}]


def psql(statement):
    return lambda lab: lab.psql(statement)


def other_blocker(lab):
    """End the session, and start another one with the same fault."""
    lab.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lab blocker'")
    session = lab.postgres(application_name="lab blocker")
    session.cursor().execute("update artists set name = name where id = 1")
    return session


def publish_more(lab):
    with lab.amqp() as connection:
        channel = connection.channel()
        for _number in range(300):
            channel.basic_publish("", "lab.orphaned", b"{}")


def expire(lab, pattern):
    with lab.redis().pipeline(transaction=False) as pipeline:
        for key in lab.redis().scan_iter(pattern, count=1000):
            pipeline.expire(key, 600)
        pipeline.execute()


# By remedy: what takes its evidence away, or makes it another, after the plan was made.
CHANGED = {
    "database.end_sessions": other_blocker,
    "database.analyze": psql("analyze tracks"),
    "database.vacuum": psql("vacuum tracks"),
    "database.reindex": psql("reindex index lab_interrupted_id"),
    "cache.set_maxmemory": lambda lab: lab.redis().config_set("maxmemory", int(setting(lab, "maxmemory")) + 1048576),
    "cache.set_policy": lambda lab: lab.redis().config_set("maxmemory-policy", "volatile-ttl"),
    "cache.delete_keys": lambda lab: expire(lab, "lab:*"),
    "message_queue.purge": publish_more,
    "message_queue.restart_consumers": lambda lab: lab.docker("start", lab.container("analysis_service")),
}


@dataclass
class Story:
    """The reports of the runs, and the state of the servers after each, by the name of the run."""

    lab: object
    folder: Path
    settings: dict
    runs: dict = field(default_factory=dict)
    states: dict = field(default_factory=dict)
    unconfirmed: list = field(default_factory=list)

    def look(self, name):
        self.states[name] = {remedy: state(self.lab) for remedy, state in STATE.items()}

    def run(self, name, *arguments, **extra):
        self.runs[name] = run_playbook(
            "remediate",
            self.lab.inventory,
            self.folder / "reports",
            *arguments,
            extra={**self.settings, **extra},
        )

    def diagnose(self, areas):
        """Return the findings of these areas by id."""
        known = {**variables(self.lab), **self.settings}
        return {check: found for area in areas for check, found in diagnose(area, known).items()}

    def plan(self, findings):
        """Return the actions that are planned without a confirmation."""
        findings = [each for found in findings.values() for each in found]
        journal = {**_plan.NO_JOURNAL, "error": None}
        hosts = {(each["host"], each["area"]): "here" for each in findings}
        limits = _plan.Limits(risk="destructive")
        return _plan.actions(findings, limits, hosts, {"here": journal}, time.time())

    def action(self, name, remedy):
        actions = self.unconfirmed if name == "unconfirmed" else self.runs[name].report["remediation"]["actions"]
        # The queue without an owner has no consumer to restart. On a busy machine, sessions of the services idle too.
        own = "lab blocker" if remedy == "database.end_sessions" else ""
        (action,) = [
            each
            for each in actions
            if each["remedy"] == remedy and (remedy, each["target"]) != WITHOUT_OWNER and own in each["does"]
        ]
        return action


@contextlib.contextmanager
def broken(lab):
    """The stack with every fault, and with a required kernel limit above the current one."""
    limit = int(LIMIT.read_text())
    with contextlib.ExitStack() as stack:
        for fault in FAULTS:
            stack.enter_context(injected(fault, lab))
        stack.callback(LIMIT.write_text, "%d\n" % limit)
        yield limit + 1


@pytest.fixture(scope="module")
def story(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("remediate")
    (folder / "root/etc/sysctl.d").mkdir(parents=True)
    settings = {
        "tracktion_areas": sorted({remedy.partition(".")[0] for remedy in STATE}),
        "database_blocked_seconds_warning": 2,
        "database_idle_in_transaction_warning": 2,
        "database_vacuum_overdue_warning": 0,
        "database_analyze_overdue_warning": 0,
        "cache_delete_idle_seconds": 0,
        # The limit of the fault was set, so it is not raised without this.
        "cache_maxmemory_raise": True,
        "cache_delete_max_count": 5000,
        # Sessions of other faults keep VACUUM from removing rows, until a remedy ends them.
        "database_vacuum_holder_seconds": 600,
        "database_vacuum_holder_xids": 1000000,
        "file_watching_sysctl_root": str(folder / "root"),
        "tracktion_state_dir": str(folder / "state"),
        "message_queue_export_directory": str(folder / "exports"),
        "recovery_directory": str(folder / "backups"),
        # In check mode, the session that it waits for still exists.
        "database_reindex_max_wait": 600,
        # Without cooldowns, because the actions were carried out a moment ago.
        "tracktion_remediate_cooldown": 0,
    }
    story = Story(lab, folder, settings)
    everything = {"tracktion_remediate_risk": "destructive", "tracktion_confirm": CONFIRM}
    story.run("healthy", **everything)
    with broken(lab) as floor:
        story.settings["file_watching_max_queued_events"] = floor
        story.look("found")
        # Only these areas have remedies that lose data.
        findings = story.diagnose(sorted({remedy.partition(".")[0] for remedy in DESTRUCTIVE}))
        story.unconfirmed = story.plan(findings)
        operator = Operator(directory=lab.directory)
        follow(operator, MESSAGE_QUEUE["queue-without-consumer"], findings, lambda: findings)
        plan = str(folder / "plan.json")
        story.run("check", "--check", tracktion_plan_file=plan, **everything)
        story.look("check")
        sessions = [change(lab) for change in CHANGED.values()]
        wait_until(lambda: lab.health()["analysis_service"] == "healthy", "the consumer to be back", 60)
        story.look("changed")
        story.run("late", tracktion_plan_file=plan)
        story.look("late")
        sessions[0].close()
    with broken(lab):
        story.look("broken")
        for name in ("run", "again"):
            story.run(name, **everything)
            story.look(name)
    return story


@pytest.mark.parametrize("remedy", STATE)
def test_check_mode_shows_the_action_and_changes_nothing(story, remedy):
    action = story.action("check", remedy)
    assert action["outcome"] == "changed", action["message"]
    assert story.states["check"][remedy] == story.states["found"][remedy]


@pytest.mark.parametrize("remedy", STATE)
def test_a_run_carries_it_out_and_its_findings_are_gone(story, remedy):
    action = story.action("run", remedy)
    assert action["outcome"] in ("changed", "ok"), action["message"]
    assert story.states["run"][remedy] != story.states["broken"][remedy]
    assert {about["change"] for about in action["findings"]} == {"fixed"}


@pytest.mark.parametrize("remedy", STATE)
def test_a_second_run_finds_nothing_to_do(story, remedy):
    assert remedy not in {action["remedy"] for action in story.runs["again"].report["remediation"]["actions"]}
    assert story.states["again"][remedy] == story.states["run"][remedy]


@pytest.mark.parametrize("remedy", STATE)
def test_without_a_finding_there_is_no_action(story, remedy):
    assert remedy not in {action["remedy"] for action in story.runs["healthy"].report["remediation"]["actions"]}
    assert "changed=0" in story.runs["healthy"].output


@pytest.mark.parametrize("remedy", DESTRUCTIVE)
def test_an_unconfirmed_loss_of_data_is_refused_with_the_variable(story, remedy):
    action = story.action("unconfirmed", remedy)
    assert action["status"] == "refused"
    assert action["reason"].endswith("set tracktion_confirm: ['%s:%s']" % (remedy, action["target"]))
    assert "%s:%s" % (remedy, action["target"]) in CONFIRM


@pytest.mark.parametrize("remedy", CHANGED)
def test_an_action_whose_evidence_has_changed_is_refused(story, remedy):
    action = story.action("late", remedy)
    assert action["status"] == "refused" or action["outcome"] in ("failed", "ok")
    assert story.states["late"][remedy] == story.states["changed"][remedy]


def test_the_export_has_all_messages(story):
    export = story.action("run", "message_queue.purge")["result"]["export_path"]
    assert len(Path(export).read_text().splitlines()) == 1100
    assert story.action("run", "message_queue.purge")["undo"].endswith(
        json.dumps({"tracktion_remedy": {"export_path": export}}) + "'`"
    )


def test_the_stack_is_healthy_again(story):
    left = {finding["id"] for finding in story.runs["run"].report["findings"]}
    # The server's statistics still have the statements of the faults.
    assert left <= {"database.heavy_statement", "database.slow_statement"}
    assert story.runs["run"].code == 0


def test_no_password_is_written(story):
    texts = [run.output + json.dumps(run.report) for run in story.runs.values()]
    texts += [path.read_text() for path in story.folder.rglob("audit.jsonl*")]
    for password in story.lab.passwords.values():
        assert not any(password in text for text in texts)


def test_every_remedy_is_tested_here():
    ids = set()
    for path in (ROOT / "roles").glob("*/diagnosis/remedies.yml"):
        ids |= {row["id"] for row in yaml.safe_load(path.read_text())}
    for remedy in ids - set(STATE):
        files = Path(__file__).parent.glob(ELSEWHERE[remedy.partition(".")[0]])
        assert any(remedy.partition(".")[2] in path.read_text() for path in files), remedy
