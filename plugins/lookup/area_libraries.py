# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Python libraries that area roles need on the hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: area_libraries
short_description: Python libraries that the modules of area roles import
version_added: 0.2.0
author: The tracktion.ops maintainers (@tracktion)
description:
  - Returns the libraries in the files C(diagnosis/libraries.yml) of the roles. A role without that file needs no library.
options:
  _terms:
    description: Area roles, named as in M(tracktion.ops.visit). Without names, all area roles of this collection.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: List the libraries that are missing on the host
  tracktion.ops.libraries_info:
    libraries: "{{ q('tracktion.ops.area_libraries', 'database', 'cache') }}"
"""

RETURN = r"""
_raw:
  description: Names of libraries, each once.
  type: list
  elements: str
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        variables = variables or {}
        self.set_options(var_options=variables, direct=kwargs)
        areas = _areas.find(terms, variables.get("playbook_dir", "."))
        return sorted({library for area in areas for library in area.libraries()})
