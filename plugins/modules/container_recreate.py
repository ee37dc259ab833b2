#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_recreate
short_description: Make the containers of a compose service as its compose file says
version_added: "0.1.0"
description:
  - Where the containers of a service differ from its compose file in image or memory limit, or where there are none, it has the compose of
    the host make them (C(up --detach --no-deps --no-build)), and waits until they are healthy. A restart applies no change of the file.
  - Nothing is done where nothing differs, where a container is not the one that O(expected) means any more, and where one carries the label
    C(tracktion.ops.protected=true).
  - What a container keeps outside of volumes is lost, as with every C(up).
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
  project:
    description: The compose project.
    type: str
    required: true
  service:
    description: The service. No other one is touched, not even those that it depends on.
    type: str
    required: true
  compose_files:
    description: The compose files. Without them, those that compose wrote in the labels of the project's containers.
    type: list
    elements: path
    default: []
  compose_command:
    description: The words that run compose. Without them, C(docker compose) or, where there is no such plugin, C(docker-compose).
    type: list
    elements: str
    default: []
  expected:
    description: The evidence. The containers that were found, each of which must still be there and not restarted; an empty list if there was none.
    type: list
    elements: dict
    suboptions:
      id:
        description: Its id, twelve characters of it or more.
        type: str
        required: true
      started_at:
        description: When it was started, in epoch seconds; without it, one that was never started is meant.
        type: float
  deny:
    description: Services and containers, by name, that are never touched.
    type: list
    elements: str
    default: []
  deadline:
    description: Seconds within which the containers have to work.
    type: float
    default: 180.0
requirements:
  - PyYAML
  - compose 2, or 1.25 and newer
seealso:
  - module: tracktion.ops.container_restart
"""

EXAMPLES = r"""
- name: Apply what was changed in the compose file, and never applied
  tracktion.ops.container_recreate:
    project: tracktion
    service: redis
  become: true
  check_mode: true
  diff: true
"""

RETURN = r"""
result:
  description:
    - V(recreated), and V(planned) in check mode; V(as_wanted), V(changed_meanwhile) and V(protected) where nothing was done. V(failed) makes the
      module fail.
  returned: always, unless the engine could not be asked or an option cannot be used
  type: str
  sample: recreated
differences:
  description: What differed from the compose file, as in RV(tracktion.ops.container_state_info#module:compose.drift).
  returned: as RV(result)
  type: list
  elements: dict
  sample: []
before:
  description:
    - The containers before, by name, as C(id), C(name), C(image), C(memory_limit_set), C(status), C(health), C(started_at).
  returned: as RV(result)
  type: dict
  sample: {}
after:
  description: The same after it. In check mode, what is to be expected.
  returned: as RV(result)
  type: dict
  sample: {}
kind:
  description: Why, of the engine, as in the notes; else V(not_found), V(bad_option), V(missing_library) or V(cannot_measure).
  returned: when nothing could be tried
  type: str
  sample: timeout
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_recreate
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main():
    module = AnsibleModule(argument_spec=_container_recreate.SPEC, supports_check_mode=True)
    exit_module(module, partial(_container_recreate.recreate, module.params, module.check_mode, module.run_command))


if __name__ == "__main__":
    main()
