# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values of role variables, validated, without empty answers of a survey."""

from __future__ import annotations

DOCUMENTATION = r"""
name: setting
short_description: Validated value of a role's variable
version_added: 0.2.0
author: The tracktion.ops maintainers (@tracktion)
description:
  - Returns the value of a variable that a role of this collection, or the current role, declares in its C(meta/argument_specs.yml).
  - An extra variable that is empty text counts as not set, because a survey of AWX passes optional questions that were left empty in
    this way. The value of the inventory or of the play is used instead, else the default of the role.
  - The value is converted to the declared type. A list may be text separated by commas or newlines.
  - Fails if the value is invalid. The message names the variable, never the value.
options:
  _terms:
    description: Names of variables.
    type: list
    elements: str
    required: true
  default:
    description: Value to return if neither the variable nor a default of a role exists.
    type: raw
  invalid:
    description:
      - Whether an invalid value fails the lookup. V(default) returns the default of the role, for tasks that report the invalid value
        themselves.
    type: str
    choices: [fail, default]
    default: fail
"""

EXAMPLES = r"""
- name: Restart a service of the stack that the inventory names
  tracktion.ops.container_restart:
    project: "{{ lookup('tracktion.ops.setting', 'tracktion_compose_project') }}"
    services: [redis]
"""

RETURN = r"""
_raw:
  description: The values, in the order of the names.
  type: list
  elements: raw
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _settings, _variables


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        variables = variables or {}
        self.set_options(var_options=variables, direct=kwargs)
        task = _variables.current_task()
        return [self._value(name, variables, task) for name in terms]

    def _value(self, name: str, variables: Mapping[str, Any], task: Any) -> Any:
        prefixes = (_settings.PREFIX, name)
        variables = _variables.without_empty_answers(variables, self._templar, prefixes, task)
        role = _settings.declared_by(name, variables.get("role_path"))
        defaults = role.defaults if role else {}
        if name not in variables and name not in defaults:
            return self.get_option("default")
        templar = self._templar.copy_with_new_env(available_variables={**defaults, **variables})
        found = _settings.read_one(name, role, variables, templar)
        error = found.error()
        if not error:
            return found.values[name]
        if self.get_option("invalid") == "default":
            return defaults.get(name)
        raise AnsibleLookupError(error["message"])
