# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pressure stall information: the share of time in which tasks waited for a resource. Private to this collection.

https://docs.kernel.org/accounting/psi.html
"""

from __future__ import annotations

from typing import Dict, Optional

from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

RESOURCES = ("cpu", "memory", "io")
WINDOWS = ("avg10", "avg60", "avg300")
# The kernel lacks it, or was started without it (EOPNOTSUPP).
ABSENT = "the kernel does not count it (CONFIG_PSI, or psi=1 on its command line)"

# Resource -> ``some`` and ``full``, null if it cannot be read.
Sample = Dict[str, Optional[Part]]


def sample(context: Context) -> Sample:
    """Return the pressure of each resource now; null where the kernel does not count it."""
    found: Sample = {}
    for name in RESOURCES:
        try:
            found[name] = parse(context.text("pressure/" + name))
        except OSError:
            found[name] = None
    return found


def parse(text: str) -> Part:
    """Return ``some`` and ``full`` of the text of a file of /proc/pressure: shares, and ``total`` in seconds."""
    found: Part = {"some": None, "full": None}
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        shares: Part = {name: round(float(values[name]) / 100, 4) for name in WINDOWS}
        found[kind] = {**shares, "total": int(values["total"]) / 1e6}
    return found


def describe(context: Context, first: Sample, second: Sample) -> Part:
    """Return the part ``pressure``: by resource, with ``interval``, the share of the time between both samples."""
    found: Part = {"available": any(second.values()), "reason": None if any(second.values()) else ABSENT}
    for name in RESOURCES:
        before, now = first.get(name), second.get(name)
        found[name] = None if now is None else {kind: _line(kind, before, now, context.seconds) for kind in now}
    return found


def _line(kind: str, before: Part | None, now: Part, seconds: float) -> Part | None:
    if now[kind] is None:
        return None
    earlier = before and before.get(kind)
    stalled = _rates.difference(earlier["total"], now[kind]["total"]) if earlier else None
    found = {name: now[kind][name] for name in WINDOWS}
    return {**found, "interval": _rates.share(stalled, seconds), "total_seconds": now[kind]["total"]}
