# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights that the area host_resources needs."""

from __future__ import annotations

from tests.rights import Right

OF_FILE_SYSTEMS = ("file_system_full", "inodes_used", "temporary_files", "file_system_read_only", "mount_hung")
OF_FILES = ("deleted_open_files", *OF_FILE_SYSTEMS)
OF_OTHER_PROCESSES = ("zombies", "cpu_hog", *OF_FILES)

HIDDEN = Right("host_resources", "hidepid", "--become", OF_OTHER_PROCESSES)
# Without it, the mounts and the open files of other users are closed.
PROCESSES = Right("host_resources", "root", "--become", OF_FILES)

RIGHTS = [PROCESSES, HIDDEN]
