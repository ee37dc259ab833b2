# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong in PostgreSQL."""

from __future__ import annotations

import contextlib
import threading

from ..shell import wait_until
from . import fault


def run_and_wait(connection, statement: str) -> threading.Thread:
    """Run a statement that will not come back by itself, in a thread; whatever ends it is not news."""
    import psycopg2

    def work() -> None:
        with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
            cursor.execute(statement)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def wait_for_sessions(lab, condition: str, count: int) -> None:
    """Wait until so many sessions fulfil a condition over pg_stat_activity."""
    statement = f"select count(*) from pg_stat_activity where {condition}"
    wait_until(lambda: int(lab.psql(statement)) >= count, f"{count} sessions where {condition}", 20)


@fault(fires=["database.blocked_sessions", "database.idle_in_transaction"])
def blocked_transaction(lab):
    """A transaction has locked a row and sits idle; three sessions wait for it, one of them behind another."""
    root = lab.postgres(application_name="lab blocker")
    root.cursor().execute("update artists set name = name where id = 1")
    waiting = [lab.postgres(application_name=f"lab waiter {number}") for number in range(3)]
    threads = [run_and_wait(connection, "update artists set name = name where id = 1") for connection in waiting]
    wait_for_sessions(lab, "application_name like 'lab waiter%' and wait_event_type = 'Lock'", 3)
    yield
    root.close()
    # Each waiter holds the row until its connection is closed, so they come free one after the other.
    for thread, connection in zip(threads, waiting, strict=True):
        connection.cancel()
        thread.join(10)
        connection.close()


@fault(fires=["database.connections_used"])
def connections_exhausted(lab):
    """Idle sessions hold all but three of the connections that are not reserved."""
    free = int(
        lab.psql(
            "select current_setting('max_connections')::int"
            " - (select sum(setting::int) from pg_settings"
            "    where name in ('superuser_reserved_connections', 'reserved_connections'))"
            " - (select count(*) from pg_stat_activity"
            "    where backend_type = 'client backend' and pid <> pg_backend_pid())"
        )
    )
    held = [lab.postgres(application_name="lab pool leak") for _count in range(free - 3)]
    yield
    for connection in held:
        connection.close()


@fault(fires=["database.long_query"])
def long_query(lab):
    """One query computes for ever."""
    connection = lab.postgres(application_name="lab report")
    thread = run_and_wait(
        connection, "select count(*) from generate_series(1, 10000000000) a where pg_sleep(0.1) is not null"
    )
    wait_for_sessions(lab, "application_name = 'lab report' and state = 'active'", 1)
    yield
    connection.cancel()
    thread.join(10)
    connection.close()


@fault(fires=["database.foreign_key_without_index"])
def unindexed_foreign_key(lab):
    """The index under a foreign key of analysis_results is gone, and the table is big enough to feel it."""
    # One transaction: it happens as a whole or not at all.
    lab.psql(
        "drop index if exists analysis_results_track_id;"
        "insert into analysis_results (track_id, bpm, musical_key, confidence)"
        " select 1 + n % 8000, 0, 'lab', 1 from generate_series(1, 200000) n;"
        "analyze analysis_results"
    )
    yield
    lab.psql(
        "delete from analysis_results where musical_key = 'lab';"
        "create index if not exists analysis_results_track_id on analysis_results (track_id)"
    )
    lab.psql("vacuum full analyze analysis_results")


@fault(fires=["database.dead_tuples"])
def dead_tuples(lab):
    """Updates have left three dead rows for each living one of `tracks`, and autovacuum is off for it."""
    try:
        lab.psql("alter table tracks set (autovacuum_enabled = false)")
        for _count in range(3):
            lab.psql("update tracks set seconds = seconds + 1")
        count = "select n_dead_tup from pg_stat_user_tables where relname = 'tracks'"
        wait_until(lambda: int(lab.psql(count)) > 20000, "dead rows in the statistics", 20)
        yield
    finally:
        lab.psql("alter table tracks reset (autovacuum_enabled)")
        lab.psql("vacuum full analyze tracks")
