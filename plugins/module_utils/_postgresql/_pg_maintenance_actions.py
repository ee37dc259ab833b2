# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When ANALYZE, VACUUM and REINDEX are needed, possible and successful. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_progress as pg_progress
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_server as pg_server
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_upkeep as pg_upkeep
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

# Largest difference of two readings of one time after JSON, in seconds.
SAME_TIME = 0.0005

RESULT_BY_SQLSTATE = {
    "23505": "duplicates",
    "3F000": "gone",
    "42501": "not_permitted",
    "42704": "gone",
    "42P01": "gone",
    "55P03": "locked",
    "57014": "timeout",
}

STATE = ("rows", "bytes", "live_rows", "dead_rows", "changed_rows", "vacuumed", "analyzed", "valid")

# An entry of ``tables`` or ``indexes``.
Named = Mapping[str, Any]


class Outcome(NamedTuple):
    """The result of one object, as RETURN lists them, and a message or null."""

    result: str
    message: str | None


def state_of(found: postgresql.Row) -> postgresql.Row:
    """Return the fields of an object that the module returns."""
    return {field: found.get(field) for field in STATE}


class Action:
    """A maintenance command. ``named`` is an object as it was named, ``found`` as the server has it."""

    command: str
    view: pg_progress.View
    # The field with the time when it was last done, by hand or by autovacuum.
    time: str
    kinds = {"r": "table", "m": "materialized view"}

    def __init__(self, client: postgresql.Client, options: Options) -> None:
        self.client = client
        self.options = options

    @property
    def lock_seconds(self) -> float:
        """Return how long the command may wait for each lock."""
        return postgresql.LOCK_TIMEOUT_MS / 1000.0

    def find(self, named: Named) -> postgresql.Row | None:
        """Return the object, or null if it does not exist. Raises QueryFailed."""
        return pg_upkeep.read_table(self.client, named)

    def reason_not_needed(self, named: Named, found: postgresql.Row) -> str | None:
        """Return why nothing has to be done, or null."""
        given, last = named[self.time], found[self.time]
        if given is not None and last is not None and last > given + SAME_TIME:
            return "was %s since" % self.time
        return self.below_threshold(found)

    def below_threshold(self, found: postgresql.Row) -> str | None:
        """Return which minimum the table is below, or null."""
        raise NotImplementedError

    def need(self, found: postgresql.Row) -> str:
        """Return why the object needs it."""
        raise NotImplementedError

    def obstacle(self, _found: postgresql.Row) -> Outcome | None:
        """Return why the object cannot be maintained now, or null. Raises QueryFailed."""
        return None

    def succeeded(self, before: postgresql.Row, after: postgresql.Row) -> bool:
        """Return whether the object shows that it was done."""
        return after[self.time] is not None and (before[self.time] is None or after[self.time] > before[self.time])

    def shortcoming(self, _before: postgresql.Row, _after: postgresql.Row) -> Outcome | None:
        """Return what a command that succeeded did not achieve, or null. Raises QueryFailed."""
        return None

    def left_behind(self, _found: postgresql.Row) -> list[str]:
        """Return the indexes that this or an earlier attempt left behind. Raises QueryFailed."""
        return []

    def has_partial_effect(self, _result: str) -> bool:
        """Return whether a command with this result had an effect although it was interrupted."""
        return False


class Analyze(Action):
    command = "ANALYZE (SKIP_LOCKED) %s"
    view = pg_progress.ANALYZE
    time = "analyzed"

    def below_threshold(self, found: postgresql.Row) -> str | None:
        # Of a table that was never analyzed, the server may not have counted the changes.
        if found["analyzed"] is not None and found["changed_rows"] < self.options["min_changed_rows"]:
            return "%d rows changed since it was analyzed, fewer than %d" % (
                found["changed_rows"],
                self.options["min_changed_rows"],
            )
        return None

    def need(self, found: postgresql.Row) -> str:
        return "%(changed_rows)d rows changed since it was analyzed" % found


class Vacuum(Action):
    # Truncating the file takes an ACCESS EXCLUSIVE lock, for which readers would wait.
    command = "VACUUM (ANALYZE, SKIP_LOCKED, TRUNCATE false) %s"
    view = pg_progress.VACUUM
    time = "vacuumed"

    def below_threshold(self, found: postgresql.Row) -> str | None:
        if found["dead_rows"] < self.options["min_dead_rows"]:
            return "%d rows are dead, fewer than %d" % (found["dead_rows"], self.options["min_dead_rows"])
        return None

    def need(self, found: postgresql.Row) -> str:
        return "%(dead_rows)d rows are dead" % found

    def obstacle(self, found: postgresql.Row) -> Outcome | None:
        holder = pg_server.read_horizon(self.client)
        limits = self.options["max_holder_seconds"], self.options["max_holder_xids"]
        if holder is None or not pg_server.holds_back(holder, found["vacuumed"], *limits):
            return None
        message = "%s may still read the dead rows: VACUUM cannot remove them and was not started"
        return Outcome("held", message % describe_xmin_holder(holder))

    def has_partial_effect(self, result: str) -> bool:
        return result == "timeout"

    def shortcoming(self, before: postgresql.Row, after: postgresql.Row) -> Outcome | None:
        remain = after["dead_rows"]
        # Some may have died since.
        if remain < self.options["min_dead_rows"] or remain <= before["dead_rows"] / 2.0:
            return None
        holder = pg_server.read_horizon(self.client)
        name = describe_xmin_holder(holder) if holder else "a session that is hidden from this role or has ended"
        message = "%d of %d dead rows could not be removed: %s may still read them (see database.xmin_held)"
        return Outcome("held", message % (remain, before["dead_rows"], name))


class Reindex(Action):
    kinds = {"i": "index"}
    command = "REINDEX INDEX CONCURRENTLY %s"
    view = pg_progress.CREATE_INDEX

    @property
    def lock_seconds(self) -> float:
        # It waits for older transactions. If it is interrupted then, it leaves a second invalid index behind.
        return self.options["max_wait"]

    def find(self, named: Named) -> postgresql.Row | None:
        return pg_upkeep.read_index(self.client, named)

    def reason_not_needed(self, _named: Named, found: postgresql.Row) -> str | None:
        return "is valid" if found["valid"] else None

    def need(self, _found: postgresql.Row) -> str:
        return "is invalid"

    def obstacle(self, found: postgresql.Row) -> Outcome | None:
        if found["left_behind"]:
            message = "by its name an interrupted REINDEX CONCURRENTLY left it behind: `DROP INDEX CONCURRENTLY %s;`"
            return Outcome("unsuitable", message % found["quoted"])
        if found["excludes"]:
            return Outcome("unsuitable", "an index of an exclusion constraint cannot be built CONCURRENTLY")
        old = pg_upkeep.read_old_transaction(self.client, found, self.options["max_wait"])
        if old:
            return Outcome("locked", "%s: REINDEX would wait for it and was not started" % describe_holder(old))
        return self.find_duplicates(found)

    def find_duplicates(self, found: postgresql.Row) -> Outcome | None:
        """Return that a unique index cannot be built, or null: a failed build leaves a second index behind."""
        timeout = self.client.timeout
        # Like a build of the index, this reads the whole table.
        self.client.timeout = self.client.deadline.remaining() / 2.0
        try:
            has_duplicates = pg_upkeep.has_duplicates(self.client, found)
        finally:
            self.client.timeout = timeout
        return Outcome("duplicates", describe_duplicates(found)) if has_duplicates else None

    def succeeded(self, _before: postgresql.Row, after: postgresql.Row) -> bool:
        return after["valid"]

    def left_behind(self, found: postgresql.Row) -> list[str]:
        return pg_upkeep.read_left_behind(self.client, found)


ACTIONS = {"analyze": Analyze, "vacuum": Vacuum, "reindex": Reindex}


def classify_failure(
    exc: postgresql.QueryFailed, action: Action, found: postgresql.Row, before_deadline: bool
) -> Outcome:
    """Return the outcome of a command that failed."""
    result = RESULT_BY_SQLSTATE.get(exc.sqlstate or "", "failed")
    message = exc.server_message or str(exc)
    if result == "timeout" and before_deadline:
        return Outcome("failed", "cancelled by another session: %s" % message)
    if result == "timeout":
        return Outcome(result, "cancelled at the deadline")
    if result == "duplicates":
        return Outcome(result, describe_duplicates(found))
    if result == "locked" and isinstance(action, Reindex):
        return Outcome(result, "%s (max_wait: %g s)" % (message, action.options["max_wait"]))
    if result == "not_permitted":
        return Outcome(result, "%s; %s" % (message, missing_privilege(action, dict(found, permitted=False))))
    return Outcome(result, message)


def describe_duplicates(found: postgresql.Row) -> str:
    """Return what to do if rows violate a unique index."""
    return (
        "rows of %(quoted_table)s violate this unique index: remove them, or `DROP INDEX CONCURRENTLY %(quoted)s;`"
        % found
    )


def missing_privilege(action: Action, found: postgresql.Row) -> str | None:
    """Return how to permit the action, or null if it is permitted."""
    if not found["reaches_schema"]:
        return "`GRANT USAGE ON SCHEMA %(quoted_schema)s TO %(role)s;`" % found
    if found["permitted"]:
        return None
    if action.client.connection.server_version >= 170000:
        return (
            "`GRANT MAINTAIN ON %(quoted_table)s TO %(role)s;`"
            " or, for all tables: `GRANT pg_maintain TO %(role)s;`" % found
        )
    if found["superuser_owns"]:
        return "only the owner %(owner)s may, a superuser: set login_user to that role" % found
    return "only the owner %(owner)s may: `GRANT %(owner)s TO %(role)s;` or set login_user to that role" % found


def describe_lock(holder: postgresql.Row | None, notice: str | None = None) -> Outcome:
    """Return the outcome for an object that ``holder`` has locked. Without one, ``notice`` is the message."""
    if holder is None:
        return Outcome("locked", notice)
    if holder["maintains"] and holder["granted"]:
        return Outcome("already_running", describe_holder(holder))
    return Outcome("locked", "%s: the command was not started" % describe_holder(holder))


def describe_xmin_holder(holder: postgresql.Row) -> str:
    """Return what holds back VACUUM as text."""
    pid = " pid %d" % holder["pid"] if holder["pid"] else ""
    age = " for %.0f s" % holder["seconds"] if holder["seconds"] is not None else ""
    return "%s%s %s (%s%s)" % (holder["kind"], pid, holder["name"], holder["state"] or "state hidden", age)


def describe_holder(holder: postgresql.Row) -> str:
    """Return a session and its lock as text."""
    if holder["pid"] is None:
        return "a prepared transaction holds %(mode)s" % holder
    parts = ["pid %(pid)d" % holder]
    names = [holder.get("backend_type"), holder["user"], holder["application"], holder["state"]]
    names = [name for name in names if name and name != "client backend"]
    if names:
        parts.append("(%s)" % ", ".join(names))
    if holder["mode"]:
        parts.append("%s %s" % ("holds" if holder.get("granted", True) else "waits for", holder["mode"]))
    if holder["seconds"] is not None:
        parts.append("for %.0f s" % holder["seconds"])
    return " ".join(parts)
