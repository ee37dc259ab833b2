# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The largest files and directories below a directory."""

from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _largest


def write(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def walk(root, **how):
    return _largest.walk(str(root), how.get("beside", ()), how.get("seconds", 30.0), how.get("top", 5))


def test_a_tree(tmp_path):
    write(tmp_path / "small" / "one", 4096)
    write(tmp_path / "a" / "b" / "c" / "large", 1 << 20)
    for number in range(30):
        write(tmp_path / "many" / str(number), 65536)
    found = walk(tmp_path)
    assert found["complete"]
    assert found["files"] == 32
    assert found["largest_files"][0]["path"] == str(tmp_path / "a/b/c/large")
    assert [each["path"] for each in found["directories"]] == [str(tmp_path / "many"), str(tmp_path / "a/b/c")]


def test_the_sum_is_that_of_du(tmp_path):
    for number in range(300):
        write(tmp_path / str(number % 7) / str(number % 11) / str(number), number * 100)
    os.link(tmp_path / "1" / "1" / "1", tmp_path / "linked")
    os.link(tmp_path / "299" if (tmp_path / "299").exists() else tmp_path / "5/2/299", tmp_path / "3" / "linked")
    os.symlink("/usr", tmp_path / "link")
    done = subprocess.run(["du", "-x", "-s", "--block-size=1", tmp_path], capture_output=True, text=True, check=True)
    folders = sum(os.lstat(folder).st_blocks * 512 for folder, _folders, _files in os.walk(tmp_path))
    links = os.lstat(tmp_path / "link").st_blocks * 512
    # A file of a walk is everything but a directory.
    assert walk(tmp_path)["bytes"] + folders == int(done.stdout.split()[0])
    assert links >= 0


def test_hostile_names(tmp_path):
    folder = os.fsencode(tmp_path) + b"/new\nline/\xf6"
    os.makedirs(folder)
    with open(folder + b"/-rf\x1b[31m", "wb") as stream:
        stream.write(b"x" * 100000)
    found = walk(tmp_path)
    assert found["directories"][0]["path"] == "%s/new\nline/\\xf6" % tmp_path
    assert found["largest_files"][0]["path"].endswith("/\\xf6/-rf\x1b[31m")


def test_directories_beside_are_not_entered(tmp_path):
    write(tmp_path / "mounted" / "large", 1 << 20)
    write(tmp_path / "own", 4096)
    found = walk(tmp_path, beside=[str(tmp_path / "mounted")])
    assert found["files"] == 1
    assert found["other_file_systems"] == [str(tmp_path / "mounted")]


def test_what_is_left_out_is_named(tmp_path):
    for number in range(20):
        write(tmp_path / str(number) / "file", 100)
    found = walk(tmp_path, seconds=-1.0)
    assert not found["complete"]
    assert found["left_out"] == [str(tmp_path)]
    assert found["left_out_total"] == 1


def test_a_link_is_no_root(tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    with pytest.raises(NotADirectoryError):
        walk(tmp_path / "link")


def test_the_label_replaces_the_root(tmp_path):
    write(tmp_path / "folder" / "file", 10000)
    found = _largest.walk(str(tmp_path), (), 30.0, 5, "/")
    assert found["root"] == "/"
    assert found["directories"][0]["path"] == "/folder"
    assert found["largest_files"][0]["path"] == "/folder/file"


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ([0, 0, {}], []),
        ([100, 2, {}], [("/r", 100, 2)]),
        # One child explains its parent, three others do not.
        ([100, 4, {"a": [90, 1, {}], "b": [4, 1, {}]}], [("/r/a", 90, 1)]),
        ([100, 9, {"a": [20, 1, {}], "b": [20, 1, {}]}], [("/r", 100, 9)]),
        ([100, 9, {"a": [50, 1, {}], "b": [45, 1, {}]}], [("/r/a", 50, 1), ("/r/b", 45, 1)]),
    ],
)
def test_explain(tree, expected):
    assert _largest.explain("/r", tree) == expected
