# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories as a container has them: links, mounts, permissions, and names that are misspelt."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _watched_directory
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inside import resolve
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher_container import Container, below

ID = "a" * 64


def test_links_are_followed_below_the_root(tmp_path):
    root = str(tmp_path)
    os.makedirs(root + "/data/library")
    os.symlink("/data", root + "/absolute")
    os.symlink("../data/library", root + "/data/relative")
    os.symlink("../../../../../etc", root + "/above")
    os.symlink("loop", root + "/loop")
    assert resolve(root, "/absolute/library") == root + "/data/library"
    assert resolve(root, "/absolute/relative/./x") == root + "/data/library/x"
    assert resolve(root, "/above/passwd") == root + "/etc/passwd"
    assert resolve(root, "/missing/..") == resolve(root, "/") == root
    with pytest.raises(OSError, match="symbolic links"):
        resolve(root, "/loop")
    assert resolve("", root + "/data/relative") == root + "/data/library"


@pytest.fixture
def container(tmp_path):
    """Return a function that makes a container of these files of the engine."""

    def make(mounts=(), user="", environment=(), **host):
        folder = tmp_path / "containers" / ID
        folder.mkdir(parents=True)
        points = {
            target: {"Source": source, "Destination": target, "Type": "bind", "Driver": "", "Name": ""}
            for source, target in mounts
        }
        points["/state"] = {"Source": "", "Destination": "/state", "Type": "volume", "Driver": "local", "Name": "s"}
        data = {"ID": ID, "MountPoints": points, "Config": {"User": user, "Env": list(environment)}, "LogPath": "/l"}
        (folder / "config.v2.json").write_text(json.dumps(data))
        (folder / "hostconfig.json").write_text(json.dumps(host))
        return Container(Engine(str(tmp_path)), ID)

    return make


def test_paths_of_host_and_container(container, tmp_path):
    os.makedirs(tmp_path / "srv/music")
    source = str(tmp_path / "srv/music")
    found = container([(source, "/music"), ("/elsewhere", "/music/extra")])
    assert found.to_host("/music/new").source == source + "/new"
    assert found.to_host("/music/extra/x").source == "/elsewhere/x"
    assert found.to_host("/state").source == str(tmp_path / "volumes/s/_data")
    assert found.to_host("/musical") is None
    assert found.to_container(source + "/new").destination == "/music/new"
    assert found.to_container(source).destination == "/music"
    assert found.to_container(str(tmp_path / "srv")) is None
    assert found.base(source + "/new") == source
    assert (below("/a/b", "/a"), below("/a", "/a"), below("/ab", "/a"), below("/a", "/")) == ("/b", "", None, "/a")


def test_settings_and_limits_of_a_container(container):
    found = container(
        environment=["DATA_DIR=/data", "EMPTY=", "RELATIVE=x"],
        Ulimits=[{"Name": "nofile", "Soft": 64, "Hard": 128}],
        CapDrop=["CAP_DAC_OVERRIDE"],
        user="1000:1000",
        GroupAdd=["7"],
    )
    assert found.setting(["EMPTY", "DATA_DIR"]) == "/data"
    assert found.setting(["RELATIVE", "DATA_DIR"]) is found.setting(["UNSET"]) is None
    assert (found.open_files(), found.overrides_modes(), found.log) == (64, False, "/l")
    assert (found.user().uid, found.user().gids) == (1000, {1000, 7})


def test_without_a_container_nothing_is_known(tmp_path):
    found = Container(Engine(str(tmp_path)), None)
    assert (found.known, found.mounts, found.user(), found.open_files(), found.log) == (False, [], None, None, None)


def test_the_users_of_a_remapping_engine_are_not_known(tmp_path):
    folder = tmp_path / "1000.1000/containers" / ID
    folder.mkdir(parents=True)
    (folder / "config.v2.json").write_text(json.dumps({"Config": {"User": "5:5"}}))
    assert Container(Engine(str(tmp_path / "1000.1000")), ID).user() is None


def test_a_directory_is_readable_through_its_parents(tmp_path):
    tmp_path.chmod(0o700)
    library = tmp_path / "library"
    (library / "incoming").mkdir(parents=True)
    other = library.stat().st_gid

    def denied(path, groups):
        return _watched_directory.access(61234, groups, str(library), path).denied

    # The directories above the mount do not count.
    assert denied("/incoming", {61234}) is None
    library.chmod(0o750)
    assert denied("/incoming", {61234}) == "/"
    assert denied("/incoming", {other}) is None
    (library / "incoming").chmod(0o711)
    assert denied("/incoming", {other}) == "/incoming"
    library.chmod(0o711)
    assert denied("", set()) == "/"


@pytest.mark.parametrize(
    ("name", "other", "misspelt"),
    [
        ("musci", "music", True),
        ("librarx", "library", True),
        ("music", "Music", True),
        # A series, or other words.
        ("disk1", "disk2", False),
        ("in", "out", False),
        ("input", "output", False),
        ("music", "movies", False),
    ],
)
def test_names_that_are_misspelt(tmp_path, name, other, misspelt):
    (tmp_path / name).mkdir()
    (tmp_path / other / "x").mkdir(parents=True)
    found = _watched_directory.similar(str(tmp_path / name))
    assert found == (str(tmp_path / other) if misspelt else None)
    (tmp_path / other / "x").rmdir()
    assert _watched_directory.similar(str(tmp_path / name)) is None
