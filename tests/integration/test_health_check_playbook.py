# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""health_check.yml: a line for each failure and each area that is ok, and the exit status."""

from __future__ import annotations

import re
import time

import pytest

from tests.integration import http_servers as servers
from tests.integration.http_servers import page, serving
from tests.integration.playbooks import LOCAL, ROOT, inventory, run_playbook

LINE = re.compile(r"^(OK|WARNING|CRITICAL|UNKNOWN) +(\S+) +(\w+) +(.+)$", re.MULTILINE)
AREAS = {path.parents[1].name for path in (ROOT / "roles").glob("*/diagnosis/checks.yml")}

# The areas that look at the stack alone.
SERVICES = ("cache", "database", "message_queue", "service_health")


def lines(run):
    """Return ``(status, host, area, text)`` of every line."""
    return LINE.findall(run.output)


def test_a_healthy_stack_is_a_line_for_each_area(lab, tmp_path):
    # The services answer late on a machine that is busy with other tests.
    patient = {"service_health_slow_warning": 30, "service_health_slow_critical": 60}
    started = time.monotonic()
    run = run_playbook("health_check", lab.inventory, tmp_path, extra=patient)
    took = time.monotonic() - started
    statuses = {area: status for status, _host, area, _text in lines(run)}
    assert set(statuses) == AREAS, run.output
    # Other areas may have findings because of other load on the machine.
    assert {statuses[area] for area in SERVICES} == {"OK"}, run.output
    assert run.code == (2 if "CRITICAL" in statuses.values() else 0)
    # A few seconds, on a machine that is busy with other tests.
    assert took < 30


def test_a_broken_stack_shows_all_failures_and_fails(lab, tmp_path):
    with lab.fault("api-paused"), lab.fault("memory-full"):
        run = run_playbook("health_check", lab.inventory, tmp_path, extra={"service_health_timeout": 1})
    assert run.code == 2, run.output
    critical = [text for status, _host, _area, text in lines(run) if status == "CRITICAL"]
    for expected in (
        "not_answering [tracklist_service]",
        "not_answering [track matching]",
        "memory_used",
    ):
        assert any(text.startswith(expected) for text in critical), run.output
    # Areas that are ok are shown too, and so are all failures.
    assert ("OK", "database") in {(status, area) for status, _host, area, _text in lines(run)}
    loud = [finding for finding in run.report["findings"] if finding["status"] in ("warning", "critical")]
    assert len(loud) == len([row for row in lines(run) if row[0] in ("WARNING", "CRITICAL")])


@pytest.fixture
def check(tmp_path):
    """A function that checks one endpoint of the test."""

    def run(url, *arguments, hosts=("here",), **variables):
        endpoints = [{"name": "api", "url": url}]
        path = inventory(
            tmp_path / "hosts.yml",
            dict.fromkeys(hosts, LOCAL),
            tracktion_areas=["service_health"],
            service_health_endpoints=endpoints,
            **variables,
        )
        return run_playbook("health_check", path, tmp_path / "reports", *arguments)

    return run


def test_a_warning_fails_only_if_configured(check):
    with serving({"/": page(404)}) as served:
        run = check(served.url())
        assert (run.code, [row[0] for row in lines(run)]) == (0, ["WARNING"])
        # The inventory and the command line take precedence over the playbook's defaults.
        assert check(served.url(), tracktion_fail_at="warning").code == 2
        assert check(served.url(), "-e", "tracktion_fail_at=never", tracktion_fail_at="warning").code == 0


def test_an_area_that_could_not_be_evaluated_fails(check):
    run = check("127.0.0.1/health")
    assert (run.code, [row[0] for row in lines(run)]) == (2, ["UNKNOWN"]), run.output
    assert "url: must begin with http:// or https://" in run.output
    assert "No check could be evaluated of here: service_health." in run.output
    assert check("127.0.0.1/health", tracktion_fail_at="never").code == 0
    run = check("", "-e", '{"service_health_endpoints": []}')
    assert (run.code, [row[0] for row in lines(run)]) == (2, ["CRITICAL"]), run.output


def test_each_host_has_its_lines_also_one_that_cannot_be_reached(check, tmp_path):
    with serving({"/": page()}) as served:
        path = inventory(
            tmp_path / "hosts.yml",
            {"well": LOCAL, "dead": {"ansible_host": "127.0.0.1", "ansible_port": 1}},
            tracktion_areas=["service_health"],
            service_health_endpoints=[{"name": "api", "url": served.url()}],
        )
        run = run_playbook("health_check", path, tmp_path / "reports")
    assert run.code == 2
    assert [row[:3] for row in lines(run)] == [("CRITICAL", "dead", "host"), ("OK", "well", "service_health")]


def test_a_check_that_matches_no_host_fails(check):
    url = "http://127.0.0.1:%d/" % servers.free_port()
    for run in (
        check(url, hosts=()),
        check(url, "-e", "tracktion_hosts=nosuch"),
        check(url, "--limit", "nosuch"),
    ):
        assert run.code != 0
        assert lines(run) == []
