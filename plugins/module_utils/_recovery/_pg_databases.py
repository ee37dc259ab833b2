# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Creates, swaps and removes databases for a proof or a restore. Private to this collection.

A database that a run makes has a name with a fixed prefix and a random end, and a comment of this collection. While the
run works, its session holds an advisory lock of the database's name: the server releases it when the session ends, so
that a later run, from whatever host, knows what a killed run has left.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from typing import Any, Callable, Iterator, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure, cut
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import (
    Client,
    QueryFailed,
    connect_apart,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_contents import literal
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

SCRATCH, NEW = "tracktion_ops_scratch_", "tracktion_ops_new_"
# The first key of the advisory locks. The second one is the hash of the database's name.
LOCK_CLASS = 1953657451
MARK = "tracktion.ops"
# Longest name of a database, in bytes.
NAME_BYTES = 63
BEFORE, UNDONE = "_before_", "_undone_"
STAMP = "%Y%m%dT%H%M%SZ"
# How often the server looks whether the client of a statement is still there.
CHECK_CLIENT = "500ms"
# Seconds after which the session of a killed run has ended.
KILLED_SECONDS = 3.0
ENDING_SECONDS = 0.3
# Seconds between two attempts to end the sessions of a database that is being renamed.
TERMINATE_SECONDS = 0.05
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


class NotSwapped(Failure):
    """The databases were not renamed. Every name is what it was before."""

    kind = "not_swapped"


def identifier(name: str) -> str:
    """Return a quoted identifier of SQL."""
    return '"%s"' % name.replace('"', '""')


class Session:
    """A session on the maintenance database of a server. A context manager."""

    def __init__(self, options: Options, deadline: Deadline) -> None:
        self.options = options
        self.deadline = deadline
        self.client = self.connect(options["maintenance_db"])
        if self.client.connection.server_version >= 140000:
            # A CREATE DATABASE whose run was killed would complete after the next run has removed what was left.
            # A server on an operating system without that rejects the setting.
            with contextlib.suppress(QueryFailed):
                self.rows("SELECT set_config('client_connection_check_interval', '%s', false)" % CHECK_CLIENT)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.client.connection.close()

    def connect(self, database: str) -> Client:
        """Return a client of one database, whose connection the caller closes. Raises CannotConnect."""
        self.deadline.step()
        return connect_apart(dict(self.options, login_db=database, deadline=self.deadline.remaining(10**7)))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a statement. Raises QueryFailed, OutOfTime."""
        return self.client.statement(sql, self.deadline.step(10**6))

    def run(self, sql: str) -> None:
        """Run a statement that no transaction may hold, such as CREATE DATABASE. Raises QueryFailed, OutOfTime."""
        self.client.command(sql, self.deadline.step(10**6), {"lock_timeout": "10s"})

    def hold(self, database: str, seconds: float = 0.0) -> bool:
        """Take the lock of a database's name; return false if another session has it for ``seconds``."""
        sql = "SELECT pg_try_advisory_lock(%d, hashtext(%s)) AS held" % (LOCK_CLASS, literal(database))
        return _becomes_true(lambda: self.rows(sql)[0]["held"], seconds)

    def release(self, database: str) -> None:
        """Release the lock of a database's name."""
        self.rows("SELECT pg_advisory_unlock(%d, hashtext(%s))" % (LOCK_CLASS, literal(database)))


def databases(session: Session) -> list[dict[str, Any]]:
    """Return all databases: ``name, oid, allows, note``. ``note`` is the comment of this collection, or null."""
    found = session.rows(
        "SELECT datname::text AS name, oid::int8 AS oid, datallowconn AS allows,"
        " shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE NOT datistemplate ORDER BY oid"
    )
    return [dict(row, note=note_of(row.pop("comment"))) for row in found]


def note_of(comment: str | None) -> dict[str, Any] | None:
    """Return the note in a comment that ``noted`` has made, or null."""
    try:
        value = json.loads(comment or "")
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get(MARK), str) else None


def note(database: str, kind: str, fields: Mapping[str, Any]) -> str:
    """Return the statement that notes on a database what it is for."""
    text = json.dumps(dict(fields, **{MARK: kind}), sort_keys=True)
    return "COMMENT ON DATABASE %s IS %s" % (identifier(database), literal(text))


def remove_leftovers(session: Session, prefix: str, keep: Sequence[str] = ()) -> list[str]:
    """Drop the databases that killed runs have left, and return their names. Raises QueryFailed.

    Only those with the prefix and a note of this collection (or no comment yet), whose lock no session holds.
    """
    _await_creations(session, prefix)
    removed = []
    for row in databases(session):
        name = row["name"]
        ours = name.startswith(prefix) and len(name) >= len(prefix) + 12 and name not in keep
        # One that has just been created has no note yet. The session of a killed run may be about to end.
        if ours and session.hold(name, ENDING_SECONDS if row["note"] else KILLED_SECONDS):
            try:
                drop(session, name)
                removed.append(name)
            finally:
                session.release(name)
    return removed


def _await_creations(session: Session, prefix: str) -> None:
    """Wait until no other session creates a database with the prefix: it may be that of a run that was killed."""
    # The comment that marks our statements comes after their first word.
    creates = "query LIKE 'CREATE %%' AND position(%s IN query) > 0" % literal('DATABASE "' + prefix)
    sql = "SELECT 1 AS one FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND %s LIMIT 1"
    _becomes_true(lambda: not session.rows(sql % creates), KILLED_SECONDS)


def _becomes_true(condition: Callable[[], Any], seconds: float) -> bool:
    """Return whether a condition is true now or within ``seconds``."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(0.1)
    return True


def drop(session: Session, database: str) -> None:
    """Drop a database of this collection, with the sessions on it. Raises QueryFailed."""
    with contextlib.suppress(QueryFailed):
        session.run("ALTER DATABASE %s IS_TEMPLATE false" % identifier(database))
    session.run("DROP DATABASE IF EXISTS %s WITH (FORCE)" % identifier(database))


def create(session: Session, prefix: str, contents: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    """Create an empty database with the encoding and locale of ``contents``; return its name. Raises QueryFailed.

    The lock of its name is held, and only superusers can connect.
    """
    name = prefix + secrets.token_hex(8)
    session.hold(name)
    session.run("CREATE DATABASE %s %s" % (identifier(name), " ".join(creation(contents))))
    session.run("REVOKE ALL ON DATABASE %s FROM PUBLIC" % identifier(name))
    session.run(note(name, "restore", fields))
    return name


def creation(contents: Mapping[str, Any]) -> list[str]:
    """Return the options of CREATE DATABASE. Pure."""
    about = contents["database"]
    words = ["TEMPLATE template0", "ENCODING %s" % literal(about["encoding"])]
    words += ["LC_COLLATE %s" % literal(about["collate"]), "LC_CTYPE %s" % literal(about["ctype"])]
    provider = PROVIDERS.get(about.get("locale_provider") or "")
    if provider:
        words.append("LOCALE_PROVIDER %s" % provider)
    if about.get("locale") and provider in ("icu", "builtin"):
        words.append("%s %s" % ("ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE", literal(about["locale"])))
    if about.get("icu_rules"):
        words.append("ICU_RULES %s" % literal(about["icu_rules"]))
    tablespace = ((contents["sections"].get("tablespaces") or {}).get("")) or None
    return words + (["TABLESPACE %s" % identifier(tablespace)] if tablespace else [])


def properties(database: str, contents: Mapping[str, Any]) -> list[str]:
    """Return the statements that give a database what an archive does not hold. Pure.

    Owner, privileges and settings; not its comment and its limit of connections, which come with the swap.
    """
    about, name = contents["database"], identifier(database)
    owner = identifier(about["owner"])
    statements = ["ALTER DATABASE %s OWNER TO %s" % (name, owner), "REVOKE ALL ON DATABASE %s FROM PUBLIC" % name]
    statements.append("REVOKE ALL ON DATABASE %s FROM %s" % (name, owner))
    for entry in about["acl"] or []:
        statements += _grants(name, entry)
    for role, settings in (contents["sections"].get("settings") or {}).items():
        target = "DATABASE %s" % name if not role else "ROLE %s IN DATABASE %s" % (identifier(role), name)
        statements += ["ALTER %s SET %s" % (target, _setting(each)) for each in settings]
    return statements


# Of an access list of a database.
PRIVILEGES = {"C": "CREATE", "c": "CONNECT", "T": "TEMPORARY"}


def _grants(name: str, entry: str) -> list[str]:
    """Return the statements for one entry of an access list, ``grantee=privileges/grantor``."""
    grantee, privileges, grantor = split_entry(entry)
    statements = []
    for position, letter in enumerate(privileges):
        if letter in PRIVILEGES:
            option = " WITH GRANT OPTION" if privileges[position + 1 : position + 2] == "*" else ""
            role = identifier(grantee) if grantee else "PUBLIC"
            grant = "GRANT %s ON DATABASE %s TO %s%s" % (PRIVILEGES[letter], name, role, option)
            statements.append("SET ROLE %s; %s; RESET ROLE" % (identifier(grantor), grant))
    return statements


def split_entry(entry: str) -> tuple[str, str, str]:
    """Return the grantee, the privileges and the grantor of an entry of an access list. Names may be quoted."""
    grantee, rest = _name(entry)
    privileges, _slash, grantor = rest[1:].partition("/")
    return grantee, privileges, _name(grantor)[0]


def _name(text: str) -> tuple[str, str]:
    if not text.startswith('"'):
        end = min([found for found in (text.find("="), text.find("/")) if found >= 0] or [len(text)])
        return text[:end], text[end:]
    position, name = 1, ""
    while position < len(text):
        if text[position] == '"':
            if text[position + 1 : position + 2] != '"':
                break
            position += 1
        name += text[position]
        position += 1
    return name, text[position + 1 :]


# Settings whose value is a list of names: quoted as a whole they would be one name.
LISTS = ("search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")


def _setting(text: str) -> str:
    """Return ``name=value`` of pg_db_role_setting for ALTER ... SET. A list keeps its own quoting, as in pg_dump."""
    name, _equal, value = text.partition("=")
    parts = ".".join(identifier(part) for part in name.split("."))
    if name.lower() not in LISTS:
        return "%s TO %s" % (parts, literal(value))
    names = [part.strip() for part in _split_list(value)]
    words = [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in names]
    return "%s TO %s" % (parts, ", ".join(literal(word) for word in words) or "''")


def _split_list(value: str) -> list[str]:
    parts, quoted, part = [], False, ""
    for letter in value:
        quoted = quoted != (letter == '"')
        if letter == "," and not quoted:
            parts.append(part)
            part = ""
        else:
            part += letter
    return parts + [part] if part.strip() else parts


def dated(database: str, infix: str, taken: Sequence[str], now: float | None = None) -> str:
    """Return a name for a database that is put aside: ``tracktion_before_20261129T125200Z``, at most 63 bytes."""
    ending = infix + time.strftime(STAMP, time.gmtime(now))
    number = 1
    while True:
        tail = ending if number == 1 else "%s_%d" % (ending, number)
        name = database.encode("utf-8")[: NAME_BYTES - len(tail)].decode("utf-8", "ignore") + tail
        if name not in taken:
            return name
        number += 1


def is_dated(name: str, database: str) -> bool:
    """Return whether ``dated`` has made a name for this database."""
    for infix in (BEFORE, UNDONE):
        head, found, tail = name.rpartition(infix)
        if found and head and database.startswith(head) and len(tail) >= 16 and tail[:8].isdigit():
            return True
    return False


def swap(session: Session, live: str, aside: str | None, new: str, finish: Sequence[str], deadline: Deadline) -> float:
    """Rename ``live`` to ``aside`` and ``new`` to ``live`` in one transaction; return its seconds. Raises NotSwapped.

    The first RENAME locks the database: a new connection to it waits, and is rejected after the commit because the name
    it asked for is that of another database. A second session ends the sessions that are left. If this process or the
    server dies, the transaction is rolled back. ``aside`` is null if there is no database ``live``. ``finish`` are more
    statements for the same transaction, after the renames.
    """
    statements = ["SET LOCAL lock_timeout = '10s'"]
    if aside is not None:
        statements.append("ALTER DATABASE %s RENAME TO %s" % (identifier(live), identifier(aside)))
    # A session on a database keeps a lock of it only while it connects.
    statements += ["ALTER DATABASE %s ALLOW_CONNECTIONS true" % identifier(new)]
    statements += ["ALTER DATABASE %s RENAME TO %s" % (identifier(new), identifier(live)), *finish]
    began = time.monotonic()
    with _ending_sessions(session, [name for name in (live if aside else None, new) if name]):
        try:
            session.client.statement("BEGIN", deadline.step())
            for statement in statements:
                session.client.statement(statement, deadline.step())
            session.client.statement("COMMIT", deadline.step())
        except QueryFailed as exc:
            with contextlib.suppress(QueryFailed):
                session.client.statement("ROLLBACK", 5)
            if _is_renamed(session, live, new):
                # The connection was lost after the commit.
                return time.monotonic() - began
            hint = "End what keeps it open, then run again: `SELECT * FROM pg_stat_activity WHERE datname = %s`."
            raise NotSwapped("%s was not replaced: %s" % (cut(live, 63), exc), hint % literal(live))
    return time.monotonic() - began


def _is_renamed(session: Session, live: str, new: str) -> bool:
    """Return whether the renames were committed, asked over a new connection. Raises CannotConnect."""
    client = session.connect(session.options["maintenance_db"])
    try:
        sql = "SELECT count(*) FILTER (WHERE datname = %s) AS live, count(*) FILTER (WHERE datname = %s) AS new"
        found = client.statement((sql + " FROM pg_database") % (literal(live), literal(new)), 10)[0]
        return bool(found["live"] and not found["new"])
    finally:
        client.connection.close()


@contextlib.contextmanager
def _ending_sessions(session: Session, names: Sequence[str]) -> Iterator[None]:
    """End the sessions on databases, from a second session, until the block ends."""
    client = session.connect(session.options["maintenance_db"])
    oids = "SELECT oid FROM pg_database WHERE datname IN (%s)" % ", ".join(literal(name) for name in names)
    # By oid: the names change when the transaction commits.
    numbers = [str(row["oid"]) for row in client.statement(oids.replace("oid FROM", "oid::int8 AS oid FROM"), 10)]
    sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datid IN (%s)" % (", ".join(numbers) or "0")
    done = threading.Event()

    def work() -> None:
        # The other session reports a failure: it cannot rename then.
        with contextlib.suppress(Exception):
            while not done.is_set():
                client.statement(sql, 5)
                done.wait(TERMINATE_SECONDS)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)
        client.connection.close()
