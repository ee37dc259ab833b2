# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that keep restart, backup, proof and restore of one host apart. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state_dir:
    description: Directory on the host for the record of operations, with which restart, backup, proof and restore exclude each other.
    type: path
    default: /var/lib/tracktion-ops
  operation:
    description: Id of an operation that an earlier task has begun, and that this task continues. Without one, the module begins its own.
    type: str
  run:
    description: The run, as C(who), C(controller), C(pid) and C(pid_start), for messages of other runs.
    type: dict
    default: {}
  broken:
    description: Ids of operations whose controller is known to have ended. Their leases do not count.
    type: list
    elements: str
    default: []
"""
