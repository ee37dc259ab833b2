# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module pg_restore_backup against real servers: restore, swap under load, undo, refusals and interruptions."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import psycopg2
import pytest

from tests.integration.modules import run_module
from tests.integration.recovery_databases import (
    backed_up,
    contents_of,
    differences,
    drop,
    module_options,
    rich,
)

NAME = "restore_live"
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
    directory, artefact, then = source
    before = oid(pg)
    pg.server.exec("psql", "-qXU", "postgres", "-d", NAME, "-c", "truncate lib.events; drop view lib.short")
    planned = restore(pg, directory, check=True, confirm=[])
    assert planned["result"] == "planned", planned
    assert (oid(pg), leftovers(pg)) == (before, "0")
    with clients(pg) as (seen, refused):
        prepared, swapped = restored(pg, directory)
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
