# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the steps that may crash: imports the library once, and forks a child process from it for each step.

Part of the program that runs inside the container of the audio service. Private to this collection.
"""

from __future__ import annotations

import importlib
import os
import time
from functools import partial
from typing import Any, Callable, Dict, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _decoding, _guard

Part = Dict[str, Any]

# Seconds of the references: a tempo needs some beats, a key some chords.
SILENCE_SECONDS, CLICK_SECONDS, CADENCE_SECONDS = 5.0, 20.0, 10.0
# Share of the free memory of the container that a child may use.
MEMORY_SHARE = 0.8
# A step is not begun with less time.
LEAST_SECONDS = 2.0


def has_time(end: float, most: float) -> bool:
    """Return whether enough time is left to begin a step of at most ``most`` seconds."""
    return end - time.monotonic() >= min(most, LEAST_SECONDS)


def until(end: float, most: float) -> float:
    """Return the seconds of a step: ``most``, and no more than is left."""
    return max(0.1, min(most, end - time.monotonic()))


def evaluate(wanted: list[Part], found: list[Part], seconds: float) -> None:
    """Set ``value`` and ``error`` of the settings that are dotted paths, evaluated in a child process."""
    dotted = [number for number, row in enumerate(wanted) if row["path"]]
    if not dotted:
        return

    def work(emit: _guard.Emit) -> None:
        for number in dotted:
            try:
                emit({"number": number, "value": _plain(_decoding.resolve(wanted[number]["path"])), "error": None})
            except Exception as exc:  # pylint: disable=broad-except
                emit({"number": number, "value": None, "error": _text("%s: %s" % (type(exc).__name__, exc))})

    outcome = _guard.run(work, seconds)
    for value in outcome.values:
        found[value.pop("number")] = value
    for number in dotted[len(outcome.values) :]:
        found[number] = {"value": None, "error": "%s: %s" % (outcome.state, outcome.message or "no answer in time")}


def _plain(value: Any) -> str | int | float | bool | None:
    return value if isinstance(value, (bool, int, float)) or value is None else _text(str(value))


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")[: _decoding.LONGEST_TEXT]


def run(request: Mapping[str, Any], memory: Mapping[str, Any], end: float) -> Part:
    """Import the library once, in a child process, and fork from it for each step. Return ``deep`` and ``files``."""
    left = memory["limit"] - memory["used"] if memory["limit"] and memory["used"] is not None else None
    limit, is_enough = request["memory"], True
    if left is not None:
        limit, is_enough = min(limit, int(left * MEMORY_SHARE)), left * MEMORY_SHARE >= request["least_memory"]
    outcome = None
    if is_enough:
        wanted = {**request, "memory": limit}
        outcome = _guard.run(lambda emit: work(wanted, emit, end), until(end, request["seconds"]))
    deep: Part = {"imported": None, "formats": [], "silence": [], "tempo": [], "key": [], "memory_left": left}
    files: list[Part] = []
    for value in outcome.values if outcome else ():
        name, part = value["part"], value["value"]
        if name == "files":
            files.append(part)
        elif isinstance(deep[name], list):
            deep[name].append(part)
        else:
            deep[name] = part
    if deep["imported"] is None:
        state: str | None = outcome.state if outcome else "no_memory"
        message = outcome.message if outcome else None
        if outcome and state == "hang" and outcome.seconds < request["step_seconds"]:
            state = None
        peak = outcome.peak_bytes if outcome else None
        deep["imported"] = {"state": state, "message": message, "seconds": None, "bytes": peak}
    return {"deep": deep, "files": files}


def work(request: Mapping[str, Any], emit: _guard.Emit, end: float) -> None:
    """Import the library, then run all steps in child processes. Emits ``part`` and ``value`` of each result."""
    began = time.monotonic()
    state, message = "ok", None
    try:
        _decoding.import_library(request["library"])
    except Exception as exc:  # pylint: disable=broad-except
        state, message = "error", _text("%s: %s" % (type(exc).__name__, exc))
    used = {"seconds": round(time.monotonic() - began, 3), "bytes": _resident()}
    emit({"part": "imported", "value": {"state": state, "message": message, **used}})
    if state != "ok":
        return
    _preload(request)
    most = request["step_seconds"]
    for path in request["files"]:
        if not has_time(end, most):
            return
        part = _decoding.examine(path, request, until(end, most))
        emit({"part": "files", "value": {"path": _text(path), **part}})
    if not request["deep"]:
        return
    from ansible_collections.tracktion.ops.plugins.module_utils._audio import _references

    for name in request["formats"]:
        if not has_time(end, most):
            return
        outcome = _step(_decoding.decode, _references.FORMATS[name], request, until(end, most))
        emit({"part": "formats", "value": {"format": name, "stated_seconds": _references.FORMAT_SECONDS, **outcome}})
    cadence = " ".join(_references.CADENCE_KEY)
    steps: list[tuple[str, str | int | None, Any, Callable[[], bytes]]] = [
        ("silence", None, _decoding.tempo, partial(_references.silence, SILENCE_SECONDS)),
        *(
            ("tempo", each, _decoding.tempo, partial(_references.clicks, each, CLICK_SECONDS))
            for each in request["tempos"]
        ),
        ("key", cadence, _decoding.key, partial(_references.cadence, CADENCE_SECONDS)),
    ]
    for name, reference, function, make in steps:
        if not has_time(end, most):
            return
        outcome = _step(function, make, request, until(end, most))
        emit({"part": name, "value": {"reference": reference, **outcome}})


def _step(function: Any, make: Any, request: Mapping[str, Any], seconds: float) -> Part:
    """Run a step on a reference in a child process, and return its fields with ``state``, ``message``, ``took``."""

    def act(emit: _guard.Emit) -> None:
        emit(function(_decoding.in_memory(make), request))

    outcome = _guard.run(act, seconds, request["memory"])
    found = outcome.values[0] if outcome.values else {}
    # In less time than a step may take, no result proves nothing.
    is_unfinished = outcome.state == "hang" and seconds < request["step_seconds"]
    return {
        "state": None if is_unfinished else outcome.state,
        "message": outcome.message,
        "took": outcome.seconds,
        **found,
    }


def _preload(request: Mapping[str, Any]) -> None:
    """Import the modules of the detectors once. What fails here fails in the steps too, with the reason."""
    for name in ("bpm_call", "key_call", "load_call"):
        parts = request[name].split(".")
        for count in range(len(parts) - 1, 0, -1):
            try:
                importlib.import_module(".".join(parts[:count]))
                break
            except Exception:  # noqa: S112  # pylint: disable=broad-except
                continue


def _resident() -> int | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
