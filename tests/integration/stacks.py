# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restarts of stacks of throwaway containers, and kills of the restart at a given point."""

from __future__ import annotations

import os
import signal

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import epoch
from ansible_collections.tracktion.ops.plugins.module_utils._docker._stack_service import Stack
from tests.integration.modules import run_module
from tests.lab.throwaway import inspect

DEPENDS_ON = "com.docker.compose.depends_on"


class Killed(Exception):
    """The module was killed, and returned nothing."""


def needs(*dependencies):
    """Return the label of compose for dependencies such as ``store:service_healthy:false``."""
    return {DEPENDS_ON: ",".join(dependencies)}


def restart(found, state_dir, check=False, before=None, **options):
    """Return the result of stack_service for a project. Raises Killed."""
    arguments = {"project": found.name, "state_dir": str(state_dir), "health_timeout": 60, **options}
    try:
        return run_module("stack_service", arguments, check=check, before=before)
    except IndexError as exc:
        raise Killed from exc


def kill_at(point):
    """Kill this process with SIGKILL before (odd points) or after (even ones) a call that changes something."""
    calls = 0

    def counted(method):
        def call(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            result = method(*arguments, **named)
            calls += 1
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    Stack._keep = counted(Stack._keep)
    Stack._ask = counted(Stack._ask)


def states(found):
    """Return what must not change of the containers of a project, by name."""
    return {
        data["Name"].lstrip("/"): {
            "id": data["Id"],
            "status": data["State"]["Status"],
            "started": epoch(data["State"]["StartedAt"]),
            "finished": epoch(data["State"]["FinishedAt"]),
        }
        for data in map(inspect, found.containers)
    }


def running(found):
    """Return the services with a running container."""
    inspected = list(map(inspect, found.containers))
    return {data["Config"]["Labels"]["com.docker.compose.service"] for data in inspected if data["State"]["Running"]}


def outcomes(result):
    """Return action, service and result of each step."""
    return [(step["action"], step["service"], step["result"]) for step in result["steps"]]
