#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_run
short_description: Run a long module and show its progress
version_added: 0.4.0
description:
  - Runs a module of this collection in the background of the host, shows its progress every few seconds, and returns its result.
  - The module must have the options C(directory), C(deadline) and C(progress). The last one is set to a file in C(directory), which the
    module removes at its end.
  - The module continues if the connection to the host breaks. It is asked for its result again until its deadline.
  - In check mode the module runs in the foreground.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.action
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: N/A
    details:
      - It depends on the module.
options:
  module:
    description: Full name of the module.
    type: str
    required: true
  options:
    description: Options of the module.
    type: dict
    required: true
  title:
    description: What the lines of the progress begin with, after the name of the host. The default is the name of the module.
    type: str
seealso:
  - module: tracktion.ops.pg_backup
"""

EXAMPLES = r"""
- name: Back up the database
  tracktion.ops.recovery_run:
    module: tracktion.ops.pg_backup
    options: "{{ lookup('tracktion.ops.connection', 'database') | combine({'directory': '/var/backups/tracktion', 'database': 'tracktion'}) }}"
    title: backup of tracktion
  become: true
"""

RETURN = r"""
msg:
  description: Why the module failed. All other values are those of the module.
  returned: on failure
  type: str
  sample: another run works on the backups of postgresql tracktion
"""
