# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights that the area file_watching needs."""

from __future__ import annotations

from tests.rights import Right

OF_OTHER_PROCESSES = (
    "watches_used",
    "instances_used",
    "directory_not_watched",
    "subdirectories_not_watched",
    "duplicate_watchers",
    "watches_would_not_fit",
    "watcher_not_connected_to_broker",
    "queue_overflow_risk",
    "watcher_polls",
    "watcher_fell_back_to_polling",
)
OF_WATCHER = ("directory_unreadable", "directory_not_mounted", "watcher_not_running", "watcher_restarting")
OF_DIRECTORY = (
    "directory_not_answering",
    "directory_missing",
    "no_events_file_system",
    "events_do_not_arrive",
    "directory_not_watched",
    "subdirectories_not_watched",
)

PROCESSES = Right("file_watching", "root", "--become", (*OF_OTHER_PROCESSES, *OF_WATCHER))
HIDDEN = Right("file_watching", "hidepid", "--become", (*OF_OTHER_PROCESSES, *OF_WATCHER))
DESCRIPTORS = Right(
    "file_watching", "CAP_SYS_PTRACE", "has no CAP_SYS_PTRACE", (*OF_OTHER_PROCESSES, "directory_replaced")
)
DIRECTORIES = Right("file_watching", "CAP_DAC_READ_SEARCH", "has no CAP_DAC_READ_SEARCH", OF_DIRECTORY)
SYSCTL = Right("file_watching", "sysctl.d", "--become", ("limits_not_persisted", "limit_overridden_by_file"))

RIGHTS = [PROCESSES, HIDDEN, DESCRIPTORS, DIRECTORIES, SYSCTL]
