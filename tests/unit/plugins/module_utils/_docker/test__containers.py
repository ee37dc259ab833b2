# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers, by cgroups and by the files of the Docker engine."""

from __future__ import annotations

import json

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _containers

ID = "8dfafdbc3a40" + "0" * 52
INNER = "1" * 64
# Podman's own process beside a container.
CONMON = "0::/machine.slice/libpod-conmon-%s.scope\n" % ID


@pytest.mark.parametrize(
    "cgroup",
    [
        "12:pids:/docker/%s\n0::/\n" % ID,
        "0::/system.slice/docker-%s.scope\n" % ID,
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-%s.scope/container\n" % ID,
        "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-%s.scope\n" % ID,
    ],
)
def test_the_container_of_a_cgroup(cgroup):
    assert _containers.id_in(cgroup) == ID


def test_the_innermost_container_counts():
    assert _containers.id_in("0::/docker/%s/docker/%s\n" % (ID, INNER)) == INNER


@pytest.mark.parametrize("cgroup", ["0::/\n", "0::/system.slice/ssh.service\n", "0::/docker/%s\n" % ID[:12], CONMON])
def test_no_container(cgroup):
    assert _containers.id_in(cgroup) is None


def write(root, identity=ID, **changes):
    data = {
        "ID": identity,
        "Name": "/stack-watcher-1",
        "RestartCount": 4,
        "Config": {
            "Env": ["PASSWORD=secret"],
            "Labels": {"com.docker.compose.service": "watcher", "com.docker.compose.project": "stack"},
        },
        "State": {
            "Running": True,
            "ExitCode": 0,
            "StartedAt": "2026-11-23T15:54:14.042184227Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        },
    }
    data.update(changes)
    folder = root / "containers" / identity
    folder.mkdir(parents=True)
    (folder / "config.v2.json").write_text(json.dumps(data))


def test_fields_of_a_container(tmp_path):
    write(tmp_path)
    assert _containers.Engine(str(tmp_path)).container(ID) == {
        "id": ID,
        "name": "stack-watcher-1",
        "service": "watcher",
        "project": "stack",
        "one_off": False,
        "state": "running",
        "exit_code": 0,
        "restarts": 4,
        "started": 1795449254.042,
        "finished": None,
    }


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"Running": True, "Restarting": True}, "restarting"),
        ({"Running": True, "Paused": True}, "paused"),
        ({"Running": False, "ExitCode": 1}, "exited"),
        ({"Dead": True}, "dead"),
        ({"Dead": True, "RemovalInProgress": True}, "removing"),
        ({"Running": False, "StartedAt": "0001-01-01T00:00:00Z"}, "created"),
        ({"Running": False, "StartedAt": "2026-01-01T00:00:00Z"}, "exited"),
    ],
)
def test_the_state_of_a_container(tmp_path, state, expected):
    write(tmp_path, State=state)
    assert _containers.Engine(str(tmp_path)).container(ID)["state"] == expected


def test_a_container_without_a_file_has_only_an_id(tmp_path):
    container = _containers.Engine(str(tmp_path)).container(ID)
    assert container["id"] == ID
    assert container["name"] is None


def test_an_invalid_file_is_ignored(tmp_path):
    write(tmp_path)
    (tmp_path / "containers" / ID / "config.v2.json").write_text("{")
    assert _containers.Engine(str(tmp_path)).of_service("watcher") == []


def test_containers_of_a_service_running_first(tmp_path):
    write(tmp_path, State={"Running": False, "StartedAt": "2026-11-24T00:00:00Z"})
    write(tmp_path, INNER)
    found = _containers.Engine(str(tmp_path)).of_service("watcher")
    assert [container["id"] for container in found] == [INNER, ID]
    assert _containers.Engine(str(tmp_path)).of_service("other") == []


def test_containers_of_compose_run_are_not_the_service(tmp_path):
    labels = {_containers.SERVICE: "watcher", _containers.ONE_OFF: "True"}
    write(tmp_path, Name="/stack-watcher-run-1", Config={"Labels": labels})
    engine = _containers.Engine(str(tmp_path))
    assert engine.of_service("watcher") == []
    assert [container["id"] for container in engine.of_service("stack-watcher-run-1")] == [ID]


def test_no_engine(tmp_path):
    with pytest.raises(FileNotFoundError):
        _containers.Engine(str(tmp_path)).of_service("watcher")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"Id": "0123456789abcdef", "Names": ["/web/store", "/store"]}, "store"),
        ({"Id": "0123456789abcdef", "Names": ["/web"]}, "web"),
        ({"Id": "0123456789abcdef", "Names": None}, "0123456789ab"),
    ],
)
def test_a_container_has_one_name(row, name):
    assert _containers.name_of(row) == name
