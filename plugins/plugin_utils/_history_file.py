# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads and writes the history of runs: in a directory of the controller, or for a task on another host.

Private to this collection. A history that cannot be used is a warning and part of the report; it never fails a run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils import _history_state, _history_store, _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean
from ansible_collections.tracktion.ops.plugins.plugin_utils import _history
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Report, Values


def take_part(
    report: Report,
    directory: str | None,
    read: Mapping[str, Any] | None,
    limits: _history_store.Limits,
    warn: Callable[[str], object],
) -> str | None:
    """Add to a report what its history says, and keep this run. Return the run for a task on another host, or None.

    ``directory`` is a directory of the controller. Without it, ``read`` is the result of M(tracktion.ops.run_history)
    on the host that keeps the history, and the text that is returned is the option ``record`` of that module.
    """
    if limits.runs < 1:
        return None
    earlier, problem = _from_directory(directory) if directory else _from_result(read or {})
    for text in [*earlier["problems"], *([problem] if problem else [])]:
        warn(clean("History of runs: %s" % text))
    _history.add_earlier_values(report["charts"], earlier["runs"])
    compared = _history.compare(report, earlier, problem)
    if directory and not problem:
        problem = _keep(directory, compared.record, limits, warn)
        compared.history["problem"] = problem
    report["history"] = compared.history
    report["fixed"] = compared.fixed
    for finding in report["findings"]:
        finding["first_seen"] = compared.first_seen.get(finding["fingerprint"], finding["first_seen"])
    return None if directory or problem else _history_store.pack(compared.record)


def _from_directory(path: str) -> tuple[Values, str | None]:
    """Return the history in a directory, and why it cannot be used, or None."""
    try:
        with _history_store.opened(path, make=False, trusted=_safe_files.behind_sudo()) as directory:
            return _history_store.read(directory), None
    except FileNotFoundError:
        return _history_store.empty(), None
    except OSError as exc:
        return _history_store.empty(), "%s cannot be read: %s" % (path, exc.strerror or exc)


def _from_result(result: Mapping[str, Any]) -> tuple[Values, str | None]:
    """Return the history that M(tracktion.ops.run_history) has read, and why it cannot be used, or None."""
    if not result.get("history"):
        return _history_store.empty(), str(result.get("msg") or "the host sent none")[:500]
    try:
        found = _history_store.unpack(result["history"])
        runs = [run for run in found["runs"] if _history_state.is_time(run["time"]) and isinstance(run["charts"], list)]
        problems = [str(each)[:500] for each in found["problems"][:20]]
        return {"state": _history_state.valid(found["state"]), "runs": runs, "problems": problems}, None
    except (ValueError, LookupError, TypeError) as exc:
        return _history_store.empty(), "the host sent a malformed history: %s" % exc


def _keep(path: str, record: Values, limits: _history_store.Limits, warn: Callable[[str], object]) -> str | None:
    """Write this run to the directory; return why that failed, or None."""
    try:
        with _history_store.opened(os.path.abspath(path), make=True, trusted=_safe_files.behind_sudo()) as directory:
            problems = _history_store.write(directory, record, limits, time.time())
    except OSError as exc:
        problems = ["this run cannot be kept in %s: %s" % (path, exc.strerror or exc)]
    for problem in problems:
        warn(clean("History of runs: %s" % problem))
    return problems[0] if problems else None
