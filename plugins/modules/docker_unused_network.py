#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_unused_network
short_description: Remove a network of a compose project that no container uses
version_added: "0.1.0"
description:
  - Removes one network of the Docker engine, if it is the one that is meant (by O(name), O(id) and O(project)) and no container is
    attached to it, not even one that is stopped.
  - Containers are looked at once more right before the removal, and the engine itself refuses to remove a network in use.
  - What the engine made by itself (C(bridge), C(host), C(none), C(docker_gwbridge), C(ingress)), what belongs to a swarm, to no project or to
    another one, and what carries the label C(tracktion.ops.protected) is never removed.
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
    details:
      - A network that is gone is left at that.
options:
  name:
    description: The name of the network.
    type: str
    required: true
  id:
    description: Its whole id. A network of the same name that was made since then is another one, and stays.
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
seealso:
  - module: tracktion.ops.network_paths_info
  - module: community.docker.docker_network
  - module: community.docker.docker_prune
"""

EXAMPLES = r"""
- name: See what would be removed, and how it would come back
  tracktion.ops.docker_unused_network:
    name: tracktion_old
    id: "{{ network.networks[0].id }}"
    project: tracktion
  check_mode: true
  diff: true
"""

RETURN = r"""
before:
  description: The network as it was (C(id), C(name), C(driver), C(subnets), C(containers), ...), null where it was gone already.
  returned: always
  type: dict
  sample: {id: 6d1aff69ed8c, name: tracktion_old, driver: bridge, subnets: [172.20.9.0/24], containers: []}
after:
  description: The same after the removal. Null once the network is gone, or would be.
  returned: always
  type: dict
  sample: null
skipped_reason:
  description: Why nothing was removed, else null.
  returned: always
  type: str
  sample: null
undo:
  description: The command that makes such a network again, with its driver, subnets, options and labels. Null where it was gone already.
  returned: always
  type: str
  sample: docker network create --driver bridge --subnet 172.20.9.0/24 --label com.docker.compose.project=tracktion -- tracktion_old
undo_options:
  description: The words of this command after C(docker network create).
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


def main():
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(remove, module.params, module.check_mode))


if __name__ == "__main__":
    main()
