# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types of what modules measure and return, on managed hosts. Private to this collection.

Base units: bytes, seconds, ratios from 0 to 1, times as seconds since 1970. Null is what is not known.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, TypedDict

# Options of a module, validated and with their defaults.
Options = Mapping[str, Any]
# One part of a measurement that is a mapping, as JSON. What is in it, the module's RETURN says.
Part = Dict[str, Any]


class ErrorInfo(TypedDict):
    """Why something could not be measured.

    ``kind`` is a stable word (``_failures.KINDS``) that checks may compare, ``message`` one line for a person, ``hint``
    the next step or null.
    """

    kind: str
    message: str
    hint: str | None


class _UnknownPart(TypedDict):
    part: str
    reason: str


class UnknownPart(_UnknownPart, total=False):
    """A part of a measurement that could not be read, and the reason.

    ``part`` is its path. ``<list>.<name>`` is one item of a list, ``<list>.*`` stands for a field of all its items, and
    ``<list>[...]`` for items that are missing from it. ``hint`` is there where something can be done.
    """

    hint: str


class Measurement(TypedDict):
    """What every measuring function returns (docs/measurement.md). Its parts are keys beside these three.

    ``reachable`` is null if there was no time, or no right, to find out. ``error`` is null if it is true.
    """

    reachable: bool | None
    error: ErrorInfo | None
    unknown: list[UnknownPart]


class AreaOutcome(TypedDict):
    """What the visit measured of one area: probe name -> measurement, why probes are missing, and how long it took."""

    measurement: dict[str, Measurement]
    error: ErrorInfo | None
    seconds: float
