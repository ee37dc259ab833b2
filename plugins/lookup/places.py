# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts that have to be visited to measure one host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: places
short_description: Hosts that have to be visited to measure this one
version_added: 0.1.0
author: The tracktion.ops maintainers (@tracktion)
description:
  - Returns the host itself, and every other host that a variable C(<area>_probe_host) of it names.
  - Meant for the loop of M(tracktion.ops.visit), in the role P(tracktion.ops.visit#role).
options: {}
"""

EXAMPLES = r"""
- name: Measure every area in one visit
  tracktion.ops.visit:
    place: "{{ item }}"
  delegate_to: "{{ item }}"
  loop: "{{ q('tracktion.ops.places') }}"
"""

RETURN = r"""
_raw:
  description: Names of hosts, the host itself first.
  type: list
  elements: str
"""

from ansible.plugins.lookup import LookupBase

ENDING = "_probe_host"


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        named = [self._templar.template(value) for name, value in variables.items() if name.endswith(ENDING)]
        return list(dict.fromkeys([variables["inventory_hostname"], *filter(None, named)]))
