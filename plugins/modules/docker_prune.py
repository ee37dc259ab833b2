#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_prune
short_description: Remove old images, build cache and containers that nobody uses
version_added: "0.1.0"
description:
  - Finds what can go, and removes it one by one and without force, so that the engine keeps what somebody has begun to use meanwhile.
    The engine's own prune, which may take the data of a stack that is down, is never called.
  - Images are those without a name that no container uses. Containers are those of no compose service and without a restart policy,
    that have ended; their volumes stay. Volumes are removed by name only.
  - What carries the label C(tracktion.ops.protected=true) stays.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker
  - tracktion.ops._docker.sdk
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  kinds:
    description: What is removed. V(volumes) only with O(names).
    type: list
    elements: str
    choices: [images, build_cache, containers, volumes]
    required: true
  names:
    description: The volumes to remove.
    type: list
    elements: str
    default: []
  expected:
    description:
      - The evidence. Only these volumes are removed, if they are as they were. A volume of the same name that was made since then is another one.
    type: list
    elements: dict
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      created_at:
        description: Its C(created_at) in RV(tracktion.ops.container_state_info#module:disk.largest_unused_volumes).
        type: float
  older_than:
    description: Seconds since an image was made, cache was used, or a container ended, before it goes. Volumes go at any age.
    type: float
    default: 604800.0
  deny:
    description: Names (of images and of build cache, the id; of volumes, also that in the compose file) of what stays.
    type: list
    elements: str
    default: []
  max_items:
    description: How many things one run removes at most, the oldest first.
    type: int
    default: 100
  deadline:
    description: Seconds for all of it.
    type: float
    default: 120.0
seealso:
  - module: tracktion.ops.container_state_info
"""

EXAMPLES = r"""
- name: See what would go
  tracktion.ops.docker_prune:
    kinds: [images, build_cache]
  become: true
  check_mode: true
  diff: true

- name: Remove the data of a test stack
  tracktion.ops.docker_prune:
    kinds: [volumes]
    names: [test_postgres-data]
  become: true
"""

RETURN = r"""
before:
  description: What could go, as C(count) and C(bytes). The size of volumes is not asked for, and null.
  returned: always
  type: dict
  sample: {count: 3, bytes: 1073741824}
after:
  description: The same afterwards; in check mode, what would be left.
  returned: always
  type: dict
  sample: {count: 0, bytes: 0}
removed:
  description:
    - What was removed, or would be in check mode, or was named and stays, as C(kind), C(id), C(name), C(since) (epoch seconds), C(bytes), C(result),
      C(message).
    - C(result) is V(removed), V(planned) in check mode, V(gone) where somebody else was faster, V(kept) where it is in use. V(failed) where the
      engine was lost or could not remove it makes the module fail.
    - Of a volume that was named, C(result) may be V(protected), or V(changed_meanwhile) where it is not what O(expected) means.
  returned: always
  type: list
  elements: dict
  sample: [{kind: image, id: 'sha256:3f2a9c0d1e4b', name: 3f2a9c0d1e4b, since: 1795593039.0, bytes: 1024, result: removed, message: null}]
kind:
  description: Why, of the engine, as in the notes; else V(not_found), V(bad_option), V(missing_library) or V(cannot_measure).
  returned: when nothing could be tried
  type: str
  sample: timeout
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_prune
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main():
    module = AnsibleModule(argument_spec=_docker_prune.SPEC, supports_check_mode=True)
    exit_module(module, partial(_docker_prune.prune, module.params, module.check_mode))


if __name__ == "__main__":
    main()
