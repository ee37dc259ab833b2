#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_probe_info
short_description: Run named commands in containers and measure their time
version_added: 0.2.0
description:
  - Runs commands in the containers of compose services in parallel, and returns how each ended and how long it took.
  - A command that does not end in time is killed with its child processes. C(docker exec) would leave it running.
  - A missing container and an engine that does not answer do not fail the task; they are returned in C(error).
  - The commands should change nothing.
  - Requires only Python's standard library, and permission to use the engine's socket.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker.socket
options:
  commands:
    description: The commands. If the list is empty, the engine is not contacted.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Its name in the result, which must be unique.
        type: str
        required: true
      service:
        description: The compose service, or the name of the container, to run it in.
        type: str
        required: true
      argv:
        description:
          - The program and its arguments. No shell is used. Only the program, and the script that it interprets, are returned.
          - Ansible logs arguments, and all processes of the container can read them. Put secrets into O(commands[].environment).
        type: list
        elements: str
        required: true
      user:
        description: The user in the container. The default is that of the container.
        type: str
      workdir:
        description: The working directory in the container. The default is that of the container.
        type: str
      environment:
        description: Additional environment variables. Their values are never returned.
        type: dict
      exit_codes:
        description: The expected exit codes.
        type: list
        elements: int
        default: [0]
      output_contains:
        description: Text that the first 64 KiB of the output must contain.
        type: str
      show_output:
        description: Whether the first 4000 characters of the output are always returned, with secrets hidden.
        type: bool
        default: false
      timeout:
        description: Timeout of this command, in seconds. The default is O(timeout).
        type: float
  project:
    description: The compose project of the services, if the machine runs several.
    type: str
  timeout:
    description: Timeout of each command, in seconds.
    type: float
    default: 10.0
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
seealso:
  - module: tracktion.ops.endpoint_info
"""

EXAMPLES = r"""
- name: Connect to the database from a service
  tracktion.ops.container_probe_info:
    commands:
      - name: database
        service: tracklist_service
        argv: [python3, -c, "import os, psycopg2; psycopg2.connect(os.environ['DATABASE_DSN'], connect_timeout=3)"]
  register: probes

- name: Profile one match, and show the profile
  tracktion.ops.container_probe_info:
    commands:
      - name: matching
        service: tracklist_service
        argv: [python3, -m, cProfile, -s, cumulative, /app/tools/match_once.py]
        show_output: true
        timeout: 60
    deadline: 70
"""

RETURN = r"""
reachable: {description: "Always true. Whether a command could be run is in RV(commands[].ran).", returned: always, type: bool, sample: true}
error: {description: "Always null. Why a command could not be run is in RV(commands[].error).", returned: always, type: dict, sample: null}
unknown: {description: The commands that could not be run., returned: always, type: list, elements: dict, sample: []}
seconds: {description: Duration of the whole measurement., type: float, returned: always, sample: 0.3121}
totals: {description: "The number of commands, and of those that ended as expected.", type: dict, returned: always, sample: {commands: 2, ok: 1}}
commands:
  description: The commands, in the order of O(commands).
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str, returned: always, sample: database}
    service: {description: As given., type: str, returned: always, sample: tracklist_service}
    command: {description: "The program, and the script or module that it interprets.", type: str, returned: always, sample: python3 -c}
    container: {description: The name of the container., type: str, returned: always, sample: tracktion-tracklist_service-1}
    container_state: {description: "The state of the container, as the engine names it.", type: str, returned: always, sample: running}
    ran: {description: "True if it was started, else null.", type: bool, returned: always, sample: true}
    ok:
      description: Whether it ended in time with an expected exit code and output. Null if it was not started.
      returned: always
      type: bool
      sample: false
    error:
      description:
        - Why there is no exit code, as C(kind), C(message) and C(hint), else null.
        - C(kind) is V(timeout) if the command was started and did not end in time.
        - Else C(kind) is V(no_container) or V(not_running), or a failure of the engine, V(no_engine) (there is no such socket), V(permission),
          V(refused), V(no_answer) (no answer in time), V(closed), V(protocol), V(rejected) (the engine rejects the request) or V(failed).
      returned: always
      type: dict
      sample: null
    exit_code:
      description: Its exit code. V(126) and V(127) usually mean that the engine could not start the program.
      returned: always
      type: int
      sample: 1
    expected_exit_codes: {description: As given., type: list, elements: int, returned: always, sample: [0]}
    contains:
      description: Whether O(commands[].output_contains) is in the output; null without that option.
      returned: always
      type: bool
      sample: null
    killed:
      description: Whether a command that did not end in time was killed, which requires root on the machine of the engine. Null if it ended.
      returned: always
      type: bool
      sample: null
    seconds: {description: Duration of the command., type: float, returned: always, sample: 0.2113}
    output_bytes: {description: Bytes that it wrote to standard output and standard error., type: int, returned: always, sample: 112}
    output:
      description: The end of the output of a command that failed, or its beginning with O(commands[].show_output), with secrets hidden.
      returned: always
      type: str
      sample: "psycopg2.OperationalError: could not translate host name"
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures._container_probe_info import (
    ARGUMENT_SPEC,
    measure,
)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(measure, module.params))


if __name__ == "__main__":
    main()
