# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights of the area logs."""

from __future__ import annotations

from tests.rights import Right

OF_LOGS = (
    "unreadable",
    "error_burst",
    "errors",
    "new_error_signature",
    "no_progress",
    "known_signature",
    "monitor_errors",
    "logs_incomplete",
)
OF_KERNEL = (
    "oom_killed",
    "io_errors",
    "hung_tasks",
    "read_only_fs",
    "segfaults",
    "conntrack_full",
    "kernel_log_incomplete",
)

CONTAINERS = Right("logs", "docker", "--become", OF_LOGS)
REQUEST = Right("logs", "GET /containers/ID/logs", "Allow this request", OF_LOGS)
FILES = Right("logs", "logs_files", "--become", OF_LOGS)
JOURNAL = Right("logs", "systemd-journal", "systemd-journal", OF_LOGS)
KERNEL = Right("logs", "CAP_SYSLOG", "--become", OF_KERNEL)

RIGHTS = [CONTAINERS, REQUEST, FILES, JOURNAL, KERNEL]
