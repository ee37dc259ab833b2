# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that runs inside the container of the audio service, or with an interpreter of the host.

Its sources and the request are one argument of ``python3 -c``, so that nothing is written to the container. Standard
library only. Private to this collection.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from typing import Any, Dict, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _guard, _surroundings

Part = Dict[str, Any]

# Begins the line of the answer: the interpreter of the service may print other lines.
MARK = "tracktion-ops-audio "
MAX_ANSWER = 262144
# Seconds for a library that does not answer, such as a mount whose server is gone.
GRACE_SECONDS = 3.0


def main(request: Mapping[str, Any]) -> None:
    """Measure what the request names, and write one line of JSON to standard output."""
    # The kernel ends this process, also where the engine cannot be reached to kill it.
    signal.alarm(math.ceil(request["seconds"]) + 5)
    line = (MARK + json.dumps(answer(request)) + "\n").encode("ascii")
    if len(line) > MAX_ANSWER:
        line = (MARK + json.dumps({"too_large": len(line)}) + "\n").encode("ascii")
    while line:
        line = line[os.write(1, line) :]


def answer(request: Mapping[str, Any]) -> Part:
    """Return the parts of the measurement. ``request`` is made by ``_requests.program()``.

    A request with ``look`` looks for files. One with ``delete`` deletes leftovers, and returns what it did.
    """
    if request.get("look"):
        return {"failed": look(request["look"])}
    if request.get("delete"):
        from ansible_collections.tracktion.ops.plugins.module_utils._audio import _leftovers

        return _leftovers.delete(request["delete"], request["is_check"], request["most"])
    end = time.monotonic() + request["seconds"]
    found: Part = {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "library": _surroundings.installed(request["library"]),
        "memory": _surroundings.memory(),
        "temporary": _surroundings.temporary(request["temporary"]),
        **library(request["music"]),
        "settings": settings(request["settings"]),
        "deep": None,
        "files": None,
    }
    if has_steps(request):
        # Sent, and compiled, only if it is needed.
        from ansible_collections.tracktion.ops.plugins.module_utils._audio import _session

        _session.evaluate(request["settings"], found["settings"], _session.until(end, request["step_seconds"]))
        if request["deep"] or request["files"]:
            found.update(_session.run(request, found["memory"], end))
    return found


def library(request: Mapping[str, Any]) -> Part:
    """Return ``music`` and ``music_error``, read in a child process: a mount may hang in the kernel."""
    seconds = request["walk_seconds"] + GRACE_SECONDS
    outcome = _guard.run(lambda emit: emit({"music": _surroundings.library(request)}), seconds)
    if outcome.values:
        return {**outcome.values[0], "music_error": None}
    reason = "it does not answer, as a mount whose server is gone" if outcome.state == "hang" else outcome.message
    return {"music": None, "music_error": reason}


def look(paths: list[str]) -> list[Any]:
    """Return whether each path exists, and when it was changed, in a child process; null for what is not known."""
    outcome = _guard.run(lambda emit: emit({"found": [_surroundings.changed(each) for each in paths]}), GRACE_SECONDS)
    return outcome.values[0]["found"] if outcome.values else [(None, None) for _path in paths]


def has_steps(request: Mapping[str, Any]) -> bool:
    """Return whether the request needs child processes."""
    if request.get("delete") or request.get("look"):
        return False
    return bool(request["deep"] or request["files"] or any(row["path"] for row in request["settings"]))


def settings(wanted: list[Part]) -> list[Part]:
    """Return ``value`` and ``error`` of each setting that is a variable of the environment."""
    found: list[Part] = []
    for row in wanted:
        name = row["environment"]
        value = os.environ.get(name) if name else None
        error = "not evaluated" if not name else "%s is not set" % name if value is None else None
        found.append({"value": value, "error": error})
    return found
