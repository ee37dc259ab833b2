# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses of an engine, versions of its API, and the failures that errors mean."""

from __future__ import annotations

import errno
import grp
import http.client
import os
import socket
import ssl

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline

HOST = "unix:///run/docker.sock"
DEFAULTS = {name: spec.get("default") for name, spec in _engine.SPEC.items()}


def address(docker_host, **options):
    return _engine.address({**DEFAULTS, "docker_host": docker_host, **options})


# Address


@pytest.mark.parametrize(
    ("docker_host", "expected"),
    [
        (HOST, ("/run/docker.sock", "", 0, "")),
        ("http+unix:///run/docker.sock", ("/run/docker.sock", "", 0, "")),
        ("tcp://host:2375", ("", "host", 2375, "")),
        ("http://host:2375/engine/", ("", "host", 2375, "/engine")),
        ("host:2375", ("", "host", 2375, "")),
        ("tcp://[::1]:2375", ("", "::1", 2375, "")),
    ],
)
def test_address(docker_host, expected):
    found = address(docker_host)
    assert (found.path, found.host, found.port, found.prefix) == expected
    assert found.context is None


@pytest.mark.parametrize(
    "docker_host", ["", "unix://relative", "tcp://host", "tcp://:2375", "ssh://host:22", "tcp://host:x", "tcp://a@h:1"]
)
def test_an_invalid_address_is_rejected(docker_host):
    with pytest.raises(BadOption, match="docker_host"):
        address(docker_host)


def test_a_password_in_the_address_is_not_shown():
    with pytest.raises(BadOption) as caught:
        address("tcp://user:hunter2@host:2375")
    assert "hunter2" not in str(caught.value)


def test_tls_verifies_by_default():
    for docker_host, tls in (("tcp://host:2376", True), ("https://host:2376", False)):
        context = address(docker_host, tls=tls).context
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    context = address("tcp://host:2376", tls=True, validate_certs=False).context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    # As for the SDK, TLS does not apply to a socket.
    assert address(HOST, tls=True).context is None


@pytest.mark.parametrize(
    "options",
    [
        {"ca_path": "/nonexistent.pem"},
        {"client_cert": "/nonexistent.pem", "client_key": "/nonexistent.key"},
        {"client_cert": __file__},
        {"client_cert": __file__, "client_key": __file__},
    ],
)
def test_invalid_certificates_are_rejected(options):
    with pytest.raises(BadOption, match="client_key"):
        address("tcp://host:2376", tls=True, **options)


def test_only_a_socket_of_this_machine_is_accepted():
    assert _engine.socket_of(_engine.DEFAULT_HOST) == "/var/run/docker.sock"
    for docker_host in ("tcp://h:2375", "unix://relative", "/var/run/docker.sock", ""):
        with pytest.raises(BadOption, match="docker_host"):
            _engine.socket_of(docker_host)


# Version and kind


@pytest.mark.parametrize(
    ("oldest", "newest", "of_client", "expected"),
    [
        ("1.12", "1.41", "1.24", "1.41"),
        ("1.24", "1.45", "1.24", "1.41"),
        ("1.44", "1.52", "1.24", "1.44"),
        ("1.24", "1.52", "1.44", "1.44"),
        ("1.24", "1.40", "1.24", "1.40"),
        # The SDK reports that it is too old.
        (None, "1.20", "1.24", "1.20"),
        (None, None, "1.24", "1.41"),
        ("1.9", "1.100", "1.24", "1.41"),
        ("1.44", "1.52", "", "1.44"),
    ],
)
def test_the_version_of_the_api_is_the_known_one_or_the_nearest(oldest, newest, of_client, expected):
    assert _engine.api_version({"MinAPIVersion": oldest, "ApiVersion": newest}, of_client) == expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, True),
        ({"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": True}, True),
        ({"SecurityOptions": None, "Rootless": False}, False),
        ({}, False),
    ],
)
def test_an_engine_without_root_is_recognized(info, expected):
    assert _engine.is_rootless(info) is expected


class Listed(_engine.Reader):
    """An engine that answers each inspection with one status."""

    def __init__(self, status):
        self.status = status

    def _list(self, filters):
        one_off = {"com.docker.compose.oneoff": "True"}
        return [{"Id": "1", "filters": filters, "Labels": None}, {"Id": "2", "Labels": one_off}]

    def _inspect(self, identity):
        if self.status is None:
            return {"Id": identity}
        raise _engine.Rejected(self.status, "no")


def test_containers_of_compose_run_are_left_out():
    assert Listed(None).containers() == [{"Id": "1", "filters": {}, "Labels": None}]
    assert Listed(None).containers("a=b")[0]["filters"] == {"label": ["a=b"]}


def test_a_container_that_was_removed_since_it_was_listed_is_no_error():
    assert Listed(None).inspect("0123456789ab") == {"Id": "0123456789ab"}
    assert Listed(404).inspect("0123456789ab") is None
    with pytest.raises(_engine.Rejected):
        Listed(500).inspect("0123456789ab")


# Failures


def wrapped(*links):
    """An error as the SDK raises it, with the cause deep inside."""
    error = Exception("Error while fetching server API version")
    error.__cause__ = OSError("Connection aborted.", *links)
    return error


class ReadTimeout(OSError):
    """Named as that of requests."""


class ConnectTimeoutError(Exception):
    """Named as that of urllib3."""


class InvalidVersion(Exception):
    """Named as that of the SDK."""


class SSLError(OSError):
    """Named as that of requests."""


@pytest.mark.parametrize(
    ("exc", "kind", "hint"),
    [
        (FileNotFoundError(2, "No such file"), "no_engine", "docker_host"),
        (PermissionError(13, "Permission denied"), "permission", "become"),
        (ConnectionRefusedError(111, "Connection refused"), "refused", "systemctl start docker"),
        (_engine.ConnectTimeout("timed out"), "timeout", "journalctl"),
        (ConnectTimeoutError("timed out"), "timeout", "journalctl"),
        (TimeoutError("timed out"), "no_answer", "journalctl"),
        (ReadTimeout("read timed out"), "no_answer", "journalctl"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "no_answer", "journalctl"),
        (BrokenPipeError(32, "Broken pipe"), "closed", "journalctl"),
        (http.client.RemoteDisconnected("closed"), "closed", "journalctl"),
        (http.client.IncompleteRead(b""), "closed", "journalctl"),
        (socket.gaierror(-2, "Name or service not known"), "name_resolution", "docker_host"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no_route", "docker_host"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "certificate", "ca_path"),
        (ssl.SSLError(1, "wrong version number"), "tls", "client_cert"),
        (SSLError("handshake failure"), "tls", "client_cert"),
        (http.client.BadStatusLine("SSH-2.0"), "protocol", "docker_host"),
        (ValueError("no JSON"), "protocol", "docker_host"),
        (InvalidVersion("API versions below 1.24 are no longer supported"), "too_old", "Upgrade"),
        (OSError("something else"), "failed", "journalctl"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda exc: exc, wrapped])
def test_an_error_is_mapped_to_a_kind_with_a_hint(exc, kind, hint, wrap):
    found = _engine.failure_of(wrap(exc), address(HOST))
    assert found.kind == kind
    assert hint in found.hint
    assert "/run/docker.sock" in str(found) or kind == "too_old"


@pytest.mark.parametrize(
    ("docker_host", "expected"),
    [
        (HOST, "`systemctl start docker`. "),
        ("unix:///run/user/1000/docker.sock", "`systemctl start docker --user`. "),
        ("unix:///run/podman/podman.sock", "`systemctl start podman`. "),
        ("unix:///run/user/1000/podman/podman.sock", "`systemctl start podman --user`. "),
        ("tcp://elsewhere:2376", "`systemctl start docker`. "),
    ],
)
def test_the_hint_names_the_unit_of_the_engine(docker_host, expected):
    found = _engine.failure_of(ConnectionRefusedError(111, "refused"), address(docker_host))
    assert expected in found.hint


@pytest.mark.parametrize(("timeout", "kind"), [(0.5, "no_answer"), (9, "deadline")])
def test_silence_is_a_failure_of_the_engine_only_if_the_step_had_time(timeout, kind):
    step = _engine.Step(Deadline(0.4), timeout, address(HOST))
    assert step.failure(TimeoutError("timed out")).kind == kind
    assert step.failure(ConnectionRefusedError(111, "refused")).kind == "refused"


BECOME = "Measure with become: `ansible-playbook tracktion.ops.diagnose --become`"


def test_the_hint_names_who_may_use_a_socket(tmp_path):
    path = tmp_path / "docker.sock"
    assert _engine.permission_hint(str(path)) == BECOME
    path.touch()
    # The group of this user, or any group if this user may choose.
    group = grp.getgrgid(os.getgid()) if os.getgid() else grp.getgrall()[-1]
    os.chown(path, -1, group.gr_gid)
    path.chmod(0o660)
    expected = "an account of the group %s, which has the same power as root" % group.gr_name
    assert expected in _engine.permission_hint(str(path))
    path.chmod(0o600)
    assert _engine.permission_hint(str(path)) == BECOME
    assert "--become-user=root`" in _engine.permission_hint("/run/user/0/podman/podman.sock")
    assert _engine.permission_hint("/run/user/4000000000/podman/podman.sock") == BECOME
