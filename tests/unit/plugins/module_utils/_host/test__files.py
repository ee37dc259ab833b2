# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is examined on nearly full file systems, and log files of containers."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_logs
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._host import _files, _log_files
from ansible_collections.tracktion.ops.plugins.module_utils._host._places import View
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown

IDENTITY = "a" * 64


def entry(**changes):
    return {"hung": False, "read_only": False, "used_ratio": 0.5, "inodes_ratio": None, **changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"used_ratio": 0.9}, True),
        ({"inodes_ratio": 0.95}, True),
        ({"used_ratio": 1.0, "read_only": True}, False),
        ({"used_ratio": None, "hung": True}, False),
    ],
)
def test_nearly_full(changes, expected):
    assert _files.is_near(entry(**changes), 0.85) is expected


def test_a_directory_behind_links(tmp_path):
    """Links are resolved without a look at file systems that may hang."""
    (tmp_path / "real" / "inner").mkdir(parents=True)
    os.symlink("real/../real", tmp_path / "link")
    os.symlink(tmp_path / "share" / "docker", tmp_path / "remote")
    os.symlink("loop", tmp_path / "loop")
    table = [_mounts.Mount(1, "/", "ext4", "/dev/vda"), _mounts.Mount(2, str(tmp_path / "share"), "nfs4", "nas:/")]
    view = View(table, [], {})
    assert _files.resolved(str(tmp_path / "link" / "inner"), view) == str(tmp_path / "real" / "inner")
    assert _files.resolved("/", view) == "/"
    for name in ("remote", "share/x", "missing", "loop"):
        assert _files.resolved(str(tmp_path / name), view) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"Type": "json-file", "Config": {}}, True),
        ({"Type": "json-file", "Config": None}, True),
        ({"Type": "json-file", "Config": {"max-file": "3"}}, True),
        ({"Type": "json-file", "Config": {"max-size": "10m"}}, False),
        ({"Type": "local", "Config": {}}, False),
        ({"Type": "journald"}, False),
        (None, False),
    ],
)
def test_a_log_without_a_maximum_size(settings, expected):
    assert _container_logs.is_unbounded({"LogConfig": settings}) is expected


def test_log_files_of_an_engine(tmp_path):
    folder = tmp_path / "containers" / IDENTITY
    folder.mkdir(parents=True)
    (tmp_path / "containers" / "other").mkdir()
    (folder / "hostconfig.json").write_text(json.dumps({"LogConfig": {"Type": "json-file", "Config": {}}}))
    log = folder / (IDENTITY + "-json.log")
    log.write_bytes(b"x" * 100000)
    unknown = Unknown()
    (found,) = _log_files.find(Engine(str(tmp_path)), Deadline(10), unknown)
    assert found == (IDENTITY, str(log), log.stat().st_blocks * 512)
    assert unknown.parts == []


def test_a_host_without_an_engine_has_no_logs(tmp_path):
    unknown = Unknown()
    assert _log_files.find(Engine(str(tmp_path / "missing")), Deadline(10), unknown) == []
    assert unknown.parts == []
