# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the lab keeps things."""

from __future__ import annotations

import os
from pathlib import Path

LAB = Path(__file__).resolve().parent
CHECKOUT = LAB.parent.parent

# Stacks belong to a checkout. The engine, the compose plugin and the images belong to the machine.
STACKS = CHECKOUT / ".lab"
MACHINE = Path("/var/lib/tracktion-lab") if os.geteuid() == 0 else Path.home() / ".local/share/tracktion-lab"

# Mounted read-only at /lab in every container: how each server starts, and the stack's own services.
CONTAINER_FILES = LAB / "container"
