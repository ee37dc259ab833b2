# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths by the containers that they start from, and paths that cannot be tested."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Host
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._network import (
    _network_namespace,
    _network_paths,
    _path_ends,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_path import Target


class Engine:
    """The files of an engine: containers by name, service, project and state."""

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
    engine = SimpleNamespace(host=host, reason=reason, hint=None, networks=[], read_again=lambda: None)
    ends = _path_ends.Ends(engine, 1.0, Deadline(1))
    found = _network_paths.Paths([(service, Target(to)) for service, to in wanted], engine, project, ends, unknown)
    return found, unknown.parts


@pytest.fixture
def accessible(monkeypatch):
    monkeypatch.setattr(_network_namespace, "check_access", lambda pid, container: None)


@pytest.mark.usefixtures("accessible")
def test_a_path_starts_from_each_running_container_of_the_service():
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


@pytest.mark.usefixtures("accessible")
def test_without_a_project_all_projects_with_the_service_are_used():
    found, _unknown = paths(("a-web-1", "web", "a", "running"), ("b-web-1", "web", "b", "exited"))
    assert found.projects == {"a", "b"}


def test_a_path_that_cannot_be_tested_has_a_reason_and_is_not_measured():
    found, unknown = paths(("stack-web-1", "web", "stack", "exited"), wanted=[("web", "db:1"), ("gone", "db:1")])
    assert [entry["measured"] for entry in found.entries] == [False, False]
    assert [(source["service"], source["measured"], source["reason"]) for source in found.sources(Unknown())] == [
        ("web", False, "stack-web-1 does not run (exited, exit code 137)"),
        ("gone", False, "this host has no container of gone"),
    ]
    assert unknown == []


def test_paths_from_a_forbidden_namespace_are_unknown(monkeypatch):
    def check_access(_pid, _container):
        raise _network_namespace.Forbidden("closed", "Measure with become")

    monkeypatch.setattr(_network_namespace, "check_access", check_access)
    found, unknown = paths(("stack-web-1", "web", "stack", "running"))
    assert not found.known
    assert list(found.jobs(1, Deadline(1))) == []
    assert unknown == [
        {"part": part, "reason": "closed", "hint": "Measure with become"} for part in ("paths", "sources")
    ]


def test_without_an_engine_paths_are_unknown_unless_there_are_none():
    assert paths(reason="no engine")[1] == [{"part": part, "reason": "no engine"} for part in ("paths", "sources")]
    found, unknown = paths(reason="no engine", wanted=())
    assert (found.known, found.entries, unknown) == (True, [], [])


@pytest.mark.usefixtures("accessible")
def test_results_and_missing_results_of_a_process():
    found, _unknown = paths(("stack-web-1", "web", "stack", "running"), wanted=[("web", "db:1"), ("web", "db:2")])
    found.add_results("stack-web-1", [{"ok": True}, {"ok": None, "reason": "too late"}], None)
    assert [(entry["measured"], entry["reason"]) for entry in found.entries] == [(True, None), (None, "too late")]
    unknown = Unknown()
    (source,) = found.sources(unknown)
    assert (source["measured"], source["reason"], source["targets"]) == (None, "too late", ["db:1", "db:2"])
    assert unknown.parts == [{"part": "sources.web", "reason": "too late"}]

    found.add_results("stack-web-1", [{"ok": None, "reason": "it ended", "ended": True}, None], None)
    assert [(entry["measured"], entry["reason"]) for entry in found.entries] == [
        (False, "it ended"),
        (None, "it could not be measured"),
    ]

    found.add_results("stack-web-1", None, "the process died")
    assert [entry["reason"] for entry in found.entries] == ["the process died"] * 2


@pytest.mark.usefixtures("accessible")
def test_a_failed_dns_server_is_reported_once():
    wanted = [("web", "db:1"), ("web", "cache:1"), ("web", "queue:1")]
    found, _unknown = paths(("stack-web-1", "web", "stack", "running"), wanted=wanted)
    kinds = ("nxdomain", "dns_timeout", "dns_timeout")
    found.add_results("stack-web-1", [{"ok": False, "failure": kind} for kind in kinds], None)
    assert [entry["repeats"] for entry in found.entries] == [False, False, True]
    assert found.entries[1]["also_unresolved"] == ["queue"]
