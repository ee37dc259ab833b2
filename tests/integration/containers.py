# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers of a separate project, and the findings of a diagnosis about them."""

from __future__ import annotations

import contextlib
import socket

import docker

from tests.integration.areas import diagnose
from tests.lab.shell import wait_until
from tests.lab.throwaway import project


@contextlib.contextmanager
def own_project(directory):
    """A project whose containers have an empty compose file in ``directory``."""
    file = directory / "own-compose.yaml"
    file.write_text("services: {}")
    with project("containers") as found:
        found.compose_file = str(file)
        yield found


def look(found, before=None, **settings):
    """Return the findings about the project. ``before`` is called in the measuring process."""
    settings = {"tracktion_compose_project": found.name, "containers_expected_services": [], **settings}
    return diagnose("containers", settings, before)


def sound(findings):
    """Return findings after checking their texts: a template that fails shows as the title with the reason."""
    assert findings
    for finding in findings:
        assert finding["status"] in ("info", "warning", "critical"), finding
        assert not finding["summary"].startswith(finding["title"]), finding["summary"]
        assert "is undefined" not in (finding["hint"] or ""), finding["hint"]
        assert "None" not in finding["summary"], finding["summary"]
        if finding["remedy"]:
            assert finding["remedy"]["problem"] is None
    return findings


@contextlib.contextmanager
def silent(path):
    """A socket that accepts connections and never answers, like an engine that hangs."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield "unix://%s" % path


@contextlib.contextmanager
def sdk_client():
    """A client of the SDK."""
    client = docker.APIClient(version="auto")
    try:
        yield client
    finally:
        client.close()


def cached(engine):
    """Return the entries of the build cache by id, once the engine does not count for another client."""
    counted = wait_until(lambda: _counted(engine), "the engine to count", 30)
    return {entry["ID"]: entry for entry in counted["BuildCache"] or []}


def _counted(engine):
    try:
        return engine.df()
    except docker.errors.APIError as exc:
        if "already running" not in str(exc):
            raise
        return None
