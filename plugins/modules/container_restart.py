#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_restart
short_description: Restart containers in the order of their dependencies, and wait until they are healthy
version_added: 0.2.0
description:
  - Restarts compose services, which it finds by the labels of any version of compose, or containers by name. A stopped container is started.
    No container is removed or recreated.
  - Containers are restarted one after the other, each after the services that it depends on, and only when the previous one works again.
    A container works when its health check succeeds; without a health check, when it has been running for ten seconds.
  - The state of each container is read again just before its restart. A container is not restarted if it is not one of O(expected), if it was
    started recently (O(min_uptime)), or if it is protected.
  - Containers with the label C(tracktion.ops.protected=true) are never restarted.
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
    support: partial
    details:
      - With O(expected), a second run does nothing, because the start times have changed. With O(min_uptime), a run within that time does
        nothing. Without both, every run restarts.
options:
  project:
    description: The compose project of O(services). Required if several projects have a service of that name.
    type: str
    default: ""
  services:
    description: Compose services, with all their containers.
    type: list
    elements: str
    default: []
  names:
    description: Containers by name, or by the first twelve characters or more of their id.
    type: list
    elements: str
    default: []
  expected:
    description: Restart only these containers, and only if they were not restarted since.
    type: list
    elements: dict
    suboptions:
      id:
        description: Its id, or the first twelve characters or more.
        type: str
        required: true
      started_at:
        description: Its start time in epoch seconds; omitted for a container that was never started.
        type: float
  min_uptime:
    description: Do not restart a container that has been running for fewer seconds, because it may still be starting.
    type: float
    default: 0.0
  deny:
    description: Names of services and containers that are never changed.
    type: list
    elements: str
    default: []
  max_containers:
    description: Maximum number of containers. If more are named, the module fails and restarts none.
    type: int
    default: 5
  stop_timeout:
    description:
      - Seconds for a container to stop before it is killed. The default is the setting of the container (C(stop_grace_period)), else 10.
    type: int
  deadline:
    description: Seconds within which all containers must work again.
    type: float
    default: 120.0
requirements:
  - docker >= 5.0 (the SDK, C(python3-docker))
seealso:
  - module: tracktion.ops.rabbitmq_queue_state
"""

EXAMPLES = r"""
- name: Show what a restart of two services would do
  tracktion.ops.container_restart:
    project: tracktion
    services: [analysis_service, tracklist_service]
  become: true
  check_mode: true
  diff: true

- name: Restart an unhealthy container unless it was restarted since it was found
  tracktion.ops.container_restart:
    names: [tracktion-analysis]
    expected:
      - {id: 3f2a9c0d1e4b, started_at: 1795593039.899}
  become: true
"""

RETURN = r"""
containers:
  description: The containers in the order of their restart.
  returned: always, unless the engine cannot be reached or an option is invalid
  type: list
  elements: dict
  contains:
    id: {description: Its id., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
    project: {description: 'Its compose project, or null.', type: str, returned: always}
    service: {description: 'Its compose service, or null.', type: str, returned: always}
    result:
      description:
        - V(restarted), or V(planned) in check mode. V(changed_meanwhile), V(just_started) and V(protected) containers were not restarted.
        - V(unhealthy) if it does not work after its restart, V(not_restartable) if it is paused or being removed, or if a restart would
          not remove the cause of its failure (also in check mode), V(rejected) if the engine rejects
          the restart, V(unknown) if the connection to the engine was lost. Each of these makes the module fail; the containers after it are
          V(not_reached).
      type: str
      returned: always
    message: {description: 'The failure, or null.', type: str, returned: always}
    before:
      description:
        - The state before, as C(id), C(status), C(health) (null without a health check), C(started_at) (epoch seconds), C(restart_count).
      type: dict
      returned: always
    after: {description: 'The state afterwards; the expected one in check mode.', type: dict, returned: always}
    exit_code: {description: 'Exit code of a container that is not running, else null.', type: int, returned: always}
  sample:
    - id: 3f2a9c0d1e4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeef
      name: tracktion-analysis
      project: tracktion
      service: analysis_service
      result: restarted
      message: null
      before: {id: 3f2a9c0d1e4b, status: running, health: unhealthy, started_at: 1795593039.899, restart_count: 0}
      after: {id: 3f2a9c0d1e4b, status: running, health: healthy, started_at: 1795593739.12, restart_count: 0}
      exit_code: null
before:
  description: C(before) of each container, by name.
  returned: as RV(containers)
  type: dict
  sample: {}
after:
  description: C(after) of each container, by name.
  returned: as RV(containers)
  type: dict
  sample: {}
kind:
  description: Kind of the failure; see the notes for those of the engine. Else V(not_found), V(bad_option), V(missing_library) or V(cannot_measure).
  returned: on failure before anything was changed
  type: str
  sample: refused
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_restart
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main() -> None:
    module = AnsibleModule(argument_spec=_container_restart.SPEC, supports_check_mode=True)
    exit_module(module, partial(_container_restart.restart, module.params, module.check_mode))


if __name__ == "__main__":
    main()
