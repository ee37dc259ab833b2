# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tracktion in its published shape, diagnosed and repaired with the variables of the example inventory only.

The tests go through one story, from top to bottom: the broker rejects the watcher; services are stopped and started
again by a remedy; a person gives the watcher the right user; a consumer ends behind a healthy endpoint, and a service
is removed. What only the guide has (other queues, other ports) is not here.
"""

from __future__ import annotations

import re
import sys
import time

import pytest

from tests.integration.areas import diagnose, fired, visit
from tests.integration.playbooks import ROOT, inventory, run_playbook
from tests.integration.tracktion_stack import tracktion
from tests.lab.engine import docker
from tests.lab.inventory import BUSY_MACHINE, pid_1_is_hidden
from tests.lab.shell import attempt

EXAMPLE = ROOT / "examples" / "tracktion.yml"
# This machine: root already, with other stacks beside ours, and whose kernel and resolver are nobody's concern here.
# Whether the errors of a stack that has just begun are a burst depends on how fast the machine is.
MACHINE = {
    **BUSY_MACHINE,
    "ansible_connection": "local",
    "ansible_python_interpreter": sys.executable,
    "ansible_become": False,
    "file_watching_hidden_processes_accepted": int(pid_1_is_hidden()),
    "logs_burst_floor": 1_000_000,
    "network_check_resolver": False,
}
SERVICES = ("analysis_service", "cataloging_service", "file_watcher", "tracklist_service")
RUNNING = (*SERVICES, "postgres", "rabbitmq", "redis")
# How it was set up: no health check and no limit anywhere. Of what has done its work and ended, nothing is said.
SET_UP = {
    *(("info", "containers.no_healthcheck", "tracktion-" + service) for service in RUNNING),
    ("info", "containers.no_memory_limit", None),
    ("info", "containers.no_restart_policy", "tracktion-file_watcher"),
    ("info", "cache.maxmemory_unset", None),
    ("info", "cache.open_without_password", None),
    ("info", "database.statements_off", None),
}
# What the watcher and the broker say about each other, as long as it is in the log.
SAID = {
    ("warning", "logs.errors", "file_watcher"),
    ("warning", "logs.errors", "rabbitmq"),
    ("warning", "logs.known_signature", "file_watcher: queue_password"),
    ("warning", "logs.known_signature", "rabbitmq: queue_password"),
}
# What is wrong.
WRONG = {("critical", "file_watching.watcher_not_connected_to_broker", None)}
# What only the guide has, and a service of another version.
NOT_HERE = {
    "containers": ["file_rename_service"],
    "message_queue": ["audio.analysis.requests", "file.events"],
    "service_health": ["analysis_service", "file_watcher", "file-rename-service"],
}
MEASURED = (
    "audio_processing",
    "cache",
    "containers",
    "database",
    "file_watching",
    "host_resources",
    "logs",
    "message_queue",
    "network",
    "service_health",
)
# By area: whether it has items, its unknown items, and its error. Nothing was backed up.
COUNTED = {**dict.fromkeys(MEASURED, (True, 0, None)), "recovery": (False, 0, None)}


class Story:
    """The stack, measured as from its host: at localhost and the usual ports."""

    def __init__(self, stack, folder):
        self.stack = stack
        self.folder = folder
        (folder / "hosts").write_text("%s localhost\n" % stack.address)
        # Not an extra variable, of which empty text counts as not set.
        (folder / "machine.yml").write_text("all: {vars: {logs_kernel_log: ''}}\n")

    def run(self, playbook, hosts=EXAMPLE, *arguments, **extra):
        """Run a playbook with an /etc/hosts in which localhost is the address of the stack."""
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return run_playbook(
            playbook,
            hosts,
            self.folder / "reports",
            "-i",
            str(self.folder / "machine.yml"),
            *arguments,
            extra={
                **MACHINE,
                "tracktion_compose_project": self.stack.project,
                "tracktion_state_dir": str(self.folder / "state"),
                **extra,
            },
            environment={"POSTGRES_PASSWORD": self.stack.password, "RABBITMQ_PASSWORD": self.stack.password},
            within=["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(self.folder / "hosts")],
        )

    def remediate(self, *arguments, **extra):
        """Allow restarts of services only; return the actions by container."""
        run = self.run(
            "remediate",
            EXAMPLE,
            *arguments,
            tracktion_areas=["containers"],
            tracktion_remediate_risk="disruptive",
            **extra,
        )
        return run, {action["target"]: action for action in run.report["remediation"]["actions"]}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shape")
    with tracktion(folder) as stack:
        stack.wait_for_words("file_watcher", "lost the broker", 21)
        yield Story(stack, folder)


@pytest.fixture(scope="module")
def diagnosed(story):
    """A run of the diagnosis before anything was changed."""
    return story.run("diagnose")


def found(run):
    """Return ``(status, id, object)`` of every finding, with long signatures cut."""
    return {
        (entry["status"], entry["id"], entry["object"].partition(" - Login")[0] if entry["object"] else None)
        for entry in run.report["findings"]
    }


def counted(run):
    """Return by area: the number of items, of unknown items, and the error."""
    (host,) = run.report["hosts"]
    return {
        area["name"]: (area["counts"]["items"] > 0, area["counts"]["unknown"], area["error"]) for area in host["areas"]
    }


def test_all_faults_are_found_and_nothing_else(diagnosed):
    assert diagnosed.code == 0, diagnosed.output
    assert found(diagnosed) == SET_UP | SAID | WRONG, diagnosed.output
    assert counted(diagnosed) == COUNTED


def test_what_only_the_guide_has_is_counted(diagnosed):
    (host,) = diagnosed.report["hosts"]
    assert {area["name"]: area["not_here"] for area in host["areas"] if area["not_here"]} == {
        **NOT_HERE,
        "recovery": ["backups in /var/backups/tracktion"],
    }
    assert diagnosed.report["counts"]["not_here"] == 7
    assert "7 not here" in diagnosed.output
    assert "NOT HERE  message_queue: audio.analysis.requests, file.events" in diagnosed.output


@pytest.mark.usefixtures("diagnosed")
def test_a_diagnosis_adds_no_error_to_the_log_of_the_database():
    log = attempt("docker", "logs", "tracktion-postgres")
    assert "ready to accept connections" in log.stderr
    assert "tracktion.ops" not in log.stdout + log.stderr


def test_without_the_passwords_the_missing_variables_are_named(story):
    run = story.run("diagnose", inventory(story.folder / "nothing.yml", {"music-1": {}}))
    assert run.code == 0, run.output
    shut = {("critical", "database.unreachable", None), ("critical", "message_queue.unreachable", None)}
    known = {entry for entry in found(run) if entry[0] != "unknown"}
    assert known == SET_UP - {("info", "database.statements_off", None)} | SAID | WRONG | shut, run.output
    for area in ("database", "message_queue"):
        (finding,) = run.findings(area + ".unreachable")
        assert "`%s_login_user` and `%s_login_password`" % (area, area) in finding["hint"]


@pytest.fixture(scope="module")
def measured(story):
    """Return the measurements of a visit by area."""
    settings = {**MACHINE, "logs_kernel_log": "", "tracktion_compose_project": story.stack.project}
    areas = ("containers", "file_watching", "logs", "network")
    return {area: visit(area, settings)[1]["measurement"] for area in areas}


def test_containers_are_assigned_to_their_services(story, measured):
    state = measured["containers"]["state"]
    services = {entry["service"]: (entry["name"], entry["status"]) for entry in state["containers"]}
    running = {service: ("tracktion-" + service, "running") for service in RUNNING}
    assert services == {**running, "migrations": ("tracktion-migrations", "exited")}
    assert [missing["service"] for missing in state["missing_services"]] == ["file_rename_service"]
    (files,) = state["compose"]["files"]
    assert (files["files"], files["error"]) == ([str(story.stack.folder / "docker-compose.yaml")], None)


def test_an_exited_container_is_a_finding_only_if_its_service_is_required(story):
    settings = {"tracktion_compose_project": story.stack.project, "containers_expected_services": ["migrations"]}
    (finding,) = fired(diagnose("containers", settings), "containers.stopped", "critical")
    assert finding["object"] == "tracktion-migrations"
    assert "exit code 0: no error: the program finished" in finding["summary"]


def test_the_watched_directory_is_found_inside_the_container(measured):
    events = measured["file_watching"]["events"]
    (directory,) = events["directories"]
    assert (directory["path"], directory["watched"], directory["tree"]["not_watched"]) == ("/data/music", True, 0)
    assert (events["watcher"]["container"], events["watcher"]["broker"]["connected"]) == (
        "tracktion-file_watcher",
        False,
    )


def test_every_log_was_read(measured):
    services = {entry["name"]: entry for entry in measured["logs"]["errors"]["services"]}
    assert set(services) == {*RUNNING, "migrations"}
    assert {name for name, entry in services.items() if entry["error"] or not entry["lines"]} == set()


def test_every_connection_and_port_is_tested(measured):
    network = measured["network"]["network"]
    assert {way["service"] for way in network["paths"]} == {"analysis_service", "tracklist_service", "file_watcher"}
    assert {(way["measured"], way["ok"]) for way in network["paths"]} == {(True, True)}
    ports = {port["host_port"]: port["ok"] for port in network["published_ports"]}
    assert ports == dict.fromkeys((5432, 6379, 5672, 15672, 8001, 8002), True)


def test_every_finding_has_names_that_a_person_can_type(story, diagnosed):
    (watcher,) = diagnosed.findings("file_watching.watcher_not_connected_to_broker")
    assert "docker logs --tail 20 tracktion-file_watcher" in watcher["hint"]
    assert story.stack.password not in diagnosed.output


def test_a_health_check_has_a_line_for_each_finding_and_area(story):
    run = story.run("health_check")
    assert run.code == 2
    for line in (
        r"CRITICAL +music-1 +file_watching +watcher_not_connected_to_broker",
        r"OK +music-1 +message_queue .*, 2 not here",
        r"OK +music-1 +network",
        r"OK +music-1 +service_health .*, 3 not here",
    ):
        assert re.search(line, run.output), run.output


def test_a_stopped_service_without_a_health_check_is_started_and_stays(story):
    stack, name = story.stack, "tracktion-analysis_service"
    docker("stop", "--time", "5", name)
    ended = stack.state("analysis_service")["FinishedAt"]

    run, actions = story.remediate("--check")
    assert (set(actions), actions[name]["outcome"]) == ({name}, "changed"), run.output
    assert "waits until it stays up" in actions[name]["does"]
    assert (stack.state("analysis_service")["Status"], stack.state("analysis_service")["FinishedAt"]) == (
        "exited",
        ended,
    )

    run, actions = story.remediate()
    assert (run.code, actions[name]["outcome"]) == (0, "changed"), run.output
    assert {about["change"] for about in actions[name]["findings"]} == {"fixed"}
    state = stack.inspect("analysis_service")
    assert (state["State"]["Status"], state["RestartCount"]) == ("running", 0)

    # Healthy services were not restarted, and finished jobs did not run again.
    assert stack.state("migrations")["Status"] == "exited"
    assert story.remediate()[1] == {}


def test_a_service_that_exits_after_a_restart_is_not_reported_as_changed(story):
    stack, name = story.stack, "tracktion-tracklist_service"
    docker("stop", "--time", "5", name)
    may_log_in = ("psql", "-U", "postgres", "-c")
    stack.exec("postgres", *may_log_in, "alter role tracktion_user nologin")
    try:
        run, actions = story.remediate()
        assert (run.code, actions[name]["outcome"]) == (2, "failed"), run.output
        assert "ends again and again, with exit code 1" in actions[name]["message"]
        assert "docker logs --tail 50 " + name in actions[name]["message"]
        assert stack.inspect("tracklist_service")["RestartCount"] > 0
    finally:
        stack.exec("postgres", *may_log_in, "alter role tracktion_user login")
        stack.wait_healthy(8002)


def test_a_manual_fix_removes_the_finding(story):
    stack = story.stack
    stack.settings(WATCHER_USER="tracktion", WATCHER_PASSWORD=stack.password)
    stack.compose("up", "--detach", "file_watcher")
    stack.wait_for_words("file_watcher", "connected to the broker", 1)
    mended = time.time()
    # The tracklist service was restarted a few times, and its log has the reason.
    docker("restart", "tracktion-tracklist_service")
    stack.wait_healthy(8002)
    run = story.run("diagnose", logs_since=mended)
    assert found(run) == SET_UP, run.output
    assert counted(run) == COUNTED


def test_a_consumer_that_ended_behind_a_healthy_endpoint_and_a_removed_service_are_found(story):
    stack = story.stack
    stack.publish("cataloging.file.events", "no JSON")
    stack.wait_for_words("cataloging_service", "consumer stopped", 1)
    stack.compose("rm", "--stop", "--force", "tracklist_service")
    run = story.run("diagnose", tracktion_areas=["containers", "message_queue", "service_health"])
    assert run.code == 0, run.output
    wrong = {entry for entry in found(run) if entry[0] in ("critical", "unknown")}
    # The message that it could not process waits again: the broker counts it within some seconds.
    wrong.discard(("critical", "message_queue.no_consumer", "/ cataloging.file.events"))
    assert wrong == {
        ("critical", "containers.missing_service", "tracklist_service"),
        ("critical", "message_queue.too_few_consumers", "/ cataloging.file.events"),
        ("critical", "service_health.unreachable", "tracklist_service"),
    }, run.output
    (host,) = run.report["hosts"]
    assert {area["name"]: area["not_here"] for area in host["areas"] if area["not_here"]} == NOT_HERE
    (missing,) = run.findings("containers.missing_service")
    assert "docker compose" in missing["hint"]
    assert "up" in missing["hint"]
