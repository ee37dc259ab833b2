# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ways, by the containers that they start from, and what becomes of those that cannot be gone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Host
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._network import _network_namespace, _network_paths
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_path import Target


class Engine:
    """An engine's files: a container of project `stack` each, by name, service and state."""

    def __init__(self, *containers):
        self.containers = containers

    def all(self):
        return [
            {"id": name, "name": name, "service": service, "project": project, "state": state, "exit_code": 137}
            for name, service, project, state in self.containers
        ]

    def file(self, identity, name):
        state = next(state for own, _service, _project, state in self.containers if own == identity)
        return {"State": {"Pid": 4711 if state == "running" else 0}} if name == "config.v2.json" else {}


def paths(*containers, wanted=(("web", "db:5432"),), project="", reason=None):
    host = None if reason else Host(Engine(*containers))
    unknown = Unknown()
    engine = SimpleNamespace(host=host, reason=reason, hint=None)
    found = _network_paths.Paths([(service, Target(to)) for service, to in wanted], engine, project, unknown)
    return found, unknown.parts


@pytest.fixture
def mayenter(monkeypatch):
    monkeypatch.setattr(_network_namespace, "look", lambda pid, container: None)


@pytest.mark.usefixtures("mayenter")
def test_every_running_container_of_the_service_goes_the_way():
    found, unknown = paths(
        ("stack-web-1", "web", "stack", "running"),
        ("stack-web-2", "web", "stack", "running"),
        ("stack-web-3", "web", "stack", "exited"),
        ("other-web-1", "web", "other", "running"),
        project="stack",
    )
    assert [entry["container"] for entry in found.entries] == ["stack-web-1", "stack-web-2"]
    assert [name for name, _job in found.jobs(1, Deadline(1))] == ["stack-web-1", "stack-web-2"]
    assert (found.projects, unknown) == ({"stack"}, [])


@pytest.mark.usefixtures("mayenter")
def test_without_a_project_all_that_have_the_service_are_meant():
    found, _unknown = paths(("a-web-1", "web", "a", "running"), ("b-web-1", "web", "b", "exited"))
    assert found.projects == {"a", "b"}


def test_a_way_that_cannot_be_gone_says_why_and_is_not_measured():
    found, unknown = paths(("stack-web-1", "web", "stack", "exited"), wanted=[("web", "db:1"), ("gone", "db:1")])
    assert [entry["measured"] for entry in found.entries] == [False, False]
    assert [(source["service"], source["measured"], source["reason"]) for source in found.sources(Unknown())] == [
        ("web", False, "stack-web-1 does not run (exited, exit code 137)"),
        ("gone", False, "this host has no container of gone"),
    ]
    assert unknown == []


def test_what_may_not_be_entered_is_unknown_and_not_tried(monkeypatch):
    def look(_pid, _container):
        raise _network_namespace.Forbidden("closed", "Measure with become")

    monkeypatch.setattr(_network_namespace, "look", look)
    found, unknown = paths(("stack-web-1", "web", "stack", "running"))
    assert not found.known
    assert list(found.jobs(1, Deadline(1))) == []
    assert unknown == [
        {"part": part, "reason": "closed", "hint": "Measure with become"} for part in ("paths", "sources")
    ]


def test_without_an_engine_nothing_is_known_unless_nothing_was_asked():
    assert paths(reason="no engine")[1] == [{"part": part, "reason": "no engine"} for part in ("paths", "sources")]
    found, unknown = paths(reason="no engine", wanted=())
    assert (found.known, found.entries, unknown) == (True, [], [])


@pytest.mark.usefixtures("mayenter")
def test_what_a_process_brings_home_and_what_it_does_not():
    found, _unknown = paths(("stack-web-1", "web", "stack", "running"), wanted=[("web", "db:1"), ("web", "db:2")])
    found.take("stack-web-1", [{"ok": True}, {"ok": None, "reason": "too late"}], None)
    assert [(entry["measured"], entry["reason"]) for entry in found.entries] == [(True, None), (None, "too late")]
    unknown = Unknown()
    (source,) = found.sources(unknown)
    assert (source["measured"], source["reason"], source["targets"]) == (None, "too late", ["db:1", "db:2"])
    assert unknown.parts == [{"part": "sources.web", "reason": "too late"}]

    found.take("stack-web-1", [{"ok": None, "reason": "it ended", "ended": True}, None], None)
    assert [(entry["measured"], entry["reason"]) for entry in found.entries] == [
        (False, "it ended"),
        (None, "it could not be measured"),
    ]

    found.take("stack-web-1", None, "the process died")
    assert [entry["reason"] for entry in found.entries] == ["the process died"] * 2


@pytest.mark.usefixtures("mayenter")
def test_a_dns_server_that_fails_is_one_trouble():
    ways = [("web", "db:1"), ("web", "cache:1"), ("web", "queue:1")]
    found, _unknown = paths(("stack-web-1", "web", "stack", "running"), wanted=ways)
    kinds = ("nxdomain", "dns_timeout", "dns_timeout")
    found.take("stack-web-1", [{"ok": False, "failure": kind} for kind in kinds], None)
    assert [entry["repeats"] for entry in found.entries] == [False, False, True]
    assert found.entries[1]["also_unresolved"] == ["queue"]
