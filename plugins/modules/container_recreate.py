#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_recreate
short_description: Recreate the containers of a compose service by its compose file
version_added: 0.2.0
description:
  - Runs the compose of the host (C(up --detach --force-recreate --no-deps --no-build)) if the containers of a service differ from its compose file in
    image or memory limit, or if there are none, and waits until they are healthy. A restart does not apply changes of the file.
  - Nothing is changed if there is no difference, if a container is not one of O(expected), or if one has the label
    C(tracktion.ops.protected=true).
  - Nothing is changed, and the module fails, if the result would depend on a variable that the shell of the deployment may have set. The value of a
    variable is certain if the container shows the value that compose would use here.
  - Data of a container outside of volumes is lost, as with every C(up).
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
  project:
    description: The compose project.
    type: str
    required: true
  service:
    description: The service. No other service is changed, not even those that it depends on.
    type: str
    required: true
  compose_files:
    description: The compose files. The default is those in the labels of the project's containers.
    type: list
    elements: path
    default: []
  compose_command:
    description: The words that run compose. The default is C(docker compose), or C(docker-compose) without that plugin.
    type: list
    elements: str
    default: []
  expected:
    description: Change something only if these containers still exist. An empty list means that there is none.
    type: list
    elements: dict
    suboptions:
      id:
        description: Its id, or the first twelve characters or more.
        type: str
        required: true
  deny:
    description: Names of services and containers that are never changed.
    type: list
    elements: str
    default: []
  deadline:
    description: Seconds within which the containers must work.
    type: float
    default: 180.0
requirements:
  - docker >= 5.0 (the SDK, C(python3-docker))
  - PyYAML
  - compose 2, or 1.25 and newer
seealso:
  - module: tracktion.ops.container_restart
"""

EXAMPLES = r"""
- name: Show which changes of the compose file are not applied
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
    - V(recreated), or V(planned) in check mode; V(as_wanted), V(changed_meanwhile) or V(protected) if nothing was changed. V(failed) and
      V(not_certain) make the module fail.
    - V(not_certain), also in check mode, if the shell of the deployment may have set a variable of the service to another value than the one that
      compose would use here. Nothing is changed then.
  returned: always, unless the engine cannot be reached or an option is invalid
  type: str
  sample: recreated
differences:
  description: The differences to the compose file, as in RV(tracktion.ops.container_state_info#module:compose.drift).
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
  description: The containers afterwards; the expected ones in check mode.
  returned: as RV(result)
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
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_recreate
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main() -> None:
    module = AnsibleModule(argument_spec=_container_recreate.SPEC, supports_check_mode=True)
    exit_module(module, partial(_container_recreate.recreate, module.params, module.check_mode, module.run_command))


if __name__ == "__main__":
    main()
