# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fifty hosts that share a service and its probe host: measured once, reported for all hosts."""

from __future__ import annotations

import re

import pytest

from tests.integration.playbooks import LOCAL, inventory, run_playbook

HOSTS = ["web%02d" % number for number in range(1, 50)]


@pytest.fixture(scope="module")
def redis(redis7):
    client = redis7.redis()
    client.flushall()
    client.config_set("maxmemory", "256mb")
    return redis7


@pytest.fixture(scope="module")
def connections(redis):
    """A function that counts the connections that the server has accepted, without its own."""
    client = redis.redis()
    return lambda: client.info("stats")["total_connections_received"]


@pytest.fixture(scope="module")
def shared(redis, connections, tmp_path_factory):
    """One run over all hosts: ``(run, connections to the server, calls of ssh)``. One probe host is unreachable."""
    folder = tmp_path_factory.mktemp("shared")
    ssh = folder / "ssh"
    ssh.write_text(
        "#!/bin/sh\necho >>%s/calls\necho 'ssh: connect to host 192.0.2.1: Connection refused' >&2\nexit 255\n" % folder
    )
    ssh.chmod(0o755)
    # One host has its own limits: the measurement is shared, not its evaluation.
    hosts = dict.fromkeys(HOSTS[:-1], LOCAL)
    path = inventory(
        folder / "hosts.yml",
        {
            **hosts,
            HOSTS[-1]: {**LOCAL, "cache_clients_floor": 0, "cache_clients_warning": 0},
            "probe": LOCAL,
            "dead": {"ansible_host": "192.0.2.1", "ansible_ssh_executable": str(ssh)},
        },
        tracktion_areas=["cache", "service_health"],
        cache_probe_host="probe",
        service_health_probe_host="dead",
        **{"cache_" + name: value for name, value in redis.login().items()},
    )
    before = connections()
    run = run_playbook("diagnose", path, folder / "reports", environment={"ANSIBLE_FORKS": "10"})
    assert run.report, run.output
    return run, connections() - before, len((folder / "calls").read_text().splitlines())


def test_a_shared_service_is_measured_once(redis, connections, shared):
    before = connections()
    redis.findings()
    alone = connections() - before
    assert shared[1] == alone


def test_an_unreachable_probe_host_is_tried_once_and_fails_all_its_hosts(shared):
    run, _connections, calls = shared
    # The cleanup may connect once more; the 50 hosts do not.
    assert calls <= 2
    assert len(run.findings("host.unreachable", object="dead")) == 50
    assert len(re.findall("^  CRITICAL  host.unreachable", run.output, re.MULTILINE)) == 1


def test_each_host_has_the_measurement_and_its_own_limits(shared):
    run = shared[0]
    areas = {host["name"]: [area["name"] for area in host["areas"]] for host in run.report["hosts"]}
    assert areas == {name: ["cache"] for name in (*HOSTS, "probe", "dead")}
    assert {area["counts"]["items"] > 5 for host in run.report["hosts"] for area in host["areas"]} == {True}
    assert [finding["hosts"] for finding in run.findings("cache.clients_used")] == [[HOSTS[-1]]]
    assert not run.findings("cache.unreachable")
    # Findings of all hosts are merged.
    others = [
        finding for finding in run.report["findings"] if finding["area"] == "cache" and finding["host"] != HOSTS[-1]
    ]
    assert {len(finding["hosts"]) for finding in others} <= {51}
    assert len({area["identity"] for host in run.report["hosts"] for area in host["areas"]}) == 1


def test_fifty_hosts_fit_two_screens(shared):
    text = shared[0].output.partition(" hosts, ")[2].partition("PLAY RECAP")[0]
    assert len(text.splitlines()) <= 100
