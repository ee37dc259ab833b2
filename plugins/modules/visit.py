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
  - Measures only. M(tracktion.ops.report) judges what the visits brought home.
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
  place:
    description:
      - The inventory name of the host this visit runs on, where it is another one than the host it is about (C(delegate_to)).
      - Only the areas whose variable C(<area>_probe_host) names this place are measured. Without it, the areas whose variable is empty.
    type: str
seealso:
  - module: tracktion.ops.report
  - module: tracktion.ops.measure
"""

EXAMPLES = r"""
- name: Measure the database and the cache in one visit
  tracktion.ops.visit:
    areas: [database, cache]
  register: tracktion_visit
  ignore_unreachable: true
  failed_when: false

- name: Judge and show
  ansible.builtin.import_role:
    name: tracktion.ops.report
"""

RETURN = r"""
visited:
  description:
    - 'What was measured, as JSON text: C(areas), by area C(role), C(settings) (the variables of the role on this host, without those that
      open doors), C(measurement) (by probe, what its module documents as its result), C(error) and C(seconds); and C(extra_checks),
      the rows of C(tracktion_extra_checks) on this host.'
    - It is text because Ansible walks through every value of a result several times. P(ansible.builtin.from_json#filter) opens it.
    - Null where the visit failed.
  returned: always
  type: str
  sample: '{"areas": {}, "extra_checks": []}'
place:
  description: The host the visit ran on.
  returned: always
  type: str
  sample: lab
python:
  description: The interpreter that measured; null where nothing had to be measured.
  returned: success
  type: str
  sample: /usr/bin/python3.11
started:
  description: When the visit began, in seconds since the epoch.
  returned: success
  type: float
  sample: 1795400000.0
"""
