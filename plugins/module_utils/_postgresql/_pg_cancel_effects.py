# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the cancel of a command leaves behind that a rollback does not undo. Private to this collection."""

from __future__ import annotations

import re

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._sql_text import without_literals

# Commands that work in several transactions, or outside of one, by how they begin. The first that matches counts.
_EFFECTS = tuple(
    (re.compile(pattern + r"\b", re.I | re.S), effect)
    for pattern, effect in (
        (
            r"CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY",
            "leaves an invalid index behind, which every write updates: remove it with DROP INDEX CONCURRENTLY",
        ),
        (
            r"REINDEX\b.*\bCONCURRENTLY",
            "leaves an invalid index behind, its name ends in _ccnew or _ccold: remove it with DROP INDEX CONCURRENTLY",
        ),
        (
            r"DROP\s+INDEX\s+CONCURRENTLY",
            "leaves the index invalid, which every write updates: repeat the DROP INDEX CONCURRENTLY",
        ),
        (
            r"ALTER\s+TABLE\b.*\bDETACH\s+PARTITION\b.*\bCONCURRENTLY",
            "leaves the partition half detached: complete it with ALTER TABLE ... DETACH PARTITION ... FINALIZE",
        ),
        (r"DROP\s+DATABASE", "leaves a database that accepts no connections: repeat the DROP DATABASE"),
        (
            r"(CREATE|DROP|ALTER)\s+SUBSCRIPTION",
            "may leave a replication slot on the publisher, which retains WAL there",
        ),
        (r"(CALL|DO)", "keeps what the procedure has committed, and rolls back only its last transaction"),
        (r"COPY\b.*\bTO", "leaves an incomplete copy at its client or in its file"),
    )
)

# Commands that maintain tables for hours, and lose their work at a cancel.
_MAINTENANCE = re.compile(r"(VACUUM|ANALYZE|CLUSTER|REINDEX|CREATE\s+(UNIQUE\s+)?INDEX|REFRESH\s+MATERIALIZED)\b", re.I)
# VACUUM FULL rewrites the table under an exclusive lock, and a cancel only undoes that.
_VACUUM = re.compile(r"VACUUM\b(?!\s+FULL\b|\s*\([^)]*\bFULL\b)", re.I)


def cancel_effect(query: str | None) -> str | None:
    """Return what a cancel of ``query`` leaves behind, as the rest of a sentence. Null for a plain rollback.

    ``query`` is the text of the session, which may hold constants and comments, or be cut.
    """
    text = _command(query)
    return next((effect for pattern, effect in _EFFECTS if pattern.match(text)), None)


def is_maintenance(query: str | None) -> bool:
    """Return whether ``query`` is a command of maintenance, whose work is lost at a cancel."""
    return bool(_MAINTENANCE.match(_command(query)))


def is_vacuum(query: str | None) -> bool:
    """Return whether ``query`` is a VACUUM without FULL. It may be what prevents transaction ID wraparound."""
    return bool(_VACUUM.match(_command(query)))


def _command(query: str | None) -> str:
    """Return ``query`` without comments and constants, from its first word."""
    return without_literals(query or "").lstrip("; \t\r\n")
