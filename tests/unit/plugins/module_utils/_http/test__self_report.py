# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests for what health endpoints report in their bodies."""

from __future__ import annotations

import json

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._http import _self_report

SPRING = {
    "status": "DOWN",
    "components": {
        "db": {"status": "DOWN", "details": {"error": "org.postgresql.util.PSQLException: refused"}},
        "diskSpace": {"status": "UP", "details": {"total": 62725623808, "free": 1024, "exists": True}},
        "ping": {"status": "UP"},
    },
}
DOTNET = {
    "status": "Degraded",
    "results": {"redis": {"status": "Degraded", "description": "slow"}, "sql": {"status": "Healthy"}},
}
DRAFT = {
    "status": "fail",
    "checks": {
        "postgres:connections": [{"status": "fail", "output": "timeout"}],
        "uptime": [{"status": "pass", "observedValue": 12}],
    },
}
NAMED = {
    "healthy": True,
    "dependencies": [{"name": "rabbitmq", "status": "disconnected"}, {"name": "redis", "ok": True}],
}
NESTED = {"status": "ok", "services": {"search": {"status": "error", "checks": {"index": {"status": "red"}}}}}


@pytest.mark.parametrize(
    ("body", "healthy", "reduced", "failing"),
    [
        (SPRING, False, False, ["components.db"]),
        (DOTNET, True, True, ["results.redis"]),
        (DRAFT, False, False, ["checks.postgres:connections"]),
        # The service says that it is healthy, and a dependency is not.
        (NAMED, True, True, ["dependencies.rabbitmq"]),
        # Anything that an unhealthy service has may be the cause.
        ({"status": "down", "worker": {"alive": False}}, False, False, ["worker"]),
        ({"status": "up", "last_scan": {"status": "failed"}}, True, False, []),
        # The innermost state is the cause.
        (NESTED, True, True, ["services.search.checks.index"]),
        ({"status": "healthy"}, True, False, []),
        ({"status": "unhealthy", "service": "x"}, False, False, []),
        ({"healthy": False}, False, False, []),
        ({"status": "starting"}, True, True, []),
        ({"status": "healthy", "checks": {"database": True, "cache": False}}, True, True, ["checks.cache"]),
        ({"database": "disconnected", "redis": "connected"}, False, False, ["database"]),
        ({"status": "OUT_OF_SERVICE"}, False, False, []),
    ],
)
def test_bodies_of_health_endpoints(body, healthy, reduced, failing):
    report = _self_report.read(json.dumps(body))
    assert (report.healthy, report.reduced, [each.path for each in report.failing]) == (healthy, reduced, failing)


@pytest.mark.parametrize(
    ("text", "healthy"), [("Unhealthy", False), ("OK\n", True), ("Healthy", True), ("false", False)]
)
def test_bodies_of_one_word(text, healthy):
    assert _self_report.read(text).healthy is healthy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>down</html>",
        "[]",
        "[" * 100000,
        '{"jobs": {"last": {"status": "failed"}}, "n": 1, "tracks": [{"state": "failed"}]}',
        '{"version": "1.2", "debug": false, "read_only": false, "maintenance": "no", "errors": []}',
    ],
)
def test_other_bodies_report_nothing_about_the_service(text):
    report = _self_report.read(text)
    assert (report.healthy, report.failing) == (None, [])


def test_the_reason_of_a_dependency():
    (failing,) = _self_report.read(json.dumps(DRAFT)).failing
    assert (failing.state, failing.reason) == ("fail", "timeout")


def test_the_report_is_bounded():
    many = {"status": "down", "checks": {"part %d" % number: "down" for number in range(5000)}}
    assert len(_self_report.read(json.dumps(many)).failing) == _self_report.MAX_FAILING


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/health", True),
        ("/api/v1/healthz?full=1", True),
        ("/actuator/health", True),
        ("/health-check/", True),
        ("/match?title=health", False),
        ("/healthy-food", False),
        ("/", False),
    ],
)
def test_paths_of_health_endpoints(path, expected):
    assert _self_report.is_health_path(path) is expected
