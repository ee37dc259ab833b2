# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use of the limits by user, and the limits after a boot."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify, _inotify_use
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._user_namespaces import Charge
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sysctl
from ansible_collections.tracktion.ops.plugins.module_utils._linux._processes import INITIAL_USER_NAMESPACE
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _inotify_limits

GIB = 1 << 30
RUNTIME = {"max_user_watches": 1000, "max_user_instances": 10, "max_queued_events": 100}


def scan(*instances, unreadable=None, complete=True):
    found = _inotify.Scan()
    found.instances = [
        _inotify.Instance(pid, 3, [Charge(INITIAL_USER_NAMESPACE, uid)], watches) for pid, uid, watches in instances
    ]
    found.unreadable = unreadable or {}
    found.complete = complete
    found.seconds = 0.0
    return found


def test_use_is_summed_by_user():
    root, other = _inotify_use.count_users(scan((1, 0, 300), (2, 0, 400), (3, 7, 5)), RUNTIME, {0: "root"})
    assert (root["name"], root["watches"], root["instances"], root["processes"]) == ("root", 700, 2, 2)
    assert (root["watches_ratio"], root["watches_left"], root["instances_left"]) == (0.7, 300, 8)
    assert (other["name"], other["watches"], other["unreadable_processes"]) == ("7", 5, 0)


def test_a_user_with_a_hidden_process_has_lower_bounds_only():
    (user,) = _inotify_use.count_users(scan((1, 0, 300), unreadable={0: [5]}), RUNTIME, {})
    assert user["watches"] is user["watches_ratio"] is user["watches_left"] is user["memory_bytes"] is None
    assert user["instances"] is user["instances_ratio"] is user["instances_left"] is None
    assert (user["watches_at_least"], user["watches_ratio_at_least"], user["watches_left_at_most"]) == (300, 0.3, 700)


def test_users_without_readable_processes_are_one_entry():
    mine, others = _inotify_use.count_users(
        scan((1, 7, 3), unreadable={0: [1, 2], 5: [3]}), RUNTIME, {0: "root", 5: "games"}
    )
    assert mine["watches"] == 3
    assert (others["uid"], others["name"], others["watches"]) == (None, "others (root, games)", None)
    assert others["unreadable_processes"] == 3


def test_an_incomplete_scan_gives_no_numbers():
    users = _inotify_use.count_users(scan((1, 7, 3), complete=False), RUNTIME, {})
    assert [user["watches"] for user in users] == [None, None]


def test_a_limit_of_0_is_used_up():
    assert _inotify_use.ratio(0, 0) == 1.0


def describe(text, name="max_user_instances", runtime=128):
    configuration = _sysctl.Configuration([_inotify_limits.key_of(limit) for limit in _inotify.LIMITS])
    configuration.read("/etc/sysctl.d/a.conf", text)
    return _inotify_limits.describe_limit(name, runtime, None, configuration, GIB)


def test_a_limit_without_a_file_has_the_default_of_the_kernel():
    limit = describe("", runtime=500)
    assert (limit["persisted"], limit["file"], limit["at_boot"]) == (None, None, 128)


def test_a_limit_that_a_file_sets():
    limit = describe("fs.inotify.max_user_instances = 900\nfs.inotify.max_user_instances = 400\n")
    assert (limit["persisted"], limit["line"], limit["highest_persisted"], limit["at_boot"]) == (400, 2, 900, 400)
    assert [setting["value"] for setting in limit["settings"]] == [900, 400]


def test_an_invalid_value_in_the_last_file_is_null():
    limit = describe("fs.inotify.max_user_instances = lots\n")
    assert (limit["persisted"], limit["file"], limit["at_boot"]) == (None, "/etc/sysctl.d/a.conf", None)


def test_the_innermost_unit_of_systemd():
    text = "12:pids:/system.slice/a.service\n0::/user.slice/user-1000.slice/user@1000.service/app.slice/watch.service\n"
    assert _inotify_use.UNIT.findall(text) == ["a.service", "watch.service"]
    assert _inotify_use.UNIT.findall("0::/user.slice/session-2.scope\n") == []


def test_the_first_users_include_the_hidden_ones():
    users = [{"uid": 1}, {"uid": 2}, {"uid": 3}, {"uid": None}]
    assert _inotify_use.first(users, 2) == [{"uid": 1}, {"uid": None}]
    assert _inotify_use.first(users, 4) == users


def test_a_user_near_one_limit_comes_first():
    users = _inotify_use.count_users(scan((1, 0, 500), *((pid, 7, 0) for pid in range(2, 11))), RUNTIME, {})
    assert [user["uid"] for user in users] == [7, 0]


def test_the_setting_that_a_file_lowers():
    text = "fs.inotify.max_user_instances = 900\nfs.inotify.max_user_instances = 400\n"
    limit = describe(text)
    assert limit["lowers"] == {"file": "/etc/sysctl.d/a.conf", "line": 1, "value": 900}
    assert (limit["file_to_correct"], limit["by_pattern"]) == ("/etc/sysctl.d/a.conf", False)
    limit = describe("fs.inotify.* = 400\n")
    assert (limit["lowers"], limit["file_to_correct"], limit["by_pattern"]) == (None, None, True)
    assert limit["file_to_add"] == "/etc/sysctl.d/a_local.conf"
