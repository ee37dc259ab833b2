# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a restart cannot help a container: a cause that would still be there after it. Private to this collection.

A cause is first looked for where it can be measured now: networks, other containers, paths, devices, ports. The last
error of the engine counts only if no such measurement shows that its cause has gone.
"""

from __future__ import annotations

import os
import re
from typing import Any, Collection, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_facts, _engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    PROJECT,
    SERVICE,
    SHARES,
    epoch,
    is_one_off,
    name_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import Row
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

DEPENDS_ON = "com.docker.compose.depends_on"
# Networks that every engine has.
BUILT_IN = ("bridge", "host", "none", "default", "podman")
# A program that was killed for lack of memory, or ended without an error, within so many seconds does so again.
SOON_SECONDS = 60
JOB_SECONDS = 10


class Kind(NamedTuple):
    """A kind of error of the engine, and the next step."""

    pattern: str
    hint: str


# The last error of the engine at the start of a container.
ERRORS = {
    "port": Kind(
        r"port is already allocated|address already in use|ports are not available",
        "Stop the process that holds the port (`ss -lntup`), or publish another port",
    ),
    "image": Kind(r"no such image|pull access denied|manifest unknown", "Pull or build the image"),
    "device": Kind(r"gathering device information|device node", "Attach the device, or remove it from devices"),
    "driver": Kind(
        r"could not select device driver|nvidia-container-cli",
        "Install the driver of the device and its container toolkit on this host, or remove the reservation",
    ),
    "user": Kind(
        r"unable to find (?:user|group)|no matching entries in",
        "Correct the key user of the service: it must exist in the image",
    ),
    "runtime": Kind(
        r"unknown runtime|invalid runtime|no such runtime|runtime \S+ (?:is )?not found|containerd-shim\S* not \w+",
        "Install the runtime and name it in the configuration of the engine, or remove runtime",
    ),
    "mount": Kind(
        r"error mounting|bind source path does not exist|invalid mount config|not a directory|"
        r"error while mounting volume|failed to mount",
        "Correct the mount: a file must be mounted on a file, a directory on a directory, and the source must exist",
    ),
    "network": Kind(r"network \S+ not found|could not find a network", "Create the network and recreate the container"),
    "shared": Kind(r"no such container|cannot join|non.running container", "Start the other container"),
    "command": Kind(
        r'exec: "|exec format error|executable file not found|cannot execute|exec user process|'
        r"exec \S+: (?:no such file|permission denied)",
        "Correct command or entrypoint: the program must be in the image, executable, and built for this processor",
    ),
    "limit": Kind(r"rlimit", "Correct ulimits: the engine may not set a limit above its own"),
    "memory": Kind(r"minimum memory limit|memory limit too low|oom|cannot allocate memory", "Raise mem_limit"),
    "cgroup": Kind(r"cgroup", "Check the control groups of the host: `docker info --format '{{.CgroupDriver}}'`"),
    "log_driver": Kind(r"logging driver", "Correct logging, or start the receiver of the log"),
    "space": Kind(r"no space left on device|disk quota exceeded", "Free space on the disk of the engine"),
}
READ_ONLY = re.compile(r"read-only file system|EROFS", re.IGNORECASE)
NO_SPACE = re.compile(r"no space left on device|ENOSPC|disk quota exceeded|disk is full", re.IGNORECASE)
FULL = 0.98
# The output of a health check whose own program cannot be run.
NO_PROGRAM = re.compile(
    r"OCI runtime exec failed|executable file not found|exec format error|can't open file|"
    r"^(?:\S*/)?(?:ba|da|a)?sh: (?:line )?(?:\d+: )?(?:exec: )?[^:\s]+: (?:command )?(?:not found|Permission denied)|"
    r"^(?:\S*/)?(?:ba|da|a)?sh: (?:\d+: )?(?:can't open|cannot open)|/usr/bin/env: .*No such file",
    re.MULTILINE,
)
# What servers and clients write of a login that is rejected.
LOGIN_REJECTED = (
    r'password authentication failed(?: for user "[^"\n]{1,63}")?|role "[^"\n]{1,63}" is not permitted to log in|'
    r"no pg_hba\.conf entry for [^\n]{1,80}|NOAUTH Authentication required|WRONGPASS|invalid username-password pair|"
    r"ACCESS_REFUSED|[Ll]ogin was refused|user '[^'\n]{1,63}' - invalid credentials|"
    r"returned error: 401|HTTP(?:/[\d.]{1,3}| Error)? 401\b"
)


class Obstacle(NamedTuple):
    """What a restart does not remove."""

    kind: str
    reason: str
    hint: str


class Surroundings(NamedTuple):
    """What a container needs on its host."""

    # The rows of all containers of the engine.
    rows: Sequence[Row]
    # Ids and names of all networks, null if unknown.
    networks: Collection[str] | None
    # Paths of the host that do not exist, as far as they were checked.
    missing_paths: Collection[str]
    # Whether devices and ports of this machine are those of the engine.
    is_local: bool
    # Ports that other processes hold, as of _listeners.taken.
    ports_taken: Sequence[Part]
    # The start of a command to the engine.
    engine: str
    # Services of the same project that are about to be started.
    assumed: Collection[str] = ()


def find(data: Mapping[str, Any], around: Surroundings, compose_options: Sequence[str]) -> Obstacle | None:
    """Return the first obstacle of the container with this inspection, null if a restart may help."""
    state = data["State"]
    is_up = _container_facts.status(data) in ("running", "restarting", "paused", "removing")
    apply = apply_command(data, around, compose_options)
    for found in (
        shared(data, around),
        lost_network(data, around, apply, is_up),
        lost_path(data, around),
        lost_device(data, around),
        None if is_up else taken_port(around),
        None if is_up else dependency(data, around, apply),
        healthcheck(state, apply) if is_up else ended(data, around, apply),
    ):
        if found:
            return found
    return None


def apply_command(data: Mapping[str, Any], around: Surroundings, compose_options: Sequence[str]) -> str:
    """Return what applies a change of the configuration, as the end of a sentence."""
    service = ((data.get("Config") or {}).get("Labels") or {}).get(SERVICE)
    if not service or not compose_options:
        return "create the container again"
    return "apply it: `%s`" % _engine.compose_up(compose_options, service)


def shared(data: Mapping[str, Any], around: Surroundings) -> Obstacle | None:
    """Return an obstacle if another container, whose namespace it shares, is gone or down."""
    host = data.get("HostConfig") or {}
    by_id = {row["Id"]: row for row in around.rows}
    for what, field in (("network", "NetworkMode"), ("IPC", "IpcMode"), ("processes", "PidMode")):
        mode = host.get(field) or ""
        if not mode.startswith(SHARES) or not by_id:
            continue
        other = by_id.get(mode[len(SHARES) :]) or next(
            (row for row in around.rows if name_of(row) == mode[len(SHARES) :]), None
        )
        if other is None:
            return Obstacle(
                "shared",
                "the container whose %s it shares no longer exists" % what,
                "A restart cannot help: it refers to the removed container. Recreate it after the other one: `docker"
                " compose up -d --force-recreate` in the directory of its compose file",
            )
        if other.get("State") not in ("running", "restarting", None):
            return Obstacle(
                "shared",
                "%s, whose %s it shares, is not running" % (name_of(other), what),
                "Start that one first: `%s start %s`" % (around.engine, shell_quote(name_of(other))),
            )
    return None


def lost_network(data: Mapping[str, Any], around: Surroundings, apply: str, is_up: bool) -> Obstacle | None:
    """Return an obstacle if a network of the container was removed, also if there is another of this name now."""
    if around.networks is None or is_up:
        return None
    for name, attached in sorted(((data.get("NetworkSettings") or {}).get("Networks") or {}).items()):
        identity = (attached or {}).get("NetworkID") or name
        if name not in BUILT_IN and identity not in around.networks:
            return Obstacle(
                "network",
                "its network %s was removed" % name,
                "A restart cannot help: the container refers to the removed network. Create the network if it is"
                " external (`%s network create %s`), and recreate the container; %s"
                % (around.engine, shell_quote(name), apply),
            )
    return None


def sources(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of the host that the container mounts."""
    for mount in [*(data.get("Mounts") or []), *((data.get("HostConfig") or {}).get("Mounts") or [])]:
        if mount.get("Type") == "bind" and mount.get("Source"):
            yield mount["Source"]


def lost_path(data: Mapping[str, Any], around: Surroundings) -> Obstacle | None:
    """Return the obstacle that a path that the container mounts is missing; null if none is."""
    for path in sources(data):
        if path in around.missing_paths:
            return Obstacle(
                "mount",
                "%s, which it mounts, does not exist" % path,
                "Mount or restore it before you start the container (`ls -ld -- %s`): the engine would refuse it, or"
                " create an empty directory" % shell_quote(path),
            )
    return None


def lost_device(data: Mapping[str, Any], around: Surroundings) -> Obstacle | None:
    """Return the obstacle that a device is missing; null if none is, or for an engine on another machine."""
    if around.is_local:
        for device in (data.get("HostConfig") or {}).get("Devices") or []:
            path = device.get("PathOnHost") or ""
            if path and not os.path.lexists(path):
                return Obstacle(
                    "device",
                    "the device %s does not exist" % path,
                    "Attach the device (`ls -l -- %s`), or remove it from devices" % shell_quote(path),
                )
    return None


def taken_port(around: Surroundings) -> Obstacle | None:
    """Return the obstacle that another process holds a port that the container publishes; null if none does."""
    for port in around.ports_taken:
        return Obstacle(
            "port",
            "port %d/%s is held by another process" % (port["port"], port["protocol"]),
            "Stop the process that holds it (`ss -lntup 'sport = :%d'`), or publish another port" % port["port"],
        )
    return None


def dependency(data: Mapping[str, Any], around: Surroundings, apply: str) -> Obstacle | None:
    """Return an obstacle if a service that it depends on does not meet the condition in its compose file."""
    labels = (data.get("Config") or {}).get("Labels") or {}
    never_started = epoch(data["State"].get("StartedAt")) is None
    for part in (labels.get(DEPENDS_ON) or "").split(","):
        service, condition = (part.strip().split(":") + ["", ""])[:2]
        if not service or service in around.assumed:
            continue
        rows = [row for row in around.rows if is_of(row, labels.get(PROJECT), service)]
        unmet = unmet_reason(rows, condition, never_started)
        if unmet:
            names = " ".join(shell_quote(name_of(row)) for row in rows) or shell_quote(service)
            return Obstacle(
                "dependency",
                "it depends on %s, which %s" % (service, unmet),
                "Correct %s first: `%s logs --tail 50 %s`. Then start this one: `%s start %s`"
                % (service, around.engine, names, around.engine, shell_quote(data["Name"].lstrip("/"))),
            )
    return None


def is_of(row: Row, project: str | None, service: str) -> bool:
    """Return whether a container belongs to a service of a project, and is not one of `compose run`."""
    labels = row.get("Labels") or {}
    return labels.get(PROJECT) == project and labels.get(SERVICE) == service and not is_one_off(labels)


def unmet_reason(rows: Sequence[Row], condition: str, never_started: bool) -> str | None:
    """Return why the containers of a service do not meet a condition of depends_on; null if one does."""
    is_job = condition == "service_completed_successfully"
    if not rows:
        # A job that has finished is often removed.
        return None if is_job and not never_started else "has no container"
    reasons = []
    for row in rows:
        state, status = row.get("State") or "", row.get("Status") or ""
        if is_job:
            done = state == "exited" and "(0)" in status
            reasons.append(None if done else "has not ended without an error (%s)" % (status or state))
        elif state != "running":
            reasons.append("is %s" % state)
        elif condition == "service_healthy" and ("(unhealthy)" in status or "health: starting" in status):
            reasons.append("is not healthy")
        else:
            reasons.append(None)
    return None if None in reasons else reasons[0]


def healthcheck(state: Mapping[str, Any], apply: str) -> Obstacle | None:
    """Return an obstacle if a failing health check cannot be run, or reports a login that is rejected."""
    health = state.get("Health") or {}
    log = health.get("Log") or []
    if health.get("Status") != "unhealthy" or not log:
        return None
    output = log[-1].get("Output") or ""
    rejected = re.search(LOGIN_REJECTED, output)
    if rejected:
        return Obstacle(
            "login",
            "its health check reports a login that is rejected: %s" % rejected.group(),
            "A restart cannot help. Compare user and password that it uses with those of the server; then %s" % apply,
        )
    found = NO_PROGRAM.search(output)
    if not found and log[-1].get("ExitCode") not in (126, 127):
        return None
    return Obstacle(
        "healthcheck",
        "the program of its health check cannot be run",
        "A restart cannot help. In the healthcheck of the compose file, use a program that the image has; %s" % apply,
    )


def ended(data: Mapping[str, Any], around: Surroundings, apply: str) -> Obstacle | None:
    """Return an obstacle in how the last run of the container, or its last start, has ended."""
    state, host = data["State"], data.get("HostConfig") or {}
    error, code = state.get("Error") or "", state.get("ExitCode")
    started, finished = epoch(state.get("StartedAt")), epoch(state.get("FinishedAt"))
    seconds = None if started is None or finished is None else finished - started
    if error:
        kind = next((name for name, one in ERRORS.items() if re.search(one.pattern, error, re.IGNORECASE)), "engine")
        if has_gone(kind, error, data, around):
            return None
        hint = ERRORS[kind].hint if kind in ERRORS else "Correct the cause in this error of the engine"
        return Obstacle(
            kind, "the engine cannot start it: %s" % _container_facts.reason_of(error), "%s; %s" % (hint, apply)
        )
    if code in (126, 127):
        return Obstacle("command", _container_facts.CODES[code], "%s; %s" % (ERRORS["command"].hint, apply))
    if state.get("OOMKilled") and code == _container_facts.KILLED and seconds is not None and seconds < SOON_SECONDS:
        reason = "it ran out of memory %.1f s after its start" % max(0.0, seconds)
        return Obstacle("memory", reason, "A restart ends in the same way. Raise mem_limit; %s" % apply)
    policy = (host.get("RestartPolicy") or {}).get("Name") or "no"
    if code == 0 and policy in ("no", "on-failure") and seconds is not None and seconds < JOB_SECONDS:
        return Obstacle(
            "finished",
            "its program ended by itself, without an error, %.1f s after its start" % max(0.0, seconds),
            "A restart ends in the same way. If it is a job, take it out of containers_expected_services; else correct"
            " its command; %s" % apply,
        )
    return None


def written(data: Mapping[str, Any], text: str, filesystems: Sequence[Part]) -> Obstacle | None:
    """Return an obstacle that the last lines of log and health check name, if it was measured, too."""
    name = data["Name"].lstrip("/")
    if READ_ONLY.search(text) and (data.get("HostConfig") or {}).get("ReadonlyRootfs"):
        return Obstacle(
            "read_only",
            "it writes to its own files, which are read-only on purpose (read_only: true)",
            "A restart cannot help. Mount a volume or a tmpfs at the path in its log, or remove read_only from the"
            " compose file",
        )
    full = [each for each in filesystems if name in each["containers"] and each["used_ratio"] >= FULL]
    if NO_SPACE.search(text) and full and full[0]["kind"] not in ("shm", "tmpfs"):
        return Obstacle(
            "space",
            "its file system %s is full" % full[0]["path"],
            "A restart cannot help. Free space there, or give it more",
        )
    return None


def has_gone(kind: str, error: str, data: Mapping[str, Any], around: Surroundings) -> bool:
    """Return whether the cause of an error was looked for, and is there no more."""
    if kind == "port":
        return around.is_local and bool(_container_facts.published((data.get("HostConfig") or {}).get("PortBindings")))
    if kind == "network":
        return around.networks is not None
    if kind == "shared":
        return bool(around.rows)
    is_lost = "no such file" in error.lower() or "does not exist" in error.lower()
    if kind == "device":
        return around.is_local and is_lost
    if kind == "mount":
        paths = list(sources(data))
        return around.is_local and is_lost and any(path in error for path in paths)
    return False
