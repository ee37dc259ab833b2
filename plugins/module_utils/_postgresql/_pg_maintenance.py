# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs ANALYZE, VACUUM and REINDEX on named tables and indexes without blocking others. Private to this collection."""

from __future__ import annotations

import time
from typing import Any, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_maintenance_actions as actions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_progress as pg_progress
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_server as pg_server
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_upkeep as pg_upkeep
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._pg_maintenance_actions import (
    Action,
    Named,
    Outcome,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

NAMED: dict[str, Any] = {"schema": {"type": "str", "default": "public"}, "name": {"type": "str", "required": True}}

ARGUMENT_SPEC = dict(
    postgresql.CONNECTION_SPEC,
    deadline={"type": "float", "default": 600.0},
    action={"type": "str", "choices": ["analyze", "vacuum", "reindex"], "required": True},
    tables={
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": dict(NAMED, analyzed={"type": "float"}, vacuumed={"type": "float"}),
    },
    indexes={"type": "list", "elements": "dict", "default": [], "options": NAMED},
    min_changed_rows={"type": "int", "default": 1},
    min_dead_rows={"type": "int", "default": 1},
    max_objects={"type": "int", "default": 10},
    max_wait={"type": "float", "default": 30.0},
    **pg_server.HOLDER_SPEC,
    cost_delay={"type": "float", "default": 2.0},
)

# Seconds until the statistics show what was done: none since PostgreSQL 15, at most 0.5 before.
STATISTICS_SECONDS = 1.5
POLL_SECONDS = 0.1

# Results that make the module fail.
FAILURES = ("locked", "not_permitted", "unsuitable", "duplicates", "held", "timeout", "failed")
# Results that had an effect.
EFFECTS = ("done", "held")


class MaintainedObject(TypedDict):
    """An entry of ``objects``, as RETURN documents it."""

    schema: str
    name: str
    table: str | None
    command: str | None
    need: str | None
    result: str | None
    message: str | None
    seconds: float | None
    progress: postgresql.Row | None
    before: postgresql.Row | None
    after: postgresql.Row | None
    left_behind: list[str]
    changed: bool


def maintain(options: Options, check_mode: bool) -> dict[str, Any]:
    """Return the result of M(tracktion.ops.pg_maintenance), with ``failed`` and ``msg`` on failure.

    Raises BadOption, CannotConnect, and QueryFailed if nothing was done yet.
    """
    objects = named_objects(options)
    client = postgresql.connect(options)
    server = client.row("SELECT pg_is_in_recovery() AS standby, pg_backend_pid() AS pid")
    if client.through_pooler(server["pid"]):
        raise BadOption(
            "login_host: a pooler answers there, behind which settings of a session do not last",
            hint="Set `login_host` and `login_port` to the address of the server itself.",
        )
    if server["standby"]:
        raise BadOption(
            "login_host: this server is a standby, which is read-only",
            hint="Set `login_host` to its primary. Show it: `SELECT conninfo FROM pg_stat_wal_receiver`.",
        )
    action = actions.ACTIONS[options["action"]](client, options)
    remaining = options["max_objects"]
    entries = []
    for named in objects:
        entry = maintain_object(action, named, remaining, check_mode)
        remaining -= entry["seconds"] is not None or entry["result"] == "planned"
        entries.append(entry)
    return as_result(entries)


def named_objects(options: Options) -> list[Named]:
    """Return the objects that are named, each once. Raises BadOption if they do not fit the action."""
    wanted, other = ("indexes", "tables") if options["action"] == "reindex" else ("tables", "indexes")
    if not options[wanted]:
        raise BadOption(
            "%s: required with action=%s" % (wanted, options["action"]), hint="Set `%s` to a list of names." % wanted
        )
    if options[other]:
        raise BadOption(
            "%s: not allowed with action=%s" % (other, options["action"]), hint="Set `%s` instead." % wanted
        )
    return list({(each["schema"], each["name"]): each for each in options[wanted]}.values())


def maintain_object(action: Action, named: Named, remaining: int, check_mode: bool) -> MaintainedObject:
    """Maintain one object, if it needs it and nothing prevents it. ``remaining``: how many more the run may do."""
    entry = MaintainedObject(
        schema=named["schema"],
        name=named["name"],
        table=None,
        command=None,
        need=None,
        result=None,
        message=None,
        seconds=None,
        progress=None,
        before=None,
        after=None,
        left_behind=[],
        changed=False,
    )
    if action.client.deadline.expired():
        return _finish(entry, Outcome("timeout", "the deadline was over before its turn"))
    try:
        found = action.find(named)
        if found is None:
            return _finish(entry, Outcome("gone", "it does not exist in this database"))
        entry["table"], entry["before"] = found["table"], actions.state_of(found)
        skipped = reason_to_skip(action, named, found, remaining)
        if skipped:
            return _finish(entry, skipped)
        entry["command"], entry["need"] = action.command % found["quoted"], action.need(found)
        entry["left_behind"] = action.left_behind(found)
        if check_mode:
            entry["changed"] = True
            return _finish(entry, Outcome("planned", None))
    except postgresql.QueryFailed as exc:
        return _finish(entry, Outcome("failed", str(exc)))
    return run_and_verify(action, named, found, entry)


def reason_to_skip(action: Action, named: Named, found: postgresql.Row, remaining: int) -> Outcome | None:
    """Return why the object is left alone, or null. Raises QueryFailed."""
    if found["kind"] not in action.kinds or found["temporary"]:
        return Outcome("unsuitable", "is not a permanent %s" % " or ".join(action.kinds.values()))
    not_needed = action.reason_not_needed(named, found)
    if not_needed:
        return Outcome("not_needed", not_needed)
    if remaining <= 0:
        return Outcome("beyond_limit", "max_objects (%d) are done: run it again" % action.options["max_objects"])
    hint = actions.missing_privilege(action, found)
    if hint:
        return Outcome("not_permitted", hint)
    holder = pg_upkeep.read_conflicting_lock(action.client, found)
    if holder:
        return actions.describe_lock(holder)
    return action.obstacle(found)


def run_and_verify(action: Action, named: Named, found: postgresql.Row, entry: MaintainedObject) -> MaintainedObject:
    """Run the command, read the object again, and add the outcome to ``entry``."""
    client, started = action.client, time.monotonic()
    seconds = client.deadline.remaining()
    outcome = run_command(action, found, entry, seconds)
    # The outcome is read even if the deadline interrupted the command.
    client.deadline = Deadline(max(client.deadline.remaining(), client.timeout + STATISTICS_SECONDS))
    try:
        after = read_after(action, named, found, outcome)
        left_behind = [] if after is None else action.left_behind(after)
        if outcome.result == "done":
            outcome = verify(action, found, after, outcome.message)
        entry["after"] = after and actions.state_of(after)
        had_effect = outcome.result in EFFECTS or (after is not None and action.succeeded(found, after))
        entry["changed"] = (
            had_effect or action.has_partial_effect(outcome.result) or left_behind != entry["left_behind"]
        )
        entry["left_behind"] = left_behind
    except postgresql.QueryFailed as exc:
        outcome = Outcome("failed", "its effect is not known: %s" % exc)
        entry["changed"] = True
    client.deadline = Deadline(seconds - (time.monotonic() - started))
    return _finish(entry, outcome)


def run_command(action: Action, found: postgresql.Row, entry: MaintainedObject, seconds: float) -> Outcome:
    """Run the command of ``entry`` and return its outcome, as the server reports it."""
    settings = {
        "lock_timeout": "%dms" % max(1, action.lock_seconds * 1000),
        "vacuum_cost_delay": "%gms" % action.options["cost_delay"],
    }
    watch = pg_progress.ProgressWatch(action.client, action.options, action.view)
    started = time.monotonic()
    try:
        notices = action.client.command(str(entry["command"]), seconds, settings, watch)
        return Outcome("done", "; ".join(notices) or None)
    except postgresql.QueryFailed as exc:
        outcome = actions.classify_failure(exc, action, found, time.monotonic() - started < seconds)
        return outcome._replace(message="%s%s" % (outcome.message, watch.as_text()))
    finally:
        entry["seconds"], entry["progress"] = time.monotonic() - started, watch.progress
        watch.close()


def read_after(action: Action, named: Named, found: postgresql.Row, outcome: Outcome) -> postgresql.Row | None:
    """Return the object once the statistics show the effect; null if it is gone. Raises QueryFailed."""
    wait = Deadline(STATISTICS_SECONDS)
    while True:
        after = action.find(named)
        if after is None or outcome.result != "done" or action.succeeded(found, after) or wait.expired():
            return after
        time.sleep(POLL_SECONDS)


def verify(action: Action, found: postgresql.Row, after: postgresql.Row | None, notice: str | None) -> Outcome:
    """Return the outcome of a command that succeeded by the object as it is ``after``. Raises QueryFailed."""
    if after is None:
        return Outcome("gone", "it was dropped meanwhile")
    if not action.succeeded(found, after) and notice:
        # A locked table is skipped with a notice and without an error.
        return actions.describe_lock(pg_upkeep.read_conflicting_lock(action.client, after), notice)
    return action.shortcoming(found, after) or Outcome("done", notice)


def _finish(entry: MaintainedObject, outcome: Outcome) -> MaintainedObject:
    entry["result"], entry["message"] = outcome
    return entry


def as_result(entries: list[MaintainedObject]) -> dict[str, Any]:
    """Return ``changed``, ``objects``, ``diff``, and ``failed`` with ``msg`` on failure."""
    failed = [entry for entry in entries if entry["result"] in FAILURES]
    changed = [entry for entry in entries if entry["changed"]]
    result: dict[str, Any] = {
        "changed": bool(changed),
        "objects": entries,
        "diff": {
            "before": {_name(entry): entry["need"] for entry in changed},
            "after": {_name(entry): entry["command"] for entry in changed},
        },
    }
    if failed:
        reasons = "; ".join("%s: %s: %s" % (_name(entry), entry["result"], _failure_text(entry)) for entry in failed)
        how_many = "%d of %d objects: " % (len(failed), len(entries)) if len(entries) > 1 else ""
        result.update(failed=True, msg=how_many + reasons)
    return result


def _failure_text(entry: MaintainedObject) -> str:
    """Return the message of an object, with the commands that drop what a REINDEX left behind."""
    drops = ["`DROP INDEX CONCURRENTLY %s;`" % name for name in entry["left_behind"]]
    return " ".join([entry["message"] or ""] + (["left behind:"] + drops if drops else []))


def _name(entry: MaintainedObject) -> str:
    return "%(schema)s.%(name)s" % entry
