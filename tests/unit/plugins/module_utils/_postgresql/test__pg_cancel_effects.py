# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_cancel_effects


@pytest.mark.parametrize(
    ("query", "effect"),
    [
        ("create index concurrently on tracks (added)", "DROP INDEX CONCURRENTLY"),
        ("/* app */ -- x\n CREATE UNIQUE\n INDEX  CONCURRENTLY a ON b (c)", "DROP INDEX CONCURRENTLY"),
        ("REINDEX INDEX CONCURRENTLY a", "_ccnew"),
        ("reindex (verbose, concurrently) table a", "_ccnew"),
        ("DROP INDEX CONCURRENTLY a", "repeat the DROP INDEX"),
        ("ALTER TABLE a DETACH PARTITION b CONCURRENTLY", "FINALIZE"),
        ("DROP DATABASE old", "repeat the DROP DATABASE"),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p", "replication slot"),
        ("CALL cleanup()", "last transaction"),
        ("DO $$ begin commit; end $$", "last transaction"),
        ("COPY tracks TO '/tmp/a'", "incomplete"),
        # These are rolled back.
        ("CREATE INDEX a ON b (c)", None),
        ("REINDEX TABLE a", None),
        ("VACUUM FULL a", None),
        ("ALTER TABLE a DETACH PARTITION b", None),
        ("COPY tracks FROM STDIN", None),
        ("ALTER TYPE a ADD VALUE 'b'", None),
        ("SELECT 'CREATE INDEX CONCURRENTLY'", None),
        ("DOMAIN", None),
        (None, None),
        ("", None),
    ],
)
def test_effect_of_a_cancel(query, effect):
    found = _pg_cancel_effects.cancel_effect(query)
    assert found is None if effect is None else effect in found


@pytest.mark.parametrize(
    ("query", "maintains", "vacuums"),
    [
        ("vacuum tracks", True, True),
        ("VACUUM (FREEZE, ANALYZE) tracks", True, True),
        ("VACUUM FULL tracks", True, False),
        ("vacuum (analyze, full) tracks", True, False),
        ("ANALYZE", True, False),
        ("create unique index on a (b)", True, False),
        ("refresh materialized view concurrently m", True, False),
        ("select vacuum from rooms", False, False),
        ("create table index (a int)", False, False),
        (None, False, False),
    ],
)
def test_maintenance(query, maintains, vacuums):
    assert (_pg_cancel_effects.is_maintenance(query), _pg_cancel_effects.is_vacuum(query)) == (maintains, vacuums)
