# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containers mount: empty or mistyped paths, directories in place of files, and users without permission."""

from __future__ import annotations

import os
import secrets

import pytest

from tests.integration.containers import look, own_project, sound
from tests.lab.engine import docker
from tests.lab.faults.containers import HEALTHY, SOUND
from tests.lab.shell import attempt, wait_until
from tests.lab.throwaway import inspect


@pytest.fixture
def app(tmp_path):
    """A separate project."""
    with own_project(tmp_path) as found:
        yield found


def volume(path, target, mode="rw"):
    return (*SOUND, *HEALTHY, "--volume", "%s:%s:%s" % (path, target, mode))


def test_mounts_that_are_not_what_the_container_expects(app, tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    (library / "a.flac").write_text("")
    for name in ("empty", "uploads"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "uploads", (0, 0))
    (tmp_path / "own.conf").write_text("x")
    app.run("good", options=volume(library, "/music", "ro"))
    app.run("config", options=volume(tmp_path / "own.conf", "/etc/own.conf"))
    assert look(app) == {}
    mistyped = app.run("mistyped", options=volume(tmp_path / "musik", "/music"))
    empty = app.run("empty", options=volume(tmp_path / "empty", "/music", "ro"))
    missing = app.run("missing", options=volume(tmp_path / "lost.conf", "/etc/lost.conf"))
    found = look(app)
    assert set(found) == {"containers.path_empty", "containers.path_not_a_file"}
    by_path = {each["object"]: each for each in sound(found["containers.path_empty"])}
    assert set(by_path) == {str(tmp_path / "musik"), str(tmp_path / "empty")}
    assert by_path[str(tmp_path / "empty")]["status"] == "warning"
    assert empty in by_path[str(tmp_path / "empty")]["summary"]
    assert mistyped in by_path[str(tmp_path / "musik")]["summary"]
    assert "the engine created it" in by_path[str(tmp_path / "musik")]["summary"]
    (finding,) = sound(found["containers.path_not_a_file"])
    assert missing in finding["summary"]
    assert "/etc/lost.conf" in finding["summary"]


def test_users_by_name_and_in_a_crash_loop_are_checked(app, tmp_path):
    private, shared = tmp_path / "private", tmp_path / "shared"
    for path, mode in ((private, 0o700), (shared, 0o755)):
        path.mkdir()
        (path / "file").write_text("")
        path.chmod(mode)
    reader = app.run("reader", options=(*volume(private, "/data", "ro"), "--user", "nobody"))
    writer = app.run("writer", options=(*volume(shared, "/data"), "--user", "www-data"))
    loop = app.run("loop", "sh", "-c", "touch /data/new", options=(*volume(shared, "/data"), "--user", "daemon"))
    # A group of the user, by name.
    app.run("member", options=(*volume(private, "/data", "ro"), "--user", "nobody", "--group-add", "root"))
    private.chmod(0o750)
    wait_until(lambda: inspect(loop)["RestartCount"] >= 4, "restarts", 30)
    found = look(app)
    (denied,) = sound(found["containers.path_denied"])
    assert "%s runs as 65534" % reader in denied["summary"]
    assert "-member-" not in denied["summary"]
    (finding,) = sound(found["containers.path_not_writable"])
    assert finding["status"] == "warning"
    assert "%s runs as 33" % writer in finding["summary"]
    assert "%s runs as 1" % loop in finding["summary"]
    (crash,) = sound(found["containers.crash_loop"])
    assert "Permission denied" in crash["summary"]
    docker("rm", "--force", loop)
    (finding,) = sound(look(app)["containers.path_not_writable"])
    assert finding["status"] == "info"
    # The command of the hint helps.
    shared.chmod(0o777)
    assert "containers.path_not_writable" not in look(app)


def test_a_volume_that_the_user_cannot_write_to(app):
    name = "tracktion-lab-%s" % secrets.token_hex(4)
    docker("volume", "create", name)
    try:
        app.run("web", options=(*volume(name, "/data"), "--user", "www-data"))
        (finding,) = sound(look(app)["containers.path_not_writable"])
        assert finding["object"].endswith("/%s/_data" % name)
    finally:
        app.remove()
        attempt("docker", "volume", "rm", name)
