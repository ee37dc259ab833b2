#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Judge what the visits measured, show it, and write it down
version_added: "0.1.0"
description:
  - CompiledChecks the results registered as C(tracktion_visit) on the hosts of this run, with the check rows of their areas.
  - Shows the findings worst first, writes C(report.json), and hands a summary to C(set_stats) as C(tracktion_report).
  - Runs on the controller and needs C(run_once). The role P(tracktion.ops.report#role) wraps it.
  - A report that is there already lends its findings the time they were first seen.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.action
options:
  directory:
    description:
      - Directory on the controller for C(report.json). It is made where it is missing.
      - It and the directories above it must belong to root or to the user of the run and must not be writable by others. Otherwise the
        report is not written, and a warning names the command that corrects it.
    type: path
    required: true
  plan:
    description:
      - What M(tracktion.ops.plan) returned, where actions were carried out since. Findings and actions are shown before and after.
    type: dict
  fail_at:
    description: RV(reaches_fail_at) is true where any finding is at least this severe, or where nothing at all is known of an area.
    type: str
    choices: [never, critical, warning, unknown, info]
    default: never
  format:
    description:
      - How the report is shown. V(full) shows each finding with its numbers and what to do about it.
      - V(lines) shows a line for each thing that is wrong, and for each area that is well.
      - Equal findings of several hosts are shown once. With several hosts, V(full) takes about 100 lines, and counts what does not fit.
    type: str
    choices: [full, lines]
    default: full
seealso:
  - module: tracktion.ops.visit
"""

EXAMPLES = r"""
- name: Report
  tracktion.ops.report:
    directory: reports
    fail_at: critical
  register: report_written
  run_once: true
"""

RETURN = r"""
path:
  description: Where the report lies on the controller; null where it could not be written.
  returned: always
  type: str
  sample: /home/operator/reports/report.json
summary:
  description: Status, counts and the worst findings, as handed to C(set_stats).
  returned: always
  type: dict
  sample: {status: warning, hosts: 1, findings_left_out: 0}
failed_actions:
  description: How many of the actions of O(plan) failed, or were not come to.
  returned: always
  type: int
  sample: 0
all_refused:
  description:
    - Whether actions of O(plan) were approved and all of them were refused. Those that are no longer needed do not count. Always false in
      check mode.
  returned: always
  type: bool
  sample: false
not_evaluated:
  description: The areas of which not one check came to a result, each with its host.
  returned: always
  type: list
  elements: str
  sample: []
reaches_fail_at:
  description: Whether a finding reaches O(fail_at), or an area is in RV(not_evaluated). Always false where O(fail_at) is V(never).
  returned: always
  type: bool
  sample: false
"""
