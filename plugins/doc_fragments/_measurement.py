# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the documentation of every measuring module refers to. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
seealso:
  - name: Measurements
    description: The keys that all measurements have, the kinds of failures, and the fields of sessions.
    link: https://github.com/tracktion/ops/blob/main/docs/measurement.md
"""
