# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ANALYZE, VACUUM and REINDEX each need, and what speaks against them. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_progress as pg_progress
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_server as pg_server
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_upkeep as pg_upkeep
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql

# How far two readings of one time may lie apart after a way through JSON.
SAME_TIME = 0.0005

OF_SQLSTATE = {
    "23505": "duplicates",
    "3F000": "gone",
    "42501": "not_permitted",
    "42704": "gone",
    "42P01": "gone",
    "55P03": "locked",
    "57014": "timeout",
}


STATE = ("rows", "bytes", "live_rows", "dead_rows", "changed_rows", "vacuumed", "analyzed", "valid")


def state(found):
    """What is reported of an object."""
    return {field: found.get(field) for field in STATE}


class Action:
    """What is done to each of the objects that are named. ``named`` and ``found`` are one of them."""

    find = staticmethod(pg_upkeep.table)
    progress = None
    kinds = {"r": "table", "m": "materialized view"}
    # A lock that is not there at once is left to those who have it.
    lock_seconds = postgresql.LOCK_TIMEOUT_MS / 1000.0
    time = None

    def __init__(self, client, options):
        self.client = client
        self.options = options

    def unneeded(self, named, found):
        """Why nothing has to be done, or null."""
        given, last = named[self.time], found[self.time]
        if given is not None and last is not None and last > given + SAME_TIME:
            return "was %s since" % self.time
        return self.below_threshold(found)

    def obstacle(self, found):
        """``(result, message)`` of what speaks against it in the object itself, or null."""

    def succeeded(self, before, after):
        """Whether the object shows that it was done."""
        return after[self.time] is not None and (before[self.time] is None or after[self.time] > before[self.time])

    def shortcoming(self, _before, _after):
        """``(result, message)`` of what was done without the effect that was wanted, or null."""

    def left_behind(self, _found):
        """What an earlier attempt, or this one, has left behind."""
        return []

    def half_done(self, _outcome):
        """Whether it has had an effect though it was cut off."""
        return False


class Analyze(Action):
    command = "ANALYZE (SKIP_LOCKED) %s"
    progress = pg_progress.ANALYZE
    time = "analyzed"

    def below_threshold(self, found):
        # Without statistics, the server has not counted what changed either.
        if found["analyzed"] is not None and found["changed_rows"] < self.options["min_changed_rows"]:
            return "%d rows have changed since it was analyzed, fewer than %d" % (
                found["changed_rows"],
                self.options["min_changed_rows"],
            )
        return None

    def need(self, found):
        return "%(changed_rows)d rows changed since it was analyzed" % found


class Vacuum(Action):
    # To give room back at the end of the file takes an ACCESS EXCLUSIVE lock, for which readers would wait.
    command = "VACUUM (ANALYZE, SKIP_LOCKED, TRUNCATE false) %s"
    progress = pg_progress.VACUUM
    time = "vacuumed"

    def below_threshold(self, found):
        if found["dead_rows"] < self.options["min_dead_rows"]:
            return "%d rows are dead, fewer than %d" % (found["dead_rows"], self.options["min_dead_rows"])
        return None

    def need(self, found):
        return "%(dead_rows)d rows are dead" % found

    def half_done(self, outcome):
        return outcome == "timeout"

    def shortcoming(self, before, after):
        remain = after["dead_rows"]
        # Some have died since.
        if remain < self.options["min_dead_rows"] or remain <= before["dead_rows"] / 2.0:
            return None
        holders = pg_server.xmin_holders(self.client, 1)["xmin_holders"]
        by = (
            "%(kind)s %(name)s (%(state)s)" % holders[0]
            if holders
            else "somebody who is hidden from this role, or gone by now,"
        )
        return "held", "%d of %d dead rows could not be removed: %s holds on to them (see database.xmin_held)" % (
            remain,
            before["dead_rows"],
            by,
        )


class Reindex(Action):
    find = staticmethod(pg_upkeep.index)
    kinds = {"i": "index"}
    command = "REINDEX INDEX CONCURRENTLY %s"
    progress = pg_progress.CREATE_INDEX

    @property
    def lock_seconds(self):
        # It has to wait for the transactions that were open before it; cut off there, it would leave a second
        # invalid index behind.
        return self.options["max_wait"]

    def unneeded(self, _named, found):
        return "is valid" if found["valid"] else None

    def need(self, _found):
        return "is invalid"

    def obstacle(self, found):
        if found["left_behind"]:
            return (
                "unsuitable",
                "its name says that a REINDEX CONCURRENTLY left it behind: `DROP INDEX CONCURRENTLY %s;`"
                % (found["quoted"]),
            )
        if found["excludes"]:
            return "unsuitable", "an index of an exclusion constraint cannot be built CONCURRENTLY"
        old = pg_upkeep.old_transaction(self.client, found, self.options["max_wait"])
        if old:
            return "locked", "%s: REINDEX would have to wait for it, and nothing was begun" % who(old)
        return self.duplicates(found)

    def duplicates(self, found):
        """As ``obstacle()``: a unique index that cannot be built is not begun, for it leaves a second one behind."""
        patience = self.client.timeout
        # As a build of the index does, this reads the whole table.
        self.client.timeout = self.client.deadline.remaining() / 2.0
        try:
            twice = pg_upkeep.has_duplicates(self.client, found)
        finally:
            self.client.timeout = patience
        return ("duplicates", duplicates_of(found)) if twice else None

    def succeeded(self, _before, after):
        return after["valid"]

    def left_behind(self, found):
        return pg_upkeep.left_behind(self.client, found)


ACTIONS = {"analyze": Analyze, "vacuum": Vacuum, "reindex": Reindex}


def failure(exc, action, found, before_deadline):
    """``(result, message)`` of a command that failed."""
    outcome = OF_SQLSTATE.get(exc.sqlstate, "failed")
    message = exc.said or str(exc)
    if outcome == "timeout" and before_deadline:
        return "failed", "somebody cancelled it: %s" % message
    if outcome == "timeout":
        return outcome, "cut off at the deadline"
    if outcome == "duplicates":
        return outcome, duplicates_of(found)
    if outcome == "locked" and isinstance(action, Reindex):
        return outcome, "%s (max_wait: %g s)" % (message, action.options["max_wait"])
    if outcome == "not_permitted":
        return outcome, "%s; %s" % (message, missing_privilege(action, dict(found, permitted=False)))
    return outcome, message


def duplicates_of(found):
    return (
        "rows of %(quoted_table)s contradict this unique index: remove them, or `DROP INDEX CONCURRENTLY %(quoted)s;`"
        % (found)
    )


def missing_privilege(action, found):
    """What would permit it, or null where it is permitted."""
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
        return "only its owner %(owner)s may, a superuser: set login_user to that role" % found
    return "only its owner %(owner)s may: `GRANT %(owner)s TO %(role)s;` or set login_user to that role" % found


def in_use(holder, complaint=None):
    """``(result, message)`` of an object that somebody else has locked."""
    if holder is None:
        return "locked", complaint
    if holder["maintains"] and holder["granted"]:
        return "already_running", who(holder)
    return "locked", "%s: nothing was begun" % who(holder)


def who(holder):
    """A session with its lock, in words."""
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
