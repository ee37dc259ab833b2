# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One line of text for the progress of a module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.tracktion.ops.plugins.plugin_utils._units import duration, size


def line(progress: Mapping[str, Any]) -> str:
    """Return ``dump: 1.2 GiB of about 5 GiB, 45 MiB/s, 1 min 20 s left``; empty without a progress.

    The values are from a host: what is not a number is left out.
    """
    step = progress.get("step")
    if not isinstance(step, str) or not step:
        return ""
    done, total, rate, left = (_number(progress.get(key)) for key in ("bytes", "total", "rate", "seconds_left"))
    parts = []
    if done:
        parts.append("%s of about %s" % (size(done), size(total)) if total else size(done))
    if rate:
        parts.append("%s/s" % size(rate))
    if left:
        parts.append("%s left" % duration(left))
    return "%s: %s" % (step[:60], ", ".join(parts)) if parts else step[:60]


def notes(progress: Mapping[str, Any], shown: int) -> list[tuple[int, str]]:
    """Return the lines of text with a number above ``shown``, each with its number."""
    found = progress.get("notes")
    pairs = [each for each in (found if isinstance(found, list) else []) if isinstance(each, list) and len(each) == 2]
    valid = [each for each in pairs if isinstance(each[0], int) and isinstance(each[1], str)]
    return [(number, text[:300]) for number, text in valid if number > shown]


def _number(value: object) -> float | None:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if usable else None  # type: ignore[arg-type]
