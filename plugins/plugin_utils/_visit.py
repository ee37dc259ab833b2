# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What visits have registered as ``tracktion_visit``. Private to this collection."""

from __future__ import annotations

import json
from collections.abc import Mapping


def result(place, areas, extra_checks, started, python):
    """What a visit registers. The bulk of it is JSON text: Ansible walks every value of a result several times."""
    visited = json.dumps({"areas": areas, "extra_checks": extra_checks}, default=str)
    return {"changed": False, "place": place, "python": python, "started": started, "visited": visited}


def results(registered):
    """The results of a visit's task, unpacked: one per place where it looped over places, else the one."""
    # While a task loops, ansible-core 2.21 keeps the register's name for an expression that is not worked out yet.
    if not isinstance(registered, Mapping):
        return []
    return [_unpacked(each) for each in registered.get("results") or [registered]]


def areas_measured_at(place, registered):
    """What an earlier visit has measured there, so that roles listed one after the other end in one report."""
    areas = {}
    for each in results(registered):
        if each.get("place") == place:
            areas.update(each["areas"])
    return areas


def _unpacked(each):
    visited = each.get("visited")
    return {**each, **(json.loads(visited) if visited else {"areas": {}, "extra_checks": []})}
