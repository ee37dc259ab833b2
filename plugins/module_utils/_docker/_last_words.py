# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a container that fails has written last, and how often it ended lately. Private to this collection."""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any, Iterable, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import epoch
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_engine import without_frames
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

LINES = 5
MAX_LINE = 200
# More lines than are returned: some are empty.
READ_LINES = 12
MAX_BYTES = 1 << 16
MAX_EVENTS_BYTES = 1 << 18
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The engine waits 0.1 s before a restart, and twice as long before each further one, unless the last run took longer
# than 10 s. A start takes up to a second of its own.
FIRST_DELAY, START_SECONDS, SHORT_RUN = 0.1, 1.0, 10.0


class Ends(NamedTuple):
    """The ends of the runs of a container: when, and with which exit code."""

    times: list[float]
    codes: list[int]


def tail(client: DockerApi, identity: str) -> list[str] | None:
    """Return up to ``READ_LINES`` last lines of the log of a container, redacted; null if it cannot be read."""
    try:
        with client.stream("GET", "containers", identity, "logs", stdout=1, stderr=1, tail=READ_LINES) as answer:
            data = answer.read(MAX_BYTES)
    except CannotConnect:
        return None
    return shown(without_frames(data).decode("utf-8", "replace"), READ_LINES)


def shown(text: str, most: int = LINES) -> list[str]:
    """Return the last lines of a text for a report, equal ones once: each run of a crash loop writes them again."""
    # Redacted as a whole: a secret may span lines.
    lines = [line.strip() for line in redact(COLOURS.sub("", text)).splitlines()]
    distinct = list(dict.fromkeys(line for line in reversed(lines) if line))[:most]
    return [cut(printable(line), MAX_LINE) for line in reversed(distinct)]


def health_output(state: Mapping[str, Any]) -> str | None:
    """Return what the last failed health check has written; null without one."""
    failed = [entry for entry in (state.get("Health") or {}).get("Log") or [] if entry.get("ExitCode")]
    return " | ".join(shown(failed[-1].get("Output") or "")) or None if failed else None


def ends(client: DockerApi, identities: Iterable[str], seconds: float) -> dict[str, Ends]:
    """Return the ends of these containers that the engine remembers: of all events, it keeps the last 256."""
    found = {identity: Ends([], []) for identity in identities}
    if not found:
        return {}
    now = time.time()
    filters = {"container": list(found), "event": ["die", "died"]}
    try:
        with client.stream("GET", "events", since=int(now - seconds), until=int(now) + 1, filters=filters) as answer:
            lines = answer.read(MAX_EVENTS_BYTES).splitlines()
    except CannotConnect:
        return {}
    for line in lines:
        try:
            event = json.loads(line)
            actor = event.get("Actor") or {}
            known = found.get(actor.get("ID") or event.get("id") or "")
            attributes = actor.get("Attributes") or {}
            code = int(attributes.get("exitCode") or attributes["containerExitCode"])
            if known is not None:
                known.times.append(float(event.get("time") or 0))
                known.codes.append(code)
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return found


def recent_restarts(data: Mapping[str, Any], known: Ends | None, seconds: float) -> int:
    """Return how many of the restarts by the policy certainly took place within the last ``seconds``."""
    state, total = data["State"], data.get("RestartCount") or 0
    now = time.time()
    created = epoch(data.get("Created"))
    if created is not None and now - created <= seconds:
        return total
    started, finished = epoch(state.get("StartedAt")), epoch(state.get("FinishedAt"))
    counted = len([moment for moment in known.times if now - moment <= seconds]) if known else 0
    streak = 0
    if started is not None and finished is not None and now - max(started, finished) <= seconds:
        # Running: how long the engine waited before this run. Else: the last run was short, so it waits for longer.
        if started > finished:
            delay = max(FIRST_DELAY, started - finished - START_SECONDS)
            streak = 1 + int(math.log2(delay / FIRST_DELAY))
        elif state.get("Status") == "restarting" and finished - started < SHORT_RUN:
            streak = total
    return min(total, max(counted, streak))


def is_looping(facts: Mapping[str, Any], recent: int | None, restarts: int, seconds: float) -> bool:
    """Return whether a container is in a crash loop, as the check containers.crash_loop evaluates it.

    ``facts`` are those of _container_facts, ``recent`` is the number of recent_restarts(). ``restarts`` within
    ``seconds`` are a crash loop: the variables containers_restarts_warning and containers_restarts_window_seconds.
    """
    if facts["gave_up"]:
        return True
    if facts["status"] not in ("running", "restarting") or (facts["restarts"] or 0) < restarts:
        return False
    uptime = facts["uptime_seconds"]
    is_new = facts["status"] == "restarting" or (uptime is not None and uptime < seconds)
    return is_new or (recent is not None and recent >= restarts)
