# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in a real container: how they end, how long they take, and that none keeps running."""

from __future__ import annotations

import json
import os
import socket
import time
from functools import partial

import pytest

from tests.integration.inotify_faults import OTHER_UID, become
from tests.integration.modules import run_module
from tests.lab.images import ensure_image
from tests.lab.servers import LABEL
from tests.lab.shell import wait_until
from tests.lab.throwaway import COMPOSE
from tests.slack import SLACK


@pytest.fixture
def ask(lab):
    """A function that runs one command in the tracklist service and returns its part of the measurement."""

    def run(*argv, before=None, docker_host=None, project=lab.project, **options):
        command = {"name": "it", "service": "tracklist_service", "argv": list(argv), **options}
        general = {"docker_host": docker_host} if docker_host else {}
        measured = run_module(
            "container_probe_info", {"commands": [command], "project": project, **general}, before=before
        )
        assert not measured.get("failed"), measured
        (result,) = measured["commands"]
        assert result["ran"] or result["error"], measured["unknown"]
        return result

    return run


def processes(lab, service="tracklist_service"):
    return lab.docker("top", lab.container(service), "-eo", "pid,args")


def become_with_group(uid):
    """Drop all privileges but the group of the engine's socket."""
    os.setgroups([os.stat("/var/run/docker.sock").st_gid])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def test_a_command_is_run_and_its_time_measured(lab, ask):
    result = ask("sh", "-c", "sleep 0.3; echo done; echo aside >&2", output_contains="aside")
    assert (result["ok"], result["ran"], result["error"], result["exit_code"], result["contains"]) == (
        True,
        True,
        None,
        0,
        True,
    )
    assert (result["container"], result["container_state"]) == (lab.container("tracklist_service"), "running")
    assert 0.3 <= result["seconds"] < 3 * SLACK
    assert (result["output_bytes"], result["output"]) == (len("done\naside\n"), None)
    shown = ask("sh", "-c", "echo; echo '  two lines'", show_output=True)
    assert shown["output"] == "\n  two lines\n"


def test_a_failed_command_returns_its_output(ask):
    result = ask("sh", "-c", "echo cannot connect to amqp://app:hunter2@mq; exit 3")
    assert (result["ok"], result["exit_code"], result["error"]) == (False, 3, None)
    assert result["output"] == "cannot connect to amqp://***@mq"
    # The password alone is longer than what is shown.
    assert ask("sh", "-c", "echo password=%s; exit 3" % ("hunter2" * 50))["output"] == "password=***"
    assert ask("sh", "-c", "exit 3", exit_codes=[0, 3])["ok"]
    assert (ask("true", output_contains="x")["ok"], ask("true")["ok"]) == (False, True)
    result = ask("/nonexistent/program")
    # The exit code of the engine for a missing program depends on its version.
    assert not result["ok"]
    assert result["exit_code"] in (126, 127)


def test_options_of_a_command_are_applied(lab, ask):
    result = ask(
        "sh", "-c", "id -u; pwd; echo $LAB_NOTE", user="root", workdir="/etc",
        environment={"LAB_NOTE": "correct-horse"}, show_output=True,
    )  # fmt: skip
    assert result["output"] == "0\n/etc\n***\n"
    assert ask("id", "-u", output_contains=str(lab.state["service_uid"]))["ok"]


def test_a_command_that_does_not_end_is_killed_with_its_children(lab, ask):
    started = time.monotonic()
    result = ask("sh", "-c", "sleep 54321 & sleep 54322; true", timeout=0.7)
    assert time.monotonic() - started < 3 * SLACK
    assert (result["ok"], result["ran"], result["killed"], result["exit_code"]) == (False, True, True, None)
    assert result["error"]["kind"] == "timeout"
    wait_until(lambda: "5432" not in processes(lab), "the end of what was started", 5)


def test_a_user_who_cannot_kill_it_gets_a_message(lab, ask):
    """A member of the group docker can run a command in a container, but cannot kill it."""
    result = ask("sleep", "3.21", timeout=0.5, before=partial(become_with_group, OTHER_UID))
    assert (result["error"]["kind"], result["killed"]) == ("timeout", False)
    assert "may still run" in result["error"]["message"]
    wait_until(lambda: "3.21" not in processes(lab), "its own end", 10)


def test_output_without_end_is_bounded(ask):
    result = ask("sh", "-c", "yes | head -c 3000000")
    assert (result["ok"], result["output_bytes"]) == (True, 3000000)
    result = ask("yes", timeout=1)
    assert (result["error"]["kind"], result["killed"]) == ("timeout", True)


def test_failures_to_run_have_different_kinds(lab, ask, tmp_path):
    def kind(**options):
        result = ask("true", **options)
        assert (result["ok"], result["ran"]) == (None, None)
        return result["error"]["kind"]

    assert kind(service="nosuch") == "no_container"
    assert kind(docker_host="unix://%s/none.sock" % tmp_path) == "no_engine"
    assert kind(before=partial(become, OTHER_UID)) == "permission"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "engine.sock"))
        host = "unix://%s/engine.sock" % tmp_path
        assert kind(docker_host=host) == "refused"
        engine.listen()
        assert kind(docker_host=host, timeout=0.3) == "no_answer"
    name = f"{lab.project}-never-started"
    lab.docker("create", "--name", name, "--label", f"{LABEL}={lab.project}", ensure_image(lab.state["suite"]), "true")
    try:
        assert ask("true", service=name, project="")["error"]["kind"] == "not_running"
    finally:
        lab.docker("rm", name)


def test_a_container_of_compose_run_is_not_the_service(lab, ask):
    name = f"{lab.project}-tracklist_service-run-lab"
    marks = {
        LABEL: lab.project,
        f"{COMPOSE}.project": lab.project,
        f"{COMPOSE}.service": "tracklist_service",
        f"{COMPOSE}.oneoff": "True",
    }
    labels = [word for key, value in marks.items() for word in ("--label", f"{key}={value}")]
    lab.docker("run", "--detach", "--init", "--name", name, *labels, ensure_image(lab.state["suite"]), "sleep", "60")
    try:
        assert ask("true")["container"] == lab.container("tracklist_service")
    finally:
        lab.docker("rm", "--force", name)


def test_commands_run_in_parallel(lab):
    def command(name, *argv, **options):
        return {"name": name, "service": "tracklist_service", "argv": list(argv), **options}

    commands = [command(str(number), "sleep", "1") for number in range(4)]
    commands.append(command("hung", "sleep", "77.5"))
    measured = run_module("container_probe_info", {"commands": commands, "project": lab.project, "timeout": 6})
    assert measured["totals"] == {"commands": 5, "ok": 4}
    assert measured["seconds"] < sum(each["seconds"] for each in measured["commands"]) * 0.8


def test_the_engine_is_not_contacted_without_commands(tmp_path):
    for engine in ("unix://%s/none.sock" % tmp_path, "tcp://127.0.0.1:1"):
        measured = run_module("container_probe_info", {"commands": [], "docker_host": engine})
        assert (measured["commands"], measured["unknown"]) == ([], [])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"argv": []}, "it: argv: is empty"),
        ({"timeout": 0}, "it: timeout: must be above 0"),
    ],
)
def test_an_invalid_option_is_named(change, expected):
    command = {"name": "it", "service": "x", "argv": ["true"], "environment": {"A": "hunter2"}, **change}
    result = run_module("container_probe_info", {"commands": [command]})
    assert result["failed"]
    assert expected in result["msg"]
    assert "hunter2" not in json.dumps(result)


def test_a_remote_engine_is_rejected():
    command = {"name": "it", "service": "x", "argv": ["true"]}
    result = run_module("container_probe_info", {"commands": [command], "docker_host": "tcp://127.0.0.1:1"})
    assert "docker_host: tcp://127.0.0.1:1 is not a socket of this machine" in result["msg"]
