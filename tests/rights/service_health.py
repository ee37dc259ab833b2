# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights of the area service_health. Endpoints need none, but for what answers there."""

from __future__ import annotations

from tests.rights import Right

ENGINE = Right(
    "service_health",
    "docker",
    "become",
    ("command_not_run", "command_failed", "command_slow", "other_program"),
)
RIGHTS = [ENGINE]
