# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers that a restart cannot help: the remedy is not offered, the module does not try, and the cause is named."""

from __future__ import annotations

import contextlib
import secrets
import socket

import pytest

from tests.integration.containers import look, own_project, sound
from tests.integration.modules import run_module
from tests.lab.engine import docker
from tests.lab.faults.containers import SOUND
from tests.lab.shell import LabError, attempt, wait_until
from tests.lab.throwaway import healthcheck, inspect, wait_for


@pytest.fixture
def app(tmp_path):
    """A separate project."""
    with own_project(tmp_path) as found:
        yield found


def refused(app, service, *command, **more):
    """Create a container that the engine cannot start; return its name."""
    with contextlib.suppress(LabError):
        app.run(service, *command, **more)
    return app.containers[-1]


class Failing:
    """Containers that are down, each for another reason."""

    def __init__(self, app, directory):
        self.app = app
        self.directory = directory

    def no_entrypoint(self):
        return refused(self.app, "no-entrypoint", options=("--init=false", "--entrypoint", "/nowhere", *SOUND))

    def not_executable(self):
        return refused(self.app, "not-executable", options=("--init=false", "--entrypoint", "/etc/issue", *SOUND))

    def no_command(self):
        name = self.app.run("no-command", "sh", "-c", "exec /nowhere", options=("--memory", "64m"))
        wait_for(name, "ended", lambda state: state["Status"] == "exited")
        return name

    def no_user(self):
        return refused(self.app, "no-user", options=("--user", "nobody-here", *SOUND))

    def no_device(self):
        return refused(self.app, "no-device", options=("--device", "/dev/no-such-device", *SOUND))

    def no_driver(self):
        return refused(self.app, "no-driver", options=("--gpus", "all", *SOUND))

    def high_limit(self):
        return refused(self.app, "high-limit", options=("--ulimit", "nofile=999999999:999999999", *SOUND))

    def directory_on_file(self):
        return refused(self.app, "on-file", options=("--volume", "%s:/etc/issue" % self.directory, *SOUND))

    def lost_source(self):
        path = self.directory / "lost"
        path.mkdir()
        name = self.app.run("lost-source", options=("--mount", "type=bind,source=%s,target=/data" % path))
        docker("stop", "--time", "1", name)
        path.rmdir()
        return name

    def lost_network(self):
        network = "tracktion-lab-%s" % secrets.token_hex(4)
        docker("network", "create", network)
        name = self.app.run("lost-network", options=("--network", network))
        docker("stop", "--time", "1", name)
        docker("network", "rm", network)
        # Another one of the same name does not help.
        docker("network", "create", network)
        self.network = network
        return name

    def lost_partner(self):
        partner = self.app.run("partner")
        name = self.app.run("lost-partner", options=("--network", "container:%s" % partner))
        docker("stop", "--time", "1", name)
        docker("rm", "--force", partner)
        return name

    def waiting(self):
        docker("stop", "--time", "1", self.app.run("base"))
        return self.app.run("waiting", depends_on=("base",), verb="create", options=SOUND)

    def out_of_memory(self):
        def kill():
            name = self.app.run("big", "python3", "-c", "bytearray(200 << 20)", options=("--memory", "32m"))
            wait_for(name, "killed", lambda state: state["Status"] == "exited")
            return name if inspect(name)["State"]["OOMKilled"] else None

        return wait_until(kill, "an OOM kill that the engine notes", 60)

    def finished(self):
        name = self.app.run("finished", "true", options=("--memory", "64m"))
        wait_for(name, "done", lambda state: state["Status"] == "exited")
        return name


CASES = {
    "no_entrypoint": ("command", "/nowhere"),
    "not_executable": ("command", "permission denied"),
    "no_command": ("command", "command was not found"),
    "no_user": ("user", "nobody-here"),
    "no_device": ("device", "/dev/no-such-device"),
    "no_driver": ("driver", "could not select device driver"),
    "high_limit": ("limit", "rlimit"),
    "directory_on_file": ("mount", "not a directory"),
    "lost_source": ("mount", "does not exist"),
    "lost_network": ("network", "was removed"),
    "lost_partner": ("shared", "no longer exists"),
    "waiting": ("dependency", "depends on base, which is exited"),
    "out_of_memory": ("memory", "out of memory"),
    "finished": ("finished", "ended by itself"),
}


def test_a_restart_is_offered_only_where_it_helps(app, tmp_path):
    failing = Failing(app, tmp_path)
    try:
        names = {case: getattr(failing, case)() for case in CASES}
        services = [inspect(name)["Config"]["Labels"]["com.docker.compose.service"] for name in names.values()]
        # The one that waits for another was created a moment ago.
        settings = {"containers_expected_services": services, "containers_starting_seconds_warning": 0}
        found = {each["object"]: each for each in sound(look(app, **settings)["containers.stopped"])}
        for case, (kind, text) in CASES.items():
            finding = found[names[case]]
            assert finding["status"] == "critical", case
            assert finding["remedy"] is None, case
            assert text in finding["summary"], case
            started = inspect(names[case])["State"]["StartedAt"]
            for check in (True, False):
                outcome = run_module("container_restart", {"names": [names[case]], "deadline": 20}, check=check)
                assert (outcome["failed"], outcome["changed"]) == (True, False), (case, outcome)
                assert outcome["containers"][0]["result"] == "not_restartable"
                assert finding["hint"].split(". Its log: ")[0] in outcome["msg"], case
            assert inspect(names[case])["State"]["StartedAt"] == started
            assert kind
        # The prefixes of the engine and its runtime are left out, its reason is not.
        assert (
            'error of the engine: exec: "/nowhere": stat /nowhere: no such file'
            in found[names["no_entrypoint"]]["summary"]
        )
    finally:
        attempt("docker", "network", "rm", getattr(failing, "network", "none"))


def test_a_restart_is_offered_once_the_cause_has_gone(app, tmp_path):
    """The engine keeps its last error, which may be an old one."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = "127.0.0.1:%d:8000" % holder.getsockname()[1]
        barred = refused(app, "barred", options=(*SOUND, "--publish", port))
        assert "in use" in inspect(barred)["State"]["Error"]
        (finding,) = sound(look(app)["containers.stopped"])
        assert finding["remedy"] is None
        assert "ss -lntup" in finding["hint"]
        assert run_module("container_restart", {"names": [barred]}, check=True)["failed"]
    path = tmp_path / "back"
    path.mkdir()
    back = app.run("back", options=(*SOUND, "--mount", "type=bind,source=%s,target=/data" % path))
    docker("stop", "--time", "1", back)
    path.rmdir()
    attempt("docker", "restart", back)
    assert "no such file" in inspect(back)["State"]["Error"]
    path.mkdir()
    # Created and never started, without a cause that would prevent it.
    fresh = app.run("fresh", verb="create", options=SOUND)
    found = sound(look(app, containers_expected_services=["barred", "back", "fresh"])["containers.stopped"])
    for finding in found:
        assert finding["remedy"]["id"] == "containers.restart_service", finding
        outcome = run_module("container_restart", finding["remedy"]["vars"])
        assert outcome["containers"][0]["result"] == "restarted", outcome
    assert {finding["object"] for finding in found} == {barred, back, fresh}


def test_services_that_are_started_together_are_no_unmet_dependencies(app):
    base = app.run("base")
    web = app.run("web", depends_on=("base",))
    docker("stop", "--time", "1", web, base)
    arguments = {"project": app.name, "services": ["web", "base"]}
    planned = run_module("container_restart", arguments, check=True)
    assert [each["result"] for each in planned["containers"]] == ["planned", "planned"]
    assert not run_module("container_restart", arguments).get("failed")
    assert inspect(web)["State"]["Running"]


CHECKS = {
    "missing": "no-such-program --fail http://localhost/ || exit 1",
    "failing": "echo 'postgresql://app:hunter2@db/x: connection refused'; exit 1",
}


def test_an_unhealthy_container_shows_the_output_of_its_check(app):
    names = {}
    command = "echo 'worker 7 stopped: PASSWORD=hunter2 rejected'; exec sleep infinity"
    for service, check in CHECKS.items():
        names[service] = app.run(service, "sh", "-c", command, options=(*SOUND, *healthcheck(check)))
    names["no-program"] = app.run(
        "no-program",
        options=(*SOUND, "--health-cmd", "true", "--health-interval", "1s", "--health-retries", "2"),
    )
    names["rejected"] = app.run(
        "rejected", "redis-server", "--requirepass", "hunter2", options=(*SOUND, *healthcheck("redis-cli -e ping"))
    )
    docker("exec", names["no-program"], "sh", "-c", "rm -f /bin/sh /usr/bin/sh")
    for name in names.values():
        wait_for(name, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy")
    found = {each["object"]: each for each in sound(look(app)["containers.unhealthy"])}
    assert "hunter2" not in str(found)
    reasons = dict.fromkeys(("missing", "no-program"), "the program of its health check cannot be run")
    reasons["rejected"] = "its health check reports a login that is rejected: NOAUTH Authentication required"
    for service, reason in reasons.items():
        finding = found[names[service]]
        assert finding["remedy"] is None
        assert reason in finding["summary"]
        outcome = run_module("container_restart", {"names": [names[service]], "deadline": 5}, check=True)
        assert outcome["containers"][0]["result"] == "not_restartable"
    finding = found[names["failing"]]
    assert "connection refused" in finding["summary"]
    assert "worker 7 stopped" in finding["summary"]
    assert finding["remedy"]["id"] == "containers.restart_service"


def test_a_crash_loop_keeps_its_severity_exit_code_and_last_words(app):
    crash = "echo 'cannot read config: PASSWORD=hunter2'; echo 'giving up' >&2; exit 3"
    loop = app.run("loop", "sh", "-c", crash, options=SOUND)
    job = app.run("job", "sh", "-c", "echo done", options=("--memory", "64m", "--restart", "always"))
    broken = app.run("broken", "python3", "-c", "import tracktion_core", options=SOUND)
    for name in (loop, job, broken):
        wait_until(lambda name=name: inspect(name)["RestartCount"] >= 5, "restarts", 30)
    for _reading in range(4):
        found = {each["object"]: each for each in sound(look(app)["containers.crash_loop"])}
        assert {each["status"] for each in found.values()} == {"critical"}
        summary = found[loop]["summary"]
        assert "exit code 3" in summary
        assert "giving up" in summary
        assert "hunter2" not in summary
        assert "(unless-stopped)" in summary
        assert "its restart policy (always) starts it again" in found[job]["hint"]
        assert "; the Python module tracktion_core cannot be imported" in found[broken]["summary"]
        assert found[broken]["hint"].startswith("A restart does not help. Add it to the image and build it again")


def test_restarts_long_ago_are_no_crash_loop(app):
    name = app.run(
        "calm",
        "sh",
        "-c",
        "test -e /born && exec sleep infinity; echo >> /n; test $(wc -l < /n) -ge 4 && touch /born; exit 3",
        options=(*SOUND, *healthcheck("test -e /born")),
    )
    wait_for(name, "healthy", lambda state: (state.get("Health") or {}).get("Status") == "healthy", 30)
    assert inspect(name)["RestartCount"] >= 4
    assert "containers.crash_loop" not in look(app, containers_restarts_window_seconds=0.5)
