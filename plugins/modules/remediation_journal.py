#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: remediation_journal
short_description: Keep two remediations of a host apart, and write down what they do
version_added: "0.1.0"
description:
  - Keeps the lock and the audit log of a host on the host itself, where every controller finds them.
  - Before an action, O(state=begun) takes the lock, looks whether the action has been done too recently, and writes the intent; after it,
    O(state=ended) writes what came of it; at the end, O(state=released) gives the lock back. The log of the controller (O(audit_path))
    gets the same lines.
  - A lock counts until its lease is over, the machine is started anew, or, where the run was started on this controller, its process is
    gone. An intent without an outcome tells of a run that was ended in the middle.
  - Used by the role P(tracktion.ops.remediate#role).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.action
attributes:
  check_mode:
    support: full
    details:
      - Looks at lock and cooldown, and writes nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every call outside check mode, but for O(state=read), adds to the log.
options:
  state:
    description: What to do; see the description.
    type: str
    choices: [read, begun, ended, released]
    required: true
  directory:
    description:
      - Directory on the host for the lock and the audit log. It is made where it is missing.
      - It and the directories above it must belong to root or to the user of the task and must not be writable by others; symbolic
        links in the place of its files are rejected.
    type: path
    required: true
  run:
    description:
      - The run of RV(tracktion.ops.plan#module:run). Needed unless O(state=read).
    type: dict
  action:
    description:
      - The action, an item of RV(tracktion.ops.plan#module:actions). Needed with O(state=begun) and O(state=ended).
    type: dict
  result:
    description:
      - What the task of the action returned. Only the fields that its remedy names in C(result) are kept.
    type: dict
    default: {}
  lease:
    description: Seconds for which the lock counts after each step.
    type: float
    default: 900
  max_failures:
    description: Actions of a run that may fail before it carries out only safe ones.
    type: int
    default: 1
  settle:
    description: With O(state=released), wait until measurements show what was done.
    type: bool
    default: false
  audit_path:
    description: The audit log on the controller. Needed with O(state=begun) and O(state=ended).
    type: path
  entry:
    description: What is written. Filled in by the action plugin.
    type: dict
  cooldown:
    description: Seconds for which an action is not repeated. Filled in by the action plugin.
    type: float
    default: 0
  break_run:
    description: A run that is known to be dead. Filled in by the action plugin.
    type: str
seealso:
  - module: tracktion.ops.plan
"""

EXAMPLES = r"""
- name: Look what earlier remediations did here
  tracktion.ops.remediation_journal:
    state: read
    directory: /var/lib/tracktion-ops
  register: tracktion_journal
"""

RETURN = r"""
lock:
  description:
    - The lock that another run holds, as C(run), C(who), C(since), C(until) and C(stale) (why it no longer counts, or null).
    - Null where there is none.
  returned: with O(state=read), O(state=begun) or O(state=released)
  type: dict
  sample: null
unfinished:
  description: Intents without an outcome. With O(state=released), those that were closed as abandoned.
  returned: with O(state=read) or O(state=released)
  type: list
  elements: dict
  sample: []
done:
  description: Outcomes of actions that changed something, the latest last; at most 50.
  returned: with O(state=read)
  type: list
  elements: dict
  sample: []
error:
  description: Why the directory cannot be used; null where it can.
  returned: always
  type: str
  sample: null
go:
  description: Whether the action may be carried out.
  returned: with O(state=begun)
  type: bool
  sample: true
reason:
  description: Why not; null where it may.
  returned: with O(state=begun)
  type: str
  sample: null
until:
  description: With RV(reason=cooling), the epoch second until which the action is not repeated.
  returned: with O(state=begun)
  type: float
  sample: null
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._journal import CannotKeep, Journal


def step(journal, params, check_mode):
    """What the state asks for. Raises CannotKeep."""
    run = params["run"]
    if params["state"] == "read":
        return journal.read()
    if params["state"] == "begun":
        return journal.begin(
            run, params["entry"], params["lease"], params["cooldown"], params["break_run"], check_mode=check_mode
        )
    if check_mode:
        return {"unfinished": [], "lock": None}
    if params["state"] == "ended":
        journal.end(run, params["entry"], params["lease"])
        return {}
    # A lock that is there after that is another run's.
    return {"unfinished": journal.release(run, params["break_run"]), "lock": journal.read()["lock"]}


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["read", "begun", "ended", "released"], "required": True},
            "directory": {"type": "path", "required": True},
            "run": {"type": "dict"},
            "action": {"type": "dict"},
            "result": {"type": "dict", "default": {}},
            "lease": {"type": "float", "default": 900},
            "max_failures": {"type": "int", "default": 1},
            "settle": {"type": "bool", "default": False},
            "audit_path": {"type": "path"},
            "entry": {"type": "dict"},
            "cooldown": {"type": "float", "default": 0},
            "break_run": {"type": "str"},
        },
        required_if=[
            ("state", "begun", ("run", "entry")),
            ("state", "ended", ("run", "entry")),
            ("state", "released", ("run",)),
        ],
        supports_check_mode=True,
    )
    journal = Journal(module.params["directory"])
    try:
        result = step(journal, module.params, module.check_mode)
    except CannotKeep as exc:
        if module.params["state"] == "read":
            module.exit_json(changed=False, error=str(exc), lock=None, unfinished=[], done=[])
        module.fail_json(msg=str(exc), error=str(exc))
    for problem in journal.problems:
        module.warn(problem)
    module.exit_json(changed=False, error=None, **result)


if __name__ == "__main__":
    main()
