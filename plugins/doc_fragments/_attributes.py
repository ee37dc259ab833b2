# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attributes that the modules of this collection declare. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: In diff mode, returns details on what has changed (or would change, in C(check_mode)).
  idempotent:
    description: Run twice in a row outside check mode with the same arguments, the second run indicates no change.
"""

    # For modules that only read.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
  idempotent:
    support: full
    details:
      - This module changes nothing.
"""

    # For all modules: each is a member of the action group.
    ACTIONGROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/tracktion.ops.ops) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - tracktion.ops.ops
"""

    # For action plugins, which run on the controller.
    ACTION = r"""
options: {}
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
"""
