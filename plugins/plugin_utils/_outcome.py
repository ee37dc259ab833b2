# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Outcomes of actions: entries of the audit log, and reasons to stop. Pure. Private to this collection."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.tracktion.ops.plugins.plugin_utils import _remedies, _units
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import OutcomeName, Values

# Fields of an action that the audit log keeps.
OF_ACTION = (
    "action", "host", "remedy", "risk", "data_loss", "target", "does", "vars", "evidence", "findings", "settle",
)  # fmt: skip
# Limits of a result in the audit log.
RESULT_BYTES = 16384
ENTRIES_MOST = 50


def entry(
    run: Mapping[str, Any], action: Mapping[str, Any], result: Mapping[str, Any] | None = None, check_mode: bool = False
) -> Values:
    """Return an entry of the audit log: the intent, or, with the ``result`` of the remedy's task, the outcome."""
    made: Values = {"run": run["run"], "who": run["who"], **{name: action[name] for name in OF_ACTION}}
    if result is not None:
        kept = kept_of(result, action["result"])
        outcome = outcome_of(result)
        made.update(outcome=outcome, changed=bool(result.get("changed")), result=kept)
        made.update(message=message_of(result, outcome), undo=None)
        if made["changed"] and not check_mode:
            made["undo"] = _remedies.undo_command(action["undo"], action["host"], action["vars"], kept)
    return made


def outcome_of(result: Mapping[str, Any]) -> OutcomeName:
    """Return ``changed``, ``ok`` (nothing was left to do), ``failed`` or ``unreachable``."""
    if result.get("unreachable"):
        return "unreachable"
    if result.get("failed"):
        return "failed"
    return "changed" if result.get("changed") else "ok"


def message_of(result: Mapping[str, Any], outcome: OutcomeName) -> str | None:
    """Return the message of a failed task as one line of at most 1000 characters; null if it did not fail."""
    if outcome in ("failed", "unreachable"):
        return " ".join(str(result.get("msg") or "no message").split())[:1000]
    return None


def kept_of(result: Mapping[str, Any], names: Sequence[str] | None) -> Values:
    """Return the fields of a result that the remedy's row names, limited in size."""
    kept = {name: bounded(result.get(name)) for name in names or []}
    if len(json.dumps(kept, default=str)) > RESULT_BYTES:
        return {name: "(left out: too large)" if len(json.dumps(kept[name], default=str)) > 1000 else kept[name]
                for name in kept}  # fmt: skip
    return kept


def bounded(value: Any) -> Any:
    """Return a value with its lists cut to ENTRIES_MOST."""
    if isinstance(value, list):
        return [bounded(each) for each in value[:ENTRIES_MOST]]
    if isinstance(value, dict):
        return {str(key): bounded(each) for key, each in value.items()}
    return value


def reason_to_stop(action: Mapping[str, Any], outcomes: Iterable[Values], max_failures: int) -> str | None:
    """Return why an action is not carried out after the outcomes before it; null if it is."""
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


def locked(lock: Mapping[str, Any]) -> str:
    """Return the reason to refuse an action because of the lock of another run."""
    return "another run holds the lock of this host: %s of %s, since %s; its lock is valid until %s" % (
        lock["run"],
        lock["who"],
        clock(lock["since"]),
        clock(lock["until"]),
    )


def cooling(action: Mapping[str, Any], until: float) -> str:
    """Return the reason to refuse an action because it was carried out recently."""
    return "this was done to %s less than %s ago; not again before %s (or with tracktion_remediate_cooldown: 0)" % (
        action["target"],
        _units.duration(action["cooldown"]),
        clock(until),
    )


def unsettled_seconds(outcomes: Iterable[Values], now: float) -> float:
    """Return the seconds until measurements show the effect of all actions."""
    return max([0.0] + [done["time"] + done["settle"] - now for done in outcomes if done["outcome"] == "changed"])


def clock(epoch: float) -> str:
    """Return a time in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
