# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from functools import partial

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker, _stack_order, _stack_service
from ansible_collections.tracktion.ops.plugins.module_utils._docker._stack_order import Member, Need, Request

COMPOSE = "com.docker.compose."


def inspected(service, depends_on="", number=1, labels=None, **more):
    """Return what the engine says of a container, as far as it is read."""
    own = {COMPOSE + "service": service, COMPOSE + "depends_on": depends_on, **(labels or {})}
    state = {"Status": "running", "Running": True, "StartedAt": "2026-11-29T12:00:00Z", **more.pop("state", {})}
    return {
        "Id": "%s%d" % (service, number) * 4, "Name": "/%s-%d" % (service, number), "State": state, "HostConfig": {},
        "Config": {"Labels": own}, **more,
    }  # fmt: skip


def graph(**dependencies):
    """Return a graph of words such as ``db:service_healthy``."""
    found = {}
    for name, text in dependencies.items():
        needs = [(*word.split(":"), "service_started")[:2] for word in text.split()]
        found[name] = {other: Need(other, condition, False) for other, condition in needs}
    return found


def member(service, status="running", health=None, kept=None):
    return Member(service + "-id", service + "-1", service, status, health, 0, kept)


def request(state="restarted", wanted=("db", "api", "web"), named=(), owed=(), lost=None):
    return Request(state, set(wanted), set(named), set(owed), lost or {})


def actions(choices):
    return {choice.member.service: (choice.stop, choice.start) for choice in choices}


def test_the_label_of_compose_is_read():
    text = "postgres:service_healthy:false,redis:service_started:true,old, :x"
    assert _docker.needs({COMPOSE + "depends_on": text}) == [
        Need("postgres", "service_healthy", False),
        Need("redis", "service_started", True),
        Need("old", "service_started", False),
    ]
    assert _docker.needs(None) == _docker.needs({}) == []


def test_the_graph_has_labels_and_shared_networks():
    front = inspected("front")
    side = inspected("side", "db:service_healthy:false", HostConfig={"NetworkMode": "container:" + front["Id"]})
    job = inspected("job", "front:service_started:false", labels={COMPOSE + "oneoff": "True"})
    assert _stack_order.graph([front, side, job]) == {
        "front": {},
        "side": {"db": Need("db", "service_healthy", False), "front": Need("front", "service_started", True)},
    }


def test_one_off_protected_denied_and_own_containers_are_never_changed():
    containers = [
        inspected("a", labels={COMPOSE + "oneoff": "True"}), inspected("b", labels={"tracktion.ops.protected": "true"}),
        inspected("c"), inspected("d"), inspected("e"), inspected("f", number=2),
    ]  # fmt: skip
    found = _stack_order.members(containers, ["c", "f-2"], containers[3]["Id"])
    assert [(each.service, each.kept) for each in found] == [
        ("b", "is protected by its label"), ("c", "is in the deny list"), ("d", "runs this restart"), ("e", None),
        ("f", "is in the deny list"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dependencies", "expected"),
    [
        (graph(a="b", b="c", c=""), []),
        (graph(a="b", b="c", c="a"), ["a", "b", "c", "a"]),
        (graph(a="a"), ["a", "a"]),
        (graph(x="a", a="b", b="a"), ["a", "b", "a"]),
        (graph(a="elsewhere"), []),
    ],
)
def test_a_circle_is_found(dependencies, expected):
    assert _stack_order.cycle(dependencies) == expected


def test_dependents_are_selected_on_request():
    dependencies = graph(web="api", api="db", db="", cron="db")
    select = partial(_stack_order.selected, dependencies)
    assert select([], "none", "restarted") == {"web", "api", "db", "cron"}
    assert select(["db"], "none", "restarted") == {"db"}
    assert select(["db"], "also", "restarted") == {"web", "api", "db", "cron"}
    assert select(["db"], "only", "stopped") == {"web", "api", "cron"}
    dependencies["api"]["db"] = Need("db", "service_healthy", True)
    assert select(["db"], "none", "restarted") == {"db", "api"}
    assert select(["db"], "none", "stopped") == {"db"}


STACK = graph(web="api", api="db:service_healthy", db="")


def test_what_runs_is_restarted_in_order_and_what_was_stopped_stays_so():
    found = _stack_order.choices([member("web"), member("api"), member("db", health="healthy")], STACK, request())
    assert [choice.member.service for choice in found] == ["db", "api", "web"]
    assert set(actions(found).values()) == {(True, True)}
    stopped = _stack_order.choices([member("web"), member("db", "exited")], STACK, request())
    assert actions(stopped) == {"db": (False, False), "web": (True, True)}
    assert stopped[0].reason == "is stopped (exit code 0), and is started only if it is named"
    assert not stopped[0].problem


def test_a_stopped_service_is_started_if_it_is_named_or_owed():
    containers = [member("db", "exited")]
    assert actions(_stack_order.choices(containers, STACK, request(named=["db"]))) == {"db": (False, True)}
    assert actions(_stack_order.choices(containers, STACK, request(wanted=(), owed=["db-id"]))) == {"db": (False, True)}
    assert _stack_order.choices(containers, STACK, request(wanted=())) == []


@pytest.mark.parametrize(
    ("database", "wanted", "reason"),
    [
        (member("db", "exited"), ("api",), "depends on db, which is exited and is not restarted here"),
        (member("db", health="unhealthy"), ("api",), "depends on db, which is unhealthy and is not restarted here"),
        (member("db", health="starting"), ("api",), "depends on db, which is starting and is not restarted here"),
        (member("db", health="healthy"), ("api",), None),
        (member("db"), ("api",), None),
        (member("db", health="unhealthy"), ("api", "db"), None),
        (member("db", health="unhealthy", kept="is protected"), ("api", "db"),
         "depends on db, which is unhealthy and is not restarted here"),
    ],
)  # fmt: skip
def test_a_service_that_could_not_start_again_is_not_stopped(database, wanted, reason):
    found = {
        choice.member.service: choice
        for choice in _stack_order.choices([member("api"), database], STACK, request(wanted=wanted))
    }
    assert (found["api"].reason, found["api"].problem, found["api"].stop) == (reason, bool(reason), not reason)


def test_a_dependency_outside_of_the_project_is_no_obstacle():
    assert actions(_stack_order.choices([member("api")], STACK, request())) == {"api": (True, True)}


@pytest.mark.parametrize(
    ("status", "named", "problem"),
    [("paused", False, False), ("paused", True, True), ("dead", False, True), ("removing", False, True)],
)
def test_a_paused_or_dead_container_stays_as_it_is(status, named, problem):
    (choice,) = _stack_order.choices([member("db", status)], STACK, request(named=["db"] if named else []))
    assert (choice.stop, choice.start, choice.reason, choice.problem) == (False, False, "is " + status, problem)


def test_a_container_whose_path_is_gone_is_not_stopped():
    (choice,) = _stack_order.choices([member("db")], STACK, request(lost={"db-id": "/data does not exist"}))
    assert (choice.stop, choice.reason) == (False, "could not be started again: /data does not exist")


def test_half_a_restart():
    containers = [member("web"), member("api", "exited")]
    stopped = _stack_order.choices(containers, STACK, request("stopped"))
    assert actions(stopped) == {"web": (True, False), "api": (False, False)}
    started = _stack_order.choices(containers, STACK, request("started", named=["web", "api"]))
    assert actions(started) == {"web": (False, False), "api": (False, True)}


NOTE = {
    "id": "x",
    "name": "x-1",
    "project": "p",
    "service": "x",
    "asked": 1795960800.0,
    "grace": 10.0,
    "finished": None,
}


@pytest.mark.parametrize(
    ("finished", "noted", "is_running", "expected"),
    [
        ("2026-11-29T14:00:05.5Z", 1795960805.5, False, True),
        ("2026-11-29T14:00:07Z", 1795960805.5, False, False),
        ("2026-11-29T14:00:05Z", None, False, True),
        ("2026-11-29T13:59:50Z", None, False, False),
        ("2026-11-29T14:10:00Z", None, False, False),
        ("2026-11-29T14:00:05.5Z", 1795960805.5, True, False),
        ("0001-01-01T00:00:00Z", None, False, False),
    ],
)
def test_a_container_is_owed_only_if_the_interrupted_run_stopped_it(finished, noted, is_running, expected):
    data = {"State": {"FinishedAt": finished, "Running": is_running}}
    assert _stack_service.is_owed({**NOTE, "finished": noted}, data) is expected


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "Restarts all services (project shop)"),
        ({"services": ["db"], "dependents": "also"}, "Restarts db, and what depends on it (project shop)"),
        ({"state": "started"}, "Starts what an interrupted run has stopped (project shop)"),
        ({"state": "stopped", "services": ["db"], "dependents": "only"}, "Stops what depends on db (project shop)"),
    ],
)
def test_what_a_run_does_in_words(options, text):
    assert _stack_order.does(options, "shop") == text
