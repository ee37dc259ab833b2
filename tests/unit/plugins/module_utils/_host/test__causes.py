# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What fills a file system."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host._causes import causes

GIB = 1 << 30


def walk(directories=(), files=(), container=None):
    return {
        "container": container,
        "directories": [{"path": path, "bytes": size, "files": 1} for path, size in directories],
        "largest_files": [{"path": path, "bytes": size, "modified": 0.0} for path, size in files],
    }


def deleted(path, size):
    return {"path": path, "bytes": size, "container": None, "command": "nginx", "pid": 7}


def log(path, size):
    return {"path": path, "bytes": size, "container": "app", "service": None, "project": None}


def kinds(found):
    return [(each["kind"], each["path"]) for each in found]


def test_the_largest_come_first():
    found = causes(
        10 * GIB, [deleted("/var/x", 3 * GIB)], [log("/d/app.log", 4 * GIB)], [walk([("/home", 2 * GIB)], [])]
    )
    assert kinds(found) == [("container_log", "/d/app.log"), ("deleted", "/var/x"), ("directory", "/home")]


def test_a_file_is_named_instead_of_its_directory():
    found = causes(10 * GIB, [], [], [walk([("/data", 5 * GIB)], [("/data/dump", 4.9 * GIB)])])
    assert kinds(found) == [("file", "/data/dump")]


def test_a_directory_is_named_instead_of_its_many_files():
    files = [("/music/%d" % number, GIB // 10) for number in range(5)]
    assert kinds(causes(10 * GIB, [], [], [walk([("/music", 5 * GIB)], files)])) == [("directory", "/music")]


def test_the_log_of_a_container_is_named_once():
    walked = walk([("/docker/containers/a", 4 * GIB)], [("/docker/containers/a/a.log", 4 * GIB)])
    found = causes(10 * GIB, [], [log("/docker/containers/a/a.log", 4 * GIB)], [walked])
    assert kinds(found) == [("container_log", "/docker/containers/a/a.log")]


def test_what_is_small_is_not_named():
    assert causes(10 * GIB, [deleted("/x", 1000)], [], [walk([("/y", 1000)])]) == []


def test_similar_names_are_no_directories():
    found = causes(10 * GIB, [], [], [walk([("/data", 5 * GIB)], [("/database", 5 * GIB)])])
    assert kinds(found) == [("directory", "/data"), ("file", "/database")]
