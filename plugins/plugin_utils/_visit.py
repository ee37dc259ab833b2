# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What visits have registered as ``tracktion_visit``. Private to this collection."""

from __future__ import annotations


def results(registered):
    """The results of a visit's task: one per place where it looped over places, else the one."""
    if not registered:
        return []
    return registered.get("results") or [registered]


def areas_measured_at(place, registered):
    """What an earlier visit has measured there, so that roles listed one after the other end in one report."""
    areas = {}
    for result in results(registered):
        if result.get("place") == place:
            areas.update(result.get("areas") or {})
    return areas
