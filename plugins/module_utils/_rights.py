# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hints for what the account may not see. Private to this collection."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

COMMAND = "ansible-playbook tracktion.ops.diagnose --become"
BECOME = "Measure with become: `%s`" % COMMAND
ON_THE_HOST = "Measure on the host itself as root, as this root has no %s"


def become_user(name: str) -> str:
    """Return the hint where one account alone has the right."""
    return "Measure as its user: `%s --become-user=%s`" % (COMMAND, shell_quote(name))


def hint(capability: str) -> str:
    """Return the hint where something takes root, or this root lacks ``capability``, as in a container."""
    return ON_THE_HOST % capability if os.geteuid() == 0 else BECOME


def hint_of(exc: OSError) -> str | None:
    """Return the hint for an error of the system: null if more rights would not help."""
    return hint("CAP_DAC_READ_SEARCH") if isinstance(exc, PermissionError) else None
