#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_report
short_description: Report the backups, proofs or restores of a run
version_added: 0.4.0
description:
  - Collects the results that the role P(tracktion.ops.recovery#role) registered on the hosts of this run, shows a table, writes
    C(<what>.json), and passes a summary to C(set_stats) as C(tracktion_recovery).
  - The results are the variables C(recovery_<what>_postgresql), C(recovery_<what>_redis) and C(recovery_<what>_rabbitmq).
  - Fails if there are none.
  - Runs on the controller and needs C(run_once).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.action
options:
  what:
    description: What the run does.
    type: str
    choices: [backup, prove, restore]
    required: true
  directory:
    description:
      - Directory on the controller for the report. It is created if it is missing.
      - It and its parent directories must belong to root or to the user of the run and must not be writable by others. Otherwise the
        report is not written, and a warning gives the command that corrects it.
    type: path
    required: true
  only_if_nothing:
    description: Only fail if there are no results, because no host was visited.
    type: bool
    default: false
seealso:
  - module: tracktion.ops.pg_backup
"""

EXAMPLES = r"""
- name: Show the backups by host
  tracktion.ops.recovery_report:
    what: backup
    directory: reports
  run_once: true
"""

RETURN = r"""
path:
  description: Path of the report on the controller; null if it could not be written.
  returned: always
  type: str
  sample: /home/operator/reports/backup.json
complete:
  description: Whether nothing failed.
  returned: always
  type: bool
  sample: true
failed_hosts:
  description: The hosts on which something failed.
  returned: always
  type: list
  elements: str
  sample: []
summary:
  description: The results, as passed to C(set_stats); null with O(only_if_nothing).
  returned: always
  type: dict
  sample: {complete: true, check_mode: false, items: []}
"""
