# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of containers: temporary containers with the labels of the project of the stack."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile

from ..shell import LabError, wait_until
from ..throwaway import healthcheck, inspect, project, wait_for
from . import fault

# Options of a healthy service, so that each fault has one cause.
SOUND = ("--memory", "64m", "--restart", "unless-stopped")
# No test waits for its result.
HEALTHY = healthcheck("true", "5s")


def beside(lab):
    """Additional containers, which are removed at the end."""
    return project(lab.project, lab.project)


@fault(fires=["containers.crash_loop"])
def crash_loop(lab):
    """A service is in a crash loop with exit code 3."""
    with beside(lab) as others:
        name = others.run("crashing", "sh", "-c", "exit 3", options=(*SOUND, *HEALTHY))
        wait_until(lambda: inspect(name)["RestartCount"] >= 4, "four restarts", 30)
        yield


def until_noted(lab, kill) -> None:
    """Call ``kill()`` until the engine notes an OOM kill: it loses an event that arrives after the exit."""
    for _attempt in range(10):
        name = kill()
        if inspect(name)["State"]["OOMKilled"]:
            return
        lab.docker("rm", "--force", name)
    raise RuntimeError(f"the engine does not note the OOM kill of {name}")


@fault(fires=["containers.oom_killed", "containers.stopped"])
def out_of_memory(lab):
    """The kernel killed a service at its memory limit."""
    with beside(lab) as others:
        limit = ("--memory", "32m", "--memory-swap", "32m")

        def kill():
            name = others.run("greedy", "python3", "-c", "bytearray(200 << 20)", options=(*limit, *HEALTHY))
            wait_for(name, "killed", lambda state: state["Status"] == "exited")
            return name

        until_noted(lab, kill)
        yield


@fault(fires=["containers.oom_killed"])
def worker_out_of_memory(lab):
    """The kernel killed a worker process of a service at its memory limit; the service continues."""
    with beside(lab) as others:
        limit = ("--memory", "32m", "--memory-swap", "32m", "--restart", "unless-stopped")
        command = "python3 -c 'bytearray(200 << 20)'; touch /lost; exec sleep infinity"
        name = others.run("forgetful", "sh", "-c", command, options=(*limit, *healthcheck("test -e /lost")))
        wait_for(name, "over it", lambda state: state["Health"]["Status"] == "healthy")
        yield


@fault(fires=["containers.oom_killed"])
def restarted_out_of_memory(lab):
    """The kernel killed a service at its memory limit, and its restart policy restarted it, which resets the count."""
    with beside(lab) as others:
        limit = ("--memory", "32m", "--memory-swap", "32m", "--restart", "unless-stopped")
        command = "test -e /born && exec sleep infinity; touch /born; exec python3 -c 'bytearray(200 << 20)'"

        def kill():
            name = others.run("risen", "sh", "-c", command, options=(*limit, *HEALTHY))
            wait_until(lambda: inspect(name)["RestartCount"] == 1, "its restart", 20)
            wait_for(name, "healthy", lambda state: state["Health"]["Status"] == "healthy")
            return name

        until_noted(lab, kill)
        yield


@fault(fires=["containers.memory_near_limit"])
def memory_near_limit(lab):
    """A service uses nearly all of its memory limit."""
    hold = "import time; held = bytearray(90 << 20); open('/held', 'w'); time.sleep(1e6)"
    with beside(lab) as others:
        limit = ("--memory", "100m", "--memory-swap", "100m", "--restart", "unless-stopped")
        name = others.run("full", "python3", "-c", hold, options=(*limit, *healthcheck("test -e /held")))
        wait_for(name, "full", lambda state: state["Health"]["Status"] == "healthy")
        yield


@fault(fires=["containers.cpu_throttled"])
def throttled(lab):
    """A service that needs a whole core has a limit of a twentieth."""
    with beside(lab) as others:
        others.run("slow", "sh", "-c", "while :; do :; done", options=(*SOUND, *HEALTHY, "--cpus", "0.05"))
        yield


@fault(fires=["containers.pids_near_limit"])
def many_processes(lab):
    """A service has nearly as many processes as its limit."""
    with beside(lab) as others:
        command = "for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep infinity & done; wait"
        name = others.run("crowded", "sh", "-c", command, options=(*SOUND, "--pids-limit", "20"))
        wait_until(lambda: lab.docker("top", name).count("sleep infinity") >= 14, "its processes", 20)
        yield


@fault(fires=["containers.unhealthy"])
def unhealthy(lab):
    """The health check of a service fails."""
    with beside(lab) as others:
        name = others.run("sick", options=(*SOUND, *healthcheck("false")))
        wait_for(name, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy")
        yield


@fault(fires=["containers.starting_long"])
def slow_start(lab):
    """A service does not become healthy."""
    with beside(lab) as others:
        others.run("late", options=(*SOUND, *healthcheck("false", "2s"), "--health-start-period", "1h"))
        yield


@fault(fires=["containers.paused"])
def paused(lab):
    """A service is paused."""
    with beside(lab) as others:
        lab.docker("pause", others.run("frozen", options=(*SOUND, *HEALTHY)))
        yield


@fault(fires=["containers.stopped"])
def stopped_service(lab):
    """The file watcher was stopped and not started again."""
    with lab.stopped("file_watcher"):
        yield


@fault(fires=["containers.no_healthcheck", "containers.no_restart_policy", "containers.no_memory_limit"])
def bare_service(lab):
    """A service has no health check, no restart policy and no memory limit."""
    with beside(lab) as others:
        others.run("bare")
        yield


@fault(fires=["containers.port_taken", "containers.stopped"])
def port_taken(lab):
    """Another process holds the port of a service, which cannot start."""
    with beside(lab) as others, socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = "127.0.0.1:%d:8000" % holder.getsockname()[1]
        # The container is created, but cannot be started.
        with contextlib.suppress(LabError):
            others.run("barred", options=(*SOUND, *HEALTHY, "--publish", port))
        wait_for(others.containers[0], "refused", lambda state: "in use" in state["Error"])
        yield


@fault(fires=["containers.compose_drift"])
def changed_limit(lab):
    """The memory limit of the tracklist service differs from its compose file."""
    name = lab.container("tracklist_service")
    limit = lab.docker("inspect", "--format", "{{.HostConfig.Memory}}", name).strip()
    higher = str(int(limit) + (64 << 20))
    lab.docker("update", "--memory", higher, "--memory-swap", higher, name)
    yield
    lab.docker("update", "--memory", limit, "--memory-swap", limit, name)


@fault(fires=["containers.path_missing", "containers.path_denied"])
def lost_paths(lab):
    """A service mounts a missing directory, and one that its user cannot read."""
    with tempfile.TemporaryDirectory() as directory, beside(lab) as others:
        for name, mode in (("lost", 0o755), ("private", 0o700)):
            os.mkdir(os.path.join(directory, name))
            os.chmod(os.path.join(directory, name), mode)
            volume = "%s/%s:/data:ro" % (directory, name)
            others.run(name, options=(*SOUND, *HEALTHY, "--user", "12345:12345", "--volume", volume))
        os.rmdir(os.path.join(directory, "lost"))
        yield
