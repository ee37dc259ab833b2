#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: measure
short_description: Run the measuring functions of several areas in parallel
version_added: 0.2.0
description:
  - Runs the part of a visit that is on the managed host. M(tracktion.ops.visit) calls it with a plan that it builds from the roles.
  - Each area is measured in a process of its own, with a deadline. An area that hangs or crashes does not affect the others.
  - To measure one service by hand, use its own module, for example M(tracktion.ops.pg_activity).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
options:
  plan:
    description:
      - 'What to measure, as JSON text: C({AREA: {"deadline": SECONDS, "probes": {PROBE: {"module": NAME, "options": {}}}}}).'
      - It is text, and hidden as a whole, because it contains credentials. If each credential was hidden by itself, Ansible would
        mask every text in the result that equals one of them.
    type: str
    required: true
  seconds:
    description:
      - Seconds after which all areas are ended, whatever their deadlines are. If omitted, only the deadlines apply.
    type: float
  code:
    description:
      - The code of the measuring modules that the plan names, packed by the visit. If omitted, they must be importable.
    type: str
  journal:
    description:
      - Directory of the lock and the audit log of remediations (M(tracktion.ops.remediation_journal)), to be read beside the areas.
    type: path
  presence:
    description:
      - How to find the services that belong to this host, beside the areas. If omitted, they are not searched.
    type: dict
    suboptions:
      docker_root:
        description: Data directory of the Docker engine. If omitted, the one that its configuration file names, else C(/var/lib/docker).
        type: path
      docker_host:
        description: Address of the engine, if its files cannot be read. Another address than the default comes before the files.
        type: str
        required: true
      compose_files:
        description: Compose files of the services, in addition to those of the containers.
        type: list
        elements: str
        default: []
seealso:
  - module: tracktion.ops.visit
"""

EXAMPLES = r"""
- name: Measure the inotify limits of a host, with a deadline of five seconds
  tracktion.ops.measure:
    plan: "{{ {'file_watching': {'deadline': 5, 'probes': {'inotify': {'module': 'inotify_limits', 'options': {}}}}} | to_json }}"
"""

RETURN = r"""
measured:
  description:
    - 'The measurements as JSON text: by area, C(measurement) (by probe, the documented result of its module), C(error) (why
      probes are missing from it, as C(kind), C(message) and C(hint), or null) and C(seconds).'
    - It is text because Ansible processes every value of a result several times, which for a measurement takes longer than the rest
      of a visit.
  returned: always
  type: str
  sample: '{"file_watching": {"measurement": {"limits": {"reachable": true}}, "error": null, "seconds": 0.02}}'
python:
  description: The interpreter that measured.
  returned: always
  type: str
  sample: /usr/bin/python3.11
presence:
  description: >-
    The services that belong to the host, within the text of RV(measured), under C(.presence): containers in any state, services of compose files without
    a container, and programs.
  returned: within C(measured)
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
  returned: always
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
      description: Time that the module ran or waited for a CPU until it began to measure, as a multiple of the time that it ran.
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

import importlib
import json
import signal
import sys
from functools import partial
from types import FrameType
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.tracktion.ops.plugins.module_utils import _host_state, _measures, _side_by_side
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    Deadline,
    OutOfTime,
    error,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Part

# The probes get this share of the deadline of their area; the rest is for sending their measurements.
SHARE = 0.9
JOURNAL_SECONDS = 10.0
# As long as an area: on a busy host, the code alone may take seconds.
PRESENCE_SECONDS = 15.0
# The option of a measuring function that reads its counters twice.
SAMPLE = "sample_seconds"
# Areas without it begin after this share of the interval, at most these seconds, and at most this share of their deadline.
DELAY = 0.3
MOST_DELAY = 0.3
DELAY_OF_DEADLINE = 0.05
# The option of a measuring function that keeps a file on the host.
READ_ONLY = "read_only"


def probes_of(wanted: Mapping[str, Any], check_mode: bool = False) -> dict[str, partial[Measurement]]:
    """Return the probes of one area by name, to be called one after the other.

    They share the deadline of the area: each may use an equal part of the time that is left when it starts. In check
    mode, a measuring function that has the option ``read_only`` gets it.
    """
    deadline = Deadline(wanted["deadline"] * SHARE)
    count = len(wanted["probes"])
    return {
        name: partial(run_probe, name, probe["module"], probe["options"], deadline, count - done, check_mode)
        for done, (name, probe) in enumerate(wanted["probes"].items())
    }


def run_probe(
    probe: str, module: str, options: Mapping[str, Any], deadline: Deadline, sharers: int, check_mode: bool = False
) -> Measurement:
    """Return the measurement of a measuring module, with its options validated as if the module was called."""
    measuring = _measures.load(module)
    try:
        options = {"deadline": deadline.step() / sharers, **options}
    except OutOfTime as exc:
        # The probes before it used all the time, which proves nothing about this one.
        return {"reachable": None, "error": error(exc), "unknown": []}
    if check_mode and READ_ONLY in measuring.ARGUMENT_SPEC:
        options = {**options, READ_ONLY: True}
    validated = ArgumentSpecValidator(measuring.ARGUMENT_SPEC).validate(options)
    if validated.error_messages:
        raise BadOption("probe %s (%s): %s" % (probe, module, "; ".join(validated.error_messages)))
    return measuring.measure(validated.validated_parameters)


def delays(plan: Mapping[str, Any], deadlines: Mapping[str, float]) -> dict[str, float]:
    """Return how many seconds each process waits before it measures.

    Areas that read counters twice begin at once; the others have the CPU while these wait for the second reading. If
    all began at once, they would delay the first reading, and with it the end of the visit, by half a second on two
    cores.
    """
    samples = {name: max(map(_interval, area["probes"].values()), default=0.0) for name, area in plan.items()}
    delay = min(MOST_DELAY, DELAY * max(samples.values(), default=0.0))
    return {
        name: 0.0 if samples.get(name) else min(delay, DELAY_OF_DEADLINE * deadline)
        for name, deadline in deadlines.items()
    }


def _interval(probe: Mapping[str, Any]) -> float:
    """Return the seconds between the two readings of a probe. An invalid value counts as none; its probe reports it."""
    seconds = probe["options"].get(SAMPLE)
    return seconds if isinstance(seconds, (int, float)) else 0.0


def read_journal(directory: str) -> Part:
    """Return the lock and the audit log of remediations: ``_journal.State`` with ``error`` and ``problems``."""
    # Its code is sent only if it is wanted.
    journals = importlib.import_module(_measures.PACKAGE + "._journal")
    journal = journals.Journal(directory)
    try:
        state = journal.read()
    except journals.CannotKeep as exc:
        return {"error": str(exc), "lock": None, "unfinished": [], "done": [], "problems": []}
    return {"error": None, **state, "problems": journal.problems}


def find_services(options: Mapping[str, Any]) -> Part:
    """Return which services belong to this host (``_presence.measure``)."""
    # Its code is sent only if it is wanted.
    presence = importlib.import_module(_measures.PACKAGE + "._presence")
    return presence.measure(
        options["docker_root"], options["docker_host"], options["compose_files"], PRESENCE_SECONDS * SHARE
    )


def end_with_signals() -> None:
    """Make signals end this process by an exception, so that its areas end and its temporary files are removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "plan": {"type": "str", "required": True, "no_log": True},
            "seconds": {"type": "float"},
            # Not a secret, but too long for a log.
            "code": {"type": "str", "no_log": True},
            "journal": {"type": "path"},
            "presence": {
                "type": "dict",
                "options": {
                    "docker_root": {"type": "path"},
                    "docker_host": {"type": "str", "required": True},
                    "compose_files": {"type": "list", "elements": "str", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        plan = json.loads(module.params["plan"])
    except ValueError:
        # The message of the parser quotes the text, which contains credentials.
        module.fail_json(msg="plan: not valid JSON")
    if module.params["code"]:
        _measures.receive(module.params["code"])
    end_with_signals()
    state = _host_state.at_start()
    waited: list[_host_state.Waited] = []
    areas: dict[str, tuple[float, dict[str, partial[Any]]]] = {
        area: (wanted["deadline"], {**probes_of(wanted, module.check_mode)}) for area, wanted in plan.items()
    }
    if module.params["journal"]:
        areas[_measures.JOURNAL] = (JOURNAL_SECONDS, {"journal": partial(read_journal, module.params["journal"])})
    if module.params["presence"]:
        find = partial(find_services, module.params["presence"])
        areas[_measures.PRESENCE] = (PRESENCE_SECONDS, {"presence": find})
    waits = delays(plan, {name: deadline for name, (deadline, _probes) in areas.items()})
    measured = _side_by_side.run(areas, module.params["seconds"], sys.stdout.fileno(), waited, waits)
    module.exit_json(
        changed=False, measured=json.dumps(measured), python=sys.executable, host=_host_state.at_end(state, waited)
    )


if __name__ == "__main__":
    main()
