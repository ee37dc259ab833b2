# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module pg_restore_backup against real servers: restore, swap under load, undo, refusals and interruptions."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import threading
import time
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from tests.integration import recovery_faults
from tests.integration.kill_points import Kill, killed
from tests.integration.modules import run_module
from tests.integration.postgresql import database, standby_of
from tests.integration.recovery_databases import (
    backed_up,
    contents_of,
    differences,
    drop,
    made,
    module_options,
    rich,
)
from tests.keyring import new_age_key, new_keyring
from tests.lab.engine import docker
from tests.lab.shell import wait_until

NAME = "restore_live"
# What does not depend on the version of the server.
ONE = pytest.mark.parametrize("pg", ["pg17"], indirect=True)
CONFIRM = ["recovery.restore:%s" % NAME]


@pytest.fixture(scope="module", params=["pg15", "pg17"])
def pg(request):
    """Return PostgreSQL 15 and 17."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def source(pg, tmp_path_factory):
    """A database with one of everything, a directory with a backup of it, and its contents at that time."""
    directory = tmp_path_factory.mktemp("backups")
    with rich(pg, NAME):
        artefact = backed_up(pg, NAME, directory)
        yield directory, artefact, contents_of(pg, NAME)
        for name in put_aside(pg):
            drop(pg, name)


def restore(pg, directory, state="prepared", check=False, **options):
    options = {"confirm": CONFIRM, "database": NAME, **options}
    return run_module("pg_restore_backup", module_options(pg, directory=directory, state=state, **options), check=check)


def restored(pg, directory, **options):
    """Return the results of both steps."""
    prepared = restore(pg, directory, **options)
    assert not prepared.get("failed"), prepared["msg"]
    step = {"new": prepared["new"], "stamp": prepared["stamp"], "operation": prepared["operation"], **options}
    swapped = restore(pg, directory, "swapped", **step)
    assert not swapped.get("failed"), swapped["msg"]
    return prepared, swapped


def put_aside(pg):
    found = pg.psql("select datname from pg_database where datname ~ '%s_(before|undone)_' order by 1" % NAME)
    return found.split("\n") if found else []


def oid(pg, name=NAME):
    return pg.psql("select oid from pg_database where datname = '%s'" % name)


def leftovers(pg):
    return pg.psql("select count(*) from pg_database where datname like 'tracktion_ops_%'")


@contextlib.contextmanager
def clients(pg, count=3):
    """Sessions that write, connect again when they are ended, and note the database that they are on."""
    seen, refused, stop = [], [], threading.Event()

    def work():
        while not stop.is_set():
            try:
                with contextlib.closing(pg.postgres(superuser=True, dbname=NAME, connect_timeout=20)) as connection:
                    connection.autocommit = True
                    cursor = connection.cursor()
                    while not stop.is_set():
                        cursor.execute("insert into lib.base values (1)")
                        cursor.execute("select oid::text from pg_database where datname = current_database()")
                        seen.append(cursor.fetchone()[0])
                        time.sleep(0.01)
            except psycopg2.Error as exc:
                refused.append(str(exc))
                time.sleep(0.01)

    threads = [threading.Thread(target=work) for _number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield seen, refused
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def test_restores_swaps_and_goes_back(pg, source):
    directory, _artefact, then = source
    before = oid(pg)
    pg.server.exec("psql", "-qXU", "postgres", "-d", NAME, "-c", "truncate lib.events; drop view lib.short")
    planned = restore(pg, directory, check=True, confirm=[])
    assert planned["result"] == "planned", planned
    assert (oid(pg), leftovers(pg)) == (before, "0")
    with clients(pg) as (seen, refused):
        _prepared, swapped = restored(pg, directory)
        deadline = time.monotonic() + 20
        while seen[-1:] != [oid(pg)] and time.monotonic() < deadline:
            time.sleep(0.05)
    assert seen[0] == before
    assert seen[-1] == oid(pg) != before
    # Every connection got one of the two, and none the message that the database accepts no connections.
    assert set(seen) == {before, oid(pg)}
    assert not [each for each in refused if "not currently accepting" in each], refused
    assert swapped["seconds"] < 2 * 10
    assert oid(pg, swapped["old"]) == before
    assert put_aside(pg) == [swapped["old"]]
    assert "recovery_undo" in swapped["undo"]
    pg.server.exec(
        "psql", "-qXU", "postgres", "-d", NAME, "-c", "delete from only lib.base where a <> 1 or ctid > '(0,1)'"
    )
    assert differences(then, contents_of(pg, NAME)) == []

    undone = restore(pg, directory, "undone")
    assert undone["result"] == "undone", undone
    assert oid(pg) == before
    assert pg.psql("select count(*) from pg_database where datname = '%s'" % undone["old"]) == "1"
    # Nothing is done twice, also if the first one was killed before its report.
    for state in ("begun", "undone"):
        repeated = restore(pg, directory, state)
        assert (repeated["failed"], undone["old"] in repeated["hint"]) == (True, True), repeated
        assert _operations.read(str(directory / "state")) == ([], [])
    assert oid(pg) == before
    again = restore(pg, directory, "undone", old=undone["old"])
    assert oid(pg) == seen[-1], again
    dropped = restore(pg, directory, "dropped", old=again["old"], confirm=[])
    assert dropped["result"] == "dropped", dropped
    assert put_aside(pg) == []
    lines = [json.loads(line) for line in (directory / "state/audit.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["intent", "outcome"] * 4
    assert {line["outcome"] for line in lines[1::2]} == {"done"}


def test_restores_a_database_that_is_gone(pg, source):
    directory, _artefact, then = source
    drop(pg, NAME)
    _prepared, swapped = restored(pg, directory)
    assert (swapped["old"], swapped["undo"]) == (None, None)
    assert differences(then, contents_of(pg, NAME)) == []


class Ledger:
    """A client that commits rows as fast as it can, and knows what each of them holds."""

    def __init__(self, pg, name):
        self.committed = 0
        self._stop = threading.Event()
        self._login = {name: getattr(pg.server, name) for name in ("host", "port", "user", "password")}
        self._name = name
        self._thread = threading.Thread(target=self._write, daemon=True)

    def _write(self):
        with contextlib.closing(psycopg2.connect(dbname=self._name, **self._login)) as connection:
            for number, value in enumerate(self.values(), 1):
                with connection, connection.cursor() as cursor:
                    cursor.execute("insert into ledger values (%s, %s)", (number, value))
                    cursor.execute("update account set balance = balance + %s * (3 - 2 * id)", (number,))
                self.committed = number
                if self._stop.is_set():
                    return

    @staticmethod
    def values():
        """Yield the values of the rows: each depends on all before it."""
        value = ""
        for number in itertools.count(1):
            value = hashlib.sha256(b"%s %d" % (value.encode(), number)).hexdigest()
            yield value

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: self.committed, "the first row", 30)
        return self

    def __exit__(self, *_exc):
        self._stop.set()
        self._thread.join(30)


LEDGER = "restore_ledger"


def backed_up_while_written(pg, tmp_path):
    """Make a database, and a backup of it during the writes of a Ledger, which goes on; return what it had committed.

    Before the backup, and after it.
    """
    create = "create table ledger (n int primary key, v text); create table account (id int, balance bigint);"
    rows = "insert into account values (1, 0), (2, 0)"
    pg.server.exec("psql", "-qXU", "postgres", "-d", LEDGER, "-c", create + rows)
    options = module_options(pg, LEDGER, tmp_path, row_hashes=True, login_db=LEDGER)
    wanted = {key: options[key] for key in options if key not in ("accept_cve", "maintenance_db")}
    with Ledger(pg, LEDGER) as ledger:
        before = ledger.committed
        done = run_module("pg_backup", wanted)
        after = ledger.committed
    assert done.get("result") == "done", done
    return before, after


def check_ledger(pg, tmp_path, before, after):
    """Check that the restored rows are those that were committed at one moment between both numbers of rows."""
    sql = "select count(*), max(n), encode(sha256(string_agg(v, '' order by n)::bytea), 'hex') from ledger"
    read = ("psql", "-qXAtU", "postgres", "-d", LEDGER, "-c")
    count, last, digest = pg.server.exec(*read, sql).strip().split("|")
    expected = "".join(itertools.islice(Ledger.values(), int(last)))
    assert (count, digest) == (last, hashlib.sha256(expected.encode()).hexdigest())
    # One more can be committed before the client counts it.
    assert before <= int(last) <= after + 1
    assert pg.server.exec(*read, "select sum(balance) from account").strip() == "0"
    hashes = contents_of(pg, LEDGER)["hashes"]
    (artefact,) = Store(str(tmp_path)).list("postgresql", LEDGER)
    assert artefact.contents["hashes"] == hashes


def test_what_was_committed_at_the_snapshot_is_restored(pg, tmp_path):
    with made(pg, LEDGER):
        before, after = backed_up_while_written(pg, tmp_path)
        drop(pg, LEDGER)
        restored(pg, tmp_path, database=LEDGER, confirm=["recovery.restore:%s" % LEDGER])
        check_ledger(pg, tmp_path, before, after)


def test_a_destroyed_server_is_restored_on_a_new_one(tmp_path):
    """PostgreSQL 17 with a writer, whose container and volume are removed. With 15, the emergency page is followed."""
    options = {"database": LEDGER, "confirm": ["recovery.restore:%s" % LEDGER]}
    with database("trixie") as pg:
        pg.psql("create role ledger_owner")
        pg.psql("create database %s owner ledger_owner" % LEDGER)
        before, after = backed_up_while_written(pg, tmp_path)
        docker("rm", "--force", "--volumes", pg.server.name)
    with database("trixie") as pg:
        refused = restore(pg, tmp_path, **options)
        assert "roles are missing: ledger_owner" in refused["msg"]
        (file,) = (path for path in tmp_path.rglob("globals.sql") if str(path) in refused["hint"])
        pg.server.exec("psql", "-qXU", "postgres", stdin=file.read_text())
        restored(pg, tmp_path, **options)
        check_ledger(pg, tmp_path, before, after)


@pytest.fixture
def damaged(pg, tmp_path):
    """A function that returns a directory with a backup whose manifest, before it is written, was changed."""

    def make(change=None, **options):
        backed_up(pg, NAME, tmp_path, change=change, **options)
        return tmp_path

    return make


REFUSED = [
    ("slot", "replication slots of restore_live would be lost: lab_slot", "pg_drop_replication_slot('lab_slot')"),
    ("subscription", "subscriptions of restore_live would be lost: lab_sub", 'DROP SUBSCRIPTION "lab_sub"'),
    ("prepared", "prepared transactions keep restore_live open: lab_tx", "COMMIT PREPARED 'lab_tx'"),
]
FAULTS = {
    "slot": (
        "select pg_create_logical_replication_slot('lab_slot', 'pgoutput')",
        "select pg_drop_replication_slot('lab_slot')",
    ),
    "subscription": (
        "create subscription lab_sub connection 'host=nowhere' publication p with (connect = false, slot_name = none)",
        "drop subscription lab_sub",
    ),
    "prepared": ("begin; insert into lib.base values (9); prepare transaction 'lab_tx'", "rollback prepared 'lab_tx'"),
}


def run_sql(pg, statements, database=NAME):
    for statement in statements.split("; "):
        pg.server.exec("psql", "-qXU", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-c", statement)


@ONE
def test_refuses_what_would_be_lost_and_names_all_of_it(pg, source):
    directory, _artefact, _then = source
    with contextlib.ExitStack() as stack:
        for cause, repair in FAULTS.values():
            pg.server.exec("psql", "-qXU", "postgres", "-d", NAME, stdin=cause.replace("; ", ";\n") + ";")
            stack.callback(run_sql, pg, repair)
        before = oid(pg)
        refused = restore(pg, directory)
    assert refused["failed"]
    assert refused["kind"] == "not_possible"
    for _fault, reason, hint in REFUSED:
        assert reason in refused["msg"]
        assert hint in refused["hint"]
    assert (oid(pg), leftovers(pg), put_aside(pg)) == (before, "0", [])


@ONE
def test_refuses_backups_that_do_not_fit(pg, source, damaged, tmp_path):
    def change(manifest):
        contents = manifest["contents"]
        contents["version_num"] = 990001
        contents["roles"]["lab_missing"] = False
        contents["sections"]["extensions"]["lab_ext"] = {"version": "1"}
        contents["sections"]["tablespaces"]["lib.tracks"] = "lab_space"

    refused = restore(pg, damaged(change))
    for reason in ("the backup is one of PostgreSQL 99", "roles are missing: lab_missing", "lab_ext", "lab_space"):
        assert reason in refused["msg"]
    assert 'CREATE ROLE "lab_missing"' in refused["hint"]

    assert restore(pg, tmp_path, confirm=[])["kind"] == "not_confirmed"
    assert restore(pg, tmp_path, confirm=["recovery.restore:other"])["kind"] == "not_confirmed"
    assert restore(pg, tmp_path, database="other", confirm=["recovery.restore:other"])["kind"] == "no_backup"
    assert restore(pg, tmp_path, stamp="20200101T000000Z")["kind"] == "no_backup"
    assert restore(pg, tmp_path, login_password="wrong")["kind"] == "authentication"
    assert leftovers(pg) == "0"


def test_refuses_a_role_without_rights_and_vulnerable_clients(pg, source):
    directory, _artefact, _then = source
    refused = restore(pg, directory, **pg.login("operator", login_db="postgres"))
    assert "tracktion_operator is no superuser" in refused["msg"]
    if pg.psql("show server_version_num") < "150020":
        refused = restore(pg, directory, accept_cve=[])
        assert refused["kind"] == "vulnerable_client"
        assert "15.20" in refused["hint"]


def test_refuses_a_server_in_recovery(pg15, tmp_path):
    with rich(pg15, NAME):
        backed_up(pg15, NAME, tmp_path)
        with standby_of(pg15) as login:
            refused = restore(pg15, tmp_path, **login)
    assert "the server is in recovery" in refused["msg"]


@ONE
def test_refuses_if_there_is_no_space(pg, source, damaged):
    def change(manifest):
        manifest["source_bytes"] = 1 << 50

    refused = restore(pg, damaged(change))
    assert refused["kind"] == "not_possible"
    assert "a copy of the database needs about" in refused["msg"]
    assert leftovers(pg) == "0"


@ONE
def test_a_copy_that_differs_is_not_swapped(pg, source, damaged):
    before = oid(pg)

    def change(manifest):
        manifest["contents"]["rows"]["lib.tracks"] += 1
        manifest["contents"]["sections"]["extensions"]["hstore"]["version"] = "0.1"

    directory = damaged(change)
    refused = restore(pg, directory)
    assert refused["kind"] == "different"
    assert "rows: lib.tracks (expected 501, found 500)" in refused["msg"]
    assert (oid(pg), leftovers(pg)) == (before, "0")
    accepted = restore(pg, directory, accept_differences=["rows: lib.tracks", "extensions: hstore"])
    assert accepted["accepted"] == ["rows: lib.tracks", "extensions: hstore"]
    drop(pg, accepted["new"])


@ONE
def test_two_restores_do_not_run_at_once(pg, source, tmp_path):
    directory, _artefact, _then = source
    with contextlib.closing(pg.postgres(superuser=True, dbname="postgres")) as other:
        other.cursor().execute("select pg_advisory_lock(1953657451, hashtext('%s'))" % NAME)
        refused = restore(pg, directory, state_dir=str(tmp_path / "state"))
    assert "another restore of restore_live is running on this server" in refused["msg"]


@ONE
def test_restores_the_backup_of_another_database_if_it_is_named(pg, source, tmp_path):
    directory, _artefact, then = source
    with made(pg, "restore_other"):
        options = {"database": "restore_other", "source": NAME, "confirm": ["recovery.restore:restore_other"]}
        _prepared, swapped = restored(pg, directory, **options)
        assert differences(then, contents_of(pg, "restore_other")) == []
        drop(pg, swapped["old"])


@ONE
def test_an_archive_of_others_is_tested_confirmed_and_restored(pg, source, tmp_path):
    _directory, artefact, then = source
    archive, script, damaged, link = (tmp_path / name for name in ("old.dump", "old.sql", "damaged.dump", "link.dump"))
    archive.write_bytes((Path(artefact.path) / "dump").read_bytes())
    script.write_text("DROP DATABASE postgres;")
    damaged.write_bytes(archive.read_bytes()[: archive.stat().st_size * 2 // 3])
    link.symlink_to(archive)

    def adopt(path, check=False, confirmed=True):
        options = {"database": NAME, "archive": str(path), "confirm": ["recovery.adopt:%s" % path] * confirmed}
        options = module_options(pg, directory=tmp_path, **options)
        del options["accept_cve"]
        return run_module("pg_adopt_archive", options, check=check)

    kinds = [adopt(path).get("kind") for path in (script, link, damaged, tmp_path / "none")]
    assert kinds == ["not_adopted"] * 4
    refused = adopt(archive, confirmed=False)
    assert (refused["kind"], "recovery.adopt:%s" % archive in refused["hint"]) == ("not_confirmed", True)
    planned = adopt(archive, check=True, confirmed=False)
    assert (planned["result"], planned["changed"]) == ("planned", True)
    assert list((tmp_path / "adopted").rglob("manifest.json")) == []

    adopted = adopt(archive)
    assert adopted["result"] == "adopted", adopted
    assert set(then["roles"]) <= set(adopted["roles"])
    again = adopt(archive)
    assert (again["result"], again["changed"], again["stamp"]) == ("present", False, adopted["stamp"])
    # It does not count as a backup of the database.
    assert Store(str(tmp_path)).names() == []
    restored(pg, tmp_path / "adopted", stamp=adopted["stamp"])
    assert differences(then, contents_of(pg, NAME)) == []
    assert leftovers(pg) == "0"


# tests/bench/bench_recovery_kills.py kills at all steps. The last one leaves the new database.
KILLS = [
    ("prepared", Kill("CREATE DATABASE", "after")),
    ("prepared", Kill("program pg_restore", "during", 0.1)),
    ("swapped", Kill("COMMIT", "before")),
    ("swapped", Kill("COMMIT", "after")),
]


@ONE
def test_a_killed_restore_leaves_the_old_or_the_new_database(pg, source):
    directory, _artefact, _then = source
    rows = "select count(*) from lib.tracks"
    for state, kill in KILLS:
        run_sql(pg, "delete from lib.tracks where id > 400")
        before, step = oid(pg), {"operation": ""}
        if state == "swapped":
            prepared = restore(pg, directory)
            step = {name: prepared[name] for name in ("new", "stamp", "operation")}
        options = module_options(pg, NAME, directory, state=state, confirm=CONFIRM, **step)
        assert killed("pg_restore_backup", options, kill).result is None
        swapped = kill == KILLS[-1][1]
        assert (oid(pg) != before) == swapped
        assert rows_of(pg, rows) == (500 if swapped else 400)
        # As for the action, whose controller is dead.
        again = restore(pg, directory, broken=[step["operation"]])
        assert again["result"] == ("restored" if swapped else "prepared"), again
        if not swapped:
            step = {name: again[name] for name in ("new", "stamp", "operation")}
            assert restore(pg, directory, "swapped", **step)["result"] == "restored"
        assert rows_of(pg, rows) == 500
        restore(pg, directory, "ended", operation=again["operation"])
        assert leftovers(pg) == "0"
    assert _operations.read(str(directory / "state")) == ([], [])


def rows_of(pg, sql):
    """Return the number that a query returns, over a new connection: the database accepts connections."""
    with contextlib.closing(pg.postgres(superuser=True, dbname=NAME)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


# With the programs of this host, and with those of the image.
@pytest.mark.parametrize(("pg", "program"), [("pg15", "gpg"), ("pg17", "age")], indirect=["pg"])
def test_an_encrypted_backup_is_proven_and_restored(pg, tmp_path, program):
    identity = ""
    with contextlib.ExitStack() as stack, rich(pg, NAME):
        if program == "age":
            recipient, identity = new_age_key(tmp_path / "key"), str(tmp_path / "key")
        else:
            stack.enter_context(new_keyring())
            recipient = "backup@example.org"
        how = {"encryption_recipients": [recipient], "format": "custom" if program == "age" else "directory"}
        common = {"directory": str(tmp_path / "backups"), "state_dir": str(tmp_path / "state")}
        made = run_module("pg_backup", {**pg.login("superuser", login_db=NAME), **common, **how, "row_hashes": True})
        assert (made.get("result"), made["encryption"]) == ("done", program), made
        then = contents_of(pg, NAME)
        options = module_options(pg, NAME, common["directory"], encryption_identity=identity)
        # The next run removes the decrypted copy of one that was killed.
        killed("pg_prove_backup", {**options, "scratch": "server"}, Kill("CREATE DATABASE"))
        assert [path.name[:9] for path in (tmp_path / "backups").glob(".scratch-*")] == [".scratch-"]
        proven = run_module("pg_prove_backup", {**options, "scratch": "server"})
        assert proven.get("result") == "proven", proven
        # A key that is missing proves nothing.
        new_age_key(tmp_path / "other")
        with new_keyring(mails=()):
            other = {**options, "encryption_identity": str(tmp_path / "other"), "scratch": "server"}
            assert run_module("pg_prove_backup", other)["kind"] == "cannot_decrypt"
        proof = json.loads((tmp_path / "backups/postgresql" / NAME / made["stamp"] / "proof.json").read_text())
        assert proof["result"] == "proven"
        _prepared, swapped = restored(pg, tmp_path / "backups", encryption_identity=identity)
        assert differences(then, contents_of(pg, NAME)) == []
        drop(pg, swapped["old"])
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == ["postgresql", "state"]


@ONE
def test_a_damaged_backup_is_never_restored(pg, source, tmp_path):
    _directory, artefact, _then = source
    before = oid(pg)
    for directory, damage in recovery_faults.damages(artefact, tmp_path, 6, seed=time.time_ns()):
        refused = restore(pg, directory)
        assert refused.get("kind") in ("damaged", "no_backup"), (damage, refused)
    assert (oid(pg), leftovers(pg)) == (before, "0")
