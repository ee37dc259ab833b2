#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: visit
short_description: Measure every symptom area of a host in one task
version_added: "0.1.0"
description:
  - Reads the probes of the area roles, fills them in with the variables of the host, and measures all of them with one remote task.
  - The areas are measured side by side, each in a process of its own and with the deadline in its variable C(<area>_deadline).
  - Measures only. M(tracktion.ops.report) compiled what the visits brought home.
  - The task succeeds whatever happens to the host. A host that cannot be reached, or whose visit fails or takes longer than
    O(timeout), is a finding of M(tracktion.ops.report), with its cause and a hint.
  - Each measurement is validated against the RETURN documentation of its module. A malformed one makes its probe unknown.
  - 'The result has to be registered as C(tracktion_visit): that is where M(tracktion.ops.report) looks for it. A second visit of
    the same host adds to what the first one registered.'
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.action
  - tracktion.ops._attributes.actiongroup
options:
  areas:
    description:
      - The area roles to measure. A short name is a role of this collection, of the playbook or of the roles path.
        A role of another collection is named in full.
      - Without it, every area role of this collection.
    type: list
    elements: str
    default: []
  probe_host:
    description:
      - The inventory name of the host this visit runs on, where it is another one than the host it is about (C(delegate_to)).
      - Only the areas whose variable C(<area>_probe_host) names this host are measured. Without it, the areas whose variable is empty.
    type: str
  timeout:
    description:
      - Seconds for the whole visit. The module on the host gets nine tenths of what is left of them when it is sent, ends its
        areas then, and returns what they have measured.
      - One second after O(timeout), C(timeout\(1\)) ends what still runs on the host, where the host has this program. All
        processes of a visit also end when the connection breaks. A process in an uninterruptible wait (state D, as on a dead
        network mount) cannot be killed; it ends when the kernel returns from the wait.
    type: float
    default: 60
seealso:
  - module: tracktion.ops.report
  - module: tracktion.ops.measure
"""

EXAMPLES = r"""
- name: Measure the database and the cache in one visit
  tracktion.ops.visit:
    areas: [database, cache]
  register: tracktion_visit

- name: Judge and show
  ansible.builtin.import_role:
    name: tracktion.ops.report
"""

RETURN = r"""
visited:
  description:
    - What was measured, in a file in the temporary directory of this run on the controller, which only the user of the run can
      read. Ansible removes the directory at the end of the run. Null where the visit failed.
    - It is a file because Ansible walks through every value of a result several times, and sends it to every callback.
  returned: always
  type: dict
  contains:
    file: {description: Name of the file., type: str, returned: always}
    bytes: {description: Its size., type: int, returned: always}
    areas: {description: The areas that were measured here in this run., type: list, elements: str, returned: always}
  sample: {file: tracktion-visit-0123456789abcdef, bytes: 98304, areas: [cache, database]}
failure:
  description: Why the visit failed; else null.
  returned: always
  type: dict
  contains:
    msg: {description: What Ansible or the module said., type: str, returned: always}
    unreachable: {description: Whether the connection failed., type: bool, returned: always}
    connection: {description: 'How the controller connects: address, port, user, privilege escalation, interpreter.', type: dict, returned: always}
    rc: {description: Exit code of the interpreter., type: int, returned: when it ended without a result}
    module_stdout: {description: 'What it printed, cut in the middle.', type: str, returned: when it ended without a result}
    module_stderr: {description: 'What it printed as errors, cut in the middle.', type: str, returned: when it ended without a result}
  sample: null
probe_host:
  description: The host the visit ran on.
  returned: always
  type: str
  sample: lab
python:
  description: The interpreter that measured; null where nothing was measured.
  returned: always
  type: str
  sample: /usr/bin/python3.11
started:
  description: When the visit began, in seconds since the epoch.
  returned: always
  type: float
  sample: 1795400000.0
"""
