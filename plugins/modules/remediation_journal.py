#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: remediation_journal
short_description: Lock a host for a remediation and log its actions
version_added: 0.2.0
description:
  - Keeps the lock and the audit log of a host on the host itself, where all controllers find them.
  - Before an action, O(state=begun) takes the lock, checks the cooldown of the action, and logs the intent. After it, O(state=ended) logs
    the outcome. At the end, O(state=released) releases the lock. The same entries are added to the log of the controller
    (O(audit_path)).
  - A lock is valid until its lease ends, the host restarts, or the process of its run ends, if that was started on this controller. An
    intent without an outcome means that its run ended during the action.
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
      - Reads lock and cooldown, and writes nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each call without check mode adds to the log.
options:
  state:
    description: The step; see the description.
    type: str
    choices: [begun, ended, released]
    required: true
  directory:
    description:
      - Directory on the host for the lock and the audit log. It is created if it is missing.
      - It and the directories above it must belong to root or to the user of the task and must not be writable by others. Its files
        must not be symbolic links.
    type: path
    required: true
  run:
    description:
      - The run, from RV(tracktion.ops.plan#module:run).
    type: dict
    required: true
  action:
    description:
      - The action, an item of RV(tracktion.ops.plan#module:actions). Required with O(state=begun) and O(state=ended).
    type: dict
  result:
    description:
      - The result of the action's task. Only the fields that its remedy names in C(result) are logged.
    type: dict
    default: {}
  lease:
    description: Seconds for which the lock is valid after each step.
    type: float
    default: 900
  max_failures:
    description: Number of failed actions after which a run carries out only safe ones.
    type: int
    default: 1
  settle:
    description: With O(state=released), wait until measurements show the effect of the actions.
    type: bool
    default: false
  audit_path:
    description: The audit log on the controller. Required with O(state=begun) and O(state=ended).
    type: path
  entry:
    description: The entry of the log. Set by the action plugin.
    type: dict
  cooldown:
    description: Seconds for which an action is not repeated. Set by the action plugin.
    type: float
    default: 0
  break_run:
    description: A run whose process has ended. Set by the action plugin.
    type: str
seealso:
  - module: tracktion.ops.plan
"""

EXAMPLES = r"""
- name: Release the lock
  tracktion.ops.remediation_journal:
    state: released
    directory: /var/lib/tracktion-ops
    run: "{{ tracktion_planned.run }}"
"""

RETURN = r"""
lock:
  description:
    - The lock of another run, as C(run), C(who), C(since), C(until) and C(stale) (why it is no longer valid, or null).
    - Null without a lock.
  returned: with O(state=begun) or O(state=released)
  type: dict
  sample: null
unfinished:
  description: Intents without an outcome, which were closed as abandoned.
  returned: with O(state=released)
  type: list
  elements: dict
  sample: []
error:
  description: Why the directory cannot be used, or null.
  returned: always
  type: str
  sample: null
go:
  description: Whether the action is carried out.
  returned: with O(state=begun)
  type: bool
  sample: true
reason:
  description: Why it is not carried out, or null.
  returned: with O(state=begun)
  type: str
  sample: null
until:
  description: With RV(reason=cooling), the epoch second until which the action is not repeated.
  returned: with O(state=begun)
  type: float
  sample: null
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._journal import CannotKeep, Journal
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options


def step(journal: Journal, params: Options, check_mode: bool) -> Mapping[str, Any]:
    """Run the step of the state and return its result. Raises CannotKeep."""
    run = params["run"]
    if params["state"] == "begun":
        return journal.begin(
            run, params["entry"], params["lease"], params["cooldown"], params["break_run"], check_mode=check_mode
        )
    if check_mode:
        return {"unfinished": [], "lock": None}
    if params["state"] == "ended":
        journal.end(run, params["entry"], params["lease"])
        return {}
    # A lock that remains belongs to another run.
    return {"unfinished": journal.release(run, params["break_run"]), "lock": journal.read()["lock"]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["begun", "ended", "released"], "required": True},
            "directory": {"type": "path", "required": True},
            "run": {"type": "dict", "required": True},
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
            ("state", "begun", ("entry",)),
            ("state", "ended", ("entry",)),
        ],
        supports_check_mode=True,
    )
    journal = Journal(module.params["directory"])
    try:
        result = step(journal, module.params, module.check_mode)
    except CannotKeep as exc:
        module.fail_json(msg=str(exc), error=str(exc))
    for problem in journal.problems:
        module.warn(problem)
    module.exit_json(changed=False, error=None, **result)


if __name__ == "__main__":
    main()
