# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What came of an action: as a line of the audit log, and as a reason to stop. Pure. Private to this collection."""

from __future__ import annotations

import json
import time

from ansible_collections.tracktion.ops.plugins.plugin_utils import _remedies, _units

# Fields of an action that the audit log keeps.
OF_ACTION = (
    "action", "host", "remedy", "risk", "data_loss", "target", "does", "vars", "evidence", "findings", "settle",
)  # fmt: skip
# A result is cut beyond this: it is a log, not a copy of the service.
RESULT_BYTES = 16384
ENTRIES_MOST = 50


def entry(run, action, result=None, check_mode=False):
    """A line of the audit log: without a ``result`` of the remedy's task an intent, else what came of it."""
    made = {"run": run["run"], "who": run["who"], **{name: action[name] for name in OF_ACTION}}
    if result is not None:
        kept = kept_of(result, action["result"])
        outcome = outcome_of(result)
        made.update(outcome=outcome, changed=bool(result.get("changed")), result=kept)
        made.update(message=message_of(result, outcome), undo=None)
        if made["changed"] and not check_mode:
            made["undo"] = _remedies.undo_command(action["undo"], action["host"], action["vars"], kept)
    return made


def outcome_of(result):
    """``changed``, ``ok`` (nothing was left to do), ``failed``, or ``unreachable``."""
    if result.get("unreachable"):
        return "unreachable"
    if result.get("failed"):
        return "failed"
    return "changed" if result.get("changed") else "ok"


def message_of(result, outcome):
    if outcome in ("failed", "unreachable"):
        return " ".join(str(result.get("msg") or "no message").split())[:1000]
    return None


def kept_of(result, names):
    """The fields of a result that the remedy's row names; their lists bounded, and no more than a log can bear."""
    kept = {name: bounded(result.get(name)) for name in names or []}
    if len(json.dumps(kept, default=str)) > RESULT_BYTES:
        return {name: "(left out: too large)" if len(json.dumps(kept[name], default=str)) > 1000 else kept[name]
                for name in kept}  # fmt: skip
    return kept


def bounded(value):
    if isinstance(value, list):
        return [bounded(each) for each in value[:ENTRIES_MOST]]
    if isinstance(value, dict):
        return {str(key): bounded(each) for key, each in value.items()}
    return value


def reason_to_stop(action, outcomes, max_failures):
    """Why an action must not be carried out any more after what came of those before it; null where it may."""
    failures = [done for done in outcomes if done["outcome"] in ("failed", "unreachable")]
    here = [done for done in failures if done["host"] == action["host"]]
    if action["risk"] == "safe":
        return None
    if here:
        return "%s of %s failed on this host: only safe actions go on" % (here[0]["remedy"], here[0]["target"])
    if len(failures) >= max_failures:
        return "%d action%s of this run failed (tracktion_remediate_max_failures): only safe actions go on" % (
            len(failures),
            "" if len(failures) == 1 else "s",
        )
    return None


def why_not(reason, about, action):
    """In words, why the host's journal says no: ``locked`` by a lock, or ``cooling`` until a time."""
    return locked(about) if reason == "locked" else cooling(action, about)


def locked(lock):
    return "another run is at work on this host: %s of %s, since %s; its lock counts until %s" % (
        lock["run"],
        lock["who"],
        clock(lock["since"]),
        clock(lock["until"]),
    )


def cooling(action, until):
    return "the same was done to %s less than %s ago; not again before %s (or with tracktion_remediate_cooldown: 0)" % (
        action["target"],
        _units.duration(action["cooldown"]),
        clock(until),
    )


def unsettled_seconds(outcomes, now):
    """How long it takes until measurements show everything that was done."""
    return max([0.0] + [done["time"] + done["settle"] - now for done in outcomes if done["outcome"] == "changed"])


def clock(epoch):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
