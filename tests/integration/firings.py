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
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas

DIRECTORY = Path(__file__).resolve().parents[2] / ".cache" / "firings"


def start() -> None:
    """Forget what earlier runs have recorded."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)


def record(findings, evaluated=()) -> None:
    """Record the checks of ``findings``; those of ``evaluated`` (ids) without a finding have stayed quiet."""
    fired = {finding["id"] for finding in findings if finding["status"] != "unknown"}
    quiet = set(evaluated) - {finding["id"] for finding in findings}
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with open(DIRECTORY / ("%d.jsonl" % os.getpid()), "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"fired": sorted(fired), "quiet": sorted(quiet)}) + "\n")


def missing() -> dict[str, list[str]]:
    """Return the checks of all areas that no test has made ``fired`` or ``quiet``."""
    lines = [json.loads(line) for path in DIRECTORY.glob("*.jsonl") for line in path.read_text().splitlines()]
    ids = {row["id"] for area in _areas.find() for row in area.rows("checks")}
    return {kind: sorted(ids.difference(*(line[kind] for line in lines))) for kind in ("fired", "quiet")}
