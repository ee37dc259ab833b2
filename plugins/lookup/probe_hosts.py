# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that are visited to measure one host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: probe_hosts
short_description: Hosts that are visited to measure the current host
version_added: 0.2.0
author: The tracktion.ops maintainers (@tracktion)
description:
  - Returns the host itself, and all hosts that its variables C(<area>_probe_host) name.
  - For the loop of M(tracktion.ops.visit), in the role P(tracktion.ops.visit#role).
options: {}
"""

EXAMPLES = r"""
- name: Measure every area in one visit
  tracktion.ops.visit:
    probe_host: "{{ item }}"
  delegate_to: "{{ item }}"
  loop: "{{ q('tracktion.ops.probe_hosts') }}"
"""

RETURN = r"""
_raw:
  description: Names of hosts, the host itself first.
  type: list
  elements: str
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _settings, _survey_answers, _variables

ENDING = "_probe_host"


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        variables = variables or {}
        self.set_options(var_options=variables, direct=kwargs)
        wanted = tuple(name for name in variables if name.endswith(ENDING))
        task = _variables.current_task()
        own = _variables.without_empty_answers(variables, self._templar, (_settings.PREFIX, *wanted), task)
        templar = self._templar.copy_with_new_env(available_variables=own)
        named = [self._named(own[name], templar) for name in wanted if name in own]
        return list(dict.fromkeys([own["inventory_hostname"], *filter(None, named)]))

    def _named(self, value: Any, templar: Any) -> str | None:
        """Return the host that a variable names; None without one, or if its value is invalid, which the visit reports."""
        try:
            name = _variables.resolve(templar, value)
        except (_variables.Unresolved, _variables.Omitted):
            return None
        return name if isinstance(name, str) and not _survey_answers.is_empty(name) else None
