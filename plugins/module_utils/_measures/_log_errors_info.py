# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures what the logs of a host complain about, and how often. Private to this collection.

The logs are looked at side by side, in threads that die with the process, so that one that hangs costs only itself.
First all are opened and searched for their windows, which is cheap and says how much there is to read; then the bytes
that may be read are shared out, and the newest part of each is read first.
"""

from __future__ import annotations

import re
import resource
import threading
import time

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DEFAULT_HOST
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _kernel_log, _log_sources
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_look import Look
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, Unknown, reached

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
    "docker_root": {"type": "path"},
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
    "top": {"type": "int", "default": 20},
    "timeout": {"type": "float", "default": 5.0},
    "deadline": {"type": "float", "default": 15.0},
}

THREADS = 8
# What is left of the deadline for putting things together.
RESERVE_SECONDS = 0.5


class Window:
    """The window that is asked about, and the one of the same length before it."""

    def __init__(self, options, now):
        self.end = now
        self.begin = max(now - options["minutes"] * 60, options["since"])
        self.seconds = now - self.begin
        self.previous = max(self.begin - self.seconds, options["since"])

    def described(self):
        return {"begin": self.begin, "end": self.end, "seconds": self.seconds, "previous_begin": self.previous}


def measure(options):
    """The measurement that the module tracktion.ops.log_errors_info documents."""
    refuse_absurd(options)
    patterns = compiled(options)
    deadline = Deadline(max(0.2, options["deadline"] - RESERVE_SECONDS))
    window = Window(options, time.time())
    unknown = Unknown()
    engine = Engine(options["docker_root"])
    kernel = kernel_log(options, window, engine, deadline, unknown)
    allow_many_files()
    logs = find(options, window, engine, deadline)
    # What is held in memory, as an engine has told it, is bounded over all logs.
    most = min(options["max_bytes"], options["max_total_bytes"] // max(1, len(logs)))
    looks = [Look(log, options, window, patterns, most) for log in logs]
    name_apart(looks)
    # Each look has its time from now; reading takes what opening leaves of it.
    side_by_side([look.open for look in looks], Deadline(deadline.remaining(options["timeout"])), deadline)
    opened = [look for look in looks if look.ready]
    for look, share in zip(opened, shares([look.size for look in opened], options)):
        look.budget = share
    side_by_side([look.read for look in opened], deadline, deadline)
    services = [look.described(unknown) for look in looks]
    # What may not be read is not known, and so is whether anything is missing from the lists.
    hidden = [look for look in looks if look.hint]
    for part in ("services", "signatures", "known") if hidden else ():
        more = ", and %d more" % (len(hidden) - 1) if len(hidden) > 1 else ""
        unknown.add(part + "[...]", "%s: %s%s" % (hidden[0].name, hidden[0].error, more), hidden[0].hint)
    # A thread that was given up may come to its end while we look.
    read = [look for look, entry in zip(looks, services) if entry["error"] is None]
    services.sort(key=lambda entry: (entry["error"] is None, entry["progress"] is None, -(entry["errors"] or 0)))
    signatures = [entry for look in read for entry in look.signatures()]
    signatures.sort(key=lambda entry: (entry["level"] == "warning", -entry["count"]))
    known = [entry for look in read for entry in look.known()]
    known.sort(key=lambda entry: -entry["count"])
    for look in read:
        look.close()
    top = options["top"]
    return reached(
        {
            "window": window.described(),
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


def refuse_absurd(options):
    """Raises BadOption for an amount that leaves nothing to look at."""
    for name in ("minutes", "timeout", "deadline"):
        if not 0 < options[name] < float("inf"):
            raise BadOption("%s: must be more than 0" % name)
    for name in ("max_bytes", "max_total_bytes", "sample_length", "top"):
        if options[name] < 1:
            raise BadOption("%s: must be 1 or more" % name)


def compiled(options):
    """The options that are patterns: ``(known, progress by service)``. Raises BadOption."""
    if "" in options["files"]:
        raise BadOption("files: one of them is empty")
    known, progress = [], {}
    for row in options["own"] + options["known"]:
        if not isinstance(row.get("pattern"), str) or not row.get("id"):
            raise BadOption("known: each entry needs id and pattern")
        known.append(_pattern(row["pattern"], "known: %s" % row["id"], re.I))
    for service, pattern in options["progress"].items():
        progress[service] = _pattern(str(pattern).encode(), "progress: %s" % service)
    return known, progress


def _pattern(pattern, option, flags=0):
    try:
        return re.compile(pattern, flags)
    except re.error as exc:
        raise BadOption("%s: not a regular expression: %s" % (option, exc)) from exc


def kernel_log(options, window, engine, deadline, unknown):
    """The part ``kernel``: null where it may not be read; none is wanted where ``kernel_log`` is empty."""
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


def find(options, window, engine, deadline):
    """All logs that are wanted; looking for them may hang as well."""
    steps = []
    if options["containers"]:
        steps.append(("containers", "container", _log_sources.containers, (engine, options)))
    if options["files"]:
        steps.append(("files", "file", _log_sources.files, (options, window.previous)))
    if options["journal_units"]:
        seconds = deadline.remaining(options["timeout"]) * 0.8
        steps.append(("journal", "journal", _log_sources.journal, (options, window.previous, seconds)))
    logs = []
    for name, source, step, arguments in steps:
        try:
            logs += within(deadline, options["timeout"], step, *arguments)
        except OSError as exc:
            logs.append(_log_sources.Missing(name, source, exc.strerror or str(exc), _rights.hint_of(exc)))
    return logs


def allow_many_files():
    """Let this process have as many files open as it may: every log is one, and more where it was rotated."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def name_apart(looks):
    """Call containers by their own names where several are of one service."""
    names = [look.log.name for look in looks]
    for look in looks:
        if names.count(look.log.name) > 1 and look.log.about["container"]:
            look.name = look.log.about["container"]


def side_by_side(functions, limit, deadline):
    """Call the functions in threads, each with ``limit``, and wait for them until ``limit`` is over."""
    waiting = list(reversed(functions))

    def work():
        while waiting and not deadline.expired():
            try:
                function = waiting.pop()
            except IndexError:
                return
            function(limit)

    threads = [threading.Thread(target=work, daemon=True) for _number in range(min(THREADS, len(functions)))]
    for thread in threads:
        thread.start()
    # A block that is being read is finished.
    end = Deadline(limit.remaining() + RESERVE_SECONDS / 2)
    for thread in threads:
        thread.join(end.remaining())


def shares(sizes, options):
    """The bytes that may be read of each log: no more than it has and than ``max_bytes``. Small ones come first."""
    left, given = options["max_total_bytes"], [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda number: sizes[number])
    for done, number in enumerate(order):
        given[number] = min(sizes[number], options["max_bytes"], left // (len(order) - done))
        left -= given[number]
    return given


def totals(services):
    counted = [entry for entry in services if entry["error"] is None]
    names = ("lines", "errors", "warnings", "bytes_read", "bytes_skipped")
    found = {name: sum(entry[name] for entry in counted) for name in names}
    found["bytes_read"] += sum(entry["previous"]["bytes_read"] for entry in counted)
    found["unreadable"] = len(services) - len(counted)
    found["complete"] = found["unreadable"] == 0 and all(entry["complete"] for entry in counted)
    return found
