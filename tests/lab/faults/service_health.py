# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of the services' HTTP endpoints."""

from __future__ import annotations

import urllib.error
import urllib.request

from ..shell import wait_until
from . import fault

MATCH = "/match?title=Track%201&artist=Artist%202"


def status(lab, path: str = "/health") -> int:
    """Return the status of an answer of the tracklist service; 0 for no answer."""
    try:
        with urllib.request.urlopen(lab.url("tracklist", path), timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@fault(fires=["service_health.unreachable"])
def api_stopped(lab):
    """The tracklist service is stopped, and nothing listens at its port."""
    with lab.stopped("tracklist_service"):
        yield


@fault(fires=["service_health.not_answering"])
def api_paused(lab):
    """The tracklist service is paused: its port accepts connections, and it does not answer."""
    container = lab.container("tracklist_service")
    lab.docker("pause", container)
    yield
    if lab.docker("inspect", "--format", "{{.State.Paused}}", container).strip() == "true":
        lab.docker("unpause", container)
    lab.wait_healthy("tracklist_service")


@fault(fires=["service_health.slow"])
def api_slow(lab):
    """Every answer of the tracklist service takes more than a second."""
    lab.exec("tracklist_service", "sh", "-c", "echo 1.2 > /tmp/lab-delay")
    yield
    lab.exec("tracklist_service", "rm", "-f", "/tmp/lab-delay")


@fault(fires=["service_health.wrong_status"])
def api_without_database(lab):
    """The database rejects the services' logins: the API answers with 500, the health endpoints with 503."""

    def answers() -> tuple[int, int]:
        return status(lab, MATCH), status(lab)

    lab.psql("alter role tracktion_user nologin")
    lab.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'tracktion_user'")
    wait_until(lambda: answers() == (500, 503), "the errors of the API", 30)
    yield
    lab.psql("alter role tracktion_user login")
    wait_until(lambda: answers() == (200, 200), "the API to answer again", 30)
    lab.wait_healthy()


@fault(fires=["service_health.wrong_body"])
def api_wrong_answer(lab):
    """The artist of the track matching request is renamed: the API answers with the wrong track."""
    lab.psql("update artists set name = 'Another artist' where name = 'Artist 2'")
    yield
    lab.psql("update artists set name = 'Artist 2' where name = 'Another artist'")
