# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order of dependencies, and what a failure to reach the engine means."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import MissingLibrary

HOST = "unix:///run/docker.sock"


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ({"web": ["api"], "api": ["store"], "store": []}, ["store", "api", "web"]),
        ({"one": [], "two": []}, ["one", "two"]),
        ({"web": ["absent"]}, ["web"]),
        ({"one": ["two"], "two": ["one"]}, ["two", "one"]),
        ({"self": ["self"]}, ["self"]),
    ],
)
def test_what_is_needed_comes_first(needs, expected):
    assert _docker.ordered(list(needs), needs) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, []),
        ("", []),
        ("redis:service_healthy:false,postgres:service_started:true", ["redis", "postgres"]),
        ("redis", ["redis"]),
    ],
)
def test_the_label_of_compose_is_read(label, expected):
    assert _docker.dependencies({_docker.DEPENDS_ON: label} if label is not None else {}) == expected


def raised(*links):
    """An error as the SDK raises it, with the true one deep inside."""
    error = Exception("Error while fetching server API version")
    error.__cause__ = OSError("Connection aborted.", *links)
    return error


class SSLError(OSError):
    pass


class ReadTimeout(OSError):
    pass


class InvalidVersion(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised(FileNotFoundError(2, "No such file")), "no_engine"),
        (raised(PermissionError(13, "Permission denied")), "permission"),
        (raised(ConnectionRefusedError(111, "refused")), "refused"),
        (raised(socket.gaierror(-2, "Name or service not known")), "name_resolution"),
        (raised(ReadTimeout("read timed out")), "timeout"),
        (raised(SSLError("certificate verify failed")), "tls"),
        (InvalidVersion("API versions below 1.24 are no longer supported"), "too_old"),
        (raised(ValueError("no JSON")), "failed"),
    ],
)
def test_a_failure_is_told_by_what_is_deep_inside_it(error, kind):
    found = _docker.explained(error, HOST)
    assert found.kind == kind
    assert found.hint


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (HOST, "`systemctl start docker`. "),
        ("unix:///run/user/1000/docker.sock", "`systemctl start docker --user`. "),
        ("unix:///run/podman/podman.sock", "`systemctl start podman`. "),
        ("unix:///run/user/1000/podman/podman.sock", "`systemctl start podman --user`. "),
        ("tcp://elsewhere:2376", "`systemctl start docker`. "),
    ],
)
def test_an_engine_is_started_by_its_name(host, expected):
    assert expected in _docker.explained(raised(ConnectionRefusedError(111, "refused")), host).hint


def test_a_library_that_does_not_fit_is_named():
    assert isinstance(_docker.explained(Exception("Not supported URL scheme http+docker"), HOST), MissingLibrary)


class Engine:
    """Says the same to everything."""

    def __init__(self, status):
        self.status = status

    def call(self, _method, *_arguments):
        if self.status is None:
            return {"Id": "0123456789ab"}
        raise _docker.Rejected(self.status, "no")


def test_a_container_that_went_away_since_it_was_listed_is_no_error():
    assert _docker.inspect(Engine(None), "0123456789ab") == {"Id": "0123456789ab"}
    assert _docker.inspect(Engine(404), "0123456789ab") is None
    with pytest.raises(_docker.Rejected):
        _docker.inspect(Engine(500), "0123456789ab")


@pytest.mark.parametrize(
    ("oldest", "newest", "of_sdk", "expected"),
    [
        ("1.12", "1.41", "1.24", "1.41"),
        ("1.24", "1.45", "1.24", "1.41"),
        ("1.44", "1.52", "1.24", "1.44"),
        ("1.24", "1.52", "1.44", "1.44"),
        ("1.24", "1.40", "1.24", "1.40"),
        # The SDK says that it is too old.
        (None, "1.20", "1.24", "1.20"),
        (None, None, "1.24", "1.41"),
        ("1.9", "1.100", "1.24", "1.41"),
    ],
)
def test_the_version_that_is_spoken_is_the_one_we_know_or_the_nearest(oldest, newest, of_sdk, expected):
    assert _docker.spoken({"MinAPIVersion": oldest, "ApiVersion": newest}, of_sdk) == expected
