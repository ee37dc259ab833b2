# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measurements of visits: kept in files of this run, referred to by the registered variable ``tracktion_visit``.

Private to this collection. Ansible copies the result of a task several times, walks it value by value, and sends it
to every callback, twice if the task loops. A measurement has hundreds of kilobytes, so it is written to a file in the
run's temporary directory, which Ansible creates for its user alone and removes at the end of the run.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from typing import Any, cast

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.module_utils import _measures
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo
from ansible_collections.tracktion.ops.plugins.plugin_utils import _claims, _shape
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import AreaOutcome, Measured, Values, Visit

PREFIX = "tracktion-visit-"


def put(document: Measured) -> Values:
    """Write the measurements of a visit, and return the reference to them: ``{file, bytes, areas}``."""
    content = json.dumps(document, default=str).encode("utf-8", "backslashreplace")
    path = os.path.join(C.DEFAULT_LOCAL_TMP, PREFIX + secrets.token_hex(8))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    return {"file": os.path.basename(path), "bytes": len(content), "areas": sorted(document["areas"])}


def results(registered: object) -> list[Visit]:
    """Return the results of a visit's task with their measurements: one per probe host if the task looped, else one.

    ``areas``, ``extra_checks``, ``extra_causes``, ``host``, ``limits``, ``journal``, ``presence`` and ``stack`` are
    empty if nothing was measured.
    """
    # While a task loops, ansible-core 2.21 stores an unresolved expression under the name of the register.
    if not isinstance(registered, Mapping):
        return []
    return [_claims.resolve(each) for each in _documents(registered)]


def _documents(registered: Mapping[str, Any]) -> list[Visit]:
    return [_with_document(each) for each in registered.get("results") or [registered]]


def _with_document(result: Mapping[str, Any]) -> Visit:
    visited = result.get("visited")
    empty: Measured = {
        "areas": {},
        "extra_checks": [],
        "extra_causes": [],
        "host": None,
        "limits": {},
        "journal": None,
        "presence": None,
        "stack": "",
    }
    if not isinstance(visited, Mapping):
        return cast("Visit", {**result, **empty})
    try:
        # Only the name of a file is used: the registered variable may have been changed.
        path = os.path.join(C.DEFAULT_LOCAL_TMP, os.path.basename(str(visited.get("file"))))
        with open(path, encoding="utf-8") as stream:
            return cast("Visit", {**result, **json.load(stream)})
    except (OSError, ValueError) as exc:
        message = "the measurement cannot be read on the controller: %s" % exc
        return cast("Visit", {**result, **empty, "failure": {"msg": message}})


def areas_measured_at(probe_host: str, registered: object) -> dict[str, AreaOutcome]:
    """Return the areas that an earlier visit measured there, so that several roles in one play end in one report."""
    areas: dict[str, AreaOutcome] = {}
    for each in _earlier(probe_host, registered):
        areas.update(each["areas"])
    return areas


def presence_found_at(probe_host: str, registered: object) -> Values | None:
    """Return which services an earlier visit has found there; null if it has searched none."""
    return next((each["presence"] for each in _earlier(probe_host, registered) if each.get("presence")), None)


def _earlier(probe_host: str, registered: object) -> list[Visit]:
    # References to claims are not resolved: another host may still be measuring.
    found = _documents(registered) if isinstance(registered, Mapping) else []
    return [each for each in found if each.get("probe_host") == probe_host]


def take(visited: AreaOutcome, document: _shape.Document, area: str, probes: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the measurements of an area into its outcome. A malformed measurement is an error of its probe alone."""
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
            visited["error"] = cast("ErrorInfo", _shape.checked_error(outcome["error"]))
        except _shape.Malformed as exc:
            visited["error"] = _error("malformed", "the error of the area %s" % exc)


def journal(document: _shape.Document) -> Values:
    """Return what the host sent about its lock and audit log, for ``_journals.from_result``."""
    outcome = document.value.get(_measures.JOURNAL) if isinstance(document.value, dict) else None
    if not isinstance(outcome, dict):
        return {"msg": "the host sent none"}
    measured = outcome.get("measurement")
    found = measured.get("journal") if isinstance(measured, dict) else None
    if isinstance(found, dict) and "done" in found:
        return found
    error = found.get("error") if isinstance(found, dict) else outcome.get("error")
    return {"msg": error.get("message") if isinstance(error, dict) else None}


def presence(document: _shape.Document) -> Values | None:
    """Return which services belong to the host (``_presence.Here``), or why that is not known; null if not wanted."""
    outcome = document.value.get(_measures.PRESENCE) if isinstance(document.value, dict) else None
    if not isinstance(outcome, dict):
        return None
    measured = outcome.get("measurement")
    found = measured.get("presence") if isinstance(measured, dict) else None
    try:
        if isinstance(found, dict) and "known" in found:
            return cast("Values", _shape.of_part("visit", "presence")(found, 0, False))
        error = found.get("error") if isinstance(found, dict) else outcome.get("error")
        reason = str(_shape.checked_error(error)["message"])
    except (_shape.Malformed, RecursionError) as exc:
        reason = "its result %s" % exc
    return {"known": False, "reason": "the search for the services of this host failed: %s" % reason, "hint": None}


def checked(measurement: object, module: str, is_plain: bool = False) -> Values:
    """Return a measurement if it has the shape that its module documents, else one with the reason as its error."""
    try:
        return _shape.checked(measurement, module, is_plain)
    except _shape.Malformed as exc:
        return unmeasured("malformed", "the measurement of %s is malformed: %s" % (module, exc))


def unmeasured(kind: str, message: str) -> Values:
    """Return the measurement of a probe that could not measure."""
    return {"reachable": None, "error": _error(kind, message), "unknown": []}


def _error(kind: str, message: str) -> ErrorInfo:
    return {"kind": kind, "message": cut(" ".join(message.split()), 500), "hint": None}
