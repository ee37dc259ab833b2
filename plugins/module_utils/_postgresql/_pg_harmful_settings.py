# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings with a value that stops writes, upkeep or protection. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_server as pg_server
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# The value of a session may be that of its role or database: these are read where they are set. Only values of these
# names are Boolean, and AND has no order.
HARMFUL_SETTINGS = """
WITH harmful (name, value) AS (
    VALUES ('default_transaction_read_only', true), ('autovacuum', false), ('track_counts', false), ('fsync', false),
           ('full_page_writes', false), ('zero_damaged_pages', true), ('ignore_checksum_failure', true)
), found AS (
    SELECT s.name, s.setting AS value, NULL::text AS database, NULL::text AS role,
           s.source = 'command line' AS by_command_line
    FROM pg_settings s
    JOIN harmful h ON CASE WHEN h.name = s.name THEN s.setting::bool = h.value END
    WHERE s.source IN ('default', 'environment variable', 'configuration file', 'command line', 'override')
    UNION ALL
    SELECT h.name, split_part(c.setting, '=', 2), d.datname, r.rolname, false
    FROM pg_db_role_setting o
    CROSS JOIN unnest(o.setconfig) AS c (setting)
    JOIN harmful h ON CASE WHEN h.name = split_part(c.setting, '=', 1)
                           THEN split_part(c.setting, '=', 2)::bool = h.value END
    LEFT JOIN pg_database d ON d.oid = o.setdatabase
    LEFT JOIN pg_roles r ON r.oid = o.setrole
)
SELECT *, count(*) OVER () AS total FROM found ORDER BY role NULLS FIRST, database NULLS FIRST, name LIMIT %(top)s
"""


def read_harmful_settings(client: postgresql.Client, top: int) -> Part:
    """Return ``harmful_settings`` and its ``_total``. Raises QueryFailed.

    ``database`` and ``role`` are null for a setting of the whole server.
    """
    return pg_server.listed("harmful_settings", client.rows(HARMFUL_SETTINGS, {"top": top}), top)
