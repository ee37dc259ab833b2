# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts errors and warnings in the logs of a host. Private to this collection.

The logs are scanned in parallel, in daemon threads, so that one that hangs does not delay the others. First all logs
are opened and searched for their windows, which gives the bytes to read. Then the budget is shared, and each log is
read, newest part first.
"""

from __future__ import annotations

import re
import resource
import threading
import time
from typing import Any, Callable, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import DEFAULT_HOST
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _kernel_log, _log_sources
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_known import Messages
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_scan import Patterns, Scan, Window
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, Unknown, reached
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC = {
    "containers": {"type": "bool", "default": True},
    "services": {"type": "list", "elements": "str", "default": []},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "project": {"type": "str", "default": ""},
    "files": {"type": "list", "elements": "str", "default": []},
    "journal_units": {"type": "list", "elements": "str", "default": []},
    "journal_directory": {"type": "path"},
    "kernel_log": {"type": "str", "default": "/dev/kmsg"},
    "minutes": {"type": "float", "default": 15.0},
    "since": {"type": "float", "default": 0.0},
    "progress": {"type": "dict", "default": {}},
    "known": {"type": "list", "elements": "dict", "default": []},
    "own": {"type": "list", "elements": "dict", "default": []},
    "max_bytes": {"type": "int", "default": 32 << 20},
    "max_total_bytes": {"type": "int", "default": 128 << 20},
    "sample_length": {"type": "int", "default": 300},
    "over_seconds": {"type": "float", "default": 60.0},
    "over_once_seconds": {"type": "float", "default": 300.0},
    "docker_root": {"type": "path"},
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
    "top": {"type": "int", "default": 20},
    "timeout": {"type": "float", "default": 5.0},
    "deadline": {"type": "float", "default": 15.0},
}

THREADS = 8
# Left of the deadline to build the result.
RESERVE_SECONDS = 0.5


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.log_errors_info documents. Raises BadOption."""
    check_options(options)
    patterns = compile_patterns(options)
    deadline = Deadline(max(0.2, options["deadline"] - RESERVE_SECONDS))
    window = Window(options, time.time())
    unknown = Unknown()
    engine = Engine(options["docker_root"])
    kernel = kernel_log(options, window, engine, deadline, unknown)
    raise_file_limit()
    logs = find_logs(options, window, engine, deadline)
    # Logs from the engine's API are held in memory, which is bounded over all logs.
    most = min(options["max_bytes"], options["max_total_bytes"] // max(1, len(logs)))
    scans = [Scan(log, options, window, patterns, most) for log in logs]
    use_container_names(scans)
    # Opening has the timeout from now on; reading has what is left of the deadline.
    run_in_threads([scan.open for scan in scans], Deadline(deadline.remaining(options["timeout"])), deadline)
    opened = [scan for scan in scans if scan.ready]
    for scan, share in zip(opened, share_budget([scan.size for scan in opened], options)):
        scan.budget = share
    run_in_threads([scan.read for scan in opened], deadline, deadline)
    services = [scan.as_result(unknown) for scan in scans]
    # Without the right to read a log, items may be missing from the lists.
    hidden = [scan for scan in scans if scan.hint]
    for part in ("services", "signatures", "known") if hidden else ():
        more = ", and %d more" % (len(hidden) - 1) if len(hidden) > 1 else ""
        unknown.add(part + "[...]", "%s: %s%s" % (hidden[0].name, hidden[0].error, more), hidden[0].hint)
    # By the entries: a thread that timed out may still finish its scan.
    read = [scan for scan, entry in zip(scans, services) if entry["error"] is None]
    services.sort(key=lambda entry: (entry["error"] is None, entry["progress"] is None, -(entry["errors"] or 0)))
    signatures = [entry for scan in read for entry in scan.signatures()]
    signatures.sort(key=lambda entry: (entry["level"] == "warning", -entry["count"]))
    known = [entry for scan in read for entry in scan.known()]
    known.sort(key=lambda entry: -entry["count"])
    for scan in read:
        scan.close()
    top = options["top"]
    return reached(
        {
            "window": window.as_result(),
            "services": services[:top],
            "services_total": len(services),
            "signatures": signatures[:top],
            "signatures_total": len(signatures),
            "known": known[:top],
            "known_total": len(known),
            "kernel": kernel,
            "totals": totals(services),
        },
        unknown,
    )


def check_options(options: Options) -> None:
    """Raise BadOption for a number that is too small or not finite."""
    for name in ("minutes", "timeout", "deadline"):
        if not 0 < options[name] < float("inf"):
            raise BadOption("%s: must be more than 0" % name)
    for name in ("over_seconds", "over_once_seconds"):
        if not 0 <= options[name] < float("inf"):
            raise BadOption("%s: must be 0 or more" % name)
    for name in ("max_bytes", "max_total_bytes", "sample_length", "top"):
        if options[name] < 1:
            raise BadOption("%s: must be 1 or more" % name)


def compile_patterns(options: Options) -> Patterns:
    """Return the options that are regular expressions, compiled. Raises BadOption."""
    if "" in options["files"]:
        raise BadOption("files: an entry is empty")
    rows = options["own"] + options["known"]
    for row in rows:
        if not isinstance(row.get("pattern"), str) or not row.get("id"):
            raise BadOption("known: each entry needs id and pattern")
        try:
            # With the flags of Messages, so that it is compiled once.
            re.compile(row["pattern"], re.IGNORECASE)
        except re.error as exc:
            raise BadOption("known: %s: not a regular expression: %s" % (row["id"], exc)) from exc
    progress = {}
    for service, pattern in options["progress"].items():
        try:
            progress[service] = re.compile(str(pattern).encode())
        except re.error as exc:
            raise BadOption("progress: %s: not a regular expression: %s" % (service, exc)) from exc
    probes = frozenset(number for number, row in enumerate(rows) if row.get("probe"))
    return Patterns(Messages([row["pattern"] for row in rows]), progress, probes)


def kernel_log(options: Options, window: Window, engine: Engine, deadline: Deadline, unknown: Unknown) -> Part | None:
    """Return the part ``kernel``: null if it cannot be read, empty if ``kernel_log`` is."""
    if not options["kernel_log"]:
        return {"complete": True, "oldest": None, "groups": [], "groups_total": 0}
    try:
        return within(
            deadline,
            options["timeout"],
            _kernel_log.measure,
            options["kernel_log"],
            window.begin,
            engine,
            options["top"],
        )
    except OSError as exc:
        unknown.add("kernel", exc.strerror or exc)
    except _kernel_log.Unreadable as exc:
        unknown.add("kernel", exc, exc.hint or _rights.hint("CAP_SYSLOG"))
    return None


def find_logs(options: Options, window: Window, engine: Engine, deadline: Deadline) -> list[_log_sources.Log]:
    """Return all selected logs. Searching for them may hang, so each source has a timeout. Raises BadOption."""
    sources: list[tuple[str, str, Callable[..., list[_log_sources.Log]], tuple[Any, ...]]] = []
    if options["containers"]:
        sources.append(("containers", "container", _log_sources.containers, (engine, options)))
    if options["files"]:
        sources.append(("files", "file", _log_sources.files, (options, window.previous)))
    if options["journal_units"]:
        seconds = deadline.remaining(options["timeout"]) * 0.8
        sources.append(("journal", "journal", _log_sources.journal, (options, window.previous, seconds)))
    logs: list[_log_sources.Log] = []
    for name, source, function, arguments in sources:
        try:
            logs += within(deadline, options["timeout"], function, *arguments)
        except OSError as exc:
            logs.append(_log_sources.Missing(name, source, exc.strerror or str(exc), _rights.hint_of(exc)))
    return logs


def raise_file_limit() -> None:
    """Set the soft limit of open files to the hard limit: each log is one file, and more if it is rotated."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def use_container_names(scans: Sequence[Scan]) -> None:
    """Name containers by their own names if several are of one service."""
    names = [scan.log.name for scan in scans]
    for scan in scans:
        container = scan.log.about["container"]
        if names.count(scan.log.name) > 1 and container:
            scan.name = container


def run_in_threads(functions: Sequence[Callable[[Deadline], None]], limit: Deadline, deadline: Deadline) -> None:
    """Call each function with ``limit`` in threads, and return when all are done or ``limit`` is over."""
    waiting = list(reversed(functions))

    def work() -> None:
        while waiting and not deadline.expired():
            try:
                function = waiting.pop()
            except IndexError:
                return
            function(limit)

    threads = [threading.Thread(target=work, daemon=True) for _number in range(min(THREADS, len(functions)))]
    for thread in threads:
        thread.start()
    # A little longer, so that blocks that are being counted are finished.
    end = Deadline(limit.remaining() + RESERVE_SECONDS / 2)
    for thread in threads:
        thread.join(end.remaining())


def share_budget(sizes: Sequence[int], options: Options) -> list[int]:
    """Return the bytes to read of each log: at most its size and ``max_bytes``. Small logs are served first."""
    left, given = options["max_total_bytes"], [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda number: sizes[number])
    for done, number in enumerate(order):
        given[number] = min(sizes[number], options["max_bytes"], left // (len(order) - done))
        left -= given[number]
    return given


def totals(services: Sequence[Part]) -> Part:
    """Return the part ``totals`` for the entries of all logs."""
    counted = [entry for entry in services if entry["error"] is None]
    names = ("lines", "errors", "warnings", "bytes_read", "bytes_skipped")
    found: Part = {name: sum(entry[name] for entry in counted) for name in names}
    found["bytes_read"] += sum(entry["previous"]["bytes_read"] for entry in counted)
    found["unreadable"] = len(services) - len(counted)
    found["complete"] = found["unreadable"] == 0 and all(entry["complete"] for entry in counted)
    return found
