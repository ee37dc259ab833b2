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
    "network_disconnected",
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
    "log_not_rotated",
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
# What a default expects belongs to the host only if the containers show it.
INSPECT = Right("containers", "GET /containers/ID/json", "Allow this request", (*OF_CONTAINERS, "missing_service"))
DISK = Right("containers", "GET /system/df", "Allow this request", OF_DISK)
OF_PROCESSES = ("oom_killed", "memory_near_limit", "cpu_throttled", "pids_near_limit", "zombies")
PROCESSES = Right("containers", "hidepid", "--become", OF_PROCESSES)
COMPOSE = Right("containers", ".env", "--become", ("compose_missing", "compose_drift", "compose_orphan"))
CONFIGURATION = Right("containers", "daemon.json", "--become", ("daemon_configuration",))
OF_PATHS = ("path_missing", "path_denied", "path_not_writable", "path_not_a_file", "path_empty")
PATHS = Right("containers", "bind mounts", "--become", OF_PATHS)
# File systems and open files of processes, and volumes below the data directory of the engine.
FILES = Right("containers", "root", "--become", ("filesystem_full", "open_files_near_limit", *OF_PATHS))
# The files of logs without a maximum size.
LOGS = Right("containers", "root", "--become", ("log_not_rotated",))

RIGHTS = [SOCKET, INFO, INSPECT, DISK, PROCESSES, COMPOSE, CONFIGURATION, PATHS, FILES, LOGS]
