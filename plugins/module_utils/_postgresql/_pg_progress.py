# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a command has come that another connection runs. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql

PROGRESS = """
SELECT phase, least({done}::float8 / nullif({total}, 0), 1) AS ratio FROM {view} WHERE pid = %(pid)s
"""

# Name of the view, what is done and what there is to do. That of ANALYZE has come with PostgreSQL 13.
ANALYZE = ("pg_stat_progress_analyze", "sample_blks_scanned", "sample_blks_total")
VACUUM = ("pg_stat_progress_vacuum", "heap_blks_scanned", "heap_blks_total")
CREATE_INDEX = ("pg_stat_progress_create_index", "blocks_done", "blocks_total")


class Watch:
    """Called while the command runs, remembers in ``seen`` what was last seen of it: ``phase`` and ``ratio``.

    A server that has no room for another connection is not asked again.
    """

    def __init__(self, client, options, source):
        self.pid = client.connection.get_backend_pid()
        self.options = dict(options, timeout=min(options["timeout"], postgresql.WATCH_SECONDS))
        self.sql = PROGRESS.format(view=source[0], done=source[1], total=source[2])
        self.client = None
        self.blind = source is ANALYZE and client.connection.server_version < 130000
        self.seen = None

    def __call__(self):
        if self.blind:
            return
        try:
            if self.client is None:
                self.client = postgresql.connect_apart(self.options)
            self.seen = next(iter(self.client.rows(self.sql, {"pid": self.pid})), self.seen)
        except (CannotConnect, postgresql.QueryFailed):
            self.blind = True

    def close(self):
        if self.client:
            self.client.connection.close()

    def told(self):
        """What was last seen, in words; empty where nothing was."""
        if self.seen is None:
            return ""
        ratio = "" if self.seen["ratio"] is None else ", %.0f %% of it" % (self.seen["ratio"] * 100)
        return " (last seen %s%s)" % (self.seen["phase"], ratio)
