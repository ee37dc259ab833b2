# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of service_health fires on its fault, and is quiet without it."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import subprocess
from functools import partial

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _evaluation
from tests.integration import http_servers as servers
from tests.integration.areas import diagnose, visit
from tests.integration.followed_hints import SERVICE_HEALTH
from tests.integration.following import Operator, follow
from tests.integration.http_servers import behaving, page, redirect, serving
from tests.integration.inotify_faults import OTHER_UID, become
from tests.integration.pasting import commands
from tests.integration.playbooks import run_playbook
from tests.lab.certificates import issue_server, make_certificates
from tests.lab.faults import every
from tests.lab.inventory import variables

FAULTS = {name: fault for name, fault in every().items() if fault.area == "service_health"}

TRACKLIST = {"tracklist_service", "track matching"}
# The endpoints with a finding for each fault, and parts of its summary and of its hint.
FINDINGS = {
    "api-paused": (TRACKLIST, "its container {container} is paused", "docker unpause {container}"),
    "api-slow": (TRACKLIST, "first byte 1.", "docker compose logs --since 10m tracklist_service"),
    "api-stopped": (TRACKLIST, "its container {container} is exited (exit code", "docker start {container}"),
    "api-without-database": ({"analysis_service", *TRACKLIST}, "answers with status 50", "docker logs --since 10m"),
    "api-wrong-answer": ({"track matching"}, '0.title is "Track 1', "curl -sS --max-time 10"),
}


@pytest.fixture
def settings(lab):
    known = variables(lab)
    # A short timeout for the frozen service, and one request to the slow one.
    endpoints = [{**endpoint, "requests": 1} for endpoint in known["service_health_endpoints"]]
    return {**known, "service_health_timeout": 2, "service_health_endpoints": endpoints}


def look(url, timeout=5, settings=None, **endpoint):
    """Return the findings about one endpoint."""
    endpoints = [{"name": "it", "url": url, **endpoint}]
    return diagnose(
        "service_health",
        {"service_health_endpoints": endpoints, "service_health_timeout": timeout, **(settings or {})},
    )


def only(findings, check_id, status):
    """Return the only finding."""
    assert set(findings) == {"service_health." + check_id}, findings
    (finding,) = findings["service_health." + check_id]
    assert (finding["status"], finding["object"]) == (status, "it"), finding
    return finding


def test_healthy_stack_has_no_finding(settings):
    assert diagnose("service_health", settings) == {}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_fires_its_checks(lab, settings, name):
    endpoints, summary, hint = FINDINGS[name]
    with lab.fault(name):
        findings = diagnose("service_health", settings)
        operator = Operator(directory=lab.directory)
        follow(operator, SERVICE_HEALTH[name], findings, lambda: diagnose("service_health", settings))
    # Each failing endpoint has one finding, of the row for its failure.
    assert set(findings) == set(FAULTS[name].fires)
    found = [finding for same in findings.values() for finding in same]
    assert {finding["object"] for finding in found} == endpoints
    assert {finding["status"] for finding in found} <= {"warning", "critical"}
    for finding in found:
        assert summary.format(container=lab.container("tracklist_service")) in finding["summary"]
        assert hint.format(container=lab.container("tracklist_service")) in finding["hint"]
    assert diagnose("service_health", settings) == {}


# Servers of the test


def test_right_answer_has_no_finding():
    with serving({"/": page()}) as served:
        assert look(served.url(), requests=3) == {}


@pytest.mark.parametrize(
    ("behave", "check_id", "status"),
    [
        (servers.never_answer, "not_answering", "critical"),
        (servers.drip_for_ever, "not_answering", "critical"),
        (servers.close_without_an_answer, "not_answering", "critical"),
        (servers.reset, "not_answering", "critical"),
        (servers.stream_for_ever, "endless_answer", "warning"),
        (servers.greet_as_ssh, "wrong_protocol", "critical"),
    ],
)
def test_misbehaving_server_fires_its_check(behave, check_id, status):
    with behaving(behave) as served:
        finding = only(look(served.url(), 2), check_id, status)
    assert served.url() in finding["summary"]


def test_port_without_server():
    finding = only(look("http://localhost:%d/" % servers.free_port()), "unreachable", "critical")
    assert "nothing listens" in finding["summary"]
    assert "curl -v --max-time 5" in finding["hint"]
    finding = only(look("http://nosuchhost.invalid/"), "unreachable", "critical")
    assert "getent hosts nosuchhost.invalid" in finding["hint"]


@pytest.mark.parametrize(
    ("answer", "check_id", "status", "summary", "hint"),
    [
        (
            page(body='{"status": "down", "checks": {"database": {"ok": false, "error": "refused"}}}'),
            "unhealthy",
            "critical",
            "reports checks.database as false (refused); the state of the service is down",
            "about checks.database",
        ),
        (
            page(body='{"status": "ok", "dependencies": {"redis": "degraded"}}'),
            "unhealthy",
            "warning",
            "reports dependencies.redis as degraded",
            "about dependencies.redis",
        ),
        (page(body="Unhealthy"), "unhealthy", "critical", "reports the state Unhealthy", "Read the log of the service"),
        (
            page(503, '{"status": "unhealthy", "checks": {"database": false}}'),
            "wrong_status",
            "critical",
            "it names as the cause: checks.database is false",
            "about checks.database first",
        ),
        (
            redirect("/login?next=x"),
            "login_page",
            "warning",
            "a page for a login, after a redirect to",
            "Exempt this url",
        ),
        (
            page(502, "<hr><center>nginx/1.22.1</center>"),
            "wrong_status",
            "critical",
            "the answer of the proxy nginx, not of the service: it gets no valid answer",
            "journalctl -u nginx",
        ),
        (
            page(403, "<hr><center>nginx</center>"),
            "wrong_status",
            "warning",
            "the answer of the proxy nginx",
            "the proxy rejects the request",
        ),
        (
            page(400, "The plain HTTP request was sent to HTTPS port"),
            "wrong_protocol",
            "critical",
            "expects TLS",
            "service_health_endpoints[].url` with https://",
        ),
    ],
)
def test_answers_of_health_endpoints(answer, check_id, status, summary, hint):
    with serving({"/health": answer, "/login": page(body="<html>")}) as served:
        finding = only(look(served.url("/health")), check_id, status)
    assert summary in finding["summary"]
    assert hint in finding["hint"]


def test_an_answer_of_another_page_is_no_report_of_health():
    """A page that is no health endpoint holds states of other things, and an expected state is none."""
    pages = {
        "/jobs/7": page(body='{"status": "failed"}'),
        "/health": page(body='{"status": "healthy", "checks": {"database": true}, "last_scan": {"status": "failed"}}'),
        "/status": page(body='{"status": "down"}'),
        "/": redirect("/login"),
        "/login": page(body='<input type="password">'),
    }
    with serving(pages) as served:
        for path in ("/jobs/7", "/health", "/", "/login"):
            assert look(served.url(path)) == {}, path
        assert look(served.url("/status"), body_json={"status": "down"}) == {}


def test_redirects_without_an_answer():
    with serving({"/": redirect("/a"), "/a": redirect("/")}) as served:
        finding = only(look(served.url()), "redirects", "critical")
    assert "%s, then %s" % (served.url("/a"), served.url("/")) in finding["summary"]


@pytest.mark.parametrize(
    ("status", "severity", "hint"),
    [
        (500, "critical", "docker compose logs --since 10m lab-alone"),
        (503, "critical", "docker compose logs --since 10m lab-alone"),
        (404, "warning", "does not have this page"),
        (401, "warning", "rejects them"),
        (429, "warning", "limits the rate"),
        (418, "warning", "Check the url"),
    ],
)
def test_severity_and_hint_of_a_wrong_status(status, severity, hint, tmp_path):
    with serving({"/": page(status, "because")}) as served:
        nowhere = {"tracktion_docker_root": str(tmp_path)}
        # A name that no container of another test has.
        finding = only(look(served.url(), service="lab-alone", settings=nowhere), "wrong_status", severity)
    assert "answers with status %d, not 200: because" % status in finding["summary"]
    assert hint in finding["hint"]


def test_summary_of_a_wrong_body():
    with serving({"/": page(body='{"status": "starting", "n": 1}'), "/html": page(body="<html>")}) as served:
        wanted = {"status": "healthy", "version": 2}
        finding = only(look(served.url(), body_json=wanted, body_contains="all is well"), "wrong_body", "critical")
        assert 'status is "starting" instead of "healthy", version is' in finding["summary"]
        assert ", and the expected text is missing" in finding["summary"]
        finding = only(look(served.url("/html"), body_json=wanted), "wrong_body", "critical")
        assert "the body is missing as JSON" in finding["summary"]


def test_intermittent_failures():
    with serving({"/": servers.sometimes(200, 503, 200)}) as served:
        finding = only(look(served.url(), requests=6), "unstable", "warning")
    assert "2 of 6 requests" in finding["summary"]
    assert "status 503" in finding["summary"]


def test_any_of_several_requests_may_fail():
    for statuses, status in (
        ((503, 200, 200), "warning"),
        ((200, 503, 503), "critical"),
        ((503, 503, 200), "critical"),
    ):
        with serving({"/": servers.sometimes(*statuses)}) as served:
            only(look(served.url(), requests=3), "unstable", status)
    with serving({"/": page(503, "because")}) as served:
        only(look(served.url(), requests=3), "wrong_status", "critical")


def test_thresholds_of_slow_endpoints():
    with serving({"/": page(seconds=0.3)}) as served:
        assert look(served.url(), 2) == {}
        slow = {"service_health_slow_warning": 0.2}
        finding = only(look(served.url(), 2, slow, requests=3), "slow", "warning")
        assert "the service takes most of the time" in finding["hint"]
        assert finding["threshold"]["service_health_slow_warning"] == 0.2
        only(look(served.url(), 2, {"service_health_slow_critical": 0.2}), "slow", "critical")
        by_name = {"service_health_slow_warning_by_name": {"it": 0.2}}
        only(look(served.url(), 2, by_name), "slow", "warning")
        assert look(served.url(), 2, {**slow, "service_health_slow_warning_by_name": {"it": 2}}) == {}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory, "client")
    return directory


@pytest.mark.parametrize(
    ("days", "status", "summary"),
    [
        ((-1, 300), None, ""),
        ((-80, 10.1), "warning", "expires in 10 d 2 h"),
        ((-80, 1.6), "critical", "expires in 1 d 14 h"),
        # A certificate for one day is renewed some hours before it expires.
        ((-0.6, 0.4), None, ""),
        ((-0.9, 0.1), "critical", "expires in 2 h"),
    ],
)
def test_certificate_near_its_expiry(authority, days, status, summary):
    with serving({"/": page()}, issue_server(authority, "localhost", days)) as served:
        findings = look(served.url("/", host="localhost"), 2, ca_cert=str(authority / "server/ca.pem"))
    if status is None:
        assert findings == {}
    else:
        assert summary in only(findings, "certificate_expires", status)["summary"]


@pytest.mark.parametrize(
    ("name", "days", "trusted", "summary", "hint"),
    [
        ("localhost", (-9, -2), True, "it expired 2 d", "Renew it"),
        ("localhost", (2, 9), True, "not yet valid", "Compare the clocks"),
        ("elsewhere", (-1, 90), True, "it is for elsewhere", "Use a host of the certificate in the url"),
        ("localhost", (-1, 90), False, "issued by CN=Tracktion lab", "Set ca_cert of the endpoint to its authority"),
    ],
)
def test_rejected_certificate(authority, name, days, trusted, summary, hint):
    with serving({"/": page()}, issue_server(authority, name, days, trusted=trusted)) as served:
        findings = look(served.url("/", host="localhost"), 2, ca_cert=str(authority / "server/ca.pem"))
    finding = only(findings, "certificate_refused", "critical")
    assert summary in finding["summary"]
    assert hint in finding["hint"]
    # By name: the server may choose its certificate by SNI.
    assert finding["hint"].endswith("`openssl s_client -connect localhost:%d -showcerts </dev/null`" % served.port)


def test_summary_without_certificate(authority):
    """A server that requires a client certificate: TLS 1.2 ends before the client has verified the server's."""
    certificate = issue_server(authority, "localhost", (-1, 90))
    clients = str(authority / "server/ca.pem")
    with serving({"/": page()}, certificate, clients=clients, newest=ssl.TLSVersion.TLSv1_2) as served:
        finding = only(look(served.url("/", host="localhost"), 2), "certificate_refused", "critical")
    assert "certificate" in finding["summary"]
    assert "None" not in finding["summary"]


def test_expired_certificate_without_verification(authority):
    with serving({"/": page()}, issue_server(authority, "localhost", (-9, -2))) as served:
        findings = look(served.url("/", host="localhost"), 2, validate_certs=False)
    assert "has expired 2 d" in only(findings, "certificate_expires", "critical")["summary"]


def test_no_endpoints_is_a_finding():
    (finding,) = diagnose("service_health", {"service_health_endpoints": []})["service_health.nothing_asked"]
    assert finding["status"] == "critical"


@pytest.mark.parametrize(
    ("seconds", "hint"),
    [
        ((0.6, 0.01, 0.01, 0.4), "name resolution takes most of the time"),
        ((0.0, 0.6, 0.01, 0.4), "the connection takes most of the time"),
        # A distant server that sends slowly: the connection takes longer than the first byte, but not most of the time.
        ((0.0, 0.04, 0.03, 0.9), "the service takes most of the time"),
    ],
)
def test_hint_names_the_slow_phase(seconds, hint):
    slow = {"service_health_slow_warning": 0}
    with serving({"/": page()}) as served:
        area, outcome, settings = visit(
            "service_health", {**slow, "service_health_endpoints": [{"name": "it", "url": served.url()}]}
        )
    (endpoint,) = outcome["measurement"]["http"]["endpoints"]
    endpoint["seconds"].update(zip(("dns", "connect", "first_byte", "body"), seconds), total=sum(seconds))
    findings, _counts = _evaluation.evaluate("service_health", _checks.load(area), "here", outcome, settings)
    (finding,) = findings
    assert hint in finding["hint"]


HOSTILE = "-x'; touch {pwned}; $(touch {pwned})`touch {pwned}`\n\u202e  \""
PROGRAMS = ("curl", "docker", "ss", "getent", "openssl", "head", "ps", "ping")
# Prints its name and its arguments in brackets.
STUB = '#!/bin/sh\nprintf "%s" "${0##*/}"; for word; do printf " [%s]" "$word"; done; echo\n'


def test_commands_in_hints_are_quoted(tmp_path):
    """Hostile services and urls, for all kinds of failures. The commands run with stubs of the programs."""
    pwned = tmp_path / "pwned"
    service = HOSTILE.format(pwned=pwned)
    query = "/?a='; touch %s; '$(touch %s)`touch %s`" % (pwned, pwned, pwned)
    pages = {
        "/500": page(500, "x"),
        "/body": page(),
        "/loop": redirect("/loop"),
        "/slow": page(),
        "/now": servers.sometimes(200, 500),
    }
    behaviours = (servers.never_answer, servers.stream_for_ever, servers.greet_as_ssh)
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(pages))
        urls = {name: served.url(name + query[1:]) for name in pages}
        urls.update({behave.__name__: stack.enter_context(behaving(behave)).url(query) for behave in behaviours})
        urls.update(closed="http://127.0.0.1:%d%s" % (servers.free_port(), query), nowhere="http://-x.invalid/")
        more = {"/body": {"body_contains": "z"}, "/now": {"requests": 4}}
        for name in ("closed", "nowhere"):
            more[name] = {"service": None}
        found = diagnose(
            "service_health",
            {
                "service_health_endpoints": [
                    {"name": name, "url": url, "service": service, **more.get(name, {})} for name, url in urls.items()
                ],
                "service_health_timeout": 0.5,
                "tracktion_docker_root": str(tmp_path),
                "service_health_slow_warning": 0,
            },
        )
    assert len(found) >= 8
    lines = {line for same in found.values() for each in same for line in commands(each["hint"])}
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for program in PROGRAMS:
        (stubs / program).write_text(STUB)
        (stubs / program).chmod(0o755)
    run = subprocess.run(
        ["/bin/bash", "-c", "\n".join(sorted(lines))],
        env={"PATH": str(stubs), "LC_ALL": "C"},
        cwd=tmp_path,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (run.stderr, pwned.exists()) == (b"", False)
    output = run.stdout.decode()
    assert "docker [compose] [logs] [--since] [10m] [%s]\n" % service in output
    assert "getent [hosts] [--] [-x.invalid]\n" in output


def test_endpoint_without_time_is_unknown():
    with behaving(servers.never_answer) as hung:
        endpoints = [{"name": "hung %d" % number, "url": hung.url()} for number in range(64)]
        endpoints.append({"name": "last", "url": hung.url()})
        findings = diagnose(
            "service_health",
            {"service_health_endpoints": endpoints, "service_health_timeout": 6, "service_health_deadline": 5},
        )
        # The deadline leaves so little of the timeout that no answer proves nothing.
        late = diagnose(
            "service_health",
            {"service_health_endpoints": endpoints[:1], "service_health_timeout": 18, "service_health_deadline": 3},
        )
    statuses = {finding["object"]: finding["status"] for finding in findings["service_health.not_answering"]}
    # On a busy machine, the deadline may have left the others too little of their timeout, too.
    assert statuses["last"] == "unknown"
    assert statuses["hung 0"] in ("critical", "unknown")
    reasons = {finding["summary"] for finding in findings["service_health.unreachable"]}
    assert all(re.fullmatch(r"not measured \(\d\.\d s of the deadline left\)", reason) for reason in reasons)
    assert {finding["status"] for same in late.values() for finding in same} == {"unknown"}


# Commands in containers


def probe(lab, *argv, settings=None, **command):
    """Return the findings about one command in the tracklist service."""
    command = {"name": "it", "service": "tracklist_service", "argv": list(argv), **command}
    return diagnose(
        "service_health",
        {
            "service_health_endpoints": [],
            "service_health_commands": [command],
            "tracktion_compose_project": lab.project,
            **(settings or {}),
        },
    )


# From the guide: connect to the database with the service's own environment.
REACH_DATABASE = "import os, psycopg2; psycopg2.connect(os.environ['DATABASE_DSN'], connect_timeout=2)"


def test_commands_in_containers(lab):
    assert probe(lab, "python3", "-c", REACH_DATABASE) == {}
    finding = only(probe(lab, "sh", "-c", "echo because; exit 3"), "command_failed", "critical")
    assert "ends with code 3" in finding["summary"]
    assert finding["summary"].endswith(": because")
    finding = only(probe(lab, "sleep", "76.5", timeout=0.5), "command_failed", "critical")
    assert finding["summary"].endswith("does not end within 0.5 s, and was killed")
    assert lab.container("tracklist_service") in finding["summary"]
    limit = {"service_health_command_slow_warning_by_name": {"it": 0.3}}
    only(probe(lab, "sleep", "0.4", settings=limit), "command_slow", "warning")
    assert probe(lab, "true", settings={"service_health_command_slow_warning_by_name": {"it": 5}}) == {}
    finding = only(probe(lab, "true", service="nosuch"), "command_not_run", "warning")
    assert "there is no container of nosuch" in finding["summary"]


# Playbook


def test_playbook_reports_the_same_without_secrets(lab, settings, tmp_path):
    host = json.loads(json.dumps(variables(lab)["service_health_endpoints"][1]))
    host["url"] = host["url"].replace("http://", "http://operator:hunter2@")
    host["headers"] = {"X-Key": "correct horse battery staple"}
    extra = {"tracktion_areas": ["service_health"], "service_health_endpoints": [host]}
    with lab.fault("api-stopped"):
        # Only the output and the report are searched, not the command line.
        run = run_playbook("diagnose", lab.inventory, tmp_path, "-vvv", extra=extra)
        unprivileged = diagnose("service_health", settings, before=partial(become, OTHER_UID))
    assert run.code == 0, run.output
    (finding,) = run.findings("service_health.unreachable")
    assert lab.container("tracklist_service") in finding["summary"]
    output = run.output.partition("PLAY [")[2] + json.dumps(run.report)
    assert "hunter2" not in output
    assert "correct horse" not in output
    # Without the right to read the engine's files, the hint names the service.
    (finding, _match) = unprivileged["service_health.unreachable"]
    assert "its container" not in finding["summary"]
    assert "docker compose logs --since 10m tracklist_service" in finding["hint"]
