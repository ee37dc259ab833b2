# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables of this collection's roles, checked, and without the answers of a survey that were left empty."""

from __future__ import annotations

DOCUMENTATION = r"""
name: setting
short_description: Value of a role's variable, whatever way it was given
version_added: 0.1.0
author: The tracktion.ops maintainers (@tracktion)
description:
  - Returns the value of a variable that a role of this collection, or the current role, declares in its C(meta/argument_specs.yml).
  - An extra variable that is empty text, as a survey of AWX hands over an optional question that was left empty, counts as not given.
    The value of the inventory or the play holds then, else the default of the role.
  - The value has the type that the role declares. A list may be given as a list, or as text separated by commas or newlines.
  - Fails where the value cannot be used. The message names the variable, never the value.
options:
  _terms:
    description: Names of variables.
    type: list
    elements: str
    required: true
  default:
    description: What to return where neither a variable nor a default of a role is there.
    type: raw
  invalid:
    description:
      - What to do where a value cannot be used. V(default) returns the default of the role, for a keyword of a task that reports the
        mistake itself.
    type: str
    choices: [fail, default]
    default: fail
"""

EXAMPLES = r"""
- name: Restart a service of the stack that the inventory names
  tracktion.ops.container_restart:
    project: "{{ lookup('tracktion.ops.setting', 'containers_project') }}"
    services: [redis]
"""

RETURN = r"""
_raw:
  description: The values, in the order of the names.
  type: list
  elements: raw
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _settings, _variables


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        task = _variables.current_task()
        return [self._value(name, variables, task) for name in terms]

    def _value(self, name, variables, task):
        prefixes = (_settings.PREFIX, name)
        variables = _variables.without_empty_answers(variables, self._templar, prefixes, task)
        role = _settings.declared_by(name, variables.get("role_path"))
        defaults = role.defaults if role else {}
        if name not in variables and name not in defaults:
            return self.get_option("default")
        templar = self._templar.copy_with_new_env(available_variables={**defaults, **variables})
        found = _settings.read_one(name, role, variables, templar)
        if not found.problems:
            return found.values[name]
        if self.get_option("invalid") == "default":
            return defaults.get(name)
        raise AnsibleLookupError(found.error()["message"])
