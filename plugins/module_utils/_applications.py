# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of the services that only Tracktion has. Private to this collection."""

from __future__ import annotations

# Its servers (postgres, redis, rabbitmq) are also in other stacks.
APPLICATIONS = ("analysis_service", "cataloging_service", "file_rename_service", "file_watcher", "tracklist_service")
