# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validates what hosts return about their locks and audit logs. Private to this collection.

A malformed result refuses the actions of its host, and only those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.module_utils._journal import MOST
from ansible_collections.tracktion.ops.plugins.plugin_utils import _outcome, _runs
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Journal

MALFORMED = "its audit log cannot be read: the host sent a malformed result"


def from_result(result: object) -> Journal:
    """Return the journal of a host from what its visit sent (``_visit.journal``), without a lock that is not valid."""
    if not isinstance(result, Mapping):
        return _unusable(MALFORMED)
    if "done" not in result:
        message = _journal_entries.text(result.get("msg")) or "the host did not answer"
        return _unusable("its audit log cannot be read: %s" % message)
    error = result.get("error")
    done = _entries(result["done"])
    unfinished = _entries(result.get("unfinished"))
    lock, is_well_formed = _lock(result.get("lock"))
    if done is None or unfinished is None or not is_well_formed or not isinstance(error, (str, type(None))):
        return _unusable(MALFORMED)
    return {
        "lock": lock,
        "done": done,
        "unfinished": unfinished,
        "error": _journal_entries.text(error),
        "problems": _texts(result.get("problems")),
    }


def _unusable(error: str) -> Journal:
    return {"lock": None, "done": [], "unfinished": [], "error": error, "problems": []}


def _texts(value: object) -> list[str]:
    return [each for each in map(_journal_entries.text, value[:MOST]) if each] if isinstance(value, list) else []


def _entries(value: object) -> list[_journal_entries.Entry] | None:
    """Return the entries of a list; None if it is not a list of entries, or longer than a journal."""
    if not isinstance(value, list) or len(value) > MOST:
        return None
    entries = []
    for each in value:
        entry = _journal_entries.entry(_plain(each))
        if entry is None:
            return None
        entries.append(entry)
    return entries


def _lock(value: object) -> tuple[_journal_entries.Lock | None, bool]:
    """Return the lock if it is valid, and whether the value is a lock or null."""
    if not isinstance(value, Mapping):
        return None, value is None
    lock = _journal_entries.lock(_plain(value))
    if lock is None:
        return None, False
    return (None if value.get("stale") or _runs.is_dead(lock) else lock), True


def refusal(result: Mapping[str, Any], action: Mapping[str, Any]) -> str | None:
    """Return why the journal of a host refuses an action; None if it does not, or if the result is malformed."""
    if result.get("reason") == "locked":
        lock = _journal_entries.lock(_plain(result.get("lock")))
        return _outcome.locked(lock) if lock else None
    until = _journal_entries.epoch(result.get("until"))
    return _outcome.cooling(action, until) if result.get("reason") == "cooling" and until is not None else None


def left_unfinished(
    journals: Mapping[str, Journal], probe_hosts: Mapping[tuple[str, str], str]
) -> list[_journal_entries.Entry]:
    """Return the intents of ended runs that have no outcome.

    ``journals`` maps a probe host to its journal, ``probe_hosts`` host and area to the probe host. An entry about a
    host counts only in a journal of one of its probe hosts, unless the host is not in this run.
    """
    allowed: dict[str, set[str]] = {}
    for (host, _area), probe_host in probe_hosts.items():
        allowed.setdefault(host, set()).add(probe_host)
    return [
        entry
        for probe_host, journal in journals.items()
        for entry in journal["unfinished"]
        if (not journal["lock"] or journal["lock"]["run"] != entry["run"])
        and probe_host in allowed.get(entry["host"], (probe_host,))
    ]


def _plain(value: object) -> object:
    # Ansible returns mappings of its own types.
    return dict(value) if isinstance(value, Mapping) else value
