# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of findings over runs: validated, and carried over. Pure. Private to this collection.

The state maps host and area to ``{"time": of the last run that measured the area, "findings": {fingerprint: entry}}``.
"""

from __future__ import annotations

import re
from typing import Any, Mapping

# In each of the last runs: 1 it was there, 0 it was not, ? it could not be measured.
RUNS = re.compile(r"[01?]{1,10}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
FINGERPRINT = re.compile(r"[0-9a-f]{16}")
TEXTS = ("id", "title", "summary", "status")
TEXT_LENGTH = 300


def valid(value: object) -> dict[str, Any]:
    """Return the valid part of a state that an earlier run wrote. Raises ValueError if it is no mapping."""
    if not isinstance(value, dict):
        raise ValueError("it is not the file of a run")
    return {
        host: {area: _area(entry) for area, entry in areas.items() if _is_area(entry)}
        for host, areas in value.items()
        if isinstance(areas, dict)
    }


def carried(earlier: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a run, with the areas of hosts that it did not measure as the run before left them."""
    return {host: {**earlier.get(host, {}), **own.get(host, {})} for host in {**earlier, **own}}


def is_time(value: object) -> bool:
    """Return whether a value is a time as reports write it."""
    return isinstance(value, str) and bool(TIME.fullmatch(value))


def _is_area(value: object) -> bool:
    return isinstance(value, dict) and is_time(value.get("time")) and isinstance(value.get("findings"), dict)


def _area(value: Mapping[str, Any]) -> dict[str, Any]:
    findings = {name: entry for name, entry in value["findings"].items() if _is_entry(name, entry)}
    return {"time": value["time"], "findings": findings}


def _is_entry(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and bool(FINGERPRINT.fullmatch(name))
        and isinstance(value, dict)
        and all(isinstance(value.get(key), str) and len(value[key]) <= 4 * TEXT_LENGTH for key in TEXTS)
        and (value.get("object") is None or isinstance(value["object"], str))
        and isinstance(value.get("runs"), str)
        and bool(RUNS.fullmatch(value["runs"]))
        and is_time(value.get("since"))
        and is_time(value.get("first_seen"))
    )
