# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contents of a database on real servers: a copy is equal, and a copy that lacks one item is not."""

from __future__ import annotations

import contextlib
import copy
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_contents, _pg_contents_sql
from tests.integration.recovery_databases import client, made, rich
from tests.slack import SLACK

# What is lost, or changed, and the item that shows it.
LOSSES = [
    ("delete from lib.tracks where id = 7", "rows: lib.tracks"),
    ("update lib.tracks set title = 'x' where id = 7", "hashes: lib.tracks"),
    ("delete from lib.events where at = '2026-02-02'", "rows: lib.events_rest"),
    ("delete from only lib.base", "rows: lib.base"),
    ("truncate lib.scratch", "rows: lib.scratch"),
    ("select setval('lib.numbers', 100)", "sequences: lib.numbers"),
    ("select nextval('lib.unused')", "sequences: lib.unused"),
    ("alter sequence lib.numbers cycle", "sequences: lib.numbers"),
    ("drop sequence lib.unused", "sequences: lib.unused"),
    ("alter sequence lib.tracks_id_seq restart", "sequences: lib.tracks_id_seq"),
    ("select lo_unlink(70002)", "large_objects: count"),
    ("select lo_put(70001, 17, 'x')", "large_objects: hash"),
    ("select lo_truncate(lo_open(70001, 131072), 17)", "large_objects: bytes"),
    ("alter large object 70001 owner to postgres", "large_objects: privileges"),
    ("revoke select on large object 70001 from tracktion_monitor", "large_objects: privileges"),
    ("comment on large object 70002 is null", "large_objects: comments"),
    ("alter table lib.tracks owner to postgres", "objects: table lib.tracks"),
    ("alter schema lib owner to postgres", "objects: schema lib"),
    ("alter function lib.doubled owner to tracktion_user", "objects: function lib.doubled(integer)"),
    ("alter type lib.genre owner to tracktion_user", "objects: type lib.genre"),
    ("revoke select on lib.tracks from tracktion_monitor cascade", "objects: table lib.tracks"),
    ("grant execute on function lib.doubled(int) to public", "objects: function lib.doubled(integer)"),
    ("revoke usage on schema lib from public", "objects: schema lib"),
    ("revoke usage on schema public from public", "objects: schema public"),
    ("revoke execute on function pg_ls_waldir() from tracktion_monitor", "objects: function pg_catalog.pg_ls_waldir()"),
    ("revoke update (title) on lib.tracks from tracktion_operator", "columns: lib.tracks.title"),
    ("drop operator lib.<+> (int, int)", "objects: operator lib.<+>(integer,integer)"),
    ("drop cast (lib.pair as text)", "objects: cast (lib.pair AS pg_catalog.text)"),
    ("drop aggregate lib.total(int)", "functions: lib.total(integer)"),
    ("drop procedure lib.nothing", "functions: lib.nothing()"),
    ("alter function lib.touch() security invoker", "functions: lib.touch()"),
    ("alter function lib.touch() reset search_path", "functions: lib.touch()"),
    ("alter default privileges for role tracktion_user in schema lib revoke select on tables from tracktion_monitor",
     "default_privileges: for tracktion_user in lib on r"),
    ("alter default privileges for role tracktion_user grant execute on functions to public",
     "default_privileges: for tracktion_user on f"),
    ("drop extension pg_trgm cascade", "extensions: pg_trgm"),
    ("update pg_extension set extversion = '0.9' where extname = 'hstore'", "extensions: hstore"),
    ("alter extension hstore set schema public", "extensions: hstore"),
    ("drop table lib.derived", "relations: lib.derived"),
    ("alter table lib.derived no inherit lib.base", "relations: lib.derived"),
    ("alter table lib.events detach partition lib.events_rest", "relations: lib.events_rest"),
    ("alter table lib.tracks disable row level security", "relations: lib.tracks"),
    ("alter table lib.tracks force row level security", "relations: lib.tracks"),
    ("alter table lib.tracks replica identity default", "relations: lib.tracks"),
    ("alter table lib.tracks reset (fillfactor)", "relations: lib.tracks"),
    ("alter table lib.tracks set (toast.autovacuum_enabled = false)", "relations: lib.tracks"),
    ("alter table lib.scratch set logged", "relations: lib.scratch"),
    ("refresh materialized view lib.counts with no data", "relations: lib.counts"),
    ("drop view lib.short", "relations: lib.short"),
    ("alter table lib.tracks drop column payload", "columns: lib.tracks.payload"),
    ("alter table lib.tracks alter title drop not null", "columns: lib.tracks.title"),
    ("alter table lib.tracks alter title drop default", "columns: lib.tracks.title"),
    ("alter table lib.tracks alter title set statistics -1", "columns: lib.tracks.title"),
    ("alter table lib.tracks alter payload set storage extended", "columns: lib.tracks.payload"),
    ("alter table lib.tracks alter payload set compression pglz", "columns: lib.tracks.payload"),
    ("alter table lib.tracks alter title set (n_distinct = -1)", "columns: lib.tracks.title"),
    ("alter table lib.tracks alter id drop identity", "columns: lib.tracks.id"),
    ("alter table lib.tracks alter minutes drop expression", "columns: lib.tracks.minutes"),
    ("alter table lib.tracks alter sorted type text", "columns: lib.tracks.sorted"),
    ("alter table lib.tracks drop constraint positive", "constraints: positive on lib.tracks"),
    ("update lib.tracks set bpm = 20; alter table lib.tracks validate constraint positive",
     "constraints: positive on lib.tracks"),
    ("alter table lib.tracks drop constraint tracks_parent_fkey", "constraints: tracks_parent_fkey on lib.tracks"),
    ("alter table lib.tracks alter constraint tracks_parent_fkey not deferrable",
     "constraints: tracks_parent_fkey on lib.tracks"),
    ("alter domain lib.bpm drop constraint bpm_check", "constraints: bpm_check on lib.bpm"),
    ("alter domain lib.bpm drop default", "types: lib.bpm"),
    ("alter type lib.genre add value 'techno'", "types: lib.genre"),
    ("drop index lib.tracks_done", "indexes: lib.tracks_done"),
    ("update pg_index set indisvalid = false where indexrelid = 'lib.tracks_done'::regclass",
     "indexes: lib.tracks_done"),
    ("alter index lib.tracks_bpm reset (fillfactor)", "indexes: lib.tracks_bpm"),
    ("alter table lib.tracks set without cluster", "indexes: lib.tracks_bpm"),
    ("drop trigger touch on lib.tracks", "triggers: touch on lib.tracks"),
    ("alter table lib.tracks enable trigger never", "triggers: never on lib.tracks"),
    ("drop policy own on lib.tracks", "policies: own on lib.tracks"),
    ("alter policy own on lib.tracks to public", "policies: own on lib.tracks"),
    ("drop rule quiet on lib.tracks", "rules: quiet on lib.tracks"),
    ("alter table lib.tracks disable rule quiet", "rules: quiet on lib.tracks"),
    ("drop statistics lib.tracks_stats", "statistics: lib.tracks_stats"),
    ("drop publication everything", "publications: everything"),
    ("alter publication \"some\" drop table lib.tracks", "publications: \"some\""),
    ("alter publication everything set (publish = 'insert, truncate')", "publications: everything"),
    ("alter publication \"some\" add tables in schema lib", "published_schemas: \"some\""),
    ("create subscription gone connection 'host=nowhere' publication p with (connect = false)", "subscriptions: gone"),
    ("alter event trigger noted enable", "event_triggers: noted"),
    ("alter text search configuration lib.words drop mapping for word", "text_search: lib.words"),
    ("drop collation lib.german cascade", "objects: collation lib.german"),
    ("alter server elsewhere options (set host 'other')", "foreign: server elsewhere"),
    ("drop user mapping for tracktion_user server elsewhere", "foreign: mapping of tracktion_user on elsewhere"),
    ("alter foreign table lib.remote alter a options (drop column_name)", "columns: lib.remote.a"),
    ("drop foreign table lib.remote", "foreign: table lib.remote"),
    ("comment on table lib.tracks is null", "comments: table lib.tracks"),
    ("comment on column lib.tracks.title is 'x'", "comments: table column lib.tracks.title"),
    ("comment on schema lib is null", "comments: schema lib"),
    ("comment on database {database} is null", "database: comment"),
    ("alter database {database} owner to postgres", "database: owner"),
    ("grant connect on database {database} to public", "database: acl"),
    ("alter database {database} connection limit -1", "database: connection_limit"),
    ("alter database {database} reset work_mem", "settings: (all roles)"),
    ("alter role tracktion_user in database {database} reset all", "settings: tracktion_user"),
]  # fmt: skip
# Without a statement that causes them: the operating system, or the server's files.
PURE = {"collation_versions", "security_labels", "tablespaces"}
SINCE_15 = ("set compression", "tables in schema")


@pytest.fixture(scope="module", params=["pg15", "pg17"])
def source(request):
    """A database with one of everything, and its contents."""
    pg = request.getfixturevalue(request.param)
    with rich(pg, "contents_source") as name:
        yield pg, name, contents(pg, name)


def contents(pg, name, **options):
    with client_of(pg, name) as one:
        return _pg_contents.collect(one, row_hashes=True, **options)


@contextlib.contextmanager
def client_of(pg, name):
    one = client(pg, name)
    try:
        yield one
    finally:
        one.connection.close()


def psql(pg, name, statement):
    options = ("-qX", "-U", "postgres", "-o", "/dev/null", "-d", name)
    pg.server.exec("env", "PGOPTIONS=-c allow_in_place_tablespaces=on", "psql", *options, "-c", statement)


def items(differences):
    return [each["item"] for each in differences[0]]


def test_a_restored_copy_has_the_same_contents(source):
    """Except for the properties of the database, which are not in an archive."""
    pg, name, expected = source
    assert expected["unknown"] == []
    with made(pg, "contents_copy"):
        pg.server.exec("sh", "-c", "pg_dump -U postgres -Fc %s | pg_restore -U postgres -e -d contents_copy" % name)
        found = contents(pg, "contents_copy")
        differences, total = _pg_contents.compare(expected, found, ignore=("database", "settings"))
        assert (differences, total) == ([], 0)
        assert [item.partition(":")[0] for item in items(_pg_contents.compare(expected, found))] == ["database"] * 4 + [
            "settings"
        ] * 2


def test_each_loss_is_a_difference(source):
    pg, name, expected = source
    missed = []
    with client_of(pg, name) as one:
        run = _pg_contents._runner(one, Deadline(300))
        for loss, item in LOSSES:
            run("BEGIN")
            run(_pg_contents_sql.SETTINGS)
            run(loss.format(database=name))
            found = _pg_contents._collect(run, True)
            run("ROLLBACK")
            if item and item not in items(_pg_contents.compare(expected, found)):
                missed.append((loss, items(_pg_contents.compare(expected, found))))
    assert not missed


# By kind of item of the manifest: what is lost, or changed, and all that differs then.
SINGLE = {
    "rows": ("delete from lib.tracks where id = 7", ["rows: lib.tracks", "hashes: lib.tracks"]),
    "hash": ("update lib.tracks set title = 'x' where id = 7", ["hashes: lib.tracks"]),
    # Not by setval(), which a rollback does not undo.
    "sequences": ("alter sequence lib.numbers cycle", ["sequences: lib.numbers"]),
    "large objects": ("select lo_put(70001, 17, 'x')", ["large_objects: hash"]),
    "owners": ("alter function lib.noted() owner to tracktion_user", ["objects: function lib.noted()"]),
    "ACLs of objects": ("revoke usage on schema lib from public", ["objects: schema lib"]),
    "ACLs of the database": ("grant connect on database {database} to public", ["database: acl"]),
    "ALTER DATABASE SET": ("alter database {database} reset work_mem", ["settings: (all roles)"]),
    "extensions": ("drop extension hstore", ["extensions: hstore", "comments: extension hstore"]),
    "publications": ("alter publication everything set (publish = 'insert, truncate')", ["publications: everything"]),
    "tablespaces": ("alter table lib.base set tablespace lab_space", ["tablespaces: lib.base"]),
}


@pytest.fixture
def lab_space(source):
    """A tablespace in the directory of the server."""
    pg, name, _expected = source
    psql(pg, name, "create tablespace lab_space location ''")
    yield
    psql(pg, name, "drop tablespace lab_space")


@pytest.mark.parametrize("source", ["pg17"], indirect=True)
def test_a_single_item_that_differs_is_the_only_difference(source, lab_space):
    pg, name, _expected = source
    # Not those of the fixture: the values of its sequences survive the rollbacks of other tests.
    expected = contents(pg, name)
    found = {}
    with client_of(pg, name) as one:
        run = _pg_contents._runner(one, Deadline(300))
        for kind, (loss, _items) in SINGLE.items():
            run("BEGIN")
            run(_pg_contents_sql.SETTINGS)
            run(loss.format(database=name))
            found[kind] = items(_pg_contents.compare(expected, _pg_contents._collect(run, True)))
            run("ROLLBACK")
    assert found == {kind: listed for kind, (_loss, listed) in SINGLE.items()}


def test_the_versions_of_collations_of_another_operating_system_are_the_only_difference(pg15, pg17):
    found = []
    with contextlib.ExitStack() as stack:
        for pg in (pg15, pg17):
            stack.enter_context(made(pg, "contents_sorted"))
            psql(pg, "contents_sorted", "create collation sorted (provider = icu, locale = 'de')")
            found.append(contents(pg, "contents_sorted"))
    assert items(_pg_contents.compare(*found)) == ["collation_versions: public.sorted"]


def test_every_section_has_a_loss():
    """Of a new section, a loss has to be listed above."""
    listed = {item.partition(":")[0] for _loss, item in LOSSES if item}
    sections = set(_pg_contents_sql.QUERIES) | {"published_schemas", "database", "rows", "hashes", "sequences"}
    assert listed == sections - PURE | {"large_objects"}


def test_each_item_that_is_missing_is_a_difference(source):
    """Every single item of the contents, by pure comparison."""
    _pg, _name, expected = source
    parts = {"rows": expected["rows"], "hashes": expected["hashes"], "sequences": expected["sequences"]}
    for section, listed in {**parts, **expected["sections"]}.items():
        for item in listed:
            found = copy.deepcopy(expected)
            del (found if section in parts else found["sections"])[section][item]
            differences, total = _pg_contents.compare(expected, found)
            assert total == 1, (section, item)
            assert differences[0]["found"] is None
            assert _pg_contents.compare(found, expected)[1] == 1
    for section in PURE:
        found = copy.deepcopy(expected)
        found["sections"][section]["x"] = "1"
        assert _pg_contents.compare(found, expected)[1] == 1
        found["sections"][section] = None
        assert _pg_contents.compare(expected, found)[1] == 1


def test_a_sequence_may_have_moved_during_the_dump(source):
    pg, name, _expected = source
    with client_of(pg, name) as one:
        before = _pg_contents.collect(one)
        psql(pg, name, "select nextval('lib.numbers'), nextval('lib.unused')")
        _pg_contents.sequences_after(one, before)
        found = _pg_contents.collect(one)
    assert before["hashes"] is None
    assert _pg_contents.compare(before, found)[1] == 0
    found["sequences"]["lib.numbers"]["last_value"] += 5
    assert items(_pg_contents.compare(before, found)) == ["sequences: lib.numbers"]
    psql(pg, name, "select setval('lib.numbers', 105), setval('lib.unused', 1, false)")


def test_the_contents_are_those_of_the_snapshot(source):
    pg, name, expected = source
    with client_of(pg, name) as holder, client_of(pg, name) as reader:
        holder.statement("BEGIN ISOLATION LEVEL REPEATABLE READ", 5)
        snapshot = holder.statement("SELECT pg_export_snapshot() AS name", 5)[0]["name"]
        psql(pg, name, "insert into lib.base values (77)")
        then = _pg_contents.collect(reader, snapshot=snapshot, row_hashes=True)
        now = _pg_contents.collect(reader, row_hashes=True)
    psql(pg, name, "delete from lib.base where a = 77")
    assert _pg_contents.compare(expected, then)[1] == 0
    assert now["rows"]["lib.base"] == then["rows"]["lib.base"] + 1


def test_a_thousand_tables_take_a_few_queries(pg17):
    with made(pg17, "contents_many"):
        create = "create table t%(n)d (id serial primary key, n int); create index on t%(n)d (n);"
        script = "\n".join(create % {"n": n} for n in range(1000))
        pg17.server.exec("psql", "-qXU", "postgres", "-1", "-d", "contents_many", stdin=script, timeout=120)
        with client_of(pg17, "contents_many") as one:
            statements, send = [], one.statement
            one.statement = lambda sql, seconds: statements.append(sql) or send(sql, seconds)
            began = time.monotonic()
            found = _pg_contents.collect(one)
            took = time.monotonic() - began
    assert len(found["rows"]) == len(found["sequences"]) == 1000
    assert len(statements) < 100
    assert took < 5 * SLACK


def test_values_that_may_be_secrets_are_not_shown(source):
    _pg, _name, expected = source
    found = copy.deepcopy(expected)
    found["sections"]["settings"] = {}
    shown = _pg_contents.compare(expected, found)[0]
    assert shown[0] == {"item": "settings: (all roles)", "expected": ["lib.secret", "work_mem"], "found": None}
    assert "hidden" not in str(shown)
    assert "'secret'" not in str(expected["sections"]["foreign"])
