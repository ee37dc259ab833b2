# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that fail for different reasons, in one run over ssh: their findings, and remaining processes."""

from __future__ import annotations

import http.server
import json
import threading
import time

import jsonschema
import pytest

from tests.integration.playbooks import ROOT, inventory, run_playbook
from tests.lab.bad_hosts import bad_hosts

CAUSES = {
    # host: (id, cause, part of the summary, part of the hint)
    "refused": ("host.unreachable", "refused", "Connection refused", "`ssh -p 1 root@127.0.0.1 true`"),
    "silent": ("host.unreachable", "connection_timeout", "does not answer", "`ping -c 3 127.0.0.1`"),
    "unresolved": ("host.unreachable", "unresolved", "nosuchhost.invalid", "`getent hosts nosuchhost.invalid`"),
    "no_route": ("host.unreachable", "no_route", "No route to host", "`ip route get 172.31.255.254`"),
    "host_key": ("host.unreachable", "host_key_changed", "Host key for", "`ssh-keygen -f "),
    "wrong_user": ("host.unreachable", "authentication", "unknown_user@", "`ssh-copy-id unknown_user@"),
    "closing": ("host.unreachable", "connection_lost", "ended before the result", "`journalctl -u ssh -n 50`"),
    "not_allowed": (
        "host.visit_failed",
        "become_not_allowed",
        "not in the sudoers file",
        "`not_allowed ALL=(root) ALL`",
    ),
    "no_password": ("host.visit_failed", "become_password_missing", "sudo asks for a password", "--ask-become-pass"),
    "wrong_password": ("host.visit_failed", "become_password_wrong", "sudo rejects", "`ansible_become_password`"),
    "requiretty": ("host.visit_failed", "become_requiretty", "must have a tty", "`Defaults:requiretty !requiretty`"),
    "wrong_interpreter": ("host.visit_failed", "python_path", "/usr/bin/python9.9", "'ls /usr/bin/python3*'`"),
    "no_python": ("host.visit_failed", "python_path", "/usr/bin/python3", "'apt-get install --yes python3'`"),
    "python36": ("host.visit_failed", "python_old", "too old", "Install Python 3.8 or later"),
    "broken": ("host.visit_failed", "crashed", "ImportError: cannot import name zlib", "-m ansible.builtin.ping -vvv`"),
    "garbage": ("host.visit_failed", "no_result", "Segfault in module loader", "'/opt/garbage/python3 -V'`"),
    "killed": ("host.visit_failed", "killed", "signal KILL", "dmesg"),
    "crashed": ("host.visit_failed", "killed", "signal SEGV", "dmesg"),
    "banner": ("host.visit_failed", "output_before_result", "{ Welcome to users }", "must print nothing"),
    "hung": ("host.visit_failed", "timeout", "time limit", "tracktion_visit_timeout"),
    "readonly_unpipelined": (
        "host.visit_failed",
        "temporary_unwritable",
        "Read-only file system",
        "`ansible_remote_tmp`",
    ),
    "full_unpipelined": ("host.visit_failed", "temporary_full", "No space left on device", "df -i"),
}
# A flood ends with the time limit or with the limit of memory, whichever comes first.
FLOOD = ("timeout", "too_large")
# A visit that is pipelined writes nothing on the host.
FINE = ("good", "motd", "chatty", "skewed", "noexec", "noexec_unpipelined", "starved", "full", "readonly")
# What never ends is given up after these seconds.
SECONDS = 5


@pytest.fixture(scope="module")
def hosts():
    with bad_hosts("visit-failures") as found:
        yield found


@pytest.fixture(scope="module")
def endpoint(hosts):
    """Return the URL of a service that the containers reach at the engine's bridge."""
    server = http.server.ThreadingHTTPServer((hosts.gateway, 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_arguments: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://%s:%d/" % server.server_address
    server.shutdown()


@pytest.fixture(scope="module")
def run(hosts, endpoint, tmp_path_factory):
    """One diagnosis of all hosts."""
    folder = tmp_path_factory.mktemp("visits")
    variables = {name: dict(values) for name, values in hosts.variables.items()}
    variables["starved"]["tracktion_starved_slowdown"] = 3
    for name in ("hung", "flood"):
        variables[name]["tracktion_visit_timeout"] = SECONDS
    path = inventory(
        folder / "hosts.yml",
        variables,
        service_health_endpoints=[{"name": "page", "url": endpoint}],
        # Every answer counts as slow.
        service_health_slow_warning=0.000001,
        service_health_slow_critical=1000,
    )
    extra = {"tracktion_areas": ["service_health"]}
    temporary = folder / "temporary"
    environment = {"ANSIBLE_LOCAL_TEMP": str(temporary)}
    found = run_playbook("diagnose", path, folder / "reports", "-f", "30", extra=extra, environment=environment)
    found.temporary = temporary
    found.ended = time.monotonic()
    found.inventory = str(path)
    return found


def test_the_run_succeeds_with_a_report_on_every_host(run, hosts):
    assert run.code == 0, run.output
    assert {host["name"] for host in run.report["hosts"]} == set(hosts.variables)
    jsonschema.validate(run.report, json.loads((ROOT / "docs" / "report.schema.json").read_text()))


@pytest.mark.parametrize("name", CAUSES)
def test_a_failed_visit_has_its_cause_and_a_hint(run, name):
    check_id, cause, summary, hint = CAUSES[name]
    (finding,) = run.findings(host=name)
    assert (finding["id"], finding["observed"]["cause"], finding["status"]) == (check_id, cause, "critical"), finding
    assert summary in finding["summary"]
    assert hint in finding["hint"]
    assert len(finding["summary"]) < 600
    if "`ansible " in finding["hint"]:
        assert "`ansible %s -i %s " % (name, run.inventory) in finding["hint"]


def test_an_endless_result_is_a_finding(run):
    (finding,) = run.findings(host="flood")
    assert finding["observed"]["cause"] in FLOOD


def test_output_of_a_shell_around_a_result_is_ignored(run):
    for name in FINE:
        (host,) = [host for host in run.report["hosts"] if host["name"] == name]
        assert host["reachable"], name
        assert [area["name"] for area in host["areas"]] == ["service_health"]


def test_ansible_itself_prints_no_errors(run):
    assert "[ERROR]" not in run.output
    assert "fatal:" not in run.output
    assert "UNREACHABLE!" not in run.output


def test_measurements_are_removed_from_the_controller(run):
    assert run.temporary.is_dir()
    assert list(run.temporary.iterdir()) == []


def test_no_process_is_left_on_a_host(run, hosts):
    # The host ends all processes one second after the controller's time limit.
    time.sleep(max(0.0, run.ended + 4 - time.monotonic()))
    for kind in hosts.containers:
        assert hosts.processes(kind) == [], kind


def test_a_clock_skew_is_a_finding(run):
    (finding,) = run.findings("host.clock_skew")
    assert (finding["host"], finding["status"]) == ("skewed", "warning")
    assert "behind" in finding["summary"]
    assert -122 < finding["observed"]["skew"] < -100


def test_on_a_starved_host_a_slow_service_is_unknown(run):
    by_host = {finding["host"]: finding["status"] for finding in run.findings("service_health.slow")}
    assert by_host["good"] == "warning"
    assert by_host["starved"] == "unknown"
    # The tests beside this one may have starved other hosts.
    (finding,) = run.findings("host.starved", host="starved")
    assert finding["status"] == "warning"
    assert finding["observed"]["slowdown"] >= 3
    assert finding["observed"]["checks"] == ["service_health.slow"]
    assert not run.findings(host="starved", status="critical")


@pytest.mark.parametrize("fail_at", ["never", "critical"])
def test_a_single_bad_host_has_a_report_and_the_configured_exit_status(fail_at, tmp_path):
    path = inventory(tmp_path / "hosts.yml", {"gone": {"ansible_host": "127.0.0.1", "ansible_port": 1}})
    extra = {"tracktion_areas": ["logs"], "tracktion_fail_at": fail_at}
    found = run_playbook("diagnose", path, tmp_path / "reports", extra=extra)
    assert (found.code == 0) == (fail_at == "never"), found.output
    assert [finding["id"] for finding in found.report["findings"]] == ["host.unreachable"]
