#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sysctl_floors
short_description: Raise kernel parameters to floors, now and for the next boot
version_added: 0.2.0
description:
  - Raises each of the given kernel parameters to at least its floor, in the running kernel and for the next boot. It never lowers a
    parameter.
  - Returns the file that sets each parameter at boot. If another file would undo a floor, the task fails and names the line.
  - Supports parameters with one whole number as value, where more is higher.
  - In a container where the parameters are read-only, nothing is changed, and RV(raised.skipped_reason) gives the reason.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  floors:
    description:
      - The floors by sysctl key. Dots separate, and a dot in the name of an interface is written as a slash, as in
        C(net.ipv4.neigh.eth0/1.gc_stale_time); or slashes separate, as in C(net/ipv4/neigh/eth0.1/gc_stale_time).
      - A parameter that the kernel does not have, or that is not one whole number, is rejected before anything is changed.
    type: dict
    required: true
  path:
    description:
      - The drop-in that sets the floors at boot. Only the lines of the given parameters are changed.
      - A parameter that another file sets to at least its floor is not written. A parameter that no file sets is written, because the
        kernel's default is not known. A written value is never below the current value.
      - The file has mode 0644. It is rejected if another user could replace it or a directory on its path.
    type: path
    default: /etc/sysctl.d/60-tracktion-sysctl.conf
  sysctl_root:
    description:
      - The root directory of the sysctl files, including O(path).
      - For a maintenance container that mounts the root file system of its host, for example at C(/host).
    type: path
    default: /
  top:
    description: Maximum number of broken lines in the result.
    type: int
    default: 20
seealso:
  - module: tracktion.ops.inotify_limits
  - name: sysctl.d(5)
    description: Precedence of the files.
    link: https://www.freedesktop.org/software/systemd/man/latest/sysctl.d.html
"""

EXAMPLES = r"""
- name: Raise the parameters that the services need
  tracktion.ops.sysctl_floors:
    floors:
      vm.max_map_count: 262144
      net.core.somaxconn: 1024
  become: true
"""

RETURN = r"""
parameters:
  description: The parameters, in the order of O(floors).
  returned: always
  type: list
  elements: dict
  contains:
    key: {description: Its sysctl key., type: str, returned: always}
    runtime: {description: Current value; null if this container does not have it., type: int, returned: always}
    floor: {description: Its floor., type: int, returned: always}
    persisted: {description: The value that the file sets at boot; null if no file sets it., type: int, returned: always}
    file: {description: 'The file that takes precedence, else null.', type: str, returned: always}
    line: {description: The line in this file., type: int, returned: always}
    by_pattern: {description: 'Whether this line sets a pattern, such as C(vm.*).', type: bool, returned: always}
    highest_persisted:
      description: The highest value in any file. It is above RV(parameters[].persisted) if a later file overrides an earlier one.
      type: int
      returned: always
    settings:
      description: All lines that set it by name, in the order of reading at boot, as C(file), C(line), C(value).
      type: list
      elements: dict
      returned: always
  sample:
    - key: vm.max_map_count
      runtime: 262144
      floor: 262144
      persisted: 262144
      file: /etc/sysctl.d/60-tracktion-sysctl.conf
      line: 2
      by_pattern: false
      highest_persisted: 262144
      settings: [{file: /etc/sysctl.d/60-tracktion-sysctl.conf, line: 2, value: 262144}]
boot_reader:
  description: Program that reads the files at boot, V(systemd-sysctl) or V(sysctl --system). Only the latter reads C(/etc/sysctl.conf) by itself.
  returned: always
  type: str
  sample: systemd-sysctl
broken_lines:
  description: Invalid lines of sysctl files, as C(file), C(line), C(text), C(reason); at most O(top).
  returned: always
  type: list
  elements: dict
  sample: []
broken_lines_total:
  description: Number of invalid lines.
  returned: always
  type: int
  sample: 0
raised:
  description: The changes, in check mode the planned changes.
  returned: always
  type: dict
  contains:
    path: {description: The drop-in., type: str, returned: always}
    before: {description: 'Value before, by parameter.', type: dict, returned: always}
    after: {description: 'Value after, by parameter.', type: dict, returned: always}
    persisted_before: {description: 'Value that a file set at boot before, by parameter; null for none.', type: dict, returned: always}
    persisted_after: {description: 'Value that a file sets at the next boot, by parameter.', type: dict, returned: always}
    files: {description: 'File that takes precedence at the next boot, by parameter; null for none.', type: dict, returned: always}
    overridden: {description: 'Files that would undo a floor at the next boot, with a hint for each. The task fails then.',
      type: list, elements: str, returned: always}
    skipped_reason: {description: Why nothing was changed; else null., type: str, returned: always}
  sample:
    path: /etc/sysctl.d/60-tracktion-sysctl.conf
    before: {vm.max_map_count: 65530}
    after: {vm.max_map_count: 262144}
    persisted_before: {vm.max_map_count: null}
    persisted_after: {vm.max_map_count: 262144}
    files: {vm.max_map_count: /etc/sysctl.d/60-tracktion-sysctl.conf}
    overridden: []
    skipped_reason: null
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sysctl, _sysctl_floors
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

ARGUMENT_SPEC = {
    "floors": {"type": "dict", "required": True},
    "path": {"type": "path", "default": "/etc/sysctl.d/60-tracktion-sysctl.conf"},
    "sysctl_root": {"type": "path", "default": "/"},
    "top": {"type": "int", "default": 20},
}


def describe(plan: _sysctl_floors.Plan, root: str, top: int) -> Part:
    """Return the current values of the parameters in the kernel and the files."""
    configuration = _sysctl.read(plan.floors, root)
    return {
        "parameters": [
            {"key": key, "runtime": plan.current(key), "floor": floor, **configuration.describe(key)}
            for key, floor in plan.floors.items()
        ],
        "boot_reader": _sysctl.boot_reader(root),
        "broken_lines": configuration.broken[:top],
        "broken_lines_total": len(configuration.broken),
    }


def act(module: AnsibleModule) -> Part:
    """Raise the parameters, then read the kernel and the files."""
    root = module.params["sysctl_root"]
    floors = _sysctl_floors.parse_floors(module.params["floors"])
    plan = _sysctl_floors.Plan(floors, module.params["path"], root, "sysctl_floors")
    return dict(_sysctl_floors.enforce(module, plan), **describe(plan, root, module.params["top"]))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(act, module))


if __name__ == "__main__":
    main()
