#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: check_rows
short_description: Reject invalid rows and options before any host is visited
version_added: 0.2.0
description:
  - Reads the rows of the area roles, of C(tracktion_extra_checks) and of C(tracktion_extra_causes), on the controller.
  - Fails for the first row with an unknown or missing field, an expression that does not parse, a name that is no variable of its role,
    or a remedy that does not exist, and for cause rows that name an unknown check or form a cycle. The message has the file, the id and the reason.
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
      - Without it, all area roles of this collection.
    type: list
    elements: str
    default: []
  roles:
    description:
      - Roles of this collection whose options are validated against their C(meta/argument_specs.yml), such as V(report). The message
        names the option. M(tracktion.ops.visit) validates the options of areas for each host, and reports invalid ones.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Reject invalid rows
  tracktion.ops.check_rows:
  run_once: true
"""

RETURN = r"""
checks:
  description: The ids of the checks by area.
  returned: success
  type: dict
  sample:
    database: [database.unreachable, database.connections_used]
causes:
  description: The ids of the cause rows.
  returned: success
  type: list
  elements: str
  sample: [message_queue.no_consumer_stopped]
"""
