# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order of dependencies, and errors of the SDK."""

from __future__ import annotations

import docker
import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker, _engine
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, MissingLibrary

OPTIONS = {name: spec.get("default") for name, spec in _engine.SPEC.items()}


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
def test_dependencies_come_first(needs, expected):
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


class Failing:
    """The SDK, with a client that raises one exception."""

    constants = docker.constants
    errors = docker.errors

    def __init__(self, exc):
        self.exc = exc

    def APIClient(self, **_options):  # noqa: N802
        raise self.exc


def failure(monkeypatch, exc):
    monkeypatch.setattr(_docker, "require", lambda _name: Failing(exc))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        _docker.Client(OPTIONS, Deadline(9))
    return caught.value


def test_an_error_of_the_sdk_is_mapped_like_one_of_the_socket(monkeypatch):
    refused = docker.errors.DockerException("Error while fetching server API version")
    refused.__cause__ = OSError("Connection aborted.", ConnectionRefusedError(111, "Connection refused"))
    found = failure(monkeypatch, refused)
    assert isinstance(found, CannotConnect)
    expected = _engine.failure_of(ConnectionRefusedError(111, "Connection refused"), _engine.address(OPTIONS))
    assert (found.kind, str(found), found.hint) == (expected.kind, str(expected), expected.hint)
    assert failure(monkeypatch, docker.errors.InvalidVersion("API versions below 1.24")).kind == "too_old"


def test_a_rejection_holds_the_message_of_the_engine(monkeypatch):
    found = failure(monkeypatch, docker.errors.APIError("500 Server Error", explanation="no such thing"))
    assert (found.kind, found.reply, found.status) == ("rejected", "no such thing", None)


def test_a_library_that_does_not_fit_is_named(monkeypatch):
    found = failure(monkeypatch, docker.errors.DockerException("Not supported URL scheme http+docker"))
    assert isinstance(found, MissingLibrary)
