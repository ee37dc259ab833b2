# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records which checks fire and which stay quiet in the integration tests.

After a complete run, the suite fails if a check of an area has never fired on a real fault, or has always fired.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas

# The directory of this run, which the processes of pytest-xdist inherit: two runs may share a checkout.
VARIABLE = "TRACKTION_FIRINGS"


def start() -> None:
    """Begin a run without records."""
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="tracktion-firings-")


def record(findings, evaluated=()) -> None:
    """Record the checks of ``findings``; those of ``evaluated`` (ids) without a finding have stayed quiet."""
    if VARIABLE not in os.environ:
        return
    fired = {finding["id"] for finding in findings if finding["status"] != "unknown"}
    quiet = set(evaluated) - {finding["id"] for finding in findings}
    with open(Path(os.environ[VARIABLE], "%d.jsonl" % os.getpid()), "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"fired": sorted(fired), "quiet": sorted(quiet)}) + "\n")


def missing() -> dict[str, list[str]]:
    """Return the checks of all areas that no test has made ``fired`` or ``quiet``."""
    paths = Path(os.environ[VARIABLE]).glob("*.jsonl")
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    ids = {row["id"] for area in _areas.find() for row in area.rows("checks")}
    return {kind: sorted(ids.difference(*(line[kind] for line in lines))) for kind in ("fired", "quiet")}


def end() -> None:
    """Remove the records of this run."""
    shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)
