#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_restart
short_description: Restart containers in the order of their dependencies, and wait until they are healthy
version_added: "0.1.0"
description:
  - Restarts the named compose services, found by their labels whatever version of compose made them, or containers by name. One that
    has stopped is started. Nothing is ever removed or made anew.
  - They are restarted one after the other, each after the services that it depends on, and each only when the one before works again.
    A container works when its health check says so; without one, when it has been running for two seconds.
  - Each is looked at once more just before its turn. One that is not the one that O(expected) means, that was restarted a moment ago
    (O(min_uptime)), or that is protected, is left alone.
  - Containers with the label C(tracktion.ops.protected=true) are never touched.
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
    support: partial
    details:
      - With O(expected), a second run finds what was restarted changed, and does nothing. With O(min_uptime), so does one that
        follows within that time. Without both, every run restarts.
options:
  project:
    description: The compose project of O(services). Needed only where several projects have a service of that name.
    type: str
    default: ""
  services:
    description: Compose services, all containers of each.
    type: list
    elements: str
    default: []
  names:
    description: Containers by name, or by the first twelve or more characters of their id.
    type: list
    elements: str
    default: []
  expected:
    description: The evidence. Only these containers, and only this run of each, are restarted.
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
  min_uptime:
    description: Leave alone what has been running for fewer seconds than this, as it may need them to come up.
    type: float
    default: 0.0
  deny:
    description: Services and containers, by name, that are never touched.
    type: list
    elements: str
    default: []
  max_containers:
    description: How many containers one run may restart. Where more are named, nothing is done.
    type: int
    default: 5
  stop_timeout:
    description:
      - Seconds for a container to stop before it is killed. Without it, what the container itself says (C(stop_grace_period)), else ten.
    type: int
  deadline:
    description: Seconds within which all of them have to work again.
    type: float
    default: 120.0
seealso:
  - module: tracktion.ops.rabbitmq_queue_state
"""

EXAMPLES = r"""
- name: See what a restart of two services would do
  tracktion.ops.container_restart:
    project: tracktion
    services: [analysis_service, tracklist_service]
  become: true
  check_mode: true
  diff: true

- name: Restart the run of a container that was found to be unhealthy, and no other
  tracktion.ops.container_restart:
    names: [tracktion-analysis]
    expected:
      - {id: 3f2a9c0d1e4b, started_at: 1795593039.899}
  become: true
"""

RETURN = r"""
containers:
  description: The containers, in the order of their restart.
  returned: always, unless the engine could not be asked or an option cannot be used
  type: list
  elements: dict
  contains:
    id: {description: Its id., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
    project: {description: 'Its compose project, or null.', type: str, returned: always}
    service: {description: 'Its compose service, or null.', type: str, returned: always}
    result:
      description:
        - V(restarted), and V(planned) in check mode. V(changed_meanwhile), V(just_started) and V(protected) were left alone.
        - V(unhealthy) does not work after its restart; V(not_restartable) is paused or about to go; V(rejected) is what the engine would not restart;
          V(unknown) where the engine was lost meanwhile. Each of these makes the module fail, and those that follow are V(not_reached).
      type: str
      returned: always
    message: {description: 'What went wrong, or null.', type: str, returned: always}
    before:
      description:
        - Before, as C(id), C(status), C(health) (null without a health check), C(started_at) (epoch seconds), C(restart_count).
      type: dict
      returned: always
    after: {description: 'The same after it. In check mode, what is to be expected.', type: dict, returned: always}
    exit_code: {description: 'Exit code of one that does not run, else null.', type: int, returned: always}
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
  description: Of each container, by name, its C(before).
  returned: as RV(containers)
  type: dict
  sample: {}
after:
  description: Of each container, by name, its C(after).
  returned: as RV(containers)
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
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_restart
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main():
    module = AnsibleModule(argument_spec=_container_restart.SPEC, supports_check_mode=True)
    exit_module(module, partial(_container_restart.restart, module.params, module.check_mode))


if __name__ == "__main__":
    main()
