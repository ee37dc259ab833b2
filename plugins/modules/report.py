#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Evaluate the measurements of the visits and report the findings
version_added: 0.2.0
description:
  - Evaluates the check rows of all areas over the results registered as C(tracktion_visit) on the hosts of this run.
  - Shows the findings, the worst first, writes C(report.json), and passes a summary to C(set_stats) as C(tracktion_report).
  - Runs on the controller and needs C(run_once). The role P(tracktion.ops.report#role) wraps it.
  - Compares the findings with earlier runs, and keeps this run for later ones.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.action
options:
  directory:
    description:
      - Directory on the controller for C(report.json). It is created if it is missing.
      - It and the directories above it must belong to root or to the user of the run and must not be writable by others. Otherwise the
        report is not written, and a warning names the command that corrects it.
    type: path
    required: true
  plan:
    description:
      - The result of M(tracktion.ops.plan), after its actions were carried out. The report then has the actions, and the findings before
        and after.
    type: dict
  only_before:
    description:
      - Evaluate, and neither show nor write a report. RV(before) is then O(plan) of a later report about a run without a plan of remedies, such
        as a restart.
    type: bool
    default: false
    version_added: 0.4.0
  fail_at:
    description: RV(reaches_fail_at) is true if a finding is at least this severe, or if no check of an area could be evaluated.
    type: str
    choices: [never, critical, warning, unknown, info]
    default: never
  format:
    description:
      - The format of the report on the terminal. V(incidents) shows each cause with its values, hint and remedy, and what follows from it
        in a line each. V(full) shows all findings in full.
      - V(lines) shows one line for each failure, and for each area that is ok.
      - Equal incidents and findings of several hosts are shown once. With several hosts, V(incidents) has about 100 lines; the other findings
        are counted.
    type: str
    choices: [incidents, full, lines]
    default: incidents
  outputs:
    description:
      - Further files to write into O(directory), from the same data.
      - V(html) is C(report.html), one page without external resources. V(prometheus) is C(report.prom), for the textfile collector of
        node_exporter. V(junit) is C(report.junit.xml), for CI servers. V(markdown) is C(report.md), for chats and tickets.
    type: list
    elements: str
    choices: [html, prometheus, junit, markdown]
    default: []
  history_dir:
    description:
      - Directory on the controller for the history of runs. The default is C(history) in O(directory). The same is required of it.
      - If it cannot be used, a warning and the report say so.
    type: path
  history:
    description: The result of M(tracktion.ops.run_history) on the host that keeps the history, instead of O(history_dir).
    type: dict
  history_runs:
    description: Number of runs to keep. With V(0), no history is read or kept.
    type: int
    default: 100
  history_days:
    description: Age in days from which a run is removed.
    type: int
    default: 90
  history_bytes:
    description: Size of all files of the history from which the oldest are removed.
    type: int
    default: 67108864
seealso:
  - module: tracktion.ops.run_history
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
before:
  description: The findings before, and the run. The other values are not returned with it.
  returned: with O(only_before)
  type: dict
  sample: {hosts: [lab], unfinished: []}
path:
  description: The path of the report on the controller; null if it could not be written.
  returned: without O(only_before)
  type: str
  sample: /home/operator/reports/report.json
outputs:
  description: The paths of the files of O(outputs) that were written, by their names.
  returned: without O(only_before)
  type: dict
  sample: {html: /home/operator/reports/report.html}
history_record:
  description: This run, for O(tracktion.ops.run_history#module:record). Null without O(history).
  returned: without O(only_before)
  type: str
  sample: null
summary:
  description:
    - Status, counts and the worst findings, as passed to C(set_stats). With V(markdown) in O(outputs), C(markdown) in it is its text.
  returned: without O(only_before)
  type: dict
  sample: {status: warning, hosts: 1, findings_left_out: 0}
failed_actions:
  description: Number of actions of O(plan) that failed or were not run.
  returned: without O(only_before)
  type: int
  sample: 0
all_refused:
  description:
    - Whether actions of O(plan) were approved and all of them were refused. Actions that are no longer needed do not count. Always false
      in check mode.
  returned: without O(only_before)
  type: bool
  sample: false
not_evaluated:
  description: The areas of which no check could be evaluated, each with its host.
  returned: without O(only_before)
  type: list
  elements: str
  sample: []
reaches_fail_at:
  description: Whether a finding reaches O(fail_at), or an area is in RV(not_evaluated). Always false if O(fail_at) is V(never).
  returned: without O(only_before)
  type: bool
  sample: false
"""
