# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends sessions of a PostgreSQL server: cancels their queries first. Private to this collection."""

from __future__ import annotations

import time
from typing import Any, Iterable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_cancel_effects as pg_cancel_effects
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _sql_text as sql_text
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import Client, Row
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

STATES = [
    "active",
    "fastpath function call",
    "idle",
    "idle in transaction",
    "idle in transaction (aborted)",
]

# Programs that copy or repair data for hours, by the application_name that they set.
DENIED_APPLICATIONS = [
    "pg_basebackup",
    "pg_dump",
    "pg_dumpall",
    "pg_receivewal",
    "pg_repack",
    "pg_restore",
    "reindexdb",
    "vacuumdb",
]

SPEC: dict[str, Any] = {
    "pids": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "pid": {"type": "int", "required": True},
            "backend_start": {"type": "float", "required": True},
            "transaction_start": {"type": "float"},
            "state_start": {"type": "float"},
            "blocking": {"type": "bool", "default": False},
        },
    },
    "states": {"type": "list", "elements": "str", "choices": STATES, "default": []},
    "min_age": {"type": "float"},
    "users": {"type": "list", "elements": "str", "default": []},
    "applications": {"type": "list", "elements": "str", "default": []},
    "databases": {"type": "list", "elements": "str", "default": []},
    "deny_users": {"type": "list", "elements": "str", "default": []},
    "deny_applications": {"type": "list", "elements": "str", "default": DENIED_APPLICATIONS},
    "max_sessions": {"type": "int", "default": 10},
    "mode": {
        "type": "str",
        "choices": ["cancel", "cancel_then_terminate", "terminate"],
        "default": "cancel_then_terminate",
    },
    "grace": {"type": "float", "default": 5.0},
}

POLL_SECONDS = 0.1

INSUFFICIENT_PRIVILEGE = "42501"

# Largest difference of two readings of one time after JSON, in seconds. A process ID is reused much later.
SAME_TIME = 0.0005

# Age of the running query or, if none runs, of the state.
AGE = """
extract(epoch FROM clock_timestamp() - CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END)::float8
"""

# A cancel of a commit that waits for a synchronous standby completes it on this server only.
WAITS_FOR_STANDBY = "coalesce(a.wait_event = 'SyncRep', false)"
WAITS_FOR_LOCK = "coalesce(a.wait_event_type = 'Lock', false)"

# Whether another session waits behind it. pg_blocking_pids() is called for waiting sessions only.
BLOCKS = """
EXISTS (SELECT FROM pg_stat_activity w WHERE w.wait_event_type = 'Lock' AND a.pid = ANY (pg_blocking_pids(w.pid)))
"""

# Whether another session waits for an advisory lock of it. Such a lock may belong to the session and outlive the query.
BLOCKS_BY_ADVISORY_LOCK = """
EXISTS (SELECT FROM pg_locks l
        WHERE l.locktype = 'advisory' AND NOT l.granted AND a.pid = ANY (pg_blocking_pids(l.pid)))
"""

# As pg_signal_backend() decides it.
MAY_SIGNAL = """
       (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = a.usesysid) AS of_superuser,
       (SELECT me.rolsuper FROM pg_roles me WHERE me.rolname = current_user)
           OR (NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = a.usesysid)
               AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))) AS may_signal
"""

# Conditions of every statement that selects or signals sessions: of clients, not the own one, not denied.
GUARDS = """
      a.backend_type = 'client backend'
  AND a.pid <> pg_backend_pid()
  AND a.usename::text <> ALL (%(deny_users)s::text[])
  AND coalesce(a.application_name, '') <> ALL (%(deny_applications)s::text[])
  AND (cardinality(%(users)s::text[]) = 0 OR a.usename::text = ANY (%(users)s::text[]))
  AND (cardinality(%(applications)s::text[]) = 0 OR a.application_name = ANY (%(applications)s::text[]))
  AND (cardinality(%(databases)s::text[]) = 0 OR a.datname::text = ANY (%(databases)s::text[]))
  AND (cardinality(%(states)s::text[]) = 0 OR a.state = ANY (%(states)s::text[]))
  AND (%(min_age)s IS NULL OR {age} >= %(min_age)s)
""".format(age=AGE)

MATCHING = """
SELECT a.pid, extract(epoch FROM a.backend_start)::float8 AS backend_start,
       extract(epoch FROM a.xact_start)::float8 AS transaction_start,
       extract(epoch FROM a.state_change)::float8 AS state_start,
       a.usename::text AS "user", a.datname::text AS database, a.application_name AS application,
       host(a.client_addr) AS client, a.state, {age} AS seconds, left(a.query, %(query_length)s) AS query,
       {waits_for_standby} AS waits_for_standby, {waits_for_lock} AS waits_for_lock, {may_signal}
FROM pg_stat_activity a
WHERE {guards}
ORDER BY seconds DESC NULLS LAST, a.pid
""".format(
    age=AGE, guards=GUARDS, waits_for_standby=WAITS_FOR_STANDBY, waits_for_lock=WAITS_FOR_LOCK, may_signal=MAY_SIGNAL
)

# The sessions of %(pids)s that block others.
BLOCKING = """
SELECT a.pid FROM pg_stat_activity a WHERE a.pid = ANY (%(pids)s) AND {blocks}
""".format(blocks=BLOCKS)

# Checks the conditions and sends the signal in one statement: the process ID may belong to another session by now, the
# session may have begun to wait, or the end of an earlier one may have freed those behind it.
SIGNAL = """
SELECT {function}(a.pid) AS sent
FROM pg_stat_activity a
WHERE a.pid = %(pid)s
  AND abs(extract(epoch FROM a.backend_start)::float8 - %(backend_start)s) < %(same_time)s
  AND (a.xact_start IS NULL AND %(transaction_start)s IS NULL
       OR abs(extract(epoch FROM a.xact_start)::float8 - %(transaction_start)s) < %(same_time)s)
  AND (%(state_start)s IS NULL
       OR abs(extract(epoch FROM a.state_change)::float8 - %(state_start)s) < %(same_time)s)
  AND NOT {waits_for_standby}
  AND CASE WHEN %(blocking)s THEN {blocks} ELSE NOT {waits_for_lock} END
  AND {guards}
"""

# The last signal to a session whose query was cancelled, and which still has an advisory lock that others wait for.
TERMINATE_HOLDER = """
SELECT pg_terminate_backend(a.pid) AS sent
FROM pg_stat_activity a
WHERE a.pid = %(pid)s
  AND abs(extract(epoch FROM a.backend_start)::float8 - %(backend_start)s) < %(same_time)s
  AND a.backend_type = 'client backend' AND NOT {waits_for_standby} AND {blocks_by_advisory_lock}
""".format(waits_for_standby=WAITS_FOR_STANDBY, blocks_by_advisory_lock=BLOCKS_BY_ADVISORY_LOCK)

# Fields of a session in the result.
SHOWN = (
    "pid", "backend_start", "transaction_start", "state_start", "user", "database", "application", "client", "state",
    "seconds", "query", "cancel_effect", "signal", "result", "message",
)  # fmt: skip

FUNCTIONS = {"cancel": "pg_cancel_backend", "terminate": "pg_terminate_backend"}

# A cancel is complete when the transaction has ended, or is aborted and holds no locks.
REMAINING = """
SELECT a.pid, extract(epoch FROM a.backend_start)::float8 AS backend_start, a.state,
       extract(epoch FROM a.xact_start)::float8 AS transaction_start,
       {blocks_by_advisory_lock} AS blocks_by_advisory_lock
FROM pg_stat_activity a
WHERE a.pid = ANY (%(pids)s)
""".format(blocks_by_advisory_lock=BLOCKS_BY_ADVISORY_LOCK)


def end_sessions(options: Options, check_mode: bool) -> dict[str, Any]:
    """Return the result of M(tracktion.ops.pg_activity) with O(state=ended), with ``failed`` and ``msg`` on failure.

    Raises BadOption, CannotConnect, and QueryFailed if nothing was done yet.
    """
    check_criteria(options)
    client = postgresql.connect(options)
    found = find_sessions(client, options)
    planned = plan(found, options, client.role)
    signals = 2 * sum(session["signal"] is not None for session in planned)
    client.deadline = Deadline(options["deadline"] + signals * options["grace"])
    problem = None
    if not check_mode:
        try:
            end(client, planned, options)
        except postgresql.QueryFailed as exc:
            problem = "Lost the server while ending sessions, the result of some is not known: %s" % exc
    return as_result(found, planned, problem)


def check_criteria(options: Options) -> None:
    """Raise BadOption if the criteria would match sessions that are not named."""
    if not options["pids"] and not options["states"]:
        raise BadOption(
            "pids, states: one of them is required with state=ended",
            hint="Give `pids` (each with its `backend_start`), or `states` together with `min_age`.",
        )
    if not options["pids"] and options["min_age"] is None:
        raise BadOption("min_age: required with states", hint="Give `min_age` in seconds.")


def find_sessions(client: Client, options: Options) -> list[Row]:
    """Return the sessions that match the criteria now, oldest first. Raises QueryFailed."""
    found = client.rows(MATCHING, dict(guard_parameters(options), query_length=sql_text.FETCHED))
    for session in found:
        session["named"] = find_named(session, options)
        running = session["query"] if session["state"] == "active" else None
        session["maintenance"] = pg_cancel_effects.is_maintenance(running)
        session["cancel_effect"] = pg_cancel_effects.cancel_effect(running)
        session["query"] = sql_text.shown(session["query"], options["query_length"], options["show_literals"])
    if options["pids"]:
        found = [session for session in found if session["named"]]
    to_block = [session["pid"] for session in found if has_to_block(session)]
    blocking = {row["pid"] for row in client.rows(BLOCKING, {"pids": to_block})} if to_block else set()
    return [session for session in found if session["pid"] in blocking or not has_to_block(session)]


def has_to_block(session: Row) -> bool:
    """Return whether ``session`` was named as one that blocks others."""
    return bool((session.get("named") or {}).get("blocking"))


def guard_parameters(options: Options) -> dict[str, Any]:
    """Return the parameters of GUARDS."""
    names = ("deny_users", "deny_applications", "users", "applications", "databases", "states", "min_age")
    return {name: options[name] for name in names}


def find_named(session: Row, options: Options) -> Mapping[str, Any] | None:
    """Return the entry of ``pids`` that names ``session``, or null."""
    return next((named for named in options["pids"] if is_named(session, named)), None)


def is_named(session: Row, named: Mapping[str, Any]) -> bool:
    """Return whether ``named`` is ``session``, by all times that it gives."""
    return session["pid"] == named["pid"] and all(
        is_same_time(session[time], named[time])
        for time in ("backend_start", "transaction_start", "state_start")
        if named[time] is not None
    )


def is_same_time(one: float | None, other: float | None) -> bool:
    """Return whether two readings, in epoch seconds or null, are of the same time."""
    if one is None or other is None:
        return one is other
    return abs(one - other) < SAME_TIME


def plan(found: list[Row], options: Options, role: str = "") -> list[Row]:
    """Return the sessions to signal, each with ``signal`` and ``result``, and those that are left alone.

    ``signal`` is ``cancel``, ``terminate``, or null for a session that is left alone. Only an active session has a
    query to cancel: for others a cancel has no effect.
    """
    planned = [dict(session, signal=None, **reason_to_keep(session, options, role)) for session in found]
    for session in planned:
        if not session["result"]:
            cancels = options["mode"] != "terminate" and session["state"] == "active"
            session.update(signal="cancel" if cancels else "terminate", result="planned")
    # Sessions that are left alone take no place of others.
    planned.sort(key=lambda session: session["signal"] is None)
    return planned[: options["max_sessions"]]


def reason_to_keep(session: Row, options: Options, role: str) -> dict[str, str | None]:
    """Return the ``result`` and ``message`` of a session that is left alone; null for one to signal."""
    if session.get("waits_for_standby"):
        message = "its commit waits for a synchronous standby: if it is cancelled, it is complete on this server only"
        return {"result": "waits_for_standby", "message": message}
    if session.get("waits_for_lock") and not has_to_block(session):
        message = "it only waits for a lock, and continues when the session that holds it ends"
        return {"result": "waits_for_lock", "message": message}
    if session.get("maintenance") and not session.get("named"):
        message = "it maintains a table or index, and a cancel loses its work: name it with pids to end it"
        return {"result": "maintenance", "message": message}
    if not session.get("may_signal", True):
        return {"result": "not_permitted", "message": missing_right(session, role)}
    if options["mode"] == "cancel" and session["state"] != "active":
        return {"result": "nothing_to_cancel", "message": None}
    return {"result": None, "message": None}


def missing_right(session: Row, role: str) -> str:
    """Return what ``role`` needs to signal ``session``. Membership in ``pg_monitor`` is not enough."""
    if session.get("of_superuser"):
        return "it is a session of a superuser: set login_user to a superuser"
    return pg_rights.SUPERUSER % ("`%s`" % pg_rights.grant("pg_signal_backend", role))


def end(client: Client, planned: list[Row], options: Options) -> None:
    """Signal the ``planned`` sessions, and set the ``result`` of each. Raises QueryFailed.

    ``result``: ``ended`` (its transaction is over, or it is gone), ``gone`` (it did not match any more, no signal was
    sent), ``not_permitted`` or ``remains``. ``signal`` is the last one that was sent. The sessions end one after the
    other: each is checked again when those before it have ended.
    """
    for session in planned:
        if session["signal"]:
            _end_one(client, session, options)


def _end_one(client: Client, session: Row, options: Options) -> None:
    waiting = _signal(client, session, options) and not _is_over_in_time(client, session, options["grace"])
    if waiting and options["mode"] == "cancel_then_terminate" and session["signal"] == "cancel":
        session["signal"] = "terminate"
        waiting = _signal(client, session, options) and not _is_over_in_time(client, session, options["grace"])
    if waiting:
        session["result"] = "remains"
        session["message"] = "still there %.1f s after the %s" % (options["grace"], session["signal"])


def as_result(found: list[Row], planned: list[Row], problem: str | None = None) -> dict[str, Any]:
    """Return ``changed``, ``matched``, ``sessions``, ``diff``, and ``failed`` with ``msg`` on failure."""
    # In check mode, planned sessions count as ended.
    signalled = [session for session in planned if session["result"] in ("planned", "sent", "ended", "remains")]
    over = [session["pid"] for session in planned if session["result"] in ("planned", "ended", "gone")]
    failed = [session for session in planned if session["result"] in ("not_permitted", "remains")]
    result: dict[str, Any] = {
        "changed": bool(signalled),
        "matched": len(found),
        "sessions": [{name: session.get(name) for name in SHOWN} for session in planned],
        "diff": {
            "before": {"sessions": [_line(session) for session in found]},
            "after": {"sessions": [_line(session) for session in found if session["pid"] not in over]},
        },
    }
    if failed and not problem:
        reasons = "; ".join("pid %(pid)s: %(message)s" % session for session in failed)
        problem = "%d of %d sessions could not be ended: %s" % (len(failed), len(planned), reasons)
    if problem:
        result.update(failed=True, msg=problem)
    return result


def _line(session: Row) -> str:
    return "%(pid)s %(user)s@%(database)s %(application)s: %(state)s" % session


def _signal(client: Client, session: Row, options: Options) -> bool:
    """Send the signal if the session still matches, and return whether one was sent. Raises QueryFailed."""
    parameters = dict(
        guard_parameters(options),
        pid=session["pid"],
        backend_start=session["backend_start"],
        transaction_start=session["transaction_start"],
        state_start=(find_named(session, options) or {}).get("state_start"),
        blocking=has_to_block(session),
        same_time=SAME_TIME,
    )
    sql = SIGNAL.format(
        function=FUNCTIONS[session["signal"]],
        guards=GUARDS,
        waits_for_standby=WAITS_FOR_STANDBY,
        waits_for_lock=WAITS_FOR_LOCK,
        blocks=BLOCKS,
    )
    if session.get("keeps_advisory_lock"):
        sql = TERMINATE_HOLDER
    try:
        sent = client.rows(sql, parameters)
    except postgresql.QueryFailed as exc:
        if exc.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        session.update(result="not_permitted", message="%s. %s" % (exc, missing_right(session, client.role)))
        return False
    if not any(row["sent"] for row in sent):
        # After a cancel, the session ended because of it.
        session["result"] = "ended" if session["result"] == "sent" else "gone"
        return False
    session["result"] = "sent"
    return True


def _is_over_in_time(client: Client, session: Row, seconds: float) -> bool:
    """Wait up to ``seconds`` for ``session`` to end, and return whether it did. Raises QueryFailed."""
    wait = Deadline(seconds)
    while True:
        remaining = client.rows(REMAINING, {"pids": [session["pid"]]})
        if is_over(session, remaining):
            session["result"] = "ended"
            return True
        if wait.expired():
            return False
        time.sleep(POLL_SECONDS)


def is_over(session: Row, remaining: Iterable[Row]) -> bool:
    """Return whether ``session`` is not among the ``remaining`` ones or, after a cancel, its transaction is over.

    A session that was named because it blocks others is not over while others wait for an advisory lock of it: that
    lock outlives the query. ``keeps_advisory_lock`` is set then.
    """
    for row in remaining:
        if row["pid"] == session["pid"] and is_same_time(row["backend_start"], session["backend_start"]):
            if session["signal"] == "terminate":
                return False
            is_done = row["state"] == "idle in transaction (aborted)" or not is_same_time(
                row["transaction_start"], session["transaction_start"]
            )
            session["keeps_advisory_lock"] = is_done and has_to_block(session) and row["blocks_by_advisory_lock"]
            return is_done and not session["keeps_advisory_lock"]
    return True
