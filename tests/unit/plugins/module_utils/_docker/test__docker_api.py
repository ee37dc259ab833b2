# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes to the engine and comes back, as far as it needs no engine that is well."""

from __future__ import annotations

import contextlib
import grp
import http.client
import os
import socket
import threading
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_api
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, Deadline

OK = b"HTTP/1.0 200 OK\r\n\r\n"


@contextlib.contextmanager
def speaking(path, *pieces, pause=0.0):
    """A socket whose owner says ``pieces`` to whoever calls first, and then hangs up."""

    def talk():
        with contextlib.suppress(OSError), listener.accept()[0] as caller:
            caller.recv(65536)
            for piece in pieces:
                caller.sendall(piece)
                time.sleep(pause)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=talk)
        thread.start()
        yield
        thread.join(5)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "docker.sock")


def test_an_answer_is_data(path):
    with speaking(path, OK, b'{"a": ', b"1}"):
        assert _docker_api.DockerApi(path, 2).read("info") == {"a": 1}
    with speaking(path + "2", b"HTTP/1.1 204 No Content\r\n\r\n"):
        assert _docker_api.DockerApi(path + "2", 2).remove("networks", "x") is None


@pytest.mark.parametrize(
    ("timeout", "deadline", "kind"), [(0.4, 9, "timeout"), (0.5, 0.4, "timeout"), (9, 0.4, "deadline")]
)
def test_an_engine_that_drips_cannot_outlast_its_time(path, timeout, deadline, kind):
    with speaking(path, OK, *[b" "] * 20, pause=0.1):
        began = time.monotonic()
        with pytest.raises(CannotConnect) as caught:
            _docker_api.DockerApi(path, timeout, Deadline(deadline)).read("info")
        assert time.monotonic() - began < 1.5
    assert caught.value.kind == kind
    assert (str(caught.value) == "not measured (0.4 s of the deadline left)") is (kind == "deadline")


def test_what_came_before_the_time_was_over_is_not_lost(path):
    api = _docker_api.DockerApi(path, 0.4)
    with speaking(path, OK + b"a line\n", b"", pause=0.6), api.stream("GET", "x") as answer:
        assert answer.read_some(65536) == b"a line\n"
        with pytest.raises(CannotConnect, match="in time"):
            answer.read_some(65536)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b'{"message": "no such thing"}', "the Docker engine rejects GET /x: no such thing"),
        (b"plain words", "the Docker engine rejects GET /x: plain words"),
        (b"", "the Docker engine rejects GET /x: HTTP 404"),
    ],
)
def test_a_no_is_told_with_its_reason(path, said, message):
    with speaking(path, b"HTTP/1.0 404 Not Found\r\n\r\n", said), pytest.raises(_docker_api.Rejected) as caught:
        _docker_api.DockerApi(path, 2).read("x")
    assert (str(caught.value), caught.value.kind, caught.value.status) == (message, "rejected", 404)


@pytest.mark.parametrize("said", [(OK, b"<html>"), (b"SSH-2.0\r\n",), ()])
def test_what_is_no_answer_of_an_engine_is_a_failure(path, said):
    with speaking(path, *said), pytest.raises(CannotConnect) as caught:
        _docker_api.DockerApi(path, 2).read("info")
    assert caught.value.kind == "failed"
    assert path in str(caught.value)


def test_an_answer_without_end_is_refused(path, monkeypatch):
    monkeypatch.setattr(_docker_api, "MAX_BYTES", 1000)
    with speaking(path, OK, b" " * 2000), pytest.raises(CannotConnect, match="more than 1000 bytes"):
        _docker_api.DockerApi(path, 2).read("info")


@pytest.mark.parametrize(
    ("exc", "kind", "hint"),
    [
        (PermissionError(13, "Permission denied"), "permission", "become"),
        (FileNotFoundError(2, "No such file"), "no_engine", "docker_host"),
        (ConnectionRefusedError(111, "Connection refused"), "refused", "systemctl start docker"),
        (TimeoutError("timed out"), "timeout", "journalctl"),
        (BrokenPipeError(32, "Broken pipe"), "failed", "journalctl"),
        (http.client.BadStatusLine("x"), "failed", "journalctl"),
    ],
)
def test_an_error_of_the_socket_is_told_with_its_hint(exc, kind, hint):
    told = _docker_api.cannot_connect(exc, "/s")
    assert (told.kind, hint in told.hint, "/s" in str(told)) == (kind, True, True)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, True),
        ({"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": True}, True),
        ({"SecurityOptions": None, "Rootless": False}, False),
        ({}, False),
    ],
)
def test_an_engine_without_root_says_so(info, expected):
    assert _docker_api.is_rootless(info) is expected


BECOME = "Measure with become: `ansible-playbook tracktion.ops.diagnose --become`"


def test_whose_socket_it_is_is_told(tmp_path):
    path = tmp_path / "docker.sock"
    assert _docker_api.who_may(str(path)) == BECOME
    path.touch()
    # Our own, or any where we may choose.
    group = grp.getgrgid(os.getgid()) if os.getgid() else grp.getgrall()[-1]
    os.chown(path, -1, group.gr_gid)
    path.chmod(0o660)
    assert "an account of the group %s, which has the same power as root" % group.gr_name in _docker_api.who_may(
        str(path)
    )
    path.chmod(0o600)
    assert _docker_api.who_may(str(path)) == BECOME
    assert "--become-user=root`" in _docker_api.who_may("/run/user/0/podman/podman.sock")
    assert _docker_api.who_may("/run/user/4000000000/podman/podman.sock") == BECOME


def test_only_a_socket_of_this_machine_will_do():
    assert _docker_api.socket_of(_docker_api.DEFAULT_HOST) == "/var/run/docker.sock"
    for host in ("tcp://h:2375", "unix://relative", "/var/run/docker.sock", ""):
        with pytest.raises(BadOption, match="docker_host"):
            _docker_api.socket_of(host)


def test_a_container_in_a_list():
    labels = {"com.docker.compose.service": "web", "com.docker.compose.project": "app"}
    row = {"Id": "1" * 64, "Names": ["/other/alias", "/app-web-1"], "Labels": labels, "State": "running"}
    told = {"id": "1" * 64, "name": "app-web-1", "service": "web", "project": "app", "state": "running"}
    assert _docker_api.summary(row) == told
    assert _docker_api.summary({"Id": "1" * 64, "Names": None, "Labels": None})["name"] == "1" * 12
