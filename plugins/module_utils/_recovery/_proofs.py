# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the proof of a backup, for all products. Private to this collection."""

from __future__ import annotations

import time
from typing import NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import SCHEMA_VERSION, Difference, Proof

# Differences that a proof and a result list; their total is beside them.
MOST_DIFFERENCES = 50
REASON_CHARACTERS = 1000


class Outcome(NamedTuple):
    """The outcome of loading a backup and comparing it. ``reason`` is null unless it could not be loaded.

    ``total`` is the number of differences, if not all are listed.
    """

    server_version: str | None
    differences: Sequence[Difference]
    reason: str | None = None
    total: int | None = None


def write(store: Store, artefact: Artefact, started: float, outcome: Outcome) -> Proof:
    """Write the proof of an outcome beside the manifest, and return it. Raises CannotStore."""
    total = len(outcome.differences) if outcome.total is None else outcome.total
    made: Proof = {
        "schema_version": SCHEMA_VERSION,
        "result": "failed" if outcome.reason else ("different" if total else "proven"),
        "started": round(started, 3),
        "finished": round(time.time(), 3),
        "server_version": outcome.server_version,
        "manifest_sha256": str(artefact.manifest_sha256),
        "differences": list(outcome.differences[:MOST_DIFFERENCES]),
        "differences_total": total,
        "reason": cut(outcome.reason, REASON_CHARACTERS),
    }
    store.write_proof(artefact, made)
    return made
