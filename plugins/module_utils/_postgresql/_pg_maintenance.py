# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ANALYZE, VACUUM and REINDEX of named tables and indexes, in nobody's way. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_maintenance_actions as actions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_progress as pg_progress
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_upkeep as pg_upkeep
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql

NAMED = {"schema": {"type": "str", "default": "public"}, "name": {"type": "str", "required": True}}

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
    cost_delay={"type": "float", "default": 2.0},
)

# How long the statistics may take to show what has been done. At once since PostgreSQL 15; every 0.5 s before.
SEEN_SECONDS = 1.5
POLL_SECONDS = 0.1

# With these the module fails. All others are as they should be, or are being made so.
FAILURES = ("locked", "not_permitted", "unsuitable", "duplicates", "held", "timeout", "failed")
# What has had an effect.
EFFECTS = ("done", "held")


def maintain(options, check_mode):
    """What M(tracktion.ops.pg_maintenance) returns, with ``failed`` and ``msg`` on failure.

    Raises BadOption, CannotConnect, and QueryFailed where nothing was done yet.
    """
    named = objects_of(options)
    client = postgresql.connect(options)
    if client.row("SELECT pg_is_in_recovery() AS standby")["standby"]:
        raise BadOption("login_host: this server is a standby, which changes nothing", hint="Name its primary.")
    action = actions.ACTIONS[options["action"]](client, options)
    room = options["max_objects"]
    entries = []
    for each in named:
        entry = attended(action, each, room, check_mode)
        room -= entry["seconds"] is not None or entry["result"] == "planned"
        entries.append(entry)
    return result(entries)


def objects_of(options):
    """The objects that are named. Raises BadOption where they are none of this action."""
    wanted, other = ("indexes", "tables") if options["action"] == "reindex" else ("tables", "indexes")
    if not options[wanted]:
        raise BadOption("%s: action=%s acts on what is named alone" % (wanted, options["action"]), hint="Name some.")
    if options[other]:
        raise BadOption("%s: is not for action=%s" % (other, options["action"]), hint="Give %s." % wanted)
    return list({(each["schema"], each["name"]): each for each in options[wanted]}.values())


def attended(action, named, room, check_mode):
    """One object: looked at, worked on where that is wanted and possible, and looked at again."""
    entry = {"schema": named["schema"], "name": named["name"], "table": None, "command": None, "need": None}
    entry.update(
        result=None, message=None, seconds=None, progress=None, before=None, after=None, left_behind=[], changed=False
    )
    if action.client.deadline.expired():
        return told(entry, "timeout", "the deadline was over before its turn")
    try:
        found = action.find(action.client, named)
        if found is None:
            return told(entry, "gone", "there is no such thing in this database")
        entry.update(table=found["table"], before=actions.state(found))
        refused = refusal(action, named, found, room)
        if refused:
            return told(entry, *refused)
        entry.update(command=action.command % found["quoted"], need=action.need(found))
        entry["left_behind"] = action.left_behind(found)
        if check_mode:
            entry["changed"] = True
            return told(entry, "planned", None)
    except postgresql.QueryFailed as exc:
        return told(entry, "failed", str(exc))
    return work(action, named, found, entry)


def refusal(action, named, found, room):
    """``(result, message)`` where the object is left alone, or null."""
    if found["kind"] not in action.kinds or found["temporary"]:
        return "unsuitable", "is not %s of its own" % " or ".join("a %s" % kind for kind in action.kinds.values())
    unneeded = action.unneeded(named, found)
    if unneeded:
        return "not_needed", unneeded
    if room <= 0:
        return "beyond_limit", "max_objects (%d) are done: run it again" % action.options["max_objects"]
    hint = actions.missing_privilege(action, found)
    if hint:
        return "not_permitted", hint
    holder = pg_upkeep.in_the_way(action.client, found)
    if holder:
        return actions.in_use(holder)
    return action.obstacle(found)


def work(action, named, found, entry):
    """Runs the command, asks the server what the object is like then, and notes in ``entry`` what came of it."""
    client, started = action.client, time.monotonic()
    seconds = client.deadline.remaining()
    outcome, message = run(action, found, entry, seconds)
    # What came of it is asked for even where the deadline has cut it off.
    client.deadline = Deadline(max(client.deadline.remaining(), client.timeout + SEEN_SECONDS))
    try:
        after = seen(action, named, found, outcome)
        left_behind = [] if after is None else action.left_behind(after)
        if outcome == "done":
            outcome, message = verified(action, found, after, message)
        entry["after"] = after and actions.state(after)
        worked = outcome in EFFECTS or (after is not None and action.succeeded(found, after))
        entry["changed"] = worked or action.half_done(outcome) or left_behind != entry["left_behind"]
        entry["left_behind"] = left_behind
    except postgresql.QueryFailed as exc:
        outcome, message = "failed", "what came of it is not known: %s" % exc
        entry["changed"] = True
    client.deadline = Deadline(seconds - (time.monotonic() - started))
    return told(entry, outcome, message)


def run(action, found, entry, seconds):
    """``(result, message)`` of the command, as far as it tells itself."""
    settings = {
        "lock_timeout": "%dms" % max(1, action.lock_seconds * 1000),
        "vacuum_cost_delay": "%gms" % action.options["cost_delay"],
    }
    watch = pg_progress.Watch(action.client, action.options, action.progress)
    started = time.monotonic()
    try:
        return "done", "; ".join(action.client.command(entry["command"], seconds, settings, watch)) or None
    except postgresql.QueryFailed as exc:
        outcome, message = actions.failure(exc, action, found, time.monotonic() - started < seconds)
        return outcome, message + watch.told()
    finally:
        entry.update(seconds=time.monotonic() - started, progress=watch.seen)
        watch.close()


def seen(action, named, found, outcome):
    """The object as it is now, once the statistics show what was done to it; null where it is gone."""
    patience = Deadline(SEEN_SECONDS)
    while True:
        after = action.find(action.client, named)
        if after is None or outcome != "done" or action.succeeded(found, after) or patience.expired():
            return after
        time.sleep(POLL_SECONDS)


def verified(action, found, after, complaint):
    """``(result, message)`` of a command that says it is done."""
    if after is None:
        return "gone", "it was dropped meanwhile"
    if not action.succeeded(found, after) and complaint:
        # What is locked is skipped with a complaint, and without an error.
        return actions.in_use(pg_upkeep.in_the_way(action.client, after), complaint)
    return action.shortcoming(found, after) or ("done", complaint)


def told(entry, outcome, message):
    entry.update(result=outcome, message=message)
    return entry


def result(entries):
    """``changed``, ``objects``, ``diff``, and ``failed`` with ``msg`` on failure."""
    failed = [entry for entry in entries if entry["result"] in FAILURES]
    affected = [entry for entry in entries if entry["changed"]]
    outcome = {
        "changed": bool(affected),
        "objects": entries,
        "diff": {
            "before": {_name(entry): entry["need"] for entry in affected},
            "after": {_name(entry): entry["command"] for entry in affected},
        },
    }
    if failed:
        reasons = "; ".join("%s: %s: %s" % (_name(entry), entry["result"], told_of(entry)) for entry in failed)
        how_many = "%d of %d objects: " % (len(failed), len(entries)) if len(entries) > 1 else ""
        outcome.update(failed=True, msg=how_many + reasons)
    return outcome


def told_of(entry):
    """Its message and, where a REINDEX was cut off, what has to be cleared away."""
    drops = ["`DROP INDEX CONCURRENTLY %s;`" % name for name in entry["left_behind"]]
    return " ".join([entry["message"] or ""] + (["left behind:"] + drops if drops else []))


def _name(entry):
    return "%(schema)s.%(name)s" % entry
