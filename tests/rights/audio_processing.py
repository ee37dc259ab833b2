# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights of the area audio_processing."""

from __future__ import annotations

import ansible_collections.tracktion.ops.plugins.plugin_utils._areas as areas
from tests.rights import Right

(AREA,) = areas.find(["audio_processing"])
# Nothing of the area can be measured without the engine.
CHECKS = tuple(row["id"].partition(".")[2] for row in AREA.rows("checks"))

ENGINE = Right("audio_processing", "docker", "become", CHECKS)
RIGHTS = [ENGINE]
