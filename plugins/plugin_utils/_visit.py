# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What visits measured: handed over in files of this run, referred to by what is registered as ``tracktion_visit``.

Private to this collection. A result of a task is copied several times, walked value by value, and sent to every
callback twice where the task loops. A measurement has some hundred kilobytes, so that it goes by a file in the run's
own temporary directory, which Ansible makes for its user alone and removes at the end of the run.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.plugin_utils import _claims, _shape

PREFIX = "tracktion-visit-"


def put(document: dict) -> dict:
    """Write what a visit measured, and return the reference to it: ``{file, bytes, areas}``."""
    content = json.dumps(document, default=str).encode("utf-8", "backslashreplace")
    path = os.path.join(C.DEFAULT_LOCAL_TMP, PREFIX + secrets.token_hex(8))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    return {"file": os.path.basename(path), "bytes": len(content), "areas": sorted(document["areas"])}


def results(registered: object) -> list[dict]:
    """The results of a visit's task with what they measured: one per probe host if it looped, else the one.

    Each has ``areas``, ``extra_checks``, ``host`` and ``limits``, empty where nothing was measured.
    """
    # While a task loops, ansible-core 2.21 keeps the register's name for an expression that is not worked out yet.
    if not isinstance(registered, Mapping):
        return []
    return [_claims.resolve(each) for each in _documents(registered)]


def _documents(registered: Mapping) -> list[dict]:
    return [_with_document(each) for each in registered.get("results") or [registered]]


def _with_document(each: Mapping) -> dict:
    visited = each.get("visited")
    empty = {"areas": {}, "extra_checks": [], "host": None, "limits": {}}
    if not isinstance(visited, Mapping):
        return {**each, **empty}
    try:
        # The name of a file, never a path: what is registered may be read from anywhere.
        path = os.path.join(C.DEFAULT_LOCAL_TMP, os.path.basename(str(visited.get("file"))))
        with open(path, encoding="utf-8") as stream:
            return {**each, **json.load(stream)}
    except (OSError, ValueError) as exc:
        message = "what was measured cannot be read on the controller: %s" % exc
        return {**each, **empty, "failure": {"msg": message}}


def areas_measured_at(probe_host: str, registered: object) -> dict:
    """What an earlier visit has measured there, so that roles listed one after the other end in one report."""
    areas = {}
    # What they refer to stays referred to: another host may still be measuring it.
    for each in _documents(registered) if isinstance(registered, Mapping) else []:
        if each.get("probe_host") == probe_host:
            areas.update(each["areas"])
    return areas


def take(visited: dict, document: _shape.Document, area: str, probes: Mapping) -> None:
    """Put what was measured of an area into its outcome; a malformed measurement is an error of its probe alone."""
    outcomes = document.value
    outcome = outcomes.get(area) if isinstance(outcomes, dict) else None
    if not isinstance(outcome, dict) or not isinstance(outcome.get("measurement"), dict):
        visited["error"] = _error("malformed", "the host sent no measurement of this area")
        return
    measurement = outcome["measurement"]
    for name, probe in probes.items():
        if name in measurement:
            visited["measurement"][name] = checked(measurement[name], probe["module"], document.is_plain)
    seconds = outcome.get("seconds")
    if isinstance(seconds, (int, float)) and 0 <= seconds < _shape.MAX_NUMBER:
        visited["seconds"] = seconds
    if outcome.get("error") is not None:
        try:
            visited["error"] = _shape.checked_error(outcome["error"])
        except _shape.Malformed as exc:
            visited["error"] = _error("malformed", "the error of the area %s" % exc)


def checked(measurement: object, module: str, is_plain: bool = False) -> dict:
    """A measurement that has the shape its module documents; one that has another is replaced by the reason."""
    try:
        return _shape.checked(measurement, module, is_plain)
    except _shape.Malformed as exc:
        return unmeasured("malformed", "the measurement of %s is malformed: %s" % (module, exc))


def unmeasured(kind: str, message: str) -> dict:
    """The measurement of a probe that has none."""
    return {"reachable": None, "error": _error(kind, message), "unknown": []}


def _error(kind: str, message: str) -> dict:
    return {"kind": kind, "message": cut(" ".join(message.split()), 500), "hint": None}
