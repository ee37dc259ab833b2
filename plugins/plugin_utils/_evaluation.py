# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evaluates check rows over measurements: findings and counts. Pure. Private to this collection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from ansible_collections.tracktion.ops.plugins.plugin_utils._checks import Check, Checks, FieldPath, StatusFunction
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import CANNOT_EVALUATE, prose, render
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Counts, Finding, Status, Values

# In the order of severity. An unknown is worse than an info, because it may hide anything.
STATUSES: tuple[Status, ...] = ("ok", "info", "unknown", "warning", "critical")
# Findings listed per check and host; the rest is counted.
LISTED = 20
# Kinds of errors that mean that the time was over, and nothing else.
OUT_OF_TIME = ("timeout", "no_answer", "deadline", "ended")
TYPE_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}


class Reason(NamedTuple):
    """Why something is unknown, and a hint or null."""

    text: str
    hint: str | None = None


class Fired(NamedTuple):
    """An item that is not ok. ``reason`` is set if its status is unknown; ``item`` is null if that concerns no item."""

    item: Any
    reason: Reason | None = None


def evaluate(
    area: str,
    checks: Checks,
    host: str,
    outcome: Mapping[str, Any],
    settings: Mapping[str, Any],
    starved: str | None = None,
    covered: list[str] | None = None,
) -> tuple[list[Finding], Counts]:
    """Return the findings and the counts of one area on one host.

    ``outcome`` is the area's entry in the result of ``_host_visit.run()``: ``measurement``, ``error``.
    ``settings`` maps the role's variables to their values on this host. ``starved`` is the reason why durations that
    were measured on the host are not reliable, or null: the findings of checks with ``timing`` are unknown then, and
    the ids of these checks are added to ``covered``.
    """
    findings: list[Finding] = []
    counts = no_counts()
    counts["checks"] = len(checks)
    context = {**settings, "measured": outcome["measurement"]}
    for check, status_of in zip(checks, checks.status_functions(context), strict=True):
        one = _CheckOnHost(area, check, host, outcome, {**context, **check.vars}, starved)
        try:
            one.evaluate(status_of)
            found = list(one.findings())
        except Exception:  # pylint: disable=broad-except
            # A measurement that breaks one check does not keep the others from being evaluated.
            found = one.failed()
        findings.extend(found)
        if one.covered and covered is not None:
            covered.append(check.id)
        counts["items"] += one.items
        for status, number in one.counts.items():
            counts[status] += number
    return findings, counts


def no_counts() -> Counts:
    """Return counts of nothing."""
    return {"checks": 0, "items": 0, "not_here": 0, "ok": 0, "info": 0, "unknown": 0, "warning": 0, "critical": 0}


class _CheckOnHost:
    """One check on one host. ``covered`` counts the items whose status is unknown because the host was starved."""

    def __init__(
        self,
        area: str,
        check: Check,
        host: str,
        outcome: Mapping[str, Any],
        context: Values,
        starved: str | None,
    ) -> None:
        self.area = area
        self.check = check
        self.host = host
        self.outcome = outcome
        self.context = context
        self.starved = starved
        self._reset()
        self.covered = 0

    def _reset(self) -> None:
        self.fired: dict[Status, list[Fired]] = {"critical": [], "warning": [], "unknown": [], "info": []}
        self.counts: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        self.items = 0

    def evaluate(self, status_of: StatusFunction) -> None:
        """Evaluate the check for each item: fill ``fired``, ``counts`` and ``items``."""
        found = self._value()
        if isinstance(found, Reason):
            self._add("unknown", Fired(None, found))
            return
        for item in found if self.check.each else [found]:
            try:
                status = cast("Status", status_of(item))
            except Exception:  # pylint: disable=broad-except
                listed = len(self.fired["unknown"]) < LISTED
                self._add("unknown", Fired(item, self._unknown_reason(item) if listed else None))
                continue
            if status and status != "ok" and self.starved and self._is_timing(item):
                self.items += 1
                self.covered += 1
                self.counts["unknown"] += 1
            elif status:
                self._add(status, Fired(item))
        self._add_missing_items()

    def _add(self, status: Status, fired: Fired) -> None:
        self.items += 1
        self.counts[status] += 1
        if status != "ok" and len(self.fired[status]) < LISTED:
            self.fired[status].append(fired)

    def _add_missing_items(self) -> None:
        """Count the items that are missing from a list as one more, which is unknown."""
        measurement = self.outcome["measurement"][self.check.path[0]]
        reason = _reason_for(measurement, ".".join(self.check.path[1:]) + "[...]")
        if reason and self.check.each:
            self._add("unknown", Fired(None, reason))

    def _is_timing(self, item: object) -> bool:
        try:
            return self.check.is_timing({**self.context, "item": item})
        except CANNOT_EVALUATE:
            return False

    def _value(self) -> Any:
        """Return the list or the mapping that the check is about, or the Reason why there is none."""
        probe, parts = self.check.path[0], self.check.path[1:]
        measurement = self.outcome["measurement"].get(probe)
        if measurement is None:
            return self._error_reason(self.outcome.get("error") or {"message": "the probe %s did not run" % probe})
        error = measurement.get("error")
        if error and (parts or measurement.get("reachable") is None):
            return self._error_reason(error)
        value = measurement
        for number, part in enumerate(parts, 1):
            value = value.get(part) if isinstance(value, dict) else None
            if value is None:
                return _part_reason(measurement, ".".join(parts[:number]))
        expected = list if self.check.each else dict
        if not isinstance(value, expected):
            return Reason("%s is not a %s" % (".".join(self.check.path), expected.__name__))
        return value

    def _error_reason(self, error: Mapping[str, Any]) -> Reason:
        """Return the reason in an error. If time ran out on a starved host, the service may be healthy."""
        if self.starved and error.get("kind") in OUT_OF_TIME:
            return Reason("not measured: the host was %s" % self.starved)
        return Reason(error["message"], error.get("hint"))

    def _unknown_reason(self, item: object) -> Reason:
        """Return why an item could not be evaluated, from the measurement if it has a reason."""
        if not isinstance(item, dict):
            return Reason("%s holds something that is not a mapping" % ".".join(self.check.path))
        name = self._render(self.check.object, {**self.context, "item": item}) if self.check.object else None
        paths, variables = self.check.names_in_expressions
        empty = [".".join(path) for path in paths if _follow(item, path) is None]
        measurement = self.outcome["measurement"][self.check.path[0]]
        for part in filter(None, [name, *empty, "*"]):
            reason = _reason_for(measurement, ".".join([*self.check.path[1:], part]))
            if reason:
                return reason
        if empty and measurement.get("error"):
            return self._error_reason(measurement["error"])
        if empty:
            return Reason("%s was not measured" % ", ".join(empty))
        unset = [variable for variable in variables if self.context.get(variable) is None]
        if unset:
            return Reason("not evaluated: %s has no value" % ", ".join(unset))
        kinds = ["%s (%s)" % (".".join(path), _type_name(_follow(item, path))) for path in paths]
        return Reason("not evaluated: the check cannot use the values of %s" % (", ".join(kinds) or "the item"))

    def findings(self) -> Iterator[Finding]:
        """Yield the findings of the check, and one for those of a status that are too many to list."""
        for status, fired in self.fired.items():
            for each in fired:
                yield self._unknown_finding(each) if each.reason else self._finding(status, each.item)
            more = self.counts[status] - len(fired) - (self.covered if status == "unknown" else 0)
            if more > 0:
                yield self._base(status, "(%d more)" % more, "%d more findings of this check are not listed" % more)
        if self.covered:
            yield self._base("unknown", None, "not evaluated: the host was %s" % self.starved)

    def failed(self) -> list[Finding]:
        """Return the findings of a check that cannot be evaluated at all."""
        self._reset()
        self.counts["unknown"] = self.items = 1
        return [self._base("unknown", None, "not evaluated: the check cannot use the measured values")]

    def _unknown_finding(self, fired: Fired) -> Finding:
        reason = fired.reason or Reason("")
        finding = self._base("unknown", self._object(fired.item), reason.text)
        if fired.item is not None:
            finding["about"] = self.check.subjects({**self.context, "item": fired.item})
        finding["hint"] = reason.hint
        return finding

    def _finding(self, status: Status, item: Any) -> Finding:
        check = self.check
        context = {**self.context, "item": item}
        finding = self._base(status, self._object(item), self._render(check.summary, context, prose))
        paths, variables = check.evidence[status]
        paths = [*paths, *(tuple(field.split(".")) for field in check.observe or ())]
        finding["observed"] = {".".join(path): _follow(item, path) for path in paths}
        finding["threshold"] = {variable: self.context.get(variable) for variable in variables}
        finding["about"] = check.subjects(context)
        finding["began"] = check.beginning(context)
        finding["hint"] = self._render(check.hint, context, prose) if check.hint else None
        if check.remedy:
            finding["remedy"] = check.remedy.proposal(context, finding)
        return finding

    def _object(self, item: Any) -> str | None:
        """Return the name of an item."""
        if not self.check.object or item is None:
            return None
        return self._render(self.check.object, {**self.context, "item": item})

    def _base(self, status: Status, name: str | None, summary: str) -> Finding:
        return {
            "id": self.check.id,
            "area": self.area,
            "host": self.host,
            "object": name,
            "about": {},
            "title": self.check.title,
            "status": status,
            "summary": summary,
            "observed": {},
            "threshold": {},
            "why": self.check.why,
            "guide": self.check.guide,
            "hint": None,
            "remedy": None,
            "began": None,
            "fingerprint": fingerprint(self.check.id, self.host, name),
        }

    def _render(self, text: str, context: Values, make: Callable[[str, Mapping[str, Any]], str] = render) -> str:
        try:
            return make(text, context)
        except Exception:  # pylint: disable=broad-except
            # A finding whose text cannot be rendered is still reported: ``observed`` has the values.
            return "%s (some of its values were not measured)" % self.check.title


def fingerprint(check_id: str, host: str, name: str | None) -> str:
    """Return a hash of check id, host and object: the same fault has the same fingerprint in every run."""
    return hashlib.sha256("\0".join((check_id, host, name or "")).encode()).hexdigest()[:16]


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst status; ``ok`` if there is none."""
    return max(statuses, key=STATUSES.index, default="ok")


def _follow(item: Any, path: FieldPath) -> Any:
    for part in path:
        item = item.get(part) if isinstance(item, dict) else None
    return item


def _part_reason(measurement: Mapping[str, Any], path: str) -> Reason:
    """Return the reason that the measurement gives for a part it could not read.

    A reason for this very part comes first, then one for a part around it, then one for a part in it.
    """
    entries = [
        (entry["part"].removesuffix(".*").removesuffix("[...]"), entry) for entry in measurement.get("unknown") or []
    ]
    matches = [entry for part, entry in entries if part == path]
    matches += [entry for part, entry in entries if path.startswith(part + ".")]
    matches += [entry for part, entry in entries if part.startswith(path + ".")]
    if matches:
        return Reason(matches[0]["reason"], matches[0].get("hint"))
    return Reason("%s was not measured" % path)


def _reason_for(measurement: Mapping[str, Any], part: str) -> Reason | None:
    """Return the reason that the measurement gives for exactly this part."""
    for entry in measurement.get("unknown") or []:
        if entry["part"] == part:
            return Reason(entry["reason"], entry.get("hint"))
    return None


def _type_name(value: object) -> str:
    return TYPE_NAMES.get(type(value), type(value).__name__)
