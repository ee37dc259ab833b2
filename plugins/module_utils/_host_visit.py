# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The half of a visit that runs on the host: measures several areas in parallel. Private to this collection.

The action ``visit`` sends it, and what it imports, with its request (``_measuring_code.PROGRAM``).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from functools import partial
from types import FrameType
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _host_state, _measures, _side_by_side
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    Deadline,
    OutOfTime,
    error,
)
from ansible_collections.tracktion.ops.plugins.module_utils._received import PACKAGE
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Part

# The probes get this share of the deadline of their area; the rest is for sending their measurements.
SHARE = 0.9
JOURNAL_SECONDS = 10.0
# As long as an area: on a busy host, the code alone may take seconds.
PRESENCE_SECONDS = 15.0
# The option of a measuring function that reads its counters twice.
SAMPLE = "sample_seconds"
# Areas without it begin after this share of the interval, but at most these seconds and this share of their deadline.
DELAY = 0.3
MOST_DELAY = 0.3
DELAY_OF_DEADLINE = 0.05
# The option of a measuring function that keeps a file on the host.
READ_ONLY = "read_only"
# The paths in a request, apart from those in the options of probes.
REQUEST: dict[str, Part] = {
    "journal": {"type": "path"},
    "presence": {"type": "dict", "options": {"docker_root": {"type": "path"}}},
}


def probes_of(wanted: Mapping[str, Any], check_mode: bool = False) -> dict[str, partial[Measurement]]:
    """Return the probes of one area by name, to be called one after the other.

    They share the deadline of the area: each may use an equal part of the time that is left when it starts. In check
    mode, a measuring function that has the option ``read_only`` gets it.
    """
    deadline = Deadline(wanted["deadline"] * SHARE)
    count = len(wanted["probes"])
    return {
        name: partial(run_probe, probe, deadline, count - done, check_mode)
        for done, (name, probe) in enumerate(wanted["probes"].items())
    }


def run_probe(probe: Mapping[str, Any], deadline: Deadline, sharers: int, check_mode: bool = False) -> Measurement:
    """Return the measurement of a measuring module. ``probe`` has its options as ``_probe_options`` returns them."""
    measuring = _measures.load(probe["module"])
    if probe.get("invalid"):
        raise BadOption(probe["invalid"])
    try:
        options = {"deadline": deadline.step() / sharers, **probe["options"]}
    except OutOfTime as exc:
        # The probes before it used all the time, which proves nothing about this one.
        return {"reachable": None, "error": error(exc), "unknown": []}
    if check_mode and READ_ONLY in measuring.ARGUMENT_SPEC:
        options = {**options, READ_ONLY: True}
    return measuring.measure(with_paths(measuring.ARGUMENT_SPEC, options))


def with_paths(spec: Mapping[str, Part], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with ``~`` and variables of the environment of this host replaced in paths.

    ``spec`` is an argument spec of Ansible. The controller, which validates all else, has another environment.
    """
    return {name: _with_paths(spec.get(name) or {}, value) for name, value in options.items()}


def _with_paths(spec: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, list):
        return [_with_paths({**spec, "type": spec.get("elements")}, each) for each in value]
    if isinstance(value, dict) and spec.get("options"):
        return with_paths(spec["options"], value)
    if spec.get("type") == "path" and isinstance(value, str):
        return os.path.expanduser(os.path.expandvars(value))
    return value


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
    journals = importlib.import_module(PACKAGE + "._journal")
    journal = journals.Journal(directory)
    try:
        state = journal.read()
    except journals.CannotKeep as exc:
        return {"error": str(exc), "lock": None, "unfinished": [], "done": [], "problems": []}
    return {"error": None, **state, "problems": journal.problems}


def find_services(options: Mapping[str, Any]) -> Part:
    """Return which services belong to this host (``_presence.measure``)."""
    # Its code is sent only if it is wanted.
    presence = importlib.import_module(PACKAGE + "._presence")
    return presence.measure(
        options["docker_root"], options["docker_host"], options["compose_files"], PRESENCE_SECONDS * SHARE
    )


def end_with_signals() -> None:
    """Make signals end this process by an exception, so that its areas end and its temporary files are removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def leave_unusable_directory() -> None:
    """Leave a working directory that is gone, or closed to this user, as one of the user who logged in can be."""
    try:
        usable = os.access(os.getcwd(), os.R_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        # Programs would fail in it.
        os.chdir("/")


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what the request wants; return the result of the module.

    ``request``: ``plan``, JSON text of ``{area: {deadline, probes: {probe: {module, options}}}}``, ``seconds``, after
    which all areas are ended, and ``journal`` and ``presence``, which are null if they are not wanted: the directory of
    the lock and the audit log, and the options of ``find_services``. All processes of the visit end with this one.
    """
    end_with_signals()
    leave_unusable_directory()
    request = with_paths(REQUEST, request)
    state = _host_state.at_start()
    waited: list[_host_state.Waited] = []
    plan, check_mode = json.loads(request["plan"]), bool(request.get("_ansible_check_mode"))
    areas: dict[str, tuple[float, dict[str, partial[Any]]]] = {
        area: (wanted["deadline"], {**probes_of(wanted, check_mode)}) for area, wanted in plan.items()
    }
    if request["journal"]:
        areas[_measures.JOURNAL] = (JOURNAL_SECONDS, {"journal": partial(read_journal, request["journal"])})
    if request["presence"]:
        find = partial(find_services, request["presence"])
        areas[_measures.PRESENCE] = (PRESENCE_SECONDS, {"presence": find})
    waits = delays(plan, {name: deadline for name, (deadline, _probes) in areas.items()})
    measured = _side_by_side.run(areas, request["seconds"], sys.stdout.fileno(), waited, waits)
    # The measurements are text: Ansible walks through every value of a result.
    return {
        "changed": False,
        "measured": json.dumps(measured),
        "python": sys.executable,
        "host": _host_state.at_end(state, waited),
    }
