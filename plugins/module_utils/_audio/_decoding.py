# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decodes audio files and runs the detectors of the service. Private to this collection.

Part of the program that runs inside the container of the audio service: standard library only, and what the service
itself imports. Each step runs in a child process (``_guard``), because decoders may crash, hang or use all memory.
"""

from __future__ import annotations

import importlib
import os
import re
from typing import Any, Callable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _guard, _headers

# The sample rate that MonoLoader returns, and that RhythmExtractor2013 expects.
RATE = 44100
# The service divides the confidence of RhythmExtractor2013 (0 to 5.32) by this.
SCALE = 5.0
STEP = re.compile(r"([A-Za-z_]\w*)((?:\(\))?)$")
LONGEST_TEXT = 200
# The fault of a file that cannot be read, by the exception.
UNREADABLE = {
    "PermissionError": "no_permission",
    "FileNotFoundError": "missing",
    "NotADirectoryError": "missing",
    "IsADirectoryError": "directory",
}

Emit = _guard.Emit


class BadPath(Exception):
    """A dotted path does not lead to anything. The message is the reason."""


def resolve(path: str) -> Any:
    """Return what a dotted path such as ``package.module.Class.method`` or ``module.function().field`` leads to.

    The longest beginning that can be imported is the module. A class before the last name is instantiated without
    arguments, ``()`` calls. Raises BadPath, and what the imported code raises.
    """
    steps = [STEP.match(part) for part in path.split(".")]
    if not all(steps):
        raise BadPath("%s is not a dotted path" % path)
    names = [(step.group(1), bool(step.group(2))) for step in steps if step]
    plain = next((number for number, (_name, called) in enumerate(names) if called), len(names) - 1)
    for count in range(max(1, plain), 0, -1):
        module = ".".join(name for name, _called in names[:count])
        try:
            value: Any = importlib.import_module(module)
        except ModuleNotFoundError as exc:
            if exc.name and (module == exc.name or module.startswith(exc.name + ".")) and count > 1:
                continue
            raise
        break
    for number, (name, called) in enumerate(names[count:], count):
        if isinstance(value, type):
            value = value()
        try:
            value = getattr(value, name)
        except AttributeError as exc:
            raise BadPath("%s: there is no %s" % (path, ".".join(each for each, _call in names[: number + 1]))) from exc
        if called:
            value = value()
    return value


def field(value: Any, name: str) -> Any:
    """Return a field of a result: of a mapping by key, of another object by attribute; null if it has none."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def import_library(name: str) -> None:
    """Import the audio library, with one thread and without its messages."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    module = importlib.import_module(name)
    if name == "essentia":
        importlib.import_module("essentia.standard")
        module.log.infoActive = False
        module.log.warningActive = False


# Decoding


def decode(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``seconds`` and ``peak`` (0 to 1) of a decoded file; null for what a loader does not return."""
    if request["load_call"]:
        found = resolve(request["load_call"])(path)
        if not hasattr(found, "__len__") or isinstance(found, Mapping):
            seconds, peak = field(found, "duration"), field(found, "peak")
            return {"seconds": _float(seconds), "peak": _float(peak)}
    else:
        import essentia.standard  # type: ignore[import-not-found,unused-ignore]

        found = essentia.standard.MonoLoader(filename=path, sampleRate=RATE)()
    peak = max(abs(float(max_of(found))), abs(float(min_of(found)))) if len(found) else 0.0
    return {"seconds": len(found) / RATE, "peak": peak}


def max_of(samples: Any) -> Any:
    """Return the largest sample; by numpy where the samples are an array of it."""
    return samples.max() if hasattr(samples, "max") else max(samples)


def min_of(samples: Any) -> Any:
    """Return the smallest sample."""
    return samples.min() if hasattr(samples, "min") else min(samples)


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


# Detectors


def tempo(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``value`` (beats per minute) and ``confidence`` on the scale of the service."""
    if request["bpm_call"]:
        found, names = resolve(request["bpm_call"])(path), request["bpm_result"]
        return {
            "value": _float(field(found, names.get("bpm", "bpm"))),
            "confidence": _float(field(found, names.get("confidence", "confidence"))),
        }
    import essentia.standard  # type: ignore[import-not-found,unused-ignore]

    found = essentia.standard.RhythmExtractor2013()(essentia.standard.MonoLoader(filename=path)())
    return {"value": float(found[0]), "confidence": float(found[2]) / SCALE}


def key(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``value`` (such as ``C major``) and ``confidence``."""
    if request["key_call"]:
        found, names = resolve(request["key_call"])(path), request["key_result"]
        parts = [field(found, names.get(name, name)) for name in ("key", "scale")]
        confidence = field(found, names.get("confidence", "confidence"))
        value = " ".join(str(part) for part in parts if part is not None) or None
    else:
        import essentia.standard  # type: ignore[import-not-found,unused-ignore]

        found = essentia.standard.KeyExtractor()(essentia.standard.MonoLoader(filename=path)())
        value, confidence = "%s %s" % (found[0], found[1]), found[2]
    return {"value": value and value[:LONGEST_TEXT], "confidence": _float(confidence)}


# Files of the user


def examine(path: str, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the part of a named file: what its header states, what the decoder makes of it, and the fault.

    ``fault`` is null if it was not decoded in fewer seconds than a step may take: that proves nothing.
    """
    part: dict[str, Any] = dict.fromkeys(
        ("bytes", "container", "codec", "stated_seconds", "decoded_seconds", "sample_rate", "channels", "peak")
    )
    part.update(fault=None, message=None, seconds=None)
    read = _guard.run(lambda emit: emit(_stated(path)), seconds)
    if read.state != "ok":
        kind = (read.message or "").partition(":")[0]
        return {**part, "fault": UNREADABLE.get(kind, read.state), "message": read.message}
    part.update(read.values[0])
    incomplete = part.pop("incomplete")
    if part["container"] in ("empty", "text"):
        return {**part, "fault": part["container"], "message": None}
    outcome = _guard.run(lambda emit: emit(decode(path, request)), seconds, request["memory"])
    part.update(seconds=outcome.seconds, peak_bytes=outcome.peak_bytes)
    if outcome.state != "ok":
        fault: str | None = outcome.state
        if fault == "error":
            fault = "truncated" if incomplete else "unknown_codec" if part["container"] else "not_audio"
        elif fault == "hang" and seconds < request["step_seconds"]:
            fault = None
        return {**part, "fault": fault, "message": outcome.message}
    found = outcome.values[0]
    part.update(decoded_seconds=found["seconds"], peak=found["peak"])
    return {**part, "fault": _fault(part, incomplete, request)}


def _stated(path: str) -> dict[str, Any]:
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        found = _headers.describe(stream, size)
    found["stated_seconds"] = found.pop("seconds")
    return {**found, "bytes": size}


def _fault(part: Mapping[str, Any], incomplete: bool | None, request: Mapping[str, Any]) -> str:
    stated, decoded = part["stated_seconds"], part["decoded_seconds"]
    missing = stated - decoded if stated and decoded is not None else 0
    if missing > max(request["tolerance_seconds"], stated * request["tolerance"] if stated else 0):
        return "truncated"
    if incomplete and (decoded is None or not stated or missing > 0):
        return "truncated"
    if part["peak"] is not None and part["peak"] < request["silent_peak"]:
        return "silent"
    if part["sample_rate"] and part["sample_rate"] != request["sample_rate"]:
        return "sample_rate"
    return "none"


# Reference files


def in_memory(make: Callable[[], bytes]) -> str:
    """Return the path of a file that exists in memory only, until this process ends. Nothing is written to a disk."""
    descriptor = os.memfd_create("tracktion-ops-reference")
    data = make()
    while data:
        data = data[os.write(descriptor, data) :]
    return "/proc/self/fd/%d" % descriptor
