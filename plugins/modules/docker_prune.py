#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_prune
short_description: Remove old unused images, build cache, containers and volumes
version_added: 0.2.0
description:
  - Removes unused objects one by one and without force, so that the engine keeps an object that was used meanwhile. The prune of the
    engine, which may remove the data of a stack that is down, is never called.
  - Images are removed if they have no name and no container uses them. Containers are removed if they have ended, belong to no compose
    service and have no restart policy; their volumes are kept. Volumes are removed by name only.
  - Objects with the label C(tracktion.ops.protected=true) are kept.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  kinds:
    description: Kinds of objects to remove. V(volumes) requires O(names).
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
      - Remove only these volumes, and only if they have not changed. A volume that was created again under the same name is kept.
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
    description: Minimum seconds since an image was created, cache was used, or a container ended. It does not apply to volumes.
    type: float
    default: 604800.0
  deny:
    description: Names of objects to keep; the id of images and of build cache, the name or the name in the compose file of volumes.
    type: list
    elements: str
    default: []
  max_items:
    description: Maximum number of objects to remove, the oldest first.
    type: int
    default: 100
  deadline:
    description: Seconds for the whole run.
    type: float
    default: 120.0
requirements:
  - docker >= 5.0 (the SDK, C(python3-docker))
seealso:
  - module: tracktion.ops.container_state_info
"""

EXAMPLES = r"""
- name: Show what would be removed
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
  description: Objects that can be removed, as C(count) and C(bytes). The bytes are null with volumes, whose size is not read.
  returned: always
  type: dict
  sample: {count: 3, bytes: 1073741824}
after:
  description: The same afterwards; the expected values in check mode.
  returned: always
  type: dict
  sample: {count: 0, bytes: 0}
removed:
  description:
    - Objects that were removed, or would be in check mode, and named volumes that were kept, as C(kind), C(id), C(name), C(since) (epoch seconds),
      C(bytes), C(result), C(message).
    - C(result) is V(removed), V(planned) in check mode, V(gone) if it no longer existed, V(kept) if it is in use. V(failed) makes the module fail.
    - C(result) of a volume may be V(protected), or V(changed_meanwhile) if it is not one of O(expected).
  returned: always
  type: list
  elements: dict
  sample: [{kind: image, id: 'sha256:3f2a9c0d1e4b', name: 3f2a9c0d1e4b, since: 1795593039.0, bytes: 1024, result: removed, message: null}]
kind:
  description: Kind of the failure; see the notes for those of the engine. Else V(not_found), V(bad_option), V(missing_library) or V(cannot_measure).
  returned: on failure before anything was changed
  type: str
  sample: refused
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_prune
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main() -> None:
    module = AnsibleModule(argument_spec=_docker_prune.SPEC, supports_check_mode=True)
    exit_module(module, partial(_docker_prune.prune, module.params, module.check_mode))


if __name__ == "__main__":
    main()
