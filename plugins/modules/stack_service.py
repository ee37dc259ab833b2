#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_service
short_description: Stop and start the containers of a compose project in the order of their dependencies
version_added: 0.4.0
description:
  - Stops the containers of a compose project or of some of its services, those that depend on others first, and starts them again in the
    opposite order. Each container is stopped by its own signal. The engine kills one that has not ended after its own grace period, and the
    result names it.
  - After each start it waits until the container works, which means that its health check succeeds, or that it has been running for ten seconds
    without a health check.
  - The existing containers are started again. Containers, volumes and networks are never created or removed, and containers of other projects
    are never changed.
  - A container that was stopped before stays stopped, unless O(services) names its service.
  - A container stays as it is if it is protected by the label C(tracktion.ops.protected=true) or by O(deny), if it is paused, or if it could not be
    started again (a path that it mounts is missing, or a service that it needs healthy is not and is not restarted).
  - If one container cannot be stopped, no others are stopped, and those that were are started again.
  - Before a container is stopped, O(state_dir) gets a note of it. A run that is killed leaves the notes, and the next run for this project
    starts these containers, but none that was stopped or started by others since.
  - Nothing is changed while a backup, a proof, a restore, a remediation or another restart is running on the host.
  - The module runs in the background of the host, so that it goes on if the connection breaks, and shows each step.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.action
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker
attributes:
  check_mode:
    support: full
    details:
      - Shows the steps in their order.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - A restart is repeated by each run. With O(state=stopped) and O(state=started) a second run changes nothing.
options:
  state:
    description:
      - V(restarted) stops and starts the services. V(stopped) and V(started) do the one half. V(started) without O(services) starts the containers
        that O(operation) or an interrupted run has stopped, and no others.
    type: str
    choices: [restarted, stopped, started]
    default: restarted
  project:
    description: The compose project. Required if there are several that have all O(services), or from which O(operation) has stopped containers.
    type: str
    default: ""
  services:
    description: The services. The default is all of the project.
    type: list
    elements: str
    default: []
  dependents:
    description:
      - Whether the services that depend on O(services) are included, directly or not. V(only) includes them instead of O(services).
      - With V(none), a restart includes those for which the compose file has C(restart) in C(depends_on), and those that use the network of one of
        O(services), which they would lose.
    type: str
    choices: [none, also, only]
    default: none
  deny:
    description: Names of services and containers that are never changed.
    type: list
    elements: str
    default: []
  health_timeout:
    description: Seconds for one container to work after its start.
    type: float
    default: 120.0
  deadline:
    description: Seconds after which no more containers are stopped. Those that were stopped are started again, however long it takes.
    type: float
    default: 1800.0
  state_dir:
    description:
      - Directory on the host for the record of the operation, the lock and the audit log. It is created if it is missing.
      - It and the directories above it must belong to root or to the user of the task and must not be writable by others.
    type: path
    default: /var/lib/tracktion-ops
  operation:
    description:
      - The id of an operation that an earlier module has begun, such as a restore. What this module stops is noted in its record, and it is held
        by a lease of O(lease) seconds afterwards.
    type: str
  lease:
    description: With O(operation), seconds for which the operation is held until the next module continues it.
    type: float
    default: 900.0
  audit_path:
    description: The audit log on the controller.
    type: path
  run:
    description: Who has started the run, and on which controller. Set by the action plugin.
    type: dict
    default: {}
  broken:
    description: Operations whose controller has ended. Set by the action plugin.
    type: list
    elements: str
    default: []
  progress:
    description: File for the progress. Set by the action plugin.
    type: path
requirements:
  - docker >= 5.0 (the SDK, C(python3-docker))
seealso:
  - module: tracktion.ops.container_restart
"""

EXAMPLES = r"""
- name: Show the steps of a restart of the whole stack
  tracktion.ops.stack_service:
    project: tracktion
  become: true
  check_mode: true

- name: Stop everything that uses the database
  tracktion.ops.stack_service:
    project: tracktion
    services: [postgres]
    dependents: only
    state: stopped
  become: true
"""

RETURN = r"""
project:
  description: The compose project.
  returned: always, unless the module fails before anything was changed
  type: str
  sample: tracktion
operation:
  description: O(operation).
  returned: as RV(project)
  type: str
  sample: null
order:
  description: The services of the project, each after those that it depends on.
  returned: as RV(project)
  type: list
  elements: str
  sample: [postgres, redis, analysis_service]
steps:
  description: The steps in their order.
  returned: as RV(project)
  type: list
  elements: dict
  contains:
    action: {description: V(stop) or V(start)., type: str, returned: always}
    service: {description: The service., type: str, returned: always}
    name: {description: The container., type: str, returned: always}
    id: {description: Its id., type: str, returned: always}
    result:
      description:
        - V(planned) in check mode.
        - V(stopped), or V(killed) if it had not ended within its grace period; V(stopped_meanwhile) if it was stopped by others before this step, and
          is not started then; V(not_stopped).
        - V(started), or V(completed) if it ended with exit code 0; V(unhealthy) if it does not work; V(not_started) if the engine does not start it;
          V(dependency_failed) if it was not started because a service that it needs healthy is not.
        - V(not_reached) if an earlier step failed.
      type: str
      returned: always
    seconds: {description: 'How long it took, or null.', type: float, returned: always}
    grace_seconds: {description: 'Seconds that the container may take to stop, or null for a start.', type: int, returned: always}
    health: {description: 'Its health after the start, or null without a health check.', type: str, returned: always}
    message: {description: 'What failed, or null.', type: str, returned: always}
  sample:
    - action: stop
      service: analysis_service
      name: tracktion-analysis_service-1
      id: 3f2a9c0d1e4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeef
      result: stopped
      seconds: 0.4
      grace_seconds: 10
      health: null
      message: null
left:
  description: The containers that are left as they are.
  returned: as RV(project)
  type: list
  elements: dict
  contains:
    service: {description: The service., type: str, returned: always}
    name: {description: The container., type: str, returned: always}
    status: {description: Its state by the words of Docker., type: str, returned: always}
    reason: {description: Why., type: str, returned: always}
    problem: {description: Whether the module fails because of it., type: bool, returned: always}
  sample: []
resumed:
  description: Names of the containers that an interrupted run had stopped, and that this one starts.
  returned: as RV(project)
  type: list
  elements: str
  sample: []
to_start:
  description: Names of the containers that are stopped and will be started by the next run.
  returned: as RV(project)
  type: list
  elements: str
  sample: []
lines:
  description: What was shown, one line for each step.
  returned: as RV(project)
  type: list
  elements: str
  sample: ["1/2 stop tracktion-redis-1: stopped after 0.3 s"]
holders:
  description: The records of the operations that exclude this one.
  returned: with RV(kind=busy), if it is not a remediation
  type: list
  elements: dict
  sample: []
kind:
  description:
    - Kind of the failure before anything was changed. V(busy) if another operation is running, V(cannot_keep) if O(state_dir) cannot be used. See the
      notes for those of the engine. Else V(not_found), V(bad_option), V(missing_library) or V(cannot_measure).
  returned: on failure before anything was changed
  type: str
  sample: busy
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _stack_run
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main() -> None:
    module = AnsibleModule(argument_spec=dict(_stack_run.SPEC, audit_path={"type": "path"}), supports_check_mode=True)
    exit_module(module, partial(_stack_run.run, module.params, module.check_mode))


if __name__ == "__main__":
    main()
