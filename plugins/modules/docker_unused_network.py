#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_unused_network
short_description: Remove a network of a compose project that no container uses
version_added: 0.2.0
description:
  - Removes one network of the engine if O(name), O(id) and O(project) match and no container is attached to it, running or stopped.
  - The containers are read again just before the removal, and the engine rejects the removal of a network in use.
  - Networks of the engine itself (C(bridge), C(host), C(none), C(docker_gwbridge), C(ingress)), of a swarm, of no project or of another one,
    and networks with the label C(tracktion.ops.protected) are never removed.
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
    details:
      - The module changes nothing if the network does not exist.
options:
  name:
    description: The name of the network.
    type: str
    required: true
  id:
    description: Its complete id. A network that was created again under the same name is kept.
    type: str
    required: true
  project:
    description: The compose project that it belongs to.
    type: str
    required: true
  timeout:
    description: Timeout of the connection and of each answer, in seconds.
    type: float
    default: 10.0
requirements:
  - docker >= 5.0 (the SDK, C(python3-docker))
seealso:
  - module: tracktion.ops.network_paths_info
  - module: community.docker.docker_network
  - module: community.docker.docker_prune
"""

EXAMPLES = r"""
- name: Show what would be removed, and the command that creates it again
  tracktion.ops.docker_unused_network:
    name: tracktion_old
    id: "{{ network.networks[0].id }}"
    project: tracktion
  check_mode: true
  diff: true
"""

RETURN = r"""
before:
  description: The network as it was (C(id), C(name), C(driver), C(subnets), C(containers), ...), null if it did not exist.
  returned: always
  type: dict
  sample: {id: 6d1aff69ed8c, name: tracktion_old, driver: bridge, subnets: [172.20.9.0/24], containers: []}
after:
  description: The network afterwards. Null if it was removed, or would be in check mode.
  returned: always
  type: dict
  sample: null
skipped_reason:
  description: Why it was not removed, else null.
  returned: always
  type: str
  sample: null
undo:
  description: The command that creates the network again, with its driver, subnets, options and labels. Null if it did not exist.
  returned: always
  type: str
  sample: docker network create --driver bridge --subnet 172.20.9.0/24 --label com.docker.compose.project=tracktion -- tracktion_old
undo_options:
  description: The words of RV(undo) after C(docker network create).
  returned: always
  type: list
  elements: str
  sample: [--driver, bridge, --subnet, 172.20.9.0/24, --label, com.docker.compose.project=tracktion, --, tracktion_old]
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_unused_network import (
    ARGUMENT_SPEC,
    remove,
)
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(remove, module.params, module.check_mode))


if __name__ == "__main__":
    main()
