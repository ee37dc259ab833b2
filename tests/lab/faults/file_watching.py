# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong between the kernel's inotify, the watcher and its broker.

inotify's limits are per user and kernel, containers included, and the stack's services run as a user of their own:
to use up that user's share breaks this stack alone, and no limit of the host is ever changed.
"""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request

from ..images import ensure_image
from ..paths import CONTAINER_FILES
from ..servers import LABEL
from ..shell import LabError, wait_until
from . import fault


@contextlib.contextmanager
def hog(lab, what: str):
    """A container that holds all watches or instances of the services' user, until it is gone."""
    state = lab.state
    name = f"{lab.project}-hog-{what}"
    user = f"{state['service_uid']}:{state['service_uid']}"
    try:
        lab.docker(
            "run", "--detach", "--init", "--name", name, "--label", f"{LABEL}={lab.project}", "--user", user,
            "--network", "none", "--volume", f"{CONTAINER_FILES}:/lab:ro", ensure_image(state["suite"]),
            "python3", "/lab/inotify_hog.py", what,
        )  # fmt: skip

        def holding() -> bool:
            if lab.docker("inspect", "--format", "{{.State.Status}}", name).strip() == "exited":
                raise LabError(f"{name} ended: {lab.docker('logs', name)}")
            return "holding" in lab.docker("logs", name)

        wait_until(holding, f"{name} to hold all {what}", 60)
        yield
    finally:
        lab.docker("rm", "--force", name)


@fault(fires=["file_watching.watches_used"])
def watches_exhausted(lab):
    """Another process of the watcher's user holds every inotify watch that the user may have."""
    with hog(lab, "watches"):
        yield


@fault(fires=["file_watching.instances_used"])
def instances_exhausted(lab):
    """Another process of the watcher's user holds every inotify instance that the user may have."""
    with hog(lab, "instances"):
        yield


@fault(fires=["file_watching.watcher_not_running"])
def watcher_stopped(lab):
    """The file watcher's container is stopped."""
    with lab.stopped("file_watcher"):
        yield


@fault(fires=["file_watching.watcher_not_connected_to_broker"])
def watcher_disconnected(lab):
    """The file watcher runs, but the broker has ended its connection and refuses its password."""
    user = "/users/file_watcher"
    before = lab.rabbitmq_api("GET", user)
    try:
        lab.rabbitmq_api("PUT", user, {"password": "changed", "tags": ""})
        lab.exec("rabbitmq", "rabbitmqctl", "close_all_user_connections", "file_watcher", "password changed")
        wait_until(lambda: not has_broker(lab), "the watcher to lose the broker", 20)
        yield
    finally:
        lab.rabbitmq_api("PUT", user, {key: before[key] for key in ("password_hash", "hashing_algorithm", "tags")})
    wait_until(lambda: has_broker(lab), "the watcher to find the broker again", 30)


def has_broker(lab) -> bool:
    """Whether the watcher says that it is connected."""
    try:
        with urllib.request.urlopen(lab.url("watcher"), timeout=5) as answer:
            health = json.load(answer)
    except urllib.error.HTTPError as error:
        health = json.load(error)
    return health["checks"]["broker"]["healthy"]
