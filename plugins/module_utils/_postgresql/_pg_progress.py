# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of a command that another connection runs. Private to this collection."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

PROGRESS = """
SELECT phase, least({done}::float8 / nullif({total}, 0), 1) AS ratio FROM {view} WHERE pid = %(pid)s
"""


class View(NamedTuple):
    """A progress view, and its columns that count the blocks done and all blocks."""

    name: str
    done: str
    total: str


# PostgreSQL 13 and newer.
ANALYZE = View("pg_stat_progress_analyze", "sample_blks_scanned", "sample_blks_total")
VACUUM = View("pg_stat_progress_vacuum", "heap_blks_scanned", "heap_blks_total")
CREATE_INDEX = View("pg_stat_progress_create_index", "blocks_done", "blocks_total")


class ProgressWatch:
    """Keeps the last ``progress`` (``phase``, ``ratio``) of the command of ``client``. Call it while that runs.

    It stops for good if the server accepts no further connection.
    """

    def __init__(self, client: postgresql.Client, options: Options, view: View) -> None:
        self.pid = client.connection.get_backend_pid()
        self.options = dict(options, timeout=min(options["timeout"], postgresql.WATCH_SECONDS))
        self.sql = PROGRESS.format(view=view.name, done=view.done, total=view.total)
        self.client: postgresql.Client | None = None
        self.stopped = view is ANALYZE and client.connection.server_version < 130000
        self.progress: postgresql.Row | None = None

    def __call__(self) -> None:
        if self.stopped:
            return
        try:
            if self.client is None:
                self.client = postgresql.connect_apart(self.options)
            self.progress = next(iter(self.client.rows(self.sql, {"pid": self.pid})), self.progress)
        except (CannotConnect, postgresql.QueryFailed):
            self.stopped = True

    def close(self) -> None:
        """Close the connection of the watch."""
        if self.client:
            self.client.connection.close()

    def as_text(self) -> str:
        """Return the last progress as text to append to a message; empty if there is none."""
        if self.progress is None:
            return ""
        ratio = "" if self.progress["ratio"] is None else ", %.0f %% done" % (self.progress["ratio"] * 100)
        return " (last phase: %s%s)" % (self.progress["phase"], ratio)
