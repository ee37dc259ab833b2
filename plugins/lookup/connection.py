# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options with which the modules of an area reach its service."""

from __future__ import annotations

DOCUMENTATION = r"""
name: connection
short_description: Options with which the modules of an area reach its service
version_added: 0.2.0
author: The tracktion.ops maintainers (@tracktion)
description:
  - Returns the options that the C(connection) of an area's C(diagnosis/probes.yml) names, filled in with the variables of the current host.
    Every probe of the area has them, and the tasks of its remedies take them from here.
  - Fails where a value cannot be used. The message names the variable, never the value.
options:
  _terms:
    description: Names of area roles of this collection.
    type: list
    elements: str
    required: true
seealso:
  - plugin: tracktion.ops.setting
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Collect statistics of a table
  tracktion.ops.pg_maintenance:
    action: analyze
    tables:
      - name: tracks
  module_defaults:
    tracktion.ops.pg_maintenance: "{{ lookup('tracktion.ops.connection', 'database') }}"
"""

RETURN = r"""
_raw:
  description: The options of each area, in the order of the names.
  type: list
  elements: dict
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _settings, _variables


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        task = _variables.current_task()
        areas = {area.name: area for area in _areas.find()}
        unknown = [name for name in terms if name not in areas]
        if unknown:
            raise AnsibleLookupError("no area %s (known: %s)" % (", ".join(unknown), ", ".join(areas)))
        return [self._options(areas[name], variables, task) for name in terms]

    def _options(self, area, variables, task):
        prefixes = (_settings.PREFIX, area.name + "_")
        variables = _variables.without_empty_answers(variables, self._templar, prefixes, task)
        templar = self._templar.copy_with_new_env(available_variables={**area.defaults, **variables})
        found = _settings.connection(area, variables, templar)
        if found.problems:
            raise AnsibleLookupError(found.error()["message"])
        return found.values
