#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Decide which remedies may be carried out
version_added: "0.1.0"
description:
  - Judges the results registered as C(tracktion_visit) on the hosts of this run, and makes an action of every finding that has a remedy.
    Findings that ask for the same remedy of the same target are one action.
  - An action is refused where it is more than O(risk) allows, loses data and is not named in O(confirm), is protected by a deny list of
    its role, has been done too recently, or is one too many; and where another run is at work on the host. The reason names the
    variable to set.
  - In check mode the plan is written to O(plan_file) and handed to C(set_stats) as C(tracktion_plan), with C(tracktion_plan_summary) for
    people beside it. Outside of it, a plan that is given is carried out, and nothing else; an action whose evidence is gone or has changed
    is refused.
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
    description: How far the plan may go.
    type: str
    choices: [safe, disruptive, destructive]
    default: safe
  confirm:
    description: What may lose data, as C(<remedy id>:<target>).
    type: list
    elements: str
    default: []
  only:
    description: Answer only findings of these ids, fingerprints or remedies; patterns are fine.
    type: list
    elements: str
    default: []
  skip:
    description: Leave findings of these ids, fingerprints or remedies alone.
    type: list
    elements: str
    default: []
  max_actions:
    description: Actions of the plan, over all hosts.
    type: int
    default: 20
  cooldown:
    description:
      - Seconds until the same may be done again to the same target, in place of what the remedies say; 0 is none.
    type: float
  plan_file:
    description: File on the controller that a run in check mode writes, and any other carries out.
    type: path
  plan:
    description: The plan itself, as it was handed to C(set_stats). It goes before O(plan_file).
    type: str
  plan_max_age:
    description: Seconds after which a plan is too old to be carried out.
    type: int
    default: 86400
  plan_key:
    description:
      - The key of the seal, at least 16 characters. The run that makes a plan and the run that carries it out need the same.
      - Without it, the key is the file C(tracktion_ops/plan.key) in C(ANSIBLE_HOME), which is created when it is first needed. A job of
        AWX has no files that outlive it and needs O(plan_key).
    type: str
  audit_path:
    description: The audit log on the controller. Outside check mode it is tried before anything is done.
    type: path
    required: true
seealso:
  - module: tracktion.ops.visit
  - module: tracktion.ops.remediation_journal
"""

EXAMPLES = r"""
- name: Decide what may be done
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
  description: How many actions may be carried out.
  returned: success
  type: int
  sample: 1
refused:
  description: How many may not.
  returned: success
  type: int
  sample: 2
hosts:
  description: The hosts with an action, or with one that an earlier run left unfinished; those with the worst finding first.
  returned: success
  type: list
  elements: str
  sample: [music-1]
actions:
  description: By host, the actions that may be carried out, in their order.
  returned: success
  type: dict
  sample:
    music-1:
      - action: 20ac7223356d1ff3
        host: music-1
        remedy: cache.set_maxmemory
        risk: safe
        target: maxmemory
        approved: true
        vars: {maxmemory: 402653184}
proposed:
  description: All actions, the refused ones with their C(reason), as JSON text.
  returned: success
  type: str
  sample: "[]"
before:
  description: The findings, as JSON text.
  returned: success
  type: str
  sample: "[]"
unfinished:
  description: What runs that are over have begun and not ended, from the logs of the hosts.
  returned: success
  type: list
  elements: dict
  sample: []
"""
