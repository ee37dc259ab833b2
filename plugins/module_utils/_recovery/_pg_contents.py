# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists the contents of a PostgreSQL database, to compare a restored copy with them. Private to this collection."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import QueryFailed
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_contents_sql as sql
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_compare import compare

if TYPE_CHECKING:
    from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import Client, Row

__all__ = ["Contents", "collect", "compare", "sequences_after"]

# Tables, or sequences, that one query counts or reads.
BATCH = 100
PUBLISHED_SCHEMAS_SINCE = 150000

DATABASE_FIELDS = {
    "name": "datname",
    "encoding": "encoding_name",
    "collate": "datcollate",
    "ctype": "datctype",
    "locale_provider": "datlocprovider",
    "icu_rules": "daticurules",
    "owner": "owner",
    "acl": "acl",
    "comment": "comment",
    "connection_limit": "datconnlimit",
    "is_template": "datistemplate",
}


class Sequence(TypedDict):
    """A sequence. ``last_value`` and ``is_called`` at the snapshot or a little later.

    Sequences do not follow the snapshot: the dump holds a value from ``last_value`` up to ``until``, which was read
    after the dump; null if it was not read again.
    """

    last_value: int
    is_called: bool
    until: int | None
    options: list[Any]


class Contents(TypedDict):
    """What a database contains at one moment. Null is what could not be read, with the reason in ``unknown``.

    ``rows``: table -> number. ``hashes``: table -> sum of the checksums of its rows, null unless it was requested.
    ``roles``: role -> whether it is a superuser. ``sections``: kind -> item -> value (see ``_pg_contents_sql``).
    """

    version_num: int
    database: dict[str, Any]
    bytes: int
    preload_libraries: str
    roles: dict[str, bool]
    rows: dict[str, int]
    hashes: dict[str, str] | None
    sequences: dict[str, Sequence]
    large_objects: dict[str, Any]
    sections: dict[str, dict[str, Any] | None]
    unknown: list[dict[str, str]]


def collect(
    client: Client, snapshot: str | None = None, row_hashes: bool = False, deadline: Deadline | None = None
) -> Contents:
    """Return the contents of the database that ``client`` (``connect_apart``) is connected to. Raises QueryFailed.

    ``snapshot`` is one that another session exported (``pg_export_snapshot()``) and keeps open. Takes some thirty
    queries, and one for each hundred tables and sequences. ``deadline`` is that of the client by default.
    """
    run = _runner(client, deadline)
    with _transaction(run, snapshot):
        return _collect(run, row_hashes)


def sequences_after(client: Client, contents: Contents, deadline: Deadline | None = None) -> None:
    """Read the sequences again, after the dump, and set their ``until``. Raises QueryFailed."""
    run = _runner(client, deadline)
    with _transaction(run, None):
        present = {row["name"] for row in run(sql.SEQUENCES)}
        values = _sequence_values(run, [name for name in contents["sequences"] if name in present])
    for name, row in values.items():
        contents["sequences"][name]["until"] = row["last_value"]


Run = Callable[[str], List["Row"]]


def _runner(client: Client, deadline: Deadline | None) -> Run:
    limit = deadline or client.deadline

    def run(statement: str) -> list[Row]:
        seconds = limit.step()
        # A deadline without an end has no timeout either.
        return client.statement(statement, min(seconds, 10**6))

    return run


@contextlib.contextmanager
def _transaction(run: Run, snapshot: str | None) -> Iterator[None]:
    run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        if snapshot:
            run("SET TRANSACTION SNAPSHOT %s" % literal(snapshot))
        run(sql.SETTINGS)
        yield
    finally:
        with contextlib.suppress(QueryFailed):
            run("ROLLBACK")


def _collect(run: Run, row_hashes: bool) -> Contents:
    unknown: list[dict[str, str]] = []
    about = run(
        "SELECT current_setting('server_version_num')::int AS version_num,"
        " pg_database_size(current_database()) AS bytes, current_setting('shared_preload_libraries', true) AS preload"
    )[0]
    raw = run(sql.DATABASE)[0]["value"]
    database = {name: raw.get(column) for name, column in DATABASE_FIELDS.items()}
    # Its column was renamed in PostgreSQL 17.
    database["locale"] = raw.get("datlocale", raw.get("daticulocale"))
    database["collation_version"] = None
    if about["version_num"] >= 150000:
        version = (
            "SELECT pg_database_collation_actual_version(oid) AS v FROM pg_database WHERE datname = current_database()"
        )
        database["collation_version"] = run(version)[0]["v"]
    sections: dict[str, dict[str, Any] | None] = {}
    for name, query in sql.QUERIES.items():
        sections[name] = _section(run, name, query, unknown)
    if about["version_num"] >= PUBLISHED_SCHEMAS_SINCE:
        sections["published_schemas"] = _section(run, "published_schemas", sql.PUBLISHED_SCHEMAS, unknown)
    counted = _counts(run, row_hashes)
    return {
        "version_num": about["version_num"],
        "database": database,
        "bytes": about["bytes"],
        "preload_libraries": about["preload"] or "",
        "roles": {row["item"]: row["value"] for row in run(sql.ROLES)},
        "rows": {name: row["rows"] for name, row in counted.items()},
        "hashes": {name: row["hash"] for name, row in counted.items()} if row_hashes else None,
        "sequences": _sequences(run),
        "large_objects": _large_objects(run, row_hashes, unknown),
        "sections": sections,
        "unknown": unknown,
    }


def _section(run: Run, name: str, query: str, unknown: list[dict[str, str]]) -> dict[str, Any] | None:
    rows = _tolerated(run, name, query, unknown)
    return None if rows is None else {row["item"]: row["value"] for row in rows}


def _tolerated(run: Run, name: str, query: str, unknown: list[dict[str, str]]) -> list[Row] | None:
    """Return the rows of a query, or null if the role may not run it. Any other failure is raised."""
    run("SAVEPOINT part")
    try:
        return run(query)
    except QueryFailed as exc:
        if exc.sqlstate != "42501":
            raise
        run("ROLLBACK TO SAVEPOINT part")
        unknown.append({"part": name, "reason": str(exc)})
        return None


def _counts(run: Run, row_hashes: bool) -> dict[str, Row]:
    tables = run(sql.COUNTED)
    aggregate = sql.ROW_HASH if row_hashes else "NULL::text"
    selects = [
        "SELECT %s AS name, count(*) AS rows, %s AS hash FROM ONLY %s AS tracktion_row %s"
        % (literal(row["name"]), aggregate, row["name"], row["condition"] or "")
        for row in tables
    ]
    return _batched(run, selects)


def _sequences(run: Run) -> dict[str, Sequence]:
    listed = run(sql.SEQUENCES)
    values = _sequence_values(run, [row["name"] for row in listed])
    found: dict[str, Sequence] = {}
    for row in listed:
        value = values[row["name"]]
        options = [row[name] for name in ("type", "start", "increment", "least", "most", "cycle", "cache", "owned_by")]
        found[row["name"]] = {
            "last_value": value["last_value"],
            "is_called": value["is_called"],
            "until": None,
            "options": options,
        }
    return found


def _sequence_values(run: Run, names: list[str]) -> dict[str, Row]:
    return _batched(run, ["SELECT %s AS name, last_value, is_called FROM %s" % (literal(name), name) for name in names])


def _batched(run: Run, selects: list[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for start in range(0, len(selects), BATCH):
        for row in run(" UNION ALL ".join(selects[start : start + BATCH])):
            found[row["name"]] = row
    return found


def _large_objects(run: Run, row_hashes: bool, unknown: list[dict[str, str]]) -> dict[str, Any]:
    found = dict(run(sql.LARGE_OBJECTS)[0], bytes=None, hash=None)
    if not found["count"]:
        return dict(found, bytes=0)
    data = sql.LARGE_OBJECT_DATA % (sql.LARGE_OBJECT_HASH if row_hashes else "NULL::text")
    # Only a superuser may read all of them in one query.
    rows = _tolerated(run, "large_objects.bytes", data, unknown)
    return dict(found, **rows[0]) if rows else found


def literal(text: str) -> str:
    """Return a text as a constant in SQL, whatever standard_conforming_strings is."""
    return ("E'%s'" if "\\" in text else "'%s'") % text.replace("\\", "\\\\").replace("'", "''")
