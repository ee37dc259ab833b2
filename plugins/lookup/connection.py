# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the connection to the service of an area."""

from __future__ import annotations

DOCUMENTATION = r"""
name: connection
short_description: Options of the connection to the service of an area
version_added: 0.2.0
author: The tracktion.ops maintainers (@tracktion)
description:
  - Returns the options under C(connection) in an area's C(diagnosis/probes.yml) with the values of the current host.
    All probes of the area use them; the tasks of its remedies get them from this lookup.
  - Fails if a value is invalid. The message names the variable, never the value.
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

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _settings, _variables
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        variables = variables or {}
        self.set_options(var_options=variables, direct=kwargs)
        task = _variables.current_task()
        areas = {area.name: area for area in _areas.find()}
        unknown = [name for name in terms if name not in areas]
        if unknown:
            raise AnsibleLookupError("no area %s (known: %s)" % (", ".join(unknown), ", ".join(areas)))
        return [self._connection(areas[name], variables, task) for name in terms]

    def _connection(self, area: _areas.Area, variables: Mapping[str, Any], task: Any) -> Values:
        prefixes = (_settings.PREFIX, area.name + "_")
        variables = _variables.without_empty_answers(variables, self._templar, prefixes, task)
        templar = self._templar.copy_with_new_env(available_variables={**area.defaults, **variables})
        found = _settings.connection(area, variables, templar)
        error = found.error()
        if error:
            raise AnsibleLookupError(error["message"])
        return found.values
