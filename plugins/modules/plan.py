#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Plan which remedies are carried out
version_added: 0.2.0
description:
  - Evaluates the results registered as C(tracktion_visit) on the hosts of this run, and makes an action of each finding with a remedy.
    Findings with the same remedy and target are one action.
  - An action is refused if its risk is higher than O(risk), if it loses data and is not named in O(confirm), if its target is in a deny
    list of its role, if it was carried out too recently, if a cap is reached, or if another run holds the lock of the host. The reason
    names the variable to set.
  - In check mode the plan is written to O(plan_file) and passed to C(set_stats) as C(tracktion_plan), with C(tracktion_plan_summary) for
    people. Without check mode, the actions of a given plan are carried out, and no others; an action whose evidence is gone or has
    changed is refused.
  - A plan has a seal that is made with O(plan_key). A plan without a seal, or with one that cannot be verified, is rejected.
  - Runs on the controller, changes nothing, and needs C(run_once). The role P(tracktion.ops.remediate#role) wraps it.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.action
options:
  risk:
    description: The highest risk of an action.
    type: str
    choices: [safe, disruptive, destructive]
    default: safe
  confirm:
    description: Destructive actions to allow, as C(<remedy id>:<target>).
    type: list
    elements: str
    default: []
  only:
    description: Act only on findings with these ids, fingerprints or remedies. Patterns are allowed.
    type: list
    elements: str
    default: []
  skip:
    description: Do not act on findings with these ids, fingerprints or remedies. Patterns are allowed.
    type: list
    elements: str
    default: []
  max_actions:
    description: The largest number of actions over all hosts.
    type: int
    default: 20
  cooldown:
    description:
      - Seconds until an action may be repeated on the same target, instead of the values of the remedies; 0 means no wait.
    type: float
  plan_file:
    description: File on the controller for the plan. A run in check mode writes it; another run carries it out.
    type: path
  plan:
    description: The plan itself, as passed to C(set_stats). It takes precedence over O(plan_file).
    type: str
  plan_max_age:
    description: The largest age of a plan in seconds.
    type: int
    default: 86400
  plan_key:
    description:
      - The key of the seal, at least 16 characters. The run that makes a plan and the run that carries it out need the same key.
      - Without it, the key is the file C(tracktion_ops/plan.key) in C(ANSIBLE_HOME), which is created when it is first needed. A job of
        AWX loses its files at its end, so it needs O(plan_key).
    type: str
  audit_path:
    description: The audit log on the controller. The run fails before any action if it cannot be written.
    type: path
    required: true
seealso:
  - module: tracktion.ops.visit
  - module: tracktion.ops.remediation_journal
"""

EXAMPLES = r"""
- name: Plan actions
  tracktion.ops.plan:
    risk: disruptive
    skip: ["cache.*"]
    audit_path: reports/audit.jsonl
  register: tracktion_planned
  run_once: true
  delegate_to: localhost
  delegate_facts: true
"""

RETURN = r"""
run:
  description: This run, as C(run) (its id), C(who), C(controller), C(pid) and C(pid_start).
  returned: success
  type: dict
  sample: {run: 20260101T030000Z-1f0c2a, who: operator@controller, controller: controller, pid: 4711, pid_start: 88123}
planned:
  description: Number of planned actions.
  returned: success
  type: int
  sample: 1
refused:
  description: Number of refused actions.
  returned: success
  type: int
  sample: 2
hosts:
  description: The hosts with a planned action, or with one that an earlier run left unfinished.
  returned: success
  type: list
  elements: str
  sample: [music-1]
actions:
  description: The planned actions by host, in their order.
  returned: success
  type: dict
  sample:
    music-1:
      - action: 20ac7223356d1ff3
        host: music-1
        remedy: cache.set_maxmemory
        risk: disruptive
        target: maxmemory
        approved: true
        vars: {maxmemory: 402653184}
proposed:
  description: All actions, refused ones with a C(reason), as JSON text.
  returned: success
  type: str
  sample: "[]"
before:
  description: The findings, as JSON text.
  returned: success
  type: str
  sample: "[]"
unfinished:
  description: Actions of ended runs without an outcome, from the audit logs of the hosts.
  returned: success
  type: list
  elements: dict
  sample: []
"""
