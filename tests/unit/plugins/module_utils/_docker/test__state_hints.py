# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests for the next step by the state of a container, and for crash loops."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _last_words, _state_hints

COMPOSE = ["--project-name", "app", "--file", "/srv/app/compose.yaml"]
UP = "`docker compose --project-name app --file /srv/app/compose.yaml up -d --no-deps -- api`"


def facts(state, **more):
    return {
        "name": "app-api-1",
        "service": "api",
        "state": state,
        "exit_code": 0,
        "error_message": None,
        "looping": False,
        "starting": False,
        **more,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (facts("created"), "has never run: `docker start app-api-1`"),
        (facts("created", error_message="port is already allocated"), "(port is already allocated), then start it"),
        (facts("exited", exit_code=1), "`docker logs --tail 50 app-api-1`. Then start it: `docker start app-api-1`"),
        (facts("exited", looping=True), "correct that, then start it: `docker start app-api-1`"),
        (facts("restarting", looping=True), "correct that, the engine starts it again by itself"),
        (facts("running", looping=True), "A restart does not help"),
        (facts("restarting"), "The engine starts it again by itself"),
        (facts("paused"), "`docker unpause app-api-1`"),
        (facts("dead"), "`docker rm --force app-api-1`. Then create it again: " + UP),
        (facts("removing"), "`docker rm --force app-api-1`. Then create it again: " + UP),
        (facts("running", starting=True), "Wait until it has started"),
    ],
)
def test_the_hint_of_each_state(given, expected):
    assert expected in _state_hints.hint(given, "docker", COMPOSE)


def test_a_running_container_needs_no_step():
    assert _state_hints.hint(facts("running")) is None


def test_other_engines_and_containers_without_compose():
    assert "`podman unpause app-api-1`" in _state_hints.hint(facts("paused"), "podman")
    assert "compose" not in _state_hints.hint(facts("dead"))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"NanoCpus": 100000000}, "`docker update --cpus 1 app-api-1`) and in the compose file (cpus)"),
        ({"NanoCpus": 1500000000}, "--cpus 3 "),
        # The engine rejects --cpus for a container with a quota.
        ({"CpuQuota": 50000}, "`docker update --cpu-quota 100000 app-api-1`) and in the compose file (cpu_quota)"),
        ({}, "`systemd-cgtop -n 1`"),
    ],
)
def test_how_to_raise_the_limit_of_the_cpu(wanted, expected):
    assert expected in _state_hints.of_cpu("app-api-1", wanted)


@pytest.mark.parametrize(
    ("status", "restarts", "uptime", "recent", "gave_up", "expected"),
    [
        ("exited", 0, None, 0, True, True),
        ("restarting", 3, None, None, False, True),
        # The first restarts are no loop.
        ("restarting", 1, None, 1, False, False),
        ("running", 9, 10.0, 0, False, True),
        ("running", 9, 400.0, 3, False, True),
        ("running", 9, 4000.0, 0, False, False),
        ("exited", 9, None, 9, False, False),
    ],
)
def test_crash_loops(status, restarts, uptime, recent, gave_up, expected):
    given = {"status": status, "restarts": restarts, "uptime_seconds": uptime, "gave_up": gave_up}
    assert _last_words.is_looping(given, recent, 3, 300.0) is expected
