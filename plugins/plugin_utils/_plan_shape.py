# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validates the shape of a plan before it is carried out. Pure. Private to this collection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.plugin_utils import _remedies

Test = Callable[[object], bool]

HASH = re.compile(r"[0-9a-f]{16}")
ACTIONS_MOST = 100000


def _text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _hash(value: object) -> bool:
    return isinstance(value, str) and bool(HASH.fullmatch(value))


def _seconds(value: object) -> bool:
    return _journal_entries.epoch(value) is not None


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


PLAN: dict[str, Test] = {
    "run": _text,
    "who": _text,
    "made": _seconds,
    "key": _text_or_null,
    "risk": lambda value: value in _remedies.RISKS,
    "confirm": _texts,
    "actions": lambda value: isinstance(value, list) and len(value) <= ACTIONS_MOST,
}
ACTION: dict[str, Test] = {
    "action": _hash,
    "host": _text,
    "area": _text,
    "probe_host": _text,
    "remedy": _text,
    "title": _text,
    "role": _text,
    "tasks": _text,
    "does": _text,
    "reason": _text_or_null,
    "target": _text_or_null,
    "evidence": lambda value: value is None or _hash(value),
    "position": lambda value: isinstance(value, int) and not _flag(value),
    "risk": lambda value: value in _remedies.RISKS,
    "data_loss": lambda value: value in _remedies.DATA_LOSS,
    "status": lambda value: value in ("planned", "refused"),
    "vars": lambda value: isinstance(value, dict),
    "cooldown": _seconds,
    "settle": _seconds,
    "cap": _seconds,
    "result": _texts,
    "denied": _flag,
    "blocked": _flag,
    "findings": lambda value: isinstance(value, list),
}
FINDING: dict[str, Test] = {"id": _text, "object": _text_or_null, "status": _text, "fingerprint": _text}


def problem(plan: Mapping[str, Any]) -> str | None:
    """Return why a plan is invalid, or null: ``actions[0].vars: is missing``."""
    found = _problem(plan, PLAN, "")
    if found:
        return found
    for number, action in enumerate(plan["actions"]):
        path = "actions[%d]." % number
        found = _problem(action, ACTION, path)
        if found:
            return found
        for index, finding in enumerate(action["findings"]):
            found = _problem(finding, FINDING, "%sfindings[%d]." % (path, index))
            if found:
                return found
        # The current action is found by this hash.
        if action["action"] != _remedies.digest(action["host"], action["remedy"], action["target"]):
            return "%saction: does not belong to its host, remedy and target" % path
    return None


def _problem(value: object, fields: Mapping[str, Test], path: str) -> str | None:
    if not isinstance(value, dict):
        return "%s: must be a mapping" % (path.rstrip(".") or "the plan")
    for name, matches in fields.items():
        if name not in value:
            return "%s%s: is missing" % (path, name)
        try:
            is_valid = matches(value[name])
        except TypeError:
            # Not hashable or not comparable.
            is_valid = False
        if not is_valid:
            return "%s%s: has an invalid value" % (path, name)
    return None
