#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libraries_info
short_description: List the Python libraries that a managed host has for this collection
version_added: 0.2.0
description:
  - Returns which of the named libraries the interpreter that Ansible uses on the host can import, and their versions.
  - It searches in the same order as the other modules of this collection, first the packages of that interpreter, then
    the virtual environment C(/opt/tracktion-ops/venv) that the role P(tracktion.ops.prepare#role) creates.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
options:
  libraries:
    description: The names by which the libraries are imported.
    type: list
    elements: str
    required: true
seealso:
  - ref: tracktion.ops.prepare role <ansible_collections.tracktion.ops.prepare_role>
    description: Installs them.
"""

EXAMPLES = r"""
- name: List the libraries that the modules can use
  tracktion.ops.libraries_info:
    libraries: [psycopg2, redis, hiredis, pika]
  register: libraries

- name: Show the missing libraries
  ansible.builtin.debug:
    msg: "{{ libraries.python.executable }} lacks {{ libraries.missing | join(', ') }}"
  when: libraries.missing | length > 0
"""

RETURN = r"""
libraries:
  description: The libraries, in the order of the option O(libraries).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name by which it is imported.
      type: str
      returned: always
    importable:
      description: Whether it can be imported.
      type: bool
      returned: always
    version:
      description: The value of C(__version__), null if the library is missing or has none.
      type: str
      returned: always
    path:
      description: The path of its file, null if the library is missing.
      type: str
      returned: always
  sample:
    - name: redis
      importable: true
      version: 4.3.4
      path: /usr/lib/python3/dist-packages/redis/__init__.py
missing:
  description: The names of the libraries that cannot be imported.
  returned: always
  type: list
  elements: str
  sample: [pika]
python:
  description: The interpreter that imported them.
  returned: always
  type: dict
  contains:
    executable:
      description: Its path.
      type: str
      returned: always
    prefix:
      description: The prefix of its installation, V(/usr) for the interpreter of the distribution.
      type: str
      returned: always
    version:
      description: Its version without the patch level.
      type: str
      returned: always
  sample:
    executable: /usr/bin/python3.11
    prefix: /usr
    version: "3.11"
"""

import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import MissingLibrary
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part


def find_library(name: str) -> Part:
    """Return whether a library can be imported, with its version and path: null if not, or if it has none."""
    try:
        library = require(name)
    except MissingLibrary:
        return {"name": name, "importable": False, "version": None, "path": None}
    version = getattr(library, "__version__", None)
    return {
        "name": name,
        "importable": True,
        "version": None if version is None else str(version),
        "path": getattr(library, "__file__", None),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={"libraries": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    libraries = [find_library(name) for name in module.params["libraries"]]
    module.exit_json(
        changed=False,
        libraries=libraries,
        missing=[library["name"] for library in libraries if not library["importable"]],
        python={"executable": sys.executable, "prefix": sys.prefix, "version": "%d.%d" % sys.version_info[:2]},
    )


if __name__ == "__main__":
    main()
