# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hosts answer about their locks and audit logs. Private to this collection.

An answer is data of a host: a bad one costs the actions of that host, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.module_utils._journal import MOST
from ansible_collections.tracktion.ops.plugins.plugin_utils import _runs

MALFORMED = "its audit log cannot be read: the host sent a malformed answer"


def from_result(answer: object) -> dict:
    """Return ``{lock, done, unfinished, error}`` from the answer to ``state: read``; the lock only where it counts."""
    if not isinstance(answer, Mapping):
        return _unusable(MALFORMED)
    if "done" not in answer:
        message = _journal_entries.text(answer.get("msg")) or "the host did not answer"
        return _unusable("its audit log cannot be read: %s" % message)
    error = answer.get("error")
    lists = [_entries(answer[name]) if name in answer else None for name in ("done", "unfinished")]
    lock, well_formed = _lock(answer.get("lock"))
    if None in lists or not well_formed or not isinstance(error, (str, type(None))):
        return _unusable(MALFORMED)
    return {"lock": lock, "done": lists[0], "unfinished": lists[1], "error": _journal_entries.text(error)}


def _unusable(error: str) -> dict:
    return {"lock": None, "done": [], "unfinished": [], "error": error}


def _entries(value: object) -> list | None:
    """Return the entries of a list; None where it is not a list of entries, or longer than a host sends."""
    if not isinstance(value, list) or len(value) > MOST:
        return None
    entries = [_journal_entries.entry(_plain(each)) for each in value]
    return None if None in entries else entries


def _lock(value: object) -> tuple[dict | None, bool]:
    """Return the lock where it counts, and whether the value is a lock or null."""
    if value is None:
        return None, True
    lock = _journal_entries.lock(_plain(value))
    if lock is None:
        return None, False
    return (None if value.get("stale") or _runs.is_dead(lock) else lock), True


def refusal(answer: Mapping) -> tuple[str, dict | float] | None:
    """Return why a host says no: ``("locked", lock)`` or ``("cooling", until)``; None where it is malformed."""
    if answer.get("reason") == "locked":
        lock = _journal_entries.lock(_plain(answer.get("lock")))
        return ("locked", lock) if lock else None
    until = _journal_entries.epoch(answer.get("until"))
    return ("cooling", until) if answer.get("reason") == "cooling" and until is not None else None


def left_unfinished(journals: dict, probe_hosts: dict) -> list:
    """Return the intents of runs that are over, whose outcome is not known.

    ``journals`` maps a probe_host to what from_result() returned, ``probe_hosts`` host and area to the probe_host. A journal has a say
    about hosts that are measured from its probe_host, and about hosts that are not in this run.
    """
    allowed = {}
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
    # Ansible hands over mappings of its own.
    return dict(value) if isinstance(value, Mapping) else value
