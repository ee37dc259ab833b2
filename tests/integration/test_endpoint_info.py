# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""endpoint_info against servers that answer, and servers that fail in different ways."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import sys
import time

import pytest

from tests.integration import http_servers as servers
from tests.integration.http_servers import behaving, page, redirect, serving
from tests.integration.modules import run_module, run_module_in_container
from tests.integration.playbooks import LOCAL, ROOT, inventory
from tests.lab.certificates import issue_server, make_certificates
from tests.lab.images import ensure_image
from tests.slack import SLACK


def measure_one(url, **options):
    """Return the entry of one endpoint. Options of the module have the prefix ``all_``."""
    own = {name: value for name, value in options.items() if not name.startswith("all_")}
    general = {name[4:]: value for name, value in options.items() if name.startswith("all_")}
    (endpoint,) = measure_all([{"name": "it", "url": url, **own}], **general)["endpoints"]
    return endpoint


def measure_all(endpoints, **options):
    result = run_module("endpoint_info", {"endpoints": endpoints, **options})
    assert not result.get("failed"), result
    return result


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return a directory with a certificate authority."""
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory, "client")
    return directory


@pytest.fixture(scope="module")
def healthy():
    with serving({"/": page(), "/slow": page(seconds=0.3), "/echo": servers.echo}) as served:
        yield served


def test_right_answer_has_times_and_no_body(healthy):
    found = measure_one(healthy.url("/slow"), body_json={"status": "healthy"}, body_contains="status")
    assert (found["ok"], found["answered"], found["error"], found["status"]) == (True, True, None, 200)
    assert found["body"] == {
        "bytes": len('{"status": "healthy"}'),
        "ok": True,
        "contains": True,
        "mismatches": [],
        "mismatch_count": 0,
        "excerpt": None,
    }
    seconds = found["seconds"]
    # The server sleeps before its first byte only.
    assert 0.3 <= seconds["first_byte"] <= seconds["total"]
    assert seconds["dns"] + seconds["connect"] + seconds["body"] < seconds["first_byte"]
    assert seconds["tls"] is None
    assert found["latency"]["p95_seconds"] == seconds["total"]


def test_requests_are_parallel(healthy):
    endpoints = [{"name": str(number), "url": healthy.url("/slow")} for number in range(20)]
    result = measure_all(endpoints)
    assert result["totals"] == {"endpoints": 20, "ok": 20}
    one_after_the_other = sum(found["seconds"]["total"] for found in result["endpoints"])
    assert 0.3 <= result["seconds"] < one_after_the_other / 2


def test_hanging_endpoint_does_not_hide_others(healthy):
    with behaving(servers.never_answer) as hung:
        started = time.monotonic()
        result = measure_all(
            [{"name": "hung", "url": hung.url()}, {"name": "well", "url": healthy.url()}], timeout=0.5, deadline=1
        )
        assert time.monotonic() - started < 2 * SLACK
    assert [(found["name"], found["ok"]) for found in result["endpoints"]] == [("hung", False), ("well", True)]


def test_endpoint_without_time_is_unknown(healthy):
    with behaving(servers.never_answer) as hung:
        endpoints = [{"name": "hung %d" % number, "url": hung.url()} for number in range(64)]
        result = measure_all([*endpoints, {"name": "last", "url": healthy.url()}], timeout=2.5, deadline=2)
    last = result["endpoints"][-1]
    assert (last["name"], last["ok"], last["answered"]) == ("last", None, None)
    # On a busy machine, the deadline may have left others too little of their timeout, too.
    reasons = {entry["part"]: entry["reason"] for entry in result["unknown"]}
    assert re.fullmatch(r"not measured \(\d\.\d s of the deadline left\)", reasons["endpoints.last"])


@pytest.mark.parametrize(
    ("behave", "kind", "status", "message"),
    [
        (servers.never_answer, "no_answer", None, "does not answer within the timeout"),
        (servers.drip_headers_for_ever, "unfinished", None, "does not end within the timeout"),
        (servers.drip_for_ever, "unfinished", 200, "does not end within the timeout"),
        (servers.stream_for_ever, "too_large", 200, "sends more than"),
        (servers.close_without_an_answer, "closed", None, "closes the connection without an answer"),
        (servers.close_in_the_middle, "closed", 200, "closes the connection in the middle of the answer"),
        (servers.reset, "closed", None, "resets the connection"),
        (servers.greet_as_ssh, "protocol", None, "does not answer with HTTP"),
    ],
)
def test_missing_answers_have_kinds(behave, kind, status, message):
    with behaving(behave) as served:
        started = time.monotonic()
        found = measure_one(served.url(), timeout=0.5)
        assert time.monotonic() - started < 2 * SLACK
    assert found["error"]["kind"] == kind, found["error"]
    assert (found["status"], found["ok"], found["answered"]) == (status, False, False)
    assert "127.0.0.1:%d" % served.port in found["error"]["message"]
    assert message in found["error"]["message"]
    assert found["error"]["hint"]


def test_failed_connections_have_kinds():
    assert measure_one("http://127.0.0.1:%d/" % servers.free_port())["error"]["kind"] == "refused"
    assert measure_one("http://nosuchhost.invalid/")["error"]["kind"] == "name_resolution"
    with servers.full_backlog() as full:
        found = measure_one(full.url(), timeout=0.5)
    assert (found["error"]["kind"], found["phase"]) == ("timeout", "connect")


def test_next_address_after_refused_connection(healthy):
    """On most hosts localhost is ::1 first, and Docker publishes on 127.0.0.1 only."""
    found = measure_one(healthy.url("/", host="localhost"))
    assert (found["ok"], found["address"]) == (True, "127.0.0.1")


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_refused_at_localhost_without_ipv6(suite):
    """A container has ::1 in its /etc/hosts and not the address: the error is that of 127.0.0.1."""
    endpoint = {"name": "it", "url": "http://localhost:8001/"}
    (found,) = run_module_in_container(ensure_image(suite), "endpoint_info", {"endpoints": [endpoint]})["endpoints"]
    assert found["error"]["kind"] == "refused", found["error"]


def test_proxies_of_the_environment_are_ignored(healthy):
    with serving({"/": page()}) as proxy:
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY")
        proxies = dict.fromkeys(names, proxy.url())
        result = run_module(
            "endpoint_info",
            {"endpoints": [{"name": "it", "url": healthy.url()}]},
            before=lambda: os.environ.update(proxies),
        )
        assert result["totals"] == {"endpoints": 1, "ok": 1}
        assert proxy.requests == []


def test_address_family(healthy):
    with serving({"/": page()}, host="::1") as six:
        found = measure_one("http://[::1]:%d/" % six.port)
        assert (found["ok"], found["address"]) == (True, "::1")
        assert measure_one("http://localhost:%d/" % six.port, address_family="ipv4")["error"]["kind"] == "refused"
    assert measure_one(healthy.url(), address_family="ipv6")["error"]["kind"] == "name_resolution"


# Answers


def test_wrong_status_has_excerpt():
    with serving({"/": page(503, '{"status": "unhealthy",\n "checks": {"database": false}}')}) as served:
        found = measure_one(served.url())
    assert (found["answered"], found["ok"], found["status"], found["status_ok"]) == (True, False, 503, False)
    assert found["body"]["excerpt"] == '{"status": "unhealthy", "checks": {"database": false}}'
    assert found["latency"] == {
        "wanted": 1,
        "made": 1,
        "failed": 1,
        "failures": ["status 503"],
        "p50_seconds": None,
        "p95_seconds": None,
        "max_seconds": None,
    }


def test_wrong_body_has_mismatches(healthy):
    wanted = {"status": "healthy", "checks.0.ok": True}
    with serving({"/": page(body='{"status": "degraded", "checks": [{"ok": 1}]}')}) as served:
        found = measure_one(served.url(), body_json=wanted, body_contains="healthy")
    assert (found["ok"], found["status_ok"], found["body"]["ok"], found["body"]["contains"]) == (
        False,
        True,
        False,
        False,
    )
    assert found["body"]["mismatches"] == [
        {"path": "status", "expected": '"healthy"', "found": '"degraded"'},
        {"path": "checks.0.ok", "expected": "true", "found": "1"},
    ]
    with serving({"/": page(body="<html>")}) as served:
        (mismatch,) = measure_one(served.url(), body_json=wanted)["body"]["mismatches"]
    assert mismatch == {"path": "", "expected": "JSON", "found": None}


def test_request_is_sent_as_described():
    with serving({"/match": page(201)}) as served:
        found = measure_one(
            served.url("/match?title=Für Elise&artist=a%20b"),
            method="POST",
            body={"deep": True},
            headers={"X-Tenant": "lab", "user-agent": "probe"},
            status=[200, 201],
        )
        (received,) = served.requests
        measure_one(served.url("/match"), method="HEAD")
    assert found["ok"]
    assert (received["method"], received["path"]) == ("POST", "/match?title=F%C3%BCr%20Elise&artist=a%20b")
    assert json.loads(received["body"]) == {"deep": True}
    headers = {name.lower(): value for name, value in received["headers"].items()}
    assert (headers["content-type"], headers["x-tenant"], headers["user-agent"]) == (
        "application/json",
        "lab",
        "probe",
    )
    assert headers["host"] == "127.0.0.1:%d" % served.port
    assert served.requests[-1]["method"] == "HEAD"


def test_latency_of_several_requests():
    with serving({"/": servers.sometimes(200, 200, 200, 503)}) as served:
        found = measure_one(served.url(), all_requests=8)
        assert len(served.requests) == 8
    latency = found["latency"]
    assert (latency["wanted"], latency["made"], latency["failed"], latency["failures"]) == (8, 8, 2, ["status 503"])
    assert 0 < latency["p50_seconds"] <= latency["p95_seconds"] == latency["max_seconds"]


def test_requests_end_at_the_deadline():
    with serving({"/": page(seconds=0.4)}) as served:
        found = measure_one(served.url(), requests=100, all_deadline=4)
    assert 2 <= found["latency"]["made"] < 12
    # The deadline ended the last one, not the server.
    assert found["latency"]["failed"] == 0


# Redirects


def test_redirects_are_followed_and_redacted():
    pages = {"/": redirect("/b?state=x&ticket=sesame"), "/b": redirect("/c", 307), "/c": page()}
    with serving(pages) as served:
        found = measure_one(served.url())
        unfollowed = measure_one(served.url(), max_redirects=0, status=[302])
        expected = measure_one(served.url(), status=[302])
    assert (found["ok"], found["status"]) == (True, 200)
    assert found["redirects"] == {
        "count": 2,
        "urls": [served.url("/b?state=***&ticket=***"), served.url("/c")],
    }
    for answer in (unfollowed, expected):
        assert (answer["ok"], answer["redirects"]["count"]) == (True, 0)


def test_redirect_with_bytes_beyond_ascii():
    """Browsers and curl use the bytes of the header unchanged."""
    pages = {"/": redirect("/caf\u00c3\u00a9"), "/caf%C3%A9": page()}
    with serving(pages) as served:
        assert measure_one(served.url())["ok"], served.requests


def test_redirects_without_an_answer():
    pages = {"/a": redirect("/b"), "/b": redirect("/a"), "/file": redirect("file:///etc/passwd"), "/no": page(302)}
    pages.update({"/%d" % number: redirect("/%d" % (number + 1)) for number in range(9)})
    with serving(pages) as served:
        assert measure_one(served.url("/a"))["error"]["kind"] == "redirect_loop"
        assert measure_one(served.url("/0"), max_redirects=3)["error"]["kind"] == "too_many_redirects"
        assert measure_one(served.url("/file"))["error"]["kind"] == "bad_redirect"
        assert measure_one(served.url("/no"))["error"]["kind"] == "redirect_loop"


def test_credentials_are_not_sent_to_another_server():
    secret = {"Authorization": "Bearer sesame", "Cookie": "sesame", "X-Key": "sesame"}
    with (
        serving({"/": page()}) as other,
        serving({"/": redirect(other.url()), "/post": redirect(other.url(), 307)}) as served,
    ):
        assert measure_one(served.url(), headers=secret)["ok"]
        assert "sesame" in json.dumps(served.requests)
        assert "sesame" not in json.dumps(other.requests)
        found = measure_one(served.url("/post"), method="POST", body="sesame")
    assert found["error"]["kind"] == "bad_redirect"
    assert len(other.requests) == 1


# TLS


def test_certificate_fields(authority):
    with serving({"/": page()}, issue_server(authority, "localhost", (-1, 10))) as served:
        found = measure_one(served.url("/", host="localhost"), ca_cert=str(authority / "server" / "ca.pem"))
    assert found["ok"], found["error"]
    tls = found["tls"]
    assert (tls["verified"], tls["problem"]) == (True, None)
    assert tls["version"].startswith("TLSv1.")
    assert (tls["subject"], tls["issuer"], tls["names"]) == ("CN=localhost", "CN=Tracktion lab", ["localhost"])
    assert 10 * 86400 - 60 < tls["seconds_left"] <= 10 * 86400
    assert found["seconds"]["tls"] > 0


@pytest.mark.parametrize(
    ("name", "days", "trusted", "problem"),
    [
        ("localhost", (-10, -1), True, "expired"),
        ("localhost", (1, 10), True, "not_yet_valid"),
        ("elsewhere", (-1, 10), True, "wrong_name"),
        ("localhost", (-1, 10), False, "untrusted"),
    ],
)
def test_rejected_certificate_has_fields(authority, name, days, trusted, problem):
    with serving({"/": page()}, issue_server(authority, name, days, trusted=trusted)) as served:
        url, ca_cert = served.url("/", host="localhost"), str(authority / "server" / "ca.pem")
        found = measure_one(url, ca_cert=ca_cert, headers={"X-Key": "sesame"})
        # No request is sent to a server that is not verified.
        assert served.requests == []
        accepted = measure_one(url, ca_cert=ca_cert, validate_certs=False)
    assert found["error"]["kind"] == "certificate"
    assert accepted["ok"]
    for answer in (found, accepted):
        assert (answer["tls"]["verified"], answer["tls"]["problem"]) == (False, problem)
        assert abs(answer["tls"]["seconds_left"] - days[1] * 86400) < 60
        assert answer["tls"]["names"] == [name]


def test_wrong_scheme(authority, healthy):
    error = measure_one(healthy.url().replace("http:", "https:"), timeout=2)["error"]
    assert error["kind"] == "protocol", error
    assert "does not answer with TLS" in error["message"]
    assert "http://" in error["hint"]
    with behaving(servers.answer_lines) as served:
        # It waits for the end of a line, which the beginning of TLS does not have.
        error = measure_one(served.url().replace("http:", "https:"), timeout=2)["error"]
    assert (error["kind"], "does not answer with TLS" in error["message"]) == ("protocol", True), error
    with serving({"/": page()}, issue_server(authority, "localhost", (-1, 10))) as served:
        found = measure_one(served.url().replace("https:", "http:"), timeout=2)
    assert found["error"]["kind"] == "protocol", found["error"]
    assert "expects TLS" in found["error"]["message"]
    assert "https://" in found["error"]["hint"]


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_authority_without_strict_extensions_is_trusted(suite, tmp_path):
    """Many companies have such an authority. curl accepts it, and Python 3.13 by default does not."""
    make_certificates(tmp_path, "client", authority="plain_authority")
    with serving({"/": page()}, issue_server(tmp_path, "localhost", (-1, 10))) as served:
        ca_cert = str(tmp_path / "server/ca.pem")
        endpoint = {"name": "it", "url": served.url("/", host="localhost"), "ca_cert": ca_cert}
        options = ("--network", "host", "--volume", "%s:%s:ro" % (tmp_path, tmp_path))
        result = run_module_in_container(ensure_image(suite), "endpoint_info", {"endpoints": [endpoint]}, options)
    (found,) = result["endpoints"]
    assert found["ok"], found["error"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_required_client_certificate(authority, version):
    own = {"client_cert": str(authority / "client/client.pem"), "client_key": str(authority / "client/client-key.pem")}
    authorities = str(authority / "server/ca.pem")
    certificate = issue_server(authority, "localhost", (-1, 10))
    with serving({"/": page()}, certificate, clients=authorities, newest=version) as served:
        url = served.url("/", host="localhost")
        assert measure_one(url, ca_cert=authorities, **own)["ok"]
        error = measure_one(url, ca_cert=authorities)["error"]
    assert error["kind"] == "tls"
    assert "client_cert" in error["hint"]


def test_client_certificate_is_loaded(authority):
    """The server accepts any client: this tests only that the files are loaded, and wrong ones rejected."""
    client = authority / "client"
    with serving({"/": page()}, issue_server(authority, "localhost", (-1, 10))) as served:
        files = {"client_cert": str(client / "client.pem"), "client_key": str(client / "client-key.pem")}
        url, ca_cert = served.url("/", host="localhost"), str(authority / "server" / "ca.pem")
        assert measure_one(url, ca_cert=ca_cert, **files)["ok"]
    result = run_module("endpoint_info", {"endpoints": [{"name": "it", "url": url, "ca_cert": "/nonexistent"}]})
    assert result["failed"]
    assert "it: ca_cert, client_cert or client_key" in result["msg"]


# Secrets


def test_secrets_are_sent_and_never_shown(healthy, tmp_path):
    """Not in the result, nor in its invocation at the highest verbosity."""
    url = "http://operator:hunter2@127.0.0.1:%d/echo?title=x&api_key=hunter22" % healthy.port
    endpoint = {
        "name": "it",
        "url": url,
        "headers": {"X-Note": "correct-horse"},
        "body": "hunter2222",
        "method": "POST",
    }
    (tmp_path / "play.yml").write_text(
        json.dumps(
            [
                {
                    "hosts": "all",
                    "gather_facts": False,
                    "tasks": [{"tracktion.ops.endpoint_info": {"endpoints": [endpoint]}}],
                }
            ]
        )
    )
    hosts = inventory(tmp_path / "hosts.yml", {"here": LOCAL})
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), tmp_path / "play.yml", "-i", hosts, "-vvv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    sent = healthy.requests[-1]
    login = base64.b64decode(sent["headers"]["Authorization"].partition(" ")[2]).decode()
    assert (login, sent["headers"]["X-Note"]) == ("operator:hunter2", "correct-horse")
    output = done.stdout.partition("TASK")[2]
    assert '"status": 500' in output
    assert "title=x" in output
    assert "hunter2" not in output
    assert "correct-horse" not in output


def test_excerpt_holds_no_secret(healthy):
    found = measure_one(healthy.url("/echo"))
    assert "note" in found["body"]["excerpt"]
    assert "hunter2" not in json.dumps(found)
    found = measure_one(healthy.url("/echo"), body_json={"password": "x", "note": "x"})
    assert [mismatch["found"] for mismatch in found["body"]["mismatches"]] == ["***", '"correct-horse"']


def test_sent_secrets_are_hidden_in_the_answer():
    def repeat(query):
        sent = served.requests[-1]["body"]
        password = json.loads(sent)["password"] if sent.startswith("{") else sent.rpartition("=")[2]
        return 401, {}, "no login of %s with %s" % (query["api_key"], password)

    with serving({"/": repeat}) as served:
        for body in ({"user": "probe", "password": "hunter2"}, "user=probe&password=hunter2"):
            found = measure_one(served.url("/?api_key=correct%2Fhorse"), method="POST", body=body)
            assert found["body"]["excerpt"] == "no login of *** with ***"


def test_excerpt_holds_no_control_sequence():
    with serving({"/": page(500, "\x1b[2J\x1b[31mbad\x1b[0m\r\nnews\x07")}) as served:
        assert measure_one(served.url())["body"]["excerpt"] == "bad news\ufffd"


# Invalid options


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("url", "localhost:8001/health", "it: url: must begin with"),
        ("url", "http:///health", "it: url: has no host"),
        ("url", "http://u:hunter2@host:port/", "it: url: is invalid"),
        ("url", "http://u:not/hunter2@host/", "it: url: is invalid"),
        ("headers", {"X-Key": "hunter2\r\nX-Other: 1"}, "it: headers: 'X-Key' is not a valid header"),
        ("timeout", -1, "it: timeout: must be above 0"),
        ("requests", 0, "it: requests: must be above 0"),
        ("status", [], "it: status: is empty"),
        ("method", "HEAD", "it: method: HEAD has no body"),
        ("client_key", "/nonexistent", "it: client_key: needs client_cert"),
    ],
)
def test_invalid_option_of_an_endpoint_is_named_without_secrets(option, value, message):
    endpoint = {"name": "it", "url": "http://localhost/", "body_contains": "well", option: value}
    result = run_module("endpoint_info", {"endpoints": [endpoint]})
    assert result["failed"]
    assert message in result["msg"]
    assert "hunter2" not in json.dumps(result)


@pytest.mark.parametrize("option", ["timeout", "deadline", "requests", "max_body_bytes"])
def test_invalid_module_option_is_named(option):
    result = run_module("endpoint_info", {"endpoints": [{"name": "it", "url": "http://localhost/"}], option: 0})
    assert result["msg"].startswith("%s: must be above 0" % option)


def test_duplicate_names_are_rejected():
    endpoint = {"name": "it", "url": "http://localhost/"}
    result = run_module("endpoint_info", {"endpoints": [endpoint, endpoint]})
    assert "two are named it" in result["msg"]
