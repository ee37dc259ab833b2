# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights of the area containers."""

from __future__ import annotations

from tests.rights import Right

OF_CONTAINERS = (
    "stopped",
    "unhealthy",
    "starting_long",
    "paused",
    "crash_loop",
    "port_taken",
    "oom_killed",
    "memory_near_limit",
    "cpu_throttled",
    "pids_near_limit",
    "open_files_near_limit",
    "zombies",
    "filesystem_full",
    "no_healthcheck",
    "no_restart_policy",
    "no_memory_limit",
    "compose_drift",
    "compose_orphan",
    "path_missing",
    "path_denied",
    "path_not_writable",
    "path_not_a_file",
    "path_empty",
)
OF_DISK = ("reclaimable", "stopped_space", "unused_volume")
OF_ENGINE = ("unreachable", "engine_missing", "engine_old", "daemon_configuration", "live_restore", "missing_service")

SOCKET = Right("containers", "docker", "--become", (*OF_ENGINE, *OF_CONTAINERS, "compose_missing", *OF_DISK))
INFO = Right("containers", "GET /info", "Allow this request", ("live_restore",))
INSPECT = Right("containers", "GET /containers/ID/json", "Allow this request", OF_CONTAINERS)
DISK = Right("containers", "GET /system/df", "Allow this request", OF_DISK)
PROCESSES = Right(
    "containers", "hidepid", "--become", ("oom_killed", "memory_near_limit", "cpu_throttled", "pids_near_limit")
)
COMPOSE = Right("containers", ".env", "--become", ("compose_missing", "compose_drift", "compose_orphan"))
CONFIGURATION = Right("containers", "daemon.json", "--become", ("daemon_configuration",))
PATHS = Right(
    "containers",
    "bind mounts",
    "--become",
    ("path_missing", "path_denied", "path_not_writable", "path_not_a_file", "path_empty"),
)

RIGHTS = [SOCKET, INFO, INSPECT, DISK, PROCESSES, COMPOSE, CONFIGURATION, PATHS]
