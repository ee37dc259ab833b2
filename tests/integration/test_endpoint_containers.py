# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints of containers: who answers, the state of the container, proxies, and limits of the CPU."""

from __future__ import annotations

import os
import secrets
from functools import partial

import pytest

from tests.integration.areas import diagnose, evaluate, fired, visit
from tests.integration.containers import sound
from tests.integration.http_servers import answers, free_port, page, serving
from tests.integration.inotify_faults import OTHER_UID, become
from tests.integration.pasting import commands
from tests.lab.engine import docker
from tests.lab.shell import run, succeeds, wait_until
from tests.lab.throwaway import inspect, project, wait_for

# Answers each request with a status and a body. BURN: seconds of CPU time for each.
WEB = """
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        until = time.process_time() + float(os.environ.get("BURN", 0))
        while time.process_time() < until: pass
        body = os.environ.get("BODY", '{"status": "healthy"}').encode()
        self.send_response(int(os.environ.get("STATUS", 200)))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer((os.environ.get("LISTEN", ""), 8000), Handler).serve_forever()
"""
# Forwards each request to the upstream, and has an error page without it, like a gateway of the application.
GATEWAY = """
import http.server, os, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            body, status = urllib.request.urlopen("http://%s:8000%s" % (os.environ["UPSTREAM"], self.path)).read(), 200
        except OSError:
            body, status = b"<hr><center>nginx/1.24.0</center>", 502
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("", 8000), Handler).serve_forever()
"""


class Stack:
    """Services with endpoints at ports of this machine."""

    def __init__(self, services):
        self.services = services
        self.ports = {}

    def start(self, service, *command, port=None, options=(), verb="run", **environment):
        """Start a container of a service that publishes a port of this machine, and return its name."""
        if port is None:
            port = self.ports[service] = free_port()
        published = ("--publish", "127.0.0.1:%d:8000" % port) if port else ()
        variables = [word for name, value in environment.items() for word in ("--env", "%s=%s" % (name, value))]
        command = command or ("python3", "-c", WEB)
        return self.services.run(service, *command, options=(*published, *variables, *options), verb=verb)

    def url(self, service, path="/health"):
        return "http://127.0.0.1:%d%s" % (self.ports[service], path)

    def endpoint(self, service, **more):
        return {"name": service, "service": service, "url": self.url(service), **more}

    def settings(self, *endpoints, **more):
        return {
            "service_health_endpoints": list(endpoints),
            "service_health_timeout": 3,
            "tracktion_compose_project": self.services.name,
            **more,
        }

    def look(self, *endpoints, before=None, **more):
        """Return the findings about the endpoints, by id and object."""
        found = diagnose("service_health", self.settings(*endpoints, **more), before)
        return {check: {each["object"]: each for each in same} for check, same in found.items()}

    def wait_for_answers(self, *services):
        for service in services:
            wait_until(partial(answers, self.url(service)), "%s to answer" % service, 60)


@pytest.fixture
def stack():
    with project("service_health") as services:
        yield Stack(services)


def paste(finding):
    """Run the commands of a hint, and return them."""
    found = commands(finding["hint"])
    for command in found:
        run("sh", "-c", command)
    return found


def test_another_program_on_the_port_of_a_service_is_found(stack):
    other = stack.start("cataloging_service", BODY='{"status": "healthy", "service": "cataloging"}')
    never = stack.start("analysis_service", port=stack.ports["cataloging_service"], verb="create")
    inside = stack.start("tracklist_service", port=0)
    ended = stack.start("file_watcher", "false")
    wait_for(ended, "ended", lambda state: state["Status"] == "exited")
    stack.wait_for_answers("cataloging_service")
    stack.ports.update(dict.fromkeys(("analysis_service", "tracklist_service"), stack.ports["cataloging_service"]))
    with serving({"/health": page(404, "none"), "/": page()}) as served:
        # The port that a service is to publish belongs to a process of the host.
        process = stack.start("importer", port=served.port, verb="create")
        endpoints = [
            *(stack.endpoint(name) for name in ("cataloging_service", "analysis_service", "tracklist_service")),
            {"name": "importer", "service": "importer", "url": served.url("/health")},
            {"name": "stray", "service": "file_watcher", "url": served.url("/")},
            # Without a service, or with one that nothing here belongs to, the answer counts.
            {"name": "any", "url": served.url("/")},
            {"name": "elsewhere", "service": "scheduler", "url": served.url("/")},
        ]
        found = stack.look(*endpoints)
        unprivileged = stack.look(*endpoints[:1], before=partial(become, OTHER_UID))
    assert set(found) == {"service_health.other_program"}, found
    found = found["service_health.other_program"]
    sound(found.values())
    assert {name: each["status"] for name, each in found.items()} == {
        "analysis_service": "critical",
        "tracklist_service": "warning",
        "importer": "critical",
        "stray": "critical",
    }
    assert (
        "belongs to container %s of cataloging_service (python3 -c, pid " % other
        in found["analysis_service"]["summary"]
    )
    assert "%s is created" % never in found["analysis_service"]["summary"]
    assert "(pid %d), not to importer; it answers with status 404" % os.getpid() in found["importer"]["summary"]
    assert "docker start %s" % process in found["importer"]["hint"]
    assert "docker port %s" % inside in found["tracklist_service"]["hint"]
    assert "%s is exited (exit code 1)" % ended in found["stray"]["summary"]
    # Who listens cannot be seen without a right.
    (finding,) = unprivileged["service_health.other_program"].values()
    assert (finding["status"], "become" in finding["hint"]) == ("unknown", True)
    # Followed to the letter, the hint gives the service its port.
    assert paste(found["analysis_service"]) == ["docker stop %s" % other, "docker start %s" % never]
    stack.wait_for_answers("analysis_service")
    assert stack.look(stack.endpoint("analysis_service")) == {}


def test_containers_that_answer_for_a_service_are_no_finding(stack):
    """Replicas, a shared network, the network of the host, and another project with the same service."""
    shared = stack.start("vpn")
    stack.start("tracklist_service", "sleep", "infinity", port=0, options=("--network", "container:%s" % shared))
    stack.ports["tracklist_service"] = stack.ports["vpn"]
    port = stack.ports["host_service"] = free_port()
    on_host = WEB.replace("8000", str(port))
    stack.start("host_service", "python3", "-c", on_host, port=0, options=("--network", "host"), LISTEN="127.0.0.1")
    one = stack.start("worker")
    first = stack.ports["worker"]
    two = stack.start("worker", "false")
    wait_for(two, "ended", lambda state: state["Status"] == "exited")
    with project("service_health") as others:
        neighbour = Stack(others)
        neighbour.start("worker")
        neighbour.wait_for_answers("worker")
        stack.wait_for_answers("vpn", "host_service")
        wait_until(partial(answers, "http://127.0.0.1:%d/" % first), one, 60)
        foreign = {"name": "foreign", "service": "worker", "url": neighbour.url("worker")}
        found = stack.look(
            stack.endpoint("tracklist_service"),
            stack.endpoint("host_service"),
            {"name": "one", "service": "worker", "url": "http://127.0.0.1:%d/health" % first},
            {"name": "two", "service": "worker", "url": stack.url("worker")},
            foreign,
        )
        assert neighbour.look(foreign) == {}
    assert set(found) == {"service_health.unreachable", "service_health.other_program"}, found
    # The replica that is to publish the port, and not the one that runs.
    (down,) = found["service_health.unreachable"].values()
    assert (down["object"], two in down["summary"]) == ("two", True)
    assert set(found["service_health.other_program"]) == {"foreign"}


def test_the_hint_fits_the_state_of_the_container(stack):
    """Each hint is followed to the letter."""
    idle = ("sleep", "infinity")
    stack.start("frozen")
    stack.start("never", verb="create")
    stopped = stack.start("stopped")
    looping = stack.start("looping", "sh", "-c", "echo because; exit 3", options=("--restart", "always"))
    stack.start(
        "starting",
        *idle,
        options=("--health-cmd", "false", "--health-interval", "1s", "--health-start-period", "600s"),
    )
    stack.start("local", LISTEN="127.0.0.1")
    stack.start("silent", *idle)
    stack.wait_for_answers("frozen", "stopped")
    docker("stop", "--time", "1", stopped)
    docker("pause", stack.services.containers[0])
    local = stack.services.containers[-2]
    listening = "import socket; socket.create_connection(('127.0.0.1', 8000))"
    wait_until(lambda: succeeds("docker", "exec", local, "python3", "-c", listening), "the server in the container", 30)
    wait_until(lambda: inspect(looping)["RestartCount"] >= 3, "the third restart", 30)
    names = ("frozen", "never", "stopped", "looping", "starting", "local", "silent")
    # One that has started only now is a warning.
    # A name in the networks of containers is none on the host.
    inner = {"name": "inner", "service": "silent", "url": "http://silent:8000/health"}
    found = stack.look(*map(stack.endpoint, names), inner, service_health_starting_seconds=0)
    assert set(found) == {"service_health.unreachable", "service_health.not_answering"}, found
    by_name = {name: each for same in found.values() for name, each in same.items()}
    sound(by_name.values())
    assert {name for name, each in by_name.items() if each["status"] == "warning"} == {"starting"}
    hints = {name: each["hint"] for name, each in by_name.items()}
    assert "unpause" in hints["frozen"]
    assert "has never run" in hints["never"]
    assert hints["looping"].startswith("Read why its program ends again and again")
    assert "docker start" not in hints["looping"]
    assert "Wait until it has started" in hints["starting"]
    assert "Let the program listen on 0.0.0.0" in hints["local"]
    assert "read why it does not listen" in hints["silent"]
    assert hints["inner"].startswith("Use localhost and a published port")
    assert "has been restarted" in by_name["looping"]["summary"]
    for name in ("frozen", "never", "stopped"):
        for command in commands(hints[name])[:2]:
            if not command.startswith("curl"):
                run("sh", "-c", command)
    stack.wait_for_answers("frozen", "never", "stopped")
    assert stack.look(*map(stack.endpoint, ("frozen", "never", "stopped"))) == {}


def test_a_proxy_is_distinguished_from_its_upstream(stack):
    network = "tracktion-lab-%s" % secrets.token_hex(4)
    docker("network", "create", network)
    try:
        api = stack.start("api", port=0, options=("--network", network, "--network-alias", "api"))
        gateway = stack.start("gateway", "python3", "-c", GATEWAY, options=("--network", network), UPSTREAM="api")
        stack.ports["api"] = stack.ports["gateway"]
        wait_until(lambda: answers(stack.url("api")) == 200, "the gateway to forward", 60)
        endpoint = stack.endpoint("api")
        assert stack.look(endpoint) == {}
        # The same in words, for a gateway that is not connected at this moment.
        area, outcome, settings = visit("service_health", stack.settings({**endpoint, "proxy": "gateway"}))
        assert evaluate(area, outcome, settings) == {}
        (measured,) = outcome["measurement"]["http"]["endpoints"]
        assert (measured["responder"]["relation"], measured["responder"]["container"]) == ("proxy", gateway)
        docker("stop", "--time", "1", api)
        found = stack.look(endpoint)
    finally:
        stack.services.remove()
        docker("network", "rm", network)
    (finding,) = fired(
        {key: list(value.values()) for key, value in found.items()}, "service_health.wrong_status", "critical"
    )
    assert set(found) == {"service_health.wrong_status"}
    assert "the answer of the proxy nginx (%s), not of the service" % gateway in finding["summary"]
    assert "container %s is exited" % api in finding["summary"]
    assert "docker start %s" % api in finding["hint"]
    assert "database" not in finding["hint"]


def test_an_endpoint_is_slow_because_of_the_limit_of_its_cpu(stack):
    name = stack.start("slow", BURN="0.1")
    stack.wait_for_answers("slow")
    docker("update", "--cpus", "0.1", name)
    patient = {"service_health_timeout": 40, "service_health_deadline": 50, "service_health_slow_warning": 0.05}
    found = stack.look(stack.endpoint("slow"), **patient)
    finding = found["service_health.slow"]["slow"]
    assert "the CPU limit of %s (0.1 CPUs) slowed it down" % name in finding["summary"]
    assert "database (" not in finding["hint"]
    assert commands(finding["hint"])[0] == "docker update --cpus 1 %s" % name
    run("sh", "-c", commands(finding["hint"])[0])
    found = stack.look(stack.endpoint("slow"), **patient)
    assert "CPU limit" not in found["service_health.slow"]["slow"]["summary"]
