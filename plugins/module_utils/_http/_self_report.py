# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the body of a health endpoint says about the service and its dependencies. Private to this collection.

Knows the bodies of Spring Boot Actuator, of ASP.NET, of the draft application/health+json, and of most hand-written
endpoints: a mapping with a state, and mappings or lists with the states of dependencies.
"""

from __future__ import annotations

import json
import re
from typing import Any, Iterator, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut

# Patterns are compiled where they are used, which few endpoints need. The last part of the path of a health endpoint.
HEALTH_PATH = r"(?:^|/)_?(?:health|healthz|health[-_]?checks?|livez?|liveness|readyz?|readiness|status|ping)/?$"
# Words for a state, in lower case and without spaces, hyphens and underscores. With the third kind, the service works,
# and not as well as it should.
WORDS = {
    "good": "ok|okay|healthy|up|pass|passed|passing|success|successful|good|green|alive|live|running|ready|available|"
    "online|connected|reachable|operational|active|normal|started|fine|true|yes",
    "bad": "unhealthy|nothealthy|down|fail|failed|failing|failure|error|errored|critical|red|dead|notok|bad|notready|"
    "unready|unavailable|offline|disconnected|notconnected|unreachable|outofservice|outage|stopped|broken|timeout|"
    "timedout|refused|false|no",
    "reduced": "degraded|warn|warning|yellow|partial|impaired|starting|initializing|initialising|pending",
}
RANKS = {word: kind for kind, words in WORDS.items() for word in words.split("|")}
# Keys of a mapping with its own state, the most specific first.
STATE_KEYS = [
    "status",
    "state",
    "health",
    "healthy",
    "ok",
    "is_healthy",
    "isHealthy",
    "success",
    "ready",
    "alive",
    "up",
]
# Keys with the reason of a bad state.
REASON_KEYS = ("error", "message", "output", "reason", "detail", "description", "exception", "details")
# Keys whose values are states of dependencies, also as plain words.
PARTS_KEYS = r"(?i)^(?:checks?|components?|dependenc(?:y|ies)|services?|results?|entries|details?|subsystems?|health)$"
# Names of dependencies whose state may stand beside that of the service.
DEPENDENCY = (
    r"(?i)^(?:\w*(?:database|postgres\w*|mysql|mongo\w*|redis|cache|rabbit\w*|amqp|broker|queue|kafka|neo4j|elastic\w*|"
    r"storage|disk\w*|db|sql)\w*)$"
)
MAX_DEPTH, MAX_FAILING, MAX_NODES, MAX_ENTRIES = 5, 10, 2000, 50
TEXT_LENGTH = 120


class Failing(NamedTuple):
    """A dependency that is reported as not healthy, by its path, with its state and the reason that it has."""

    path: str
    state: str
    reason: str | None


class Report(NamedTuple):
    """``healthy`` is null if the body does not say. ``failing`` are the dependencies, those that are down first."""

    healthy: bool | None
    # Whether the service works, and not as well as it should.
    reduced: bool
    state: str | None
    failing: list[Failing]


NOTHING = Report(None, False, None, [])


def is_health_path(path: str) -> bool:
    """Return whether the path of a url is that of a health endpoint. Other answers hold states of other things."""
    return bool(re.search(HEALTH_PATH, path.partition("?")[0].lower()))


def read(text: str) -> Report:
    """Return what a body says."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # ASP.NET answers with one word.
        word = text.strip()
        return _report(word, []) if len(word) < 30 and rank(word) else NOTHING
    if not isinstance(document, dict):
        return _report(document, []) if isinstance(document, (str, bool)) else NOTHING
    state = own_state(document)
    failing = list(_failing(document, "", 0, [MAX_NODES]))
    if rank(state) != "bad":
        # Only of an unhealthy service, anything with a bad state may be the cause: a job that failed is none else.
        failing = [each for each in failing if is_dependency(each.path)]
    return _report(state, sorted(failing, key=lambda each: rank(each.state) != "bad"))


def is_dependency(path: str) -> bool:
    """Return whether a path is that of a dependency: by a name of one, or by the mapping that it is in."""
    return any(re.match(PARTS_KEYS, part) or re.match(DEPENDENCY, part) for part in path.split("."))


def _report(state: Any, failing: list[Failing]) -> Report:
    ranked, listed = rank(state), failing[:MAX_FAILING]
    text = None if state is None else cut(as_text(state), TEXT_LENGTH)
    if ranked is None:
        # Without a state of its own, it is as healthy as its dependencies.
        is_down = any(rank(each.state) == "bad" for each in failing)
        return Report(False if is_down else None, bool(failing) and not is_down, text, listed)
    return Report(ranked != "bad", ranked == "reduced" or (ranked == "good" and bool(failing)), text, listed)


def as_text(state: Any) -> str:
    """Return a state as text, true and false as in JSON."""
    return str(state).lower() if isinstance(state, bool) else str(state)


def rank(state: Any) -> str | None:
    """Return ``good``, ``bad`` or ``reduced`` for the word for a state; null for another word or value."""
    if isinstance(state, bool):
        return "good" if state else "bad"
    if not isinstance(state, str):
        return None
    return RANKS.get(re.sub(r"[\s_-]+", "", state.strip().lower()).rstrip("!."))


def own_state(node: dict[str, Any]) -> Any:
    """Return the state of a mapping itself; null if it has none."""
    for key in STATE_KEYS:
        if rank(node.get(key)) is not None:
            return node[key]
    return None


def _failing(node: dict[str, Any], path: str, depth: int, budget: list[int]) -> Iterator[Failing]:
    """Yield the dependencies in a mapping that are not healthy: the innermost, which are the causes of the others."""
    holds_parts = bool(re.match(PARTS_KEYS, path.rpartition(".")[2]))
    for key, value in node.items():
        budget[0] -= 1
        if budget[0] < 0 or depth > MAX_DEPTH:
            return
        inner = "%s.%s" % (path, key) if path else str(key)
        named = (holds_parts and key not in STATE_KEYS) or re.match(DEPENDENCY, str(key))
        if isinstance(value, dict):
            yield from _of_mapping(value, inner, depth, budget)
        elif isinstance(value, list):
            for entry in (each for each in value[:MAX_ENTRIES] if isinstance(each, dict)):
                # The draft has a list of measurements for each dependency, others a list of named dependencies.
                name = entry.get("name")
                yield from _of_mapping(
                    entry, "%s.%s" % (inner, name) if isinstance(name, str) else inner, depth, budget
                )
        elif named and rank(value) in ("bad", "reduced"):
            yield Failing(cut(inner, TEXT_LENGTH), as_text(value), None)


def _of_mapping(node: dict[str, Any], path: str, depth: int, budget: list[int]) -> Iterator[Failing]:
    found = list(_failing(node, path, depth + 1, budget))
    state = own_state(node)
    if found:
        yield from found
    elif rank(state) in ("bad", "reduced"):
        reasons = (node.get(key) for key in REASON_KEYS)
        reason = next((each for each in reasons if isinstance(each, str) and each.strip()), None)
        yield Failing(cut(path, TEXT_LENGTH), as_text(state), cut(reason, TEXT_LENGTH))
