#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_probe_info
short_description: Run named commands in containers, and time them
version_added: "0.1.0"
description:
  - Runs commands of your own in the containers of compose services, side by side, and tells of each how it ended and how long it took.
  - A command that does not end in time is killed, with everything it has started in the container. C(docker exec) would leave it running.
  - A container that is not there, and an engine that does not answer, are data, in C(error), and the task does not fail.
  - What the commands do is up to you. This module changes nothing by itself, and neither should they.
  - Needs nothing but Python's standard library, and may use the engine's socket.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker.socket
options:
  commands:
    description: What is run, and where. Without any, the engine is not asked either.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is called in the result. Every command has a name of its own.
        type: str
        required: true
      service:
        description: The compose service, or the name of the container, that it runs in.
        type: str
        required: true
      argv:
        description:
          - The program and its arguments. No shell is involved. Only the program, and the script that it interprets, are returned.
          - Ansible logs arguments, and the container shows them to all of its processes. A secret belongs into O(commands[].environment).
        type: list
        elements: str
        required: true
      user:
        description: The user it runs as, in the container. Without it, that of the container.
        type: str
      workdir:
        description: The directory it runs in, in the container. Without it, that of the container.
        type: str
      environment:
        description: Further variables of its environment. Their values are never returned.
        type: dict
      exit_codes:
        description: The exit codes that are right.
        type: list
        elements: int
        default: [0]
      output_contains:
        description: A text that the first 64 KiB of a right output contain.
        type: str
      show_output:
        description: Whether the first 4000 characters of the output are returned, without what looks like a secret, however it ends.
        type: bool
        default: false
      timeout:
        description: Seconds it may take. Without it, O(timeout).
        type: float
  project:
    description: The compose project of the services, where the machine runs several.
    type: str
  timeout:
    description: Seconds that each command may take.
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
- name: Does the service reach its database, as it would itself
  tracktion.ops.container_probe_info:
    commands:
      - name: database
        service: tracklist_service
        argv: [python3, -c, "import os, psycopg2; psycopg2.connect(os.environ['DATABASE_DSN'], connect_timeout=3)"]
  register: probes

- name: Profile one matching, and show the profile
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
reachable:
  description: Always true. Whether a command could be run is in RV(commands[].ran).
  returned: always
  type: bool
  sample: true
error:
  description: Always null. Why a command could not be run is in RV(commands[].error).
  returned: always
  type: dict
  sample: null
unknown:
  description: The commands that could not be run, as C(part) and C(reason).
  returned: always
  type: list
  elements: dict
  sample: []
seconds:
  description: How long it all took.
  returned: always
  type: float
  sample: 0.3121
totals:
  description: How many commands there are, and how many ended as they should.
  returned: always
  type: dict
  sample: {commands: 2, ok: 1}
commands:
  description: The commands, in the order of O(commands).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      returned: always
      type: str
      sample: database
    service:
      description: As given.
      returned: always
      type: str
      sample: tracklist_service
    command:
      description: The program, and the script or module that it interprets.
      returned: always
      type: str
      sample: python3 -c
    container:
      description: The container it runs in.
      returned: always
      type: str
      sample: tracktion-tracklist_service-1
    container_state:
      description: The state of this container, in the engine's words.
      returned: always
      type: str
      sample: running
    ran:
      description: True where it was started, else null.
      returned: always
      type: bool
      sample: true
    ok:
      description: Whether it ended in time, with a right exit code and a right output. Null where it was not started.
      returned: always
      type: bool
      sample: false
    error:
      description:
        - Why there is no exit code, as C(kind), C(message) and C(hint), else null.
        - Where it ran, C(kind) is V(timeout), as it did not end in time.
        - Else C(kind) is V(no_container) or V(not_running); or, of the Docker engine, V(no_engine) (there is no such socket), V(permission),
          V(refused), V(no_answer) (no answer in time), V(closed), V(protocol), V(rejected) (the engine rejects the request) or V(failed).
      returned: always
      type: dict
      sample: null
    exit_code:
      description: Its exit code. By convention, V(126) and V(127) are the engine's, where there is no such program.
      returned: always
      type: int
      sample: 1
    expected_exit_codes:
      description: The exit codes that would be right.
      returned: always
      type: list
      elements: int
      sample: [0]
    contains:
      description: Whether O(commands[].output_contains) is in the output, null where nothing is expected.
      returned: always
      type: bool
      sample: null
    killed:
      description: Whether a command that did not end in time is gone. Null where it ended. Killing takes root, on the engine's own machine.
      returned: always
      type: bool
      sample: null
    seconds:
      description: How long it ran.
      returned: always
      type: float
      sample: 0.2113
    output_bytes:
      description: How much it said, on both of its outputs.
      returned: always
      type: int
      sample: 112
    output:
      description: The end of the output of a command that failed, or what O(commands[].show_output) asks for, without what looks like a secret.
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


def main():
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(measure, module.params))


if __name__ == "__main__":
    main()
