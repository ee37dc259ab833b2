# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exit codes, ports, modes and sizes."""

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _container_facts,
    _container_users,
    _docker_disk,
    _mounted_paths,
)
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners


@pytest.mark.parametrize(
    ("code", "oom_killed", "expected"),
    [
        (0, False, "no error"),
        (1, False, "see its log"),
        (126, False, "cannot be executed"),
        (127, False, "not found in the image"),
        (
            137,
            False,
            "SIGKILL: killed: by a stop that took too long, by a user, or by the kernel when memory ran out",
        ),
        (137, True, "killed by the kernel: out of memory"),
        (143, True, "stopped on request; before, the kernel had killed one of its processes"),
        (139, False, "SIGSEGV: crashed on a bad memory access"),
        (143, False, "SIGTERM: stopped on request"),
        (158, False, "SIGPWR: ended by a signal"),
        (42, False, "an exit code of the program"),
        (255, False, "an exit code of the program"),
    ],
)
def test_an_exit_code_is_explained(code, oom_killed, expected):
    assert expected in _container_facts.explain(code, oom_killed)


def test_no_exit_code_has_no_meaning():
    assert _container_facts.explain(None) is None


@pytest.mark.parametrize(
    ("state", "restarts", "ago", "expected"),
    [
        ("running", 3, None, "running"),
        ("exited", 3, 1, "exited"),
        ("configured", 0, None, "created"),
        ("initialized", 0, None, "created"),
        ("stopped", 0, 1, "exited"),
        ("stopped", 3, 1, "restarting"),
        ("stopped", 3, 3600, "exited"),
        ("stopped", 3, None, "exited"),
    ],
)
def test_podman_states_have_docker_names(state, restarts, ago, expected):
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    ended = "0001-01-01T00:00:00Z" if ago is None else time.strftime(stamp, time.gmtime(time.time() - ago))
    data = {"State": {"Status": state, "FinishedAt": ended}, "RestartCount": restarts}
    assert _container_facts.status(data) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, None),
        ({"Health": None}, None),
        ({"Health": {"Status": "none"}}, None),
        ({"Health": {"Status": ""}}, None),
        ({"Health": {"Status": "starting"}}, "starting"),
    ],
)
def test_health_is_null_without_a_health_check(state, expected):
    assert _container_facts.health(state) == expected


def test_ports_of_an_inspection():
    bindings = {
        "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "80"}, {"HostIp": "", "HostPort": "81"}],
        "53/udp": [{"HostIp": "::", "HostPort": "53"}],
        "9000/tcp": None,
        "9001/tcp": [{"HostIp": "", "HostPort": ""}, {"HostIp": "", "HostPort": "0"}],
    }
    assert [(port["address"], port["port"], port["protocol"]) for port in _container_facts.published(bindings)] == [
        ("::", 53, "udp"),
        ("127.0.0.1", 80, "tcp"),
        (_listeners.ANY_IPV4, 81, "tcp"),
    ]
    assert _container_facts.published(None) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        (_listeners.ANY_IPV4, "127.0.0.1", True),
        ("127.0.0.1", "::", True),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_addresses_overlap(one, other, expected):
    assert _listeners.overlap(one, other) is expected


@pytest.mark.parametrize(
    ("mode", "uid", "gids", "expected"),
    [
        (0o40755, 1, set(), True),
        (0o40700, 1, set(), False),
        (0o40700, 1000, set(), True),
        (0o40070, 1000, {100}, False),
        (0o40750, 1, {100}, True),
        (0o40744, 1, set(), False),
        (0o100744, 1, set(), True),
        (0o100600, 1, {100}, False),
    ],
)
def test_permission_by_mode(mode, uid, gids, expected):
    status = os.stat_result((mode, 0, 0, 1, 1000, 100, 0, 0, 0, 0))
    wanted = _mounted_paths.needed(status)
    assert _mounted_paths.may_by_mode(uid, gids, status, wanted) is expected


def access_list(*entries):
    return b"\x02\0\0\0" + b"".join(_mounted_paths.ENTRY.pack(*entry) for entry in entries)


@pytest.mark.parametrize(
    ("uid", "gids", "expected"),
    [(1000, set(), False), (1, set(), True), (2, set(), False), (3, {200}, True), (3, {100}, False), (4, set(), False)],
)
def test_permission_by_access_control_list(uid, gids, expected):
    """The owner is denied, user 2 is limited by the mask, the owning group 100 is denied, group 200 is allowed."""
    rules = access_list(
        (0x01, 2, 0), (0x02, 5, 1), (0x02, 2, 2), (0x04, 0, 0), (0x08, 7, 200), (0x10, 5, 0), (0x20, 0, 0)
    )
    status = os.stat_result((0o40750, 0, 0, 1, 1000, 100, 0, 0, 0, 0))
    assert _mounted_paths.may_by_list(uid, gids, status, rules, 5) is expected


@pytest.mark.parametrize(
    ("user", "added", "expected"),
    [
        ("", [], (0, {0})),
        ("1000", [], (1000, {100, 7})),
        # Without an entry, the group is that of root.
        ("1234", [], (1234, {0})),
        ("1000:5", [], (1000, {5})),
        ("app", [], (1000, {100, 7})),
        ("app:media", ["5"], (1000, {7, 5})),
        ("app", ["media", "6"], (1000, {100, 7, 6})),
        ("nobody", [], None),
        ("app:nogroup", [], None),
    ],
)
def test_users_are_resolved_in_the_layers_of_the_image(tmp_path, user, added, expected):
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    (upper / "etc").mkdir(parents=True)
    (lower / "etc").mkdir(parents=True)
    (lower / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:100::/:/bin/sh\n")
    (lower / "etc" / "group").write_text("root:x:0:\nusers:x:100:\nmedia:x:7:other,app\n")
    data = {
        "Config": {"User": user},
        "HostConfig": {"GroupAdd": added},
        "GraphDriver": {"Data": {"UpperDir": str(upper), "LowerDir": str(lower)}},
    }
    found = _container_users.user_of(data)
    assert found == (expected and (expected[0], frozenset(expected[1])))
    # A link would lead to the files of the host.
    (lower / "etc" / "passwd").rename(tmp_path / "passwd")
    (lower / "etc" / "passwd").symlink_to(tmp_path / "passwd")
    if user.startswith("app"):
        assert _container_users.user_of(data) is None


def test_disk_use_is_summed():
    image = {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Size": 100, "SharedSize": 30}
    found = _docker_disk.summary(
        {
            "LayersSize": 500,
            "Images": [
                dict(image, Containers=0),
                dict(image, Containers=1),
                # As Podman returns it.
                dict(image, Containers=0, RepoTags=["<none>"], RepoDigests=None, Size=1, SharedSize=0),
                dict(image, Containers=0, RepoTags=["a:1"], SharedSize=-1),
            ],
            "Containers": [
                {"State": "running", "SizeRw": 5},
                {"State": "exited", "SizeRw": 7},
                {"State": "stopped"},
                {"State": "created"},
            ],
            "Volumes": [
                {"Name": "remote", "UsageData": {"RefCount": 0, "Size": -1}},
                {"Name": "idle", "UsageData": {"RefCount": 0, "Size": 11}},
                {"Name": "used", "UsageData": {"RefCount": 1, "Size": 13}},
                {"Name": "untold"},
            ],
            "BuildCache": [{"ID": "free", "Size": 17}, {"ID": "held", "InUse": True, "Size": 19}],
        },
        top_volumes=5,
    )
    assert [(one["name"], one["bytes"]) for one in found.pop("largest_unused_volumes")] == [
        ("idle", 11),
        ("remote", None),
    ]
    assert found == {
        "layers_bytes": 500,
        "images": 4,
        "unused_images": 3,
        "unused_images_bytes": 171,
        "dangling_images": 2,
        "dangling_images_bytes": 71,
        "build_cache_bytes": 17,
        "stopped_containers": 3,
        "stopped_containers_bytes": 7,
        "volumes": 4,
        "unused_volumes": 2,
        "unused_volumes_bytes": 11,
        "reclaimable_bytes": 88,
    }
