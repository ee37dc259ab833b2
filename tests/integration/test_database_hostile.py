# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Printed commands and remedies on objects whose names break out of an unquoted statement."""

from __future__ import annotations

import contextlib
import unicodedata

import psycopg2
import pytest
from psycopg2.extensions import quote_ident

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks, _rows
from tests.integration.modules import run_module
from tests.integration.postgresql import forget
from tests.lab.faults.database import flushed
from tests.lab.shell import wait_until

# Ends every kind of quoting, holds commands of a shell and of SQL, and control characters.
EVIL = "\"'; drop table lab_by;--\n\x1b[31m`id`\u202e\\ $$ "
SCHEMA, TABLE, COLUMN, PARENT, GID = ("%s%s" % (name, EVIL) for name in ("s", "t", "c", "p", "g"))
# Names are limited to 63 bytes.
INDEXES = {kind: "%s%s" % (kind, EVIL[:30]) for kind in ("copy", "broken", "idle")}
LEFT_BEHIND = "l%s_ccnew" % EVIL[:30]
SEQUENCE = "q%s" % EVIL
ROLE = "r%s" % EVIL

SETTINGS = {
    "database_top": 1000,
    "database_dead_rows_floor": 1,
    "database_vacuum_overdue_warning": 0,
    "database_analyze_overdue_warning": 0,
    "database_analyze_overdue_floor": 1,
    "database_foreign_key_rows": 0,
    "database_unused_index_bytes": 0,
    "database_unused_index_seconds": 0,
    "database_prepared_transaction_warning": 0,
    "database_xmin_age_warning": 0,
    # On a busy machine, the prepared transactions soon look old enough to hold dead rows.
    "database_vacuum_holder_seconds": 86400,
}


@pytest.fixture(scope="module")
def hostile(pg17):
    """Yield a server with such objects, and a function that quotes their names."""

    def quote(*names):
        return ".".join(quote_ident(name, pg17.connection) for name in names)

    table, parent = quote(SCHEMA, TABLE), quote(SCHEMA, PARENT)
    column = quote(COLUMN)
    pg17.psql("select pg_stat_reset()")
    pg17.psql("create table lab_by ()")
    pg17.psql("create schema %s" % quote(SCHEMA))
    pg17.psql("create table %s (%s int primary key)" % (parent, column))
    pg17.psql("create sequence %s as int start 2147483000" % quote(SCHEMA, SEQUENCE))
    pg17.psql(
        "create table %s (%s int default nextval(%s) references %s) with (autovacuum_enabled = off)"
        % (table, column, "'%s'" % quote(SCHEMA, SEQUENCE).replace("'", "''"), parent)
    )
    pg17.psql("alter sequence %s owned by %s.%s" % (quote(SCHEMA, SEQUENCE), table, column))
    pg17.psql("insert into %s values (1), (2)" % parent)
    pg17.psql("select nextval('%s')" % quote(SCHEMA, SEQUENCE).replace("'", "''"))
    pg17.psql(
        "create table lab_many (a int); create table lab_idle (b int); create index %s on lab_idle (b)"
        % quote(INDEXES["idle"])
    )
    for name in (INDEXES["copy"], INDEXES["broken"], LEFT_BEHIND):
        pg17.psql("create index %s on %s ((%s + %d))" % (quote(name), table, column, len(name)))
    pg17.psql("create index on %s ((%s + %d))" % (table, column, len(INDEXES["copy"])))
    for name in (INDEXES["broken"], LEFT_BEHIND):
        with pg17.connection.cursor() as cursor:
            cursor.execute(
                "update pg_index set indisvalid = false where indexrelid = %s::regclass", [quote(SCHEMA, name)]
            )
    pg17.psql("create role %s login password 'lab'" % quote(ROLE))
    flushed(pg17, "insert into %s select 1 from generate_series(1, 200); update %s set %s = 2" % (table, table, column))
    for number in range(2):
        gid = "'%s%d'" % (GID.replace("'", "''"), number)
        flushed(pg17, "begin; insert into lab_many values (%d); prepare transaction %s" % (number, gid))
    dead = "select n_dead_tup from pg_stat_all_tables where relid = '%s'::regclass" % table.replace("'", "''")
    wait_until(lambda: int(pg17.psql(dead)) >= 200, "dead rows in the statistics", 5)
    try:
        with pg17.fault("forgotten-slot"), pg17.fault("pending-restart"):
            yield pg17, quote
    finally:
        with pg17.connection.cursor() as cursor:
            cursor.execute("select gid from pg_prepared_xacts")
            for (gid,) in cursor.fetchall():
                cursor.execute("rollback prepared %s", [gid])
        pg17.psql("drop schema %s cascade; drop table lab_many, lab_idle, lab_by" % quote(SCHEMA))
        pg17.psql("drop owned by %s; drop role %s" % (quote(ROLE), quote(ROLE)))


def commands(findings, name, thing=""):
    """Return the commands in the hints of a check."""
    found = [finding for finding in findings if finding["id"] == name and thing in (finding["object"] or "")]
    assert found, name
    return [command for finding in found for command in finding["hint"].split("`")[1::2]]


def paste(pg, *lines):
    """Run commands in psql as if they were pasted."""
    text = "\n".join(lines)
    assert not [char for char in text if unicodedata.category(char)[0] == "C" and char != "\n"]
    pg.server.exec("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "tracktion", stdin=text + "\n")


def value(pg, statement, *parameters):
    with pg.connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()[0]


def tables(pg):
    return pg.psql("select string_agg(oid::text, ',' order by oid) from pg_class where relkind in ('r', 'S')")


def test_printed_commands_work_with_hostile_names(hostile):
    pg, quote = hostile
    before = tables(pg)
    found = pg.diagnose(SETTINGS, role="superuser")
    table = quote(SCHEMA, TABLE)
    oid = value(pg, "select %s::regclass::oid", table)
    # Maintenance, in an order in which each command still has an effect.
    reset, vacuum = commands(found, "database.dead_tuples", 's"')
    (analyze,) = commands(found, "database.analyze_overdue", 's"')
    assert commands(found, "database.vacuum_overdue", 's"') == [reset, vacuum]
    assert (analyze.split()[0], vacuum.split()[0], reset.split()[0]) == ("ANALYZE", "VACUUM", "ALTER")
    (create,) = commands(found, "database.foreign_key_without_index", 's"')
    rebuild, drop_broken = commands(found, "database.invalid_index", "broken")
    widen, retype = commands(found, "database.sequence_exhaustion", 'q"')
    paste(pg, analyze, vacuum, reset, create, rebuild, widen, retype)
    assert value(pg, "select reloptions from pg_class where oid = %s", oid) is None
    assert value(pg, "select analyze_count > 1 and vacuum_count > 0 from pg_stat_all_tables where relid = %s", oid)
    broken, sequence = quote(SCHEMA, INDEXES["broken"]), quote(SCHEMA, SEQUENCE)
    assert value(pg, "select indisvalid from pg_index where indexrelid = %s::regclass", broken)
    assert value(pg, "select seqmax from pg_sequence where seqrelid = %s::regclass", sequence) == 2**63 - 1
    column_type = "select atttypid::regtype::text from pg_attribute where attrelid = %s and attnum = 1"
    assert value(pg, column_type, oid) == "bigint"
    # Drops.
    (copy,) = commands(found, "database.duplicate_index", 's"')
    (idle,) = commands(found, "database.unused_index", "idle")
    (left,) = commands(found, "database.left_behind_index")
    paste(pg, copy, idle, left, drop_broken)
    for name in (INDEXES["broken"], LEFT_BEHIND):
        assert value(pg, "select to_regclass(%s) is null", quote(SCHEMA, name))
    assert value(pg, "select to_regclass(%s) is null", quote("public", INDEXES["idle"]))
    # One of the two duplicates.
    same = "select count(*) from pg_index where indrelid = %s and indexprs is not null and indisvalid"
    assert value(pg, same, oid) == 1
    # Prepared transactions, a slot, a setting.
    prepared = commands(found, "database.prepared_transaction_old", 'g"')
    assert [each.split()[0] for each in prepared] == ["COMMIT", "ROLLBACK"] * 2
    assert set(commands(found, "database.xmin_held", "prepared transaction")) == set(prepared)
    slot, setting = commands(found, "database.inactive_slot"), commands(found, "database.pending_restart")
    paste(pg, prepared[0], prepared[3], *slot, *setting)
    assert value(pg, "select count(*) from pg_prepared_xacts") == 0
    assert value(pg, "select count(*) from lab_many") == 1
    assert value(pg, "select count(*) from pg_replication_slots") == 0
    pending = "select pending_restart from pg_settings where name = 'max_worker_processes'"
    wait_until(lambda: not value(pg, pending), "the setting to be restored", 5)
    # Nothing else has changed.
    assert tables(pg) == before
    again = {finding["id"] for finding in pg.diagnose(SETTINGS, role="superuser") if 's"' in (finding["object"] or "")}
    assert not again & {"database.foreign_key_without_index", "database.left_behind_index", "database.invalid_index"}


def test_a_grant_with_a_hostile_role_and_schema(hostile):
    pg, quote = hostile
    pg.psql("grant pg_monitor to %s" % quote(ROLE))
    found = pg.diagnose(SETTINGS, login_user=ROLE, login_password="lab")
    (grant,) = commands(found, "database.sequences_hidden")
    paste(pg, grant)
    assert value(pg, "select has_sequence_privilege(%s, %s, 'SELECT')", ROLE, quote(SCHEMA, SEQUENCE))


def test_the_list_of_libraries_stays_a_list(hostile):
    """A single string would name one library that does not exist, and the server would not start."""
    pg, _quote = hostile
    (area,) = _areas.find(["database"])
    (check,) = [each for each in _checks.load(area) if each.id == "database.statements_off"]
    library = 'a "b" ' + EVIL[:20].replace("\n", "")
    context = {
        "item": {
            "loaded": False,
            "installed": True,
            "by_command_line": False,
            "preloaded_libraries": [library, "auto_explain"],
        },
        "measured": {"health": {"server": {"database": "tracktion"}}},
    }
    alter, _create = _rows.render(check.hint, context).split("`")[1::2]
    try:
        paste(pg, alter)
        written = value(
            pg, "select setting from pg_file_settings where name = 'shared_preload_libraries' order by seqno desc"
        )
        assert written == '"%s", auto_explain, pg_stat_statements' % library.replace('"', '""')
    finally:
        pg.psql("alter system reset shared_preload_libraries")


@pytest.mark.parametrize("action", ["vacuum", "analyze", "reindex"])
def test_a_remedy_acts_on_hostile_names(hostile, action):
    pg, quote = hostile
    before = tables(pg)
    forget()
    table = quote(SCHEMA, PARENT)
    flushed(pg, "update %s set %s = %s" % (table, quote(COLUMN), quote(COLUMN)))
    named = {"tables": [{"schema": SCHEMA, "name": PARENT}]}
    if action == "reindex":
        name = value(
            pg, "select relname from pg_class join pg_index on oid = indexrelid where indrelid = %s::regclass", table
        )
        with pg.connection.cursor() as cursor:
            cursor.execute("update pg_index set indisvalid = false where indrelid = %s::regclass", [table])
        named = {"indexes": [{"schema": SCHEMA, "name": name}]}
    done = run_module(
        "pg_maintenance",
        {**pg.login("superuser"), "action": action, "min_dead_rows": 0, "max_holder_seconds": 86400, **named},
        diff=True,
    )
    # A prepared transaction may still see the dead rows.
    assert done["objects"][0]["result"] in ("done", "held")
    command = done["objects"][0]["command"]
    assert not [char for char in command if unicodedata.category(char)[0] == "C"]
    assert "`" not in command
    assert tables(pg) == before


def test_a_session_of_a_hostile_role_is_ended(hostile):
    pg, _quote = hostile
    with contextlib.closing(
        psycopg2.connect(host=pg.server.host, port=pg.server.port, dbname="tracktion", user=ROLE, password="lab")
    ) as connection:
        connection.cursor().execute("select 'hunter2' /* hunter2 */, 4711")
        options = {
            **pg.login("superuser"),
            "state": "ended",
            "states": ["idle in transaction"],
            "min_age": 0,
            "users": [ROLE],
        }
        forget()
        done = run_module("pg_activity", options, diff=True)
    assert [(each["user"], each["result"], each["query"]) for each in done["sessions"]] == [
        (ROLE, "ended", "select ?  , ?")
    ]
