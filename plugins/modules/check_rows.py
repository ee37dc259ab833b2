#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: check_rows
short_description: Reject wrong rows and options before any host is touched
version_added: "0.1.0"
description:
  - Reads the rows of the area roles and of C(tracktion_extra_checks), on the controller.
  - Fails with the file, the id and the reason for the first row that has an unknown or missing field, an expression that does not
    parse, a name that is no variable of its role, or a remedy that is not declared.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.action
options:
  areas:
    description:
      - The area roles whose rows are read, named as in M(tracktion.ops.visit).
      - Without it, every area role of this collection.
    type: list
    elements: str
    default: []
  roles:
    description:
      - Roles of this collection whose options are checked against their C(meta/argument_specs.yml), such as V(report). The message
        names the option. Options of an area are checked by M(tracktion.ops.visit), which reports a wrong one with the host it is
        wrong for.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Reject wrong rows
  tracktion.ops.check_rows:
  run_once: true
"""

RETURN = r"""
checks:
  description: By area, the ids of its checks.
  returned: success
  type: dict
  sample:
    database: [database.unreachable, database.connections_used]
"""
