# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends sessions of a PostgreSQL server, with the least force that does it. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _sql_text as sql_text

STATES = [
    "active",
    "fastpath function call",
    "idle",
    "idle in transaction",
    "idle in transaction (aborted)",
]

# What copies or repairs data for hours on purpose, by the application_name that it gives itself.
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

SPEC = {
    "pids": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "pid": {"type": "int", "required": True},
            "backend_start": {"type": "float", "required": True},
            "transaction_start": {"type": "float"},
            "state_start": {"type": "float"},
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

# How far two readings of one time may lie apart after a way through JSON; a process ID comes back much later.
SAME_TIME = 0.0005

# The age that counts is that of what the session is doing: of its query, or of its doing nothing.
AGE = """
extract(epoch FROM clock_timestamp() - CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END)::float8
"""

# The guards, in every statement that chooses or signals: a client's session, not ours, of nobody who is denied.
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
       host(a.client_addr) AS client, a.state, {age} AS seconds, left(a.query, %(query_length)s) AS query
FROM pg_stat_activity a
WHERE {guards}
ORDER BY seconds DESC NULLS LAST, a.pid
""".format(age=AGE, guards=GUARDS)

# One session in one statement: whoever it is that has this process ID now, the conditions are looked at again
# as the signal goes out.
SIGNAL = """
SELECT {function}(a.pid) AS sent
FROM pg_stat_activity a
WHERE a.pid = %(pid)s
  AND abs(extract(epoch FROM a.backend_start)::float8 - %(backend_start)s) < %(same_time)s
  AND (a.xact_start IS NULL AND %(transaction_start)s IS NULL
       OR abs(extract(epoch FROM a.xact_start)::float8 - %(transaction_start)s) < %(same_time)s)
  AND (%(state_start)s IS NULL
       OR abs(extract(epoch FROM a.state_change)::float8 - %(state_start)s) < %(same_time)s)
  AND {guards}
"""

FUNCTIONS = {"cancel": "pg_cancel_backend", "terminate": "pg_terminate_backend"}

# A session is over when it is gone; what it did is over when its transaction is, or is aborted and holds nothing.
LEFT = """
SELECT a.pid, extract(epoch FROM a.backend_start)::float8 AS backend_start, a.state,
       extract(epoch FROM a.xact_start)::float8 AS transaction_start
FROM pg_stat_activity a
WHERE a.pid = ANY (%(pids)s)
"""


def end_sessions(options, check_mode):
    """What M(tracktion.ops.pg_activity) returns with O(state=ended), with ``failed`` and ``msg`` on failure.

    Raises BadOption, CannotConnect, and QueryFailed where nothing was done yet.
    """
    check_criteria(options)
    client = postgresql.connect(options)
    client.deadline = Deadline(options["deadline"] + 2 * options["grace"])
    found = matching(client, options)
    planned = plan(found, options)
    trouble = None
    if not check_mode:
        try:
            end(client, planned, options)
        except postgresql.QueryFailed as exc:
            trouble = "Lost the server while ending sessions, what came of some is not known: %s" % exc
    return result(found, planned, trouble)


def check_criteria(options):
    """Raises BadOption where the criteria would fit sessions that nobody named."""
    if not options["pids"] and not options["states"]:
        raise BadOption(
            "pids, states: state=ended ends only what is named",
            hint="Give pids (each with its backend_start), or states together with min_age.",
        )
    if not options["pids"] and options["min_age"] is None:
        raise BadOption("min_age: is needed where sessions are named by states", hint="Give min_age in seconds.")


def matching(client, options):
    """The sessions that the criteria fit now, longest first. Raises QueryFailed."""
    found = client.rows(MATCHING, dict(criteria(options), query_length=sql_text.FETCHED))
    if options["pids"]:
        found = [session for session in found if named_by(session, options)]
    for session in found:
        session["query"] = sql_text.shown(session["query"], options["query_length"], options["show_literals"])
    return found


def criteria(options):
    """The parameters of the guards."""
    names = ("deny_users", "deny_applications", "users", "applications", "databases", "states", "min_age")
    return {name: options[name] for name in names}


def named_by(session, options):
    """The entry of ``pids`` that means ``session``, or null."""
    return next((named for named in options["pids"] if is_named(session, named)), None)


def is_named(session, named):
    """Whether ``session`` is the one that ``named`` means, by all the times that it gives."""
    return session["pid"] == named["pid"] and all(
        same_time(session[time], named[time])
        for time in ("backend_start", "transaction_start", "state_start")
        if named[time] is not None
    )


def same_time(one, other):
    """Whether two readings, in epoch seconds or null, are of one moment."""
    if one is None or other is None:
        return one is other
    return abs(one - other) < SAME_TIME


def plan(found, options):
    """The sessions to signal, each with ``signal`` (cancel, terminate, or null where the mode has none) and ``result``.

    There is a query to cancel only in an active session: elsewhere a cancel would be sent and do nothing.
    """
    planned = []
    for session in found[: options["max_sessions"]]:
        if options["mode"] != "terminate" and session["state"] == "active":
            signal = "cancel"
        else:
            signal = None if options["mode"] == "cancel" else "terminate"
        planned.append(dict(session, signal=signal, result="planned" if signal else "nothing_to_cancel", message=None))
    return planned


def end(client, planned, options, sleep=time.sleep, clock=time.monotonic):
    """Signals the sessions of ``planned``, and notes in each what came of it.

    ``result``: ``ended`` (its work is over, or it is gone), ``gone`` (it no longer fitted when the signal was to go
    out: nothing was sent), ``not_permitted`` or ``remains``. ``signal`` is the last one that was sent.
    """
    to_end = [session for session in planned if session["signal"]]
    waiting = [session for session in to_end if _signal(client, session, options)]
    waiting = _wait_for(client, waiting, options["grace"], sleep, clock)
    if options["mode"] == "cancel_then_terminate":
        stubborn = [session for session in waiting if session["signal"] == "cancel"]
        for session in stubborn:
            session["signal"] = "terminate"
            if not _signal(client, session, options):
                waiting.remove(session)
        if stubborn:
            waiting = _wait_for(client, waiting, options["grace"], sleep, clock)
    for session in waiting:
        session["result"] = "remains"
        session["message"] = "still there %.1f s after the %s" % (options["grace"], session["signal"])


def result(found, planned, trouble=None):
    """``changed``, ``matched``, ``sessions``, ``diff``, and ``failed`` with ``msg`` on failure."""
    # The plan of a check run stands for what the run would do.
    signalled = [session for session in planned if session["result"] in ("planned", "sent", "ended", "remains")]
    over = [session["pid"] for session in planned if session["result"] in ("planned", "ended", "gone")]
    failed = [session for session in planned if session["result"] in ("not_permitted", "remains")]
    outcome = {
        "changed": bool(signalled),
        "matched": len(found),
        "sessions": planned,
        "diff": {
            "before": {"sessions": [_line(session) for session in found]},
            "after": {"sessions": [_line(session) for session in found if session["pid"] not in over]},
        },
    }
    if failed and not trouble:
        reasons = "; ".join("pid %(pid)s: %(message)s" % session for session in failed)
        trouble = "%d of %d sessions could not be ended: %s" % (len(failed), len(planned), reasons)
    if trouble:
        outcome.update(failed=True, msg=trouble)
    return outcome


def _line(session):
    return "%(pid)s %(user)s@%(database)s %(application)s: %(state)s" % session


def _signal(client, session, options):
    """Sends the signal, if the session is still what it was. Whether there is something to wait for."""
    parameters = dict(
        criteria(options),
        pid=session["pid"],
        backend_start=session["backend_start"],
        transaction_start=session["transaction_start"],
        state_start=(named_by(session, options) or {}).get("state_start"),
        same_time=SAME_TIME,
    )
    try:
        sent = client.rows(SIGNAL.format(function=FUNCTIONS[session["signal"]], guards=GUARDS), parameters)
    except postgresql.QueryFailed as exc:
        if exc.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        session.update(
            result="not_permitted",
            message="%s. %s For a session of a superuser, set login_user to a superuser"
            % (exc, pg_rights.SUPERUSER % ("`%s`" % pg_rights.grant("pg_signal_backend", client.role))),
        )
        return False
    if not any(row["sent"] for row in sent):
        # A cancel that has gone out before did it.
        session["result"] = "ended" if session["result"] == "sent" else "gone"
        return False
    session["result"] = "sent"
    return True


def _wait_for(client, sessions, seconds, sleep, clock):
    """Waits at most ``seconds`` for the end of ``sessions``; marks those that ended, returns the others."""
    until = clock() + seconds
    while sessions:
        left = client.rows(LEFT, {"pids": [session["pid"] for session in sessions]})
        for session in sessions:
            if is_over(session, left):
                session["result"] = "ended"
        sessions = [session for session in sessions if session["result"] != "ended"]
        if not sessions or clock() >= until:
            break
        sleep(POLL_SECONDS)
    return sessions


def is_over(session, left):
    """Whether ``session`` is gone from the sessions ``left`` or, after a cancel, its transaction is over."""
    for row in left:
        if row["pid"] == session["pid"] and same_time(row["backend_start"], session["backend_start"]):
            if session["signal"] == "terminate":
                return False
            return row["state"] == "idle in transaction (aborted)" or not same_time(
                row["transaction_start"], session["transaction_start"]
            )
    return True
