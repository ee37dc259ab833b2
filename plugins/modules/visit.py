#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: visit
short_description: Measure all areas of a host in one task
version_added: 0.2.0
description:
  - Reads the probes of the area roles, resolves their options with the variables of the host, and measures all probes with one remote
    task.
  - The areas are measured in parallel, each in its own process and with the deadline in its variable C(<area>_deadline).
  - Only measures. M(tracktion.ops.report) evaluates the measurements.
  - The task does not fail. A host that cannot be reached, or whose visit fails or takes longer than O(timeout), is a finding of
    M(tracktion.ops.report), with its cause and a hint.
  - Each measurement is validated against the RETURN documentation of its module. A malformed one makes its probe unknown.
  - Register the result as C(tracktion_visit), which M(tracktion.ops.report) reads. A second visit of the same host adds its areas to
    those of the first.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.action
  - tracktion.ops._attributes.actiongroup
options:
  areas:
    description:
      - The area roles to measure. A short name is a role of this collection, of the playbook or of the roles path.
        A role of another collection is named in full.
      - Without it, those of the variable C(tracktion_areas); if that is empty or not set, too, all area roles of this collection.
    type: list
    elements: str
  probe_host:
    description:
      - The inventory name of the host that the visit runs on, if it is not the host itself (C(delegate_to)).
      - Only the areas whose variable C(<area>_probe_host) names this host are measured. Without it, the areas whose variable is empty.
    type: str
  timeout:
    description:
      - Seconds for the whole visit. Without it, the variable C(tracktion_visit_timeout), by default 60.
      - The program on the host gets nine tenths of the seconds that are left when it is sent. It then ends
        its areas and returns what they have measured.
      - One second after O(timeout), C(timeout\(1\)) ends all processes of the visit, if the host has this program. All
        processes of a visit also end when the connection breaks. A process in an uninterruptible wait (state D, as on a dead
        network mount) cannot be killed; it ends when the kernel returns from the wait.
    type: float
  journal:
    description:
      - Directory on the host for the lock and the audit log of remediations, to be read in the same visit, in a process of its own.
        M(tracktion.ops.plan) needs it.
      - Without it, the variable C(tracktion_visit_journal); if that is not set, too, nothing is read.
    type: str
seealso:
  - module: tracktion.ops.report
  - module: tracktion.ops.plan
"""

EXAMPLES = r"""
- name: Measure the database and the cache in one visit
  tracktion.ops.visit:
    areas: [database, cache]
  register: tracktion_visit

- name: Evaluate and report
  ansible.builtin.import_role:
    name: tracktion.ops.report
"""

RETURN = r"""
visited:
  description:
    - The measurements, in a file in the temporary directory of this run on the controller, which only the user of the run can
      read. Ansible removes the directory at the end of the run. Null if the visit failed.
    - It is a file because Ansible walks through every value of a result several times, and sends it to every callback.
  returned: always
  type: dict
  contains:
    file: {description: Name of the file., type: str, returned: always}
    bytes: {description: Its size., type: int, returned: always}
    areas: {description: The areas that were measured here in this run., type: list, elements: str, returned: always}
  sample: {file: tracktion-visit-0123456789abcdef, bytes: 98304, areas: [cache, database]}
failure:
  description: Why the visit failed, or null.
  returned: always
  type: dict
  contains:
    msg: {description: The message of Ansible or of the module., type: str, returned: always}
    unreachable: {description: Whether the connection failed., type: bool, returned: always}
    connection: {description: 'How the controller connects: address, port, user, privilege escalation, interpreter.', type: dict, returned: always}
    rc: {description: Exit code of the interpreter., type: int, returned: when it ended without a result}
    module_stdout: {description: 'Its standard output, cut in the middle.', type: str, returned: when it ended without a result}
    module_stderr: {description: 'Its standard error, cut in the middle.', type: str, returned: when it ended without a result}
  sample: null
probe_host:
  description: The host that the visit ran on.
  returned: always
  type: str
  sample: lab
python:
  description: The interpreter that measured; null if nothing was measured.
  returned: always
  type: str
  sample: /usr/bin/python3.11
started:
  description: Start of the visit, in seconds since the epoch.
  returned: always
  type: float
  sample: 1795400000.0
presence:
  description: >-
    The services that belong to the host: containers in any state, services of compose files without a container, and programs.
  returned: in the file of RV(visited), as C(presence), if a default depends on them
  type: dict
  contains:
    known: {description: Whether the containers of the host are known., type: bool, returned: always}
    reason: {description: Why they are not known., type: str, returned: always}
    hint: {description: The next step., type: str, returned: always}
    services:
      description: The containers, and the services of compose files of Tracktion that have none.
      type: list
      elements: dict
      returned: always
      contains:
        service: {description: 'The compose service, else the name of the container.', type: str, returned: always}
        project: {description: The compose project., type: str, returned: always}
        container: {description: The name of the container; null without one., type: str, returned: always}
        host_network: {description: Whether it uses the network of the host., type: bool, returned: always}
        names: {description: Servers and applications that its environment names., type: list, elements: str, returned: always}
        ports:
          description: Ports of the host and of the container; one of them is null if it is not published, or not certain.
          type: list
          elements: dict
          returned: always
          contains:
            host: {description: Port of the host., type: int, returned: always}
            container: {description: Port of the container., type: int, returned: always}
    programs:
      description: Names of servers and applications that run outside of containers, or that systemd starts at boot.
      type: list
      elements: str
      returned: always
host:
  description: How busy the host was during the measurement, and the time of its clock.
  returned: in the file of RV(visited), as C(host)
  type: dict
  contains:
    started: {description: 'Start of the measurement by the clock of the host, in epoch seconds.', type: float, returned: always}
    finished: {description: End of the measurement., type: float, returned: always}
    cores: {description: CPUs that the module may use., type: int, returned: always}
    load: {description: 'The load averages of 1, 5 and 15 minutes; null if the system has none.', type: list, elements: float, returned: always}
    pressure:
      description: Shares of the last ten seconds in which tasks waited, from C(/proc/pressure); null if the kernel does not count them.
      type: dict
      returned: always
      contains:
        cpu_some: {description: Some tasks waited for the CPU., type: float, returned: always}
        memory_full: {description: All tasks waited for memory., type: float, returned: always}
        io_full: {description: All tasks waited for a disk., type: float, returned: always}
    slowdown:
      description: Time that the visit ran or waited for a CPU on the host until it began to measure, as a multiple of the time that it ran.
      type: float
      returned: always
    waited_seconds:
      description: Seconds that the measuring process that waited most was ready to run and had no CPU; null if the kernel does not count them.
      type: float
      returned: always
    waited_of_seconds: {description: Lifetime of that process in seconds., type: float, returned: always}
  sample: {started: 1795400000.0, finished: 1795400001.2, cores: 2, load: [0.4, 0.3, 0.3], slowdown: 1.02,
    pressure: {cpu_some: 0.01, memory_full: 0.0, io_full: 0.0}, waited_seconds: 0.1, waited_of_seconds: 1.1}
"""

# Ansible puts the options here. The action adds the program (_measuring_code.PROGRAM) and sends this file.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
