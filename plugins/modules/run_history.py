#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_history
short_description: Keep the history of runs on a host
version_added: 0.4.0
description:
  - Reads what earlier runs have found, or adds a run, in a directory of a host. For controllers whose files do not last, such as a job
    of AWX.
  - One file is kept for each run. It is renamed into place, so a run that is killed leaves no part of a file. Runs at the same time wait
    for each other.
  - Used by the role P(tracktion.ops.report#role), with O(ignore:tracktion_history_host).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
attributes:
  check_mode:
    support: full
    details:
      - Reads the history, and writes nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each call with O(record) adds a run.
options:
  directory:
    description:
      - Directory on the host. It is created, if it is missing, when the first run is added.
      - It and the directories above it must belong to root or to the user of the task and must not be writable by others.
    type: path
    required: true
  record:
    description: The run to add, from RV(tracktion.ops.report#module:history_record). Without it, the history is read.
    type: str
  runs:
    description: Number of runs to keep.
    type: int
    default: 100
  days:
    description: Age in days from which a run is removed.
    type: int
    default: 90
  bytes:
    description: Size of all files from which the oldest are removed.
    type: int
    default: 67108864
seealso:
  - module: tracktion.ops.report
"""

EXAMPLES = r"""
- name: Read the earlier runs
  tracktion.ops.run_history:
    directory: /var/lib/tracktion-ops/history
  register: report_earlier
  delegate_to: music-1
  run_once: true
"""

RETURN = r"""
history:
  description: The earlier runs, compressed, for O(tracktion.ops.report#module:history). Null if a run was added.
  returned: always
  type: str
  sample: eJyrVkrOzytJrShRslJQKi1JzsgvSk1RqgUAWxIHrg==
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils import _history_store
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options


def read(path: str) -> str:
    """Return the history in a directory, compressed. Raises OSError."""
    try:
        with _history_store.opened(path, make=False) as directory:
            return _history_store.pack(_history_store.read(directory))
    except FileNotFoundError:
        return _history_store.pack(_history_store.empty())


def add(params: Options) -> list[str]:
    """Add a run, and return problems. Raises OSError, and ValueError if the record is not valid."""
    record = _history_store.unpack(params["record"])
    if not isinstance(record, dict) or not {"run", "state"} <= set(record):
        raise ValueError("it is not a run")
    limits = _history_store.Limits(params["runs"], params["days"], params["bytes"])
    with _history_store.opened(params["directory"], make=True) as directory:
        return _history_store.write(directory, record, limits, time.time())


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "record": {"type": "str"},
            "runs": {"type": "int", "default": 100},
            "days": {"type": "int", "default": 90},
            "bytes": {"type": "int", "default": 64 << 20},
        },
        supports_check_mode=True,
    )
    path, history = module.params["directory"], None
    try:
        if not module.params["record"]:
            history = read(path)
        elif not module.check_mode:
            for problem in add(module.params):
                module.warn("History of runs: %s" % problem)
    except OSError as exc:
        module.fail_json(msg="%s: %s" % (path, exc.strerror or exc))
    except ValueError as exc:
        module.fail_json(msg="record: %s" % exc)
    module.exit_json(changed=bool(module.params["record"]) and not module.check_mode, history=history)


if __name__ == "__main__":
    main()
