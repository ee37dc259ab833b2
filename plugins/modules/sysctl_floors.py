#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sysctl_floors
short_description: Raise kernel parameters to floors, now and for the next boot
version_added: "0.1.0"
description:
  - Makes sure that each of the named kernel parameters is at least its floor, in the running kernel and after the next boot. It
    never lowers one.
  - Tells which file sets each parameter at boot. Where another file would undo a floor, the task says which line of it, and fails.
  - For parameters that are one whole number, of which more is higher.
  - In a container where they are read-only it changes nothing and says why in RV(raised.skipped_reason).
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
      - The floors, by the names of the parameters as sysctl(8) knows them. Dots separate, and a dot in the name of an interface is
        a slash, as in C(net.ipv4.neigh.eth0/1.gc_stale_time); or slashes separate, as in C(net/ipv4/neigh/eth0.1/gc_stale_time).
      - A parameter that the kernel does not have, or that is not one whole number, is refused before anything is done.
    type: dict
    required: true
  path:
    description:
      - The file that keeps the floors over a reboot. Only the lines of the named parameters in it are changed.
      - A parameter that another file brings to its floor or above at boot is not written. One that no file sets is written, as what
        the kernel will do by itself is not known; what is written is never below the value that holds in the running kernel.
      - The file has mode 0644. It is rejected where another user could replace it or a directory on its path.
    type: path
    default: /etc/sysctl.d/60-tracktion-sysctl.conf
  sysctl_root:
    description:
      - The directory under which the files of sysctl are looked for, O(path) included.
      - For a maintenance container that has the root file system of its host mounted, for example under C(/host).
    type: path
    default: /
  top:
    description: How many broken lines are returned at most.
    type: int
    default: 20
seealso:
  - module: tracktion.ops.inotify_limits
  - name: sysctl.d(5)
    description: Which file wins.
    link: https://www.freedesktop.org/software/systemd/man/latest/sysctl.d.html
"""

EXAMPLES = r"""
- name: Keep the parameters that the services need at their floors
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
    key: {description: Its name for sysctl., type: str, returned: always}
    runtime: {description: What holds now; null where a container does not have it., type: int, returned: always}
    floor: {description: Its floor., type: int, returned: always}
    persisted: {description: What the winning file sets at boot; null where no file sets it., type: int, returned: always}
    file: {description: 'The file that wins, else null.', type: str, returned: always}
    line: {description: The line in this file., type: int, returned: always}
    highest_persisted:
      description: The highest value in any file. Above RV(parameters[].persisted) where a later file undoes an earlier one.
      type: int
      returned: always
    settings:
      description: Every line that sets it by name, in the order in which they are read at boot, as C(file), C(line), C(value).
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
      highest_persisted: 262144
      settings: [{file: /etc/sysctl.d/60-tracktion-sysctl.conf, line: 2, value: 262144}]
boot_reader:
  description: What reads the files at boot, V(systemd-sysctl) or V(sysctl --system). Only the latter reads C(/etc/sysctl.conf) by itself.
  returned: always
  type: str
  sample: systemd-sysctl
broken_lines:
  description: Lines of sysctl files that cannot be used, as C(file), C(line), C(text), C(reason); at most O(top).
  returned: always
  type: list
  elements: dict
  sample: []
broken_lines_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
raised:
  description: What was done, or in check mode would be done.
  returned: always
  type: dict
  contains:
    path: {description: The drop-in., type: str, returned: always}
    before: {description: 'By parameter, what held before.', type: dict, returned: always}
    after: {description: 'By parameter, what holds now.', type: dict, returned: always}
    persisted_before: {description: 'By parameter, what a boot would have set; null for nothing.', type: dict, returned: always}
    persisted_after: {description: 'By parameter, what the next boot sets.', type: dict, returned: always}
    files: {description: 'By parameter, the file that wins at the next boot; null where none sets it.', type: dict, returned: always}
    overridden: {description: 'Where another file would undo a floor at the next boot, and what to do about it. The task fails then.',
      type: list, elements: str, returned: always}
    skipped_reason: {description: Why nothing was done here; else null., type: str, returned: always}
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

ARGUMENT_SPEC = {
    "floors": {"type": "dict", "required": True},
    "path": {"type": "path", "default": "/etc/sysctl.d/60-tracktion-sysctl.conf"},
    "sysctl_root": {"type": "path", "default": "/"},
    "top": {"type": "int", "default": 20},
}


def described(plan, root, top):
    """What kernel and files say about the parameters, besides what was done."""
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


def act(module):
    """Raise what is to be raised, then say what kernel and files hold."""
    root = module.params["sysctl_root"]
    floors = _sysctl_floors.named_floors(module.params["floors"])
    plan = _sysctl_floors.Plan(floors, module.params["path"], root, "sysctl_floors")
    return dict(_sysctl_floors.enforce(module, plan), **described(plan, root, module.params["top"]))


def main():
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(act, module))


if __name__ == "__main__":
    main()
