# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check of the network fires on its fault, and does not fire without it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.integration import network_faults as faults
from tests.integration.areas import diagnose, fired
from tests.integration.followed_hints import NETWORK
from tests.integration.following import Operator, follow
from tests.integration.inotify_faults import OTHER_UID, become, call, libc
from tests.integration.playbooks import ROOT, run_playbook
from tests.lab.engine import docker, install_programs
from tests.lab.faults import every
from tests.lab.faults.network import addresses
from tests.lab.inventory import variables
from tests.lab.ports import free_ports
from tests.lab.shell import attempt, run, succeeds
from tests.slack import SLACK

FAULTS = {name: fault for name, fault in every().items() if fault.area == "network"}
# A host without the stack.
ALONE = {"network_paths": [], "tracktion_compose_project": "nobody", "network_check_resolver": False}
NO_ENGINE = {"network_docker_host": "unix:///nonexistent/docker.sock", "tracktion_docker_root": "/nonexistent"}


@pytest.fixture
def settings(lab):
    # Short timeouts, and no minimum age for unused networks.
    return {**variables(lab), "network_timeout": 2, "network_unused_after": 0}


@pytest.fixture
def listener():
    """A server on this host that accepts connections; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def unknown(findings):
    """Return the summary and the hint of each finding by check."""
    return {
        finding["id"]: "%s. %s" % (finding["summary"], finding["hint"])
        for listed in findings.values()
        for finding in listed
    }


def test_a_healthy_stack_gives_no_finding(lab):
    assert diagnose("network", variables(lab)) == {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_stack_fires_its_checks_and_no_other(lab, settings, name):
    with lab.fault(name):
        findings = diagnose("network", settings)
        follow(Operator(directory=lab.directory), NETWORK[name], findings, lambda: diagnose("network", settings))
    # A service that lacks what it needs may answer with an error itself.
    also = {"network.path_http", "network.path_http_timeout"}
    assert set(findings) - also == set(FAULTS[name].fires) - also, findings
    assert set(FAULTS[name].fires) <= set(findings)
    for listed in findings.values():
        for finding in listed:
            assert finding["status"] != "unknown", finding
            # Each finding has a remedy or a hint, and its templates could be filled in.
            assert finding["remedy"] or finding["hint"], finding
            assert finding["title"] + " (" not in finding["summary"] + (finding["hint"] or ""), finding
    assert diagnose("network", settings) == {}


def test_connections_of_a_stopped_service_are_not_tested(lab, settings):
    with lab.fault("watcher-stopped"):
        (finding,) = fired(diagnose("network", settings), "network.service_not_looked_from", "warning")
    assert finding["object"] == "file_watcher"
    assert lab.container("file_watcher") in finding["summary"]


def test_a_missing_service_is_one_finding(settings):
    paths = [{"from": "retired_service", "to": "postgres:5432"}, {"from": "retired_service", "to": "redis:6379"}]
    findings = diagnose("network", {**settings, "network_paths": paths})
    (finding,) = fired(findings, "network.service_not_looked_from", "warning")
    assert "postgres:5432, redis:6379" in finding["summary"]
    assert set(findings) == {"network.service_not_looked_from"}


def test_a_stopped_server_is_named_if_its_name_does_not_resolve(lab, settings):
    with lab.stopped("rabbitmq"):
        (finding, *_others) = fired(diagnose("network", settings), "network.path_dns", "critical")
    assert "%s is exited" % lab.container("rabbitmq") in finding["summary"]
    assert finding["hint"].startswith("Start it: `docker start %s`" % lab.container("rabbitmq"))


def test_a_bad_status_is_a_warning(settings):
    paths = [{"from": "file_watcher", "to": "http://analysis_service:8001/nothing-here", "method": "HEAD"}]
    findings = diagnose("network", {**settings, "network_paths": paths})
    assert fired(findings, "network.path_http", "warning")


# Faults of the host, only for the measuring process.


def test_a_host_without_forwarding(settings):
    findings = diagnose("network", settings, before=faults.forwarding_off)
    assert fired(findings, "network.forwarding_off", "critical")
    # Paths start in the namespaces of the containers, whatever that of the measuring process is.
    assert not {check for check in findings if check.startswith("network.path_")}


@pytest.mark.parametrize(
    ("lines", "status"),
    [(["-P FORWARD DROP"], "critical"), (["-P FORWARD ACCEPT"], "warning")],
)
def test_flushed_rules_of_docker(settings, lines, status):
    findings = diagnose("network", settings, before=partial(faults.rules, *lines))
    assert fired(findings, "network.docker_rules_missing", status)


def test_existing_rules_of_docker(settings):
    lines = [
        "-P FORWARD DROP",
        "-N DOCKER",
        "-A FORWARD -j DOCKER",
        "-t nat -N DOCKER",
        "-t nat -A PREROUTING -j DOCKER",
    ]
    findings = diagnose("network", settings, before=partial(faults.rules, *lines))
    assert not fired(findings, "network.docker_rules_missing")


def test_rules_that_docker_does_not_manage(settings, tmp_path):
    file = tmp_path / "daemon.json"
    file.write_text('{"iptables": false}')
    mine = {**settings, "tracktion_docker_daemon_config": str(file)}
    findings = diagnose("network", mine, before=partial(faults.rules, "-P FORWARD DROP"))
    assert not fired(findings, "network.docker_rules_missing")


def test_the_only_dns_server_is_dead():
    mine = {**ALONE, "network_check_resolver": True}
    findings = diagnose("network", mine, before=partial(faults.resolv_conf, "nameserver 127.0.0.9\n"))
    (finding,) = fired(findings, "network.resolver_broken", "critical")
    assert "127.0.0.9" in finding["summary"]


@pytest.mark.parametrize(("text", "reason"), [("", "/etc/resolv.conf names no server"), (None, "cannot be read")])
def test_a_host_without_a_dns_server_in_resolv_conf(text, reason):
    def before():
        faults.private_network()
        if text is None:
            faults.no_resolv_conf()
        else:
            faults.resolv_conf(text)

    findings = diagnose("network", {**ALONE, "network_check_resolver": True}, before=before)
    (finding,) = fired(findings, "network.resolver_broken", "critical")
    assert reason in finding["summary"]


@pytest.fixture
def resolver():
    """The pid of a container with an internal network, whose DNS server does not forward queries."""
    with faults.isolated_container() as pid:
        yield pid


@pytest.mark.parametrize(
    ("servers", "status"),
    [("nameserver 127.0.0.11\n", None), ("nameserver 127.0.0.9\nnameserver 127.0.0.11\n", "warning")],
)
def test_a_dead_dns_server_before_a_good_one(resolver, servers, status):
    mine = {**ALONE, "network_check_resolver": True}
    findings = diagnose("network", mine, before=partial(faults.resolv_conf, servers, resolver))
    assert bool(fired(findings, "network.resolver_broken", status)) == bool(status), findings


def test_an_external_endpoint(listener):
    (unused,) = free_ports(1)
    mine = {**ALONE, "network_external_endpoints": ["127.0.0.1:%d" % listener, "127.0.0.1:%d" % unused]}
    (finding,) = fired(diagnose("network", mine), "network.external_unreachable", "critical")
    assert finding["object"] == "127.0.0.1:%d" % unused


def test_a_configuration_of_the_engine_that_cannot_be_parsed(tmp_path):
    file = tmp_path / "daemon.json"
    file.write_text('{"dns": ["192.0.2.1"],}')
    mine = {**ALONE, "tracktion_docker_daemon_config": str(file)}
    assert fired(diagnose("network", mine), "network.daemon_json_invalid", "warning")
    # With an engine that is down, it is critical.
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(tmp_path / "docker.sock"))
        down = {**mine, "network_docker_host": "unix://%s/docker.sock" % tmp_path}
        assert fired(diagnose("network", down), "network.daemon_json_invalid", "critical")
    file.write_text('{"dns": ["192.0.2.1"]}')
    assert diagnose("network", mine) == {}


def test_a_setting_that_is_also_a_flag(settings, tmp_path):
    file = tmp_path / "daemon.json"
    file.write_text('{"log-level": "info", "labels": ["a=b"]}')
    mine = {**ALONE, "tracktion_docker_daemon_config": str(file)}
    assert diagnose("network", mine) == {}

    def before(*flags):
        faults.rules("-P FORWARD DROP")
        faults.named_dockerd(*flags)

    found = diagnose("network", mine, before=partial(before, "-H", "fd://", "--label", "c=d"))
    (finding,) = fired(found, "network.daemon_json_invalid", "warning")
    assert "dockerd rejects settings that are also flags: labels" in finding["summary"]
    # A flag can disable the rules too.
    left = {**settings, "tracktion_docker_daemon_config": str(file)}
    assert not fired(
        diagnose("network", left, before=partial(before, "--iptables=false")), "network.docker_rules_missing"
    )


def test_a_route_of_another_table_is_evaluated_by_the_choice_of_the_kernel(lab, settings):
    """A VPN may use a table with a rule before the main table."""
    subnet = addresses(lab)
    table = str(4200 + os.getpid() % 1000)
    rule = ["pref", table, "to", str(list(subnet.subnets(new_prefix=25))[1]), "lookup", table]
    expected = "%s %s" % (lab.network, subnet)
    try:
        run("ip", "route", "add", str(subnet), "dev", "lo", "table", table)
        (finding,) = fired(diagnose("network", settings), "network.subnet_overlap", "warning")
        assert finding["object"] == expected
        # Only for addresses that no container has.
        run("ip", "rule", "add", *rule)
        (finding,) = fired(diagnose("network", settings), "network.subnet_overlap", "critical")
        assert finding["object"] == expected
    finally:
        attempt("ip", "rule", "del", *rule)
        attempt("ip", "route", "del", str(subnet), "dev", "lo", "table", table)


def test_a_config_only_network_is_never_unused(lab, settings):
    name = "%s_configuring" % lab.project
    docker("network", "create", "--config-only", "--label", "com.docker.compose.project=%s" % lab.project, name)
    try:
        assert diagnose("network", settings) == {}
    finally:
        docker("network", "rm", name)


# What cannot be measured.


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("network_timeout", -1, "timeout: -1"),
        ("network_timeout", 0, "timeout: 0"),
        ("network_top", 0, "top: 0"),
        ("network_external_endpoints", ["ftp://elsewhere"], "external_endpoints: 'ftp://elsewhere'"),
        ("network_paths", [{"from": "web", "to": "postgres"}], "paths: to: 'postgres'"),
        ("network_docker_host", "tcp://elsewhere:1", "docker_host: tcp://elsewhere:1"),
    ],
)
def test_an_invalid_option_is_named(settings, option, value, message):
    findings = diagnose("network", {**settings, option: value})
    assert {finding["status"] for listed in findings.values() for finding in listed} == {"unknown"}
    assert message in unknown(findings)["network.path_timeout"]


def test_without_privilege_nothing_is_ok(settings):
    findings = diagnose("network", settings, before=partial(become, OTHER_UID))
    reasons = unknown(findings)
    for check_id in ("path_dns", "path_refused", "path_timeout", "path_http", "not_on_common_network"):
        assert "become" in reasons["network." + check_id], reasons
    assert "become" in reasons["network.published_port_not_answering"]
    assert {finding["status"] for listed in findings.values() for finding in listed} == {"unknown"}


def test_rules_of_nftables_without_nft_are_unknown_with_a_hint(lab, settings, tmp_path):
    install_programs({"nft": ("nftables",)})
    with lab.fault("published-port-dead"):
        findings = diagnose("network", settings, before=partial(faults.without_nft, tmp_path))
    assert "apt-get install nftables" in unknown(findings)["network.published_port_dropped"]


def test_root_without_the_capability_gets_a_hint(settings):
    mine = {**settings, "network_external_endpoints": []}
    findings = diagnose("network", mine, before=partial(faults.without_capability, faults.CAP_SYS_ADMIN))
    reasons = unknown(findings)
    for check_id in ("path_dns", "path_refused", "path_timeout", "path_http", "not_on_common_network"):
        assert "Measure on the host itself as root" in reasons["network." + check_id], reasons
    assert {finding["status"] for listed in findings.values() for finding in listed} == {"unknown"}


def test_namespaces_of_containers_cannot_be_entered_from_a_new_user_namespace(settings):
    findings = diagnose("network", settings, before=partial(call, libc.unshare, faults.CLONE_NEWUSER))
    assert "Measure" in unknown(findings)["network.path_dns"]
    assert {finding["status"] for listed in findings.values() for finding in listed} == {"unknown"}


def test_without_an_engine_paths_are_unknown(settings):
    findings = diagnose("network", {**settings, **NO_ENGINE})
    assert "no Docker engine" in unknown(findings)["network.path_dns"]
    assert {finding["status"] for listed in findings.values() for finding in listed} == {"unknown"}


def test_a_host_without_an_engine_and_without_paths_has_no_finding():
    assert diagnose("network", {**ALONE, **NO_ENGINE}) == {}


def test_a_hanging_engine_affects_only_its_own_checks(settings, tmp_path):
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "docker.sock"))
        hanging.listen()
        started = time.monotonic()
        findings = diagnose("network", {**settings, "network_docker_host": "unix://%s/docker.sock" % tmp_path})
    assert time.monotonic() - started < 6 * SLACK
    assert set(unknown(findings)) == {"network.subnet_overlap", "network.unused_network"}


def test_the_role_reports_its_findings(lab, tmp_path):
    extra = {"tracktion_areas": ["network"]}
    with lab.fault("dns-broken"):
        run = run_playbook("diagnose", lab.inventory, tmp_path, extra=extra)
    # One fault, one finding.
    (finding,) = run.findings("network.path_dns", status="critical", host="lab")
    assert "rabbitmq (nor analysis_service)" in finding["summary"]
    assert finding["observed"] == {"failure": "dns_refused", "target_service": "rabbitmq"}


REMEDY = """
- hosts: lab
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: tracktion.ops.network
        tasks_from: remediate/remove_unused
    - ansible.builtin.debug:
        msg: "{{ tracktion_remedied | to_json }}"
"""


def test_the_remedy_removes_the_network_and_returns_the_undo_command(lab, settings, tmp_path):
    (tmp_path / "play.yml").write_text(REMEDY)

    def remediate(*arguments):
        command = [str(Path(sys.executable).with_name("ansible-playbook")), str(tmp_path / "play.yml")]
        command += ["-i", str(lab.inventory), "-e", json.dumps({"tracktion_remedy": remedy["vars"]}), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with lab.fault("network-unused"):
        name = "%s_retired" % lab.project
        (finding,) = fired(diagnose("network", settings), "network.unused_network", "info")
        remedy = finding["remedy"]
        assert (remedy["target"], remedy["risk"], remedy["data_loss"]) == (name, "disruptive", "none")
        assert not remedy["denied"]
        assert "docker network create" in remediate("--check", "--diff")
        assert succeeds("docker", "network", "inspect", name)
        assert "docker network create" in remediate()
        assert not succeeds("docker", "network", "inspect", name)
        assert diagnose("network", settings) == {}


def test_a_network_on_the_deny_list_is_denied(lab, settings):
    with lab.fault("network-unused"):
        mine = {**settings, "network_remove_deny": ["%s_retired" % lab.project]}
        (finding,) = fired(diagnose("network", mine), "network.unused_network")
        assert finding["remedy"]["denied"]
        # A new network is not reported.
        assert diagnose("network", {**mine, "network_unused_after": 3600}) == {}
