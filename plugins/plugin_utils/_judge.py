# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The judge: measurements and check rows in, findings out. Pure. Private to this collection."""

from __future__ import annotations

import hashlib

from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import CANNOT_EVALUATE, prose, render

# From quiet to loud. An unknown is louder than an info: nobody knows what hides behind it.
STATUSES = ("ok", "info", "unknown", "warning", "critical")
# Findings listed per check and host; the rest is counted. A table of ten thousand bad items helps nobody.
LISTED = 20
# Kinds of errors that say no more than that the time was over.
OUT_OF_TIME = ("timeout", "no_answer", "deadline", "ended")


def judge(area, checks, host, outcome, settings, starved=None, covered=None):
    """Judge what was measured of one area on one host.

    ``checks`` is what ``_checks.load()`` returned, ``outcome`` the area's entry in the result of
    M(tracktion.ops.measure): ``measurement``, ``error``.
    ``settings`` maps the role's variables to their values on this host.
    ``starved`` says why durations measured on the host prove nothing, else it is null: what a check with ``timing``
    finds is unknown then, and the check's id is added to the list ``covered``.
    Returns ``(findings, counts)``: a list of dicts, and ``{checks, items, ok, info, unknown, warning, critical}``.
    """
    findings = []
    counts = dict.fromkeys(STATUSES, 0)
    counts.update(checks=len(checks), items=0)
    for check in checks:
        case = _Case(area, check, host, outcome, {**settings, **check.vars}, starved)
        try:
            case.hear(checks.scan)
            found = list(case.findings())
        except Exception:  # pylint: disable=broad-except
            # Whatever a measurement makes of one check, the others are evaluated.
            found = case.failed()
        findings.extend(found)
        if case.covered and covered is not None:
            covered.append(check.id)
        counts["items"] += case.items
        for status, number in case.counts.items():
            counts[status] += number
    return findings, counts


class _Case:
    """One check on one host."""

    def __init__(self, area, check, host, outcome, settings, starved=None):
        self.area = area
        self.check = check
        self.host = host
        self.outcome = outcome
        self.context = {**settings, "measured": outcome["measurement"]}
        self.fired = {status: [] for status in ("critical", "warning", "unknown", "info")}
        self.counts = dict.fromkeys(STATUSES, 0)
        self.items = 0
        self.starved = starved
        # Items that fired, or could not be measured, for want of time on a starved host.
        self.covered = 0

    def hear(self, scan):
        value, reason, hint = self.look()
        if reason:
            self.items += 1
            self.counts["unknown"] += 1
            self.fired["unknown"].append((None, reason, hint))
            return
        items = iter(value if self.check.each else [value])
        current, taken = [None], [0]

        def remembering():
            for item in items:
                current[0] = item
                taken[0] += 1
                yield item

        def found(status, item):
            self.items += 1
            if status != "ok" and self.starved and self.is_timing(item):
                self.covered += 1
                self.counts["unknown"] += 1
                return ""
            self.counts[status] += 1
            if status != "ok" and len(self.fired[status]) < LISTED:
                self.fired[status].append((item, None, None))
            return ""

        feed = remembering()
        while True:
            before = taken[0]
            try:
                scan(self.check, self.context, feed, found)
                break
            except Exception:  # pylint: disable=broad-except
                # One item that cannot be judged is unknown; the template goes on with the next one, as the
                # iterator stands just behind it.
                self.items += 1
                self.counts["unknown"] += 1
                if len(self.fired["unknown"]) < LISTED:
                    self.fired["unknown"].append((current[0], *self.reason(current[0])))
                if taken[0] == before:
                    # It fails without an item, and would do so for ever.
                    break
                feed = remembering()
        self.hear_missing()

    def hear_missing(self):
        """Count items that are missing from the list as one more that is unknown."""
        measurement = self.outcome["measurement"][self.check.path[0]]
        entry = _entry_for(measurement, ".".join(self.check.path[1:]) + "[...]")
        if entry and self.check.each:
            self.items += 1
            self.counts["unknown"] += 1
            self.fired["unknown"].append((None, entry["reason"], entry.get("hint")))

    def is_timing(self, item):
        """Whether what fires of an item depends on how long something took."""
        if not isinstance(self.check.timing, str):
            return bool(self.check.timing)
        try:
            return bool(self.check.timing_expression(**{**self.context, "item": item}))
        except CANNOT_EVALUATE:
            return False

    def look(self):
        """``(value, None, None)`` where there is something to judge, else ``(None, reason, hint)``."""
        probe, parts = self.check.path[0], self.check.path[1:]
        measurement = self.outcome["measurement"].get(probe)
        if measurement is None:
            error = self.outcome.get("error") or {"message": "the probe %s did not run" % probe}
            return (None, *self.said(error))
        problem = measurement.get("error")
        if problem and (parts or measurement.get("reachable") is None):
            return (None, *self.said(problem))
        value, walked = measurement, []
        for part in parts:
            walked.append(part)
            value = value.get(part) if isinstance(value, dict) else None
            if value is None:
                return (None, *_why_unknown(measurement, walked))
        expected = list if self.check.each else dict
        if not isinstance(value, expected):
            return None, "%s is not a %s" % (".".join(self.check.path), expected.__name__), None
        return value, None, None

    def said(self, error):
        """The message and the hint of an error. That time ran out on a starved host says nothing of the service."""
        if self.starved and error.get("kind") in OUT_OF_TIME:
            return "not measured: the host was %s" % self.starved, None
        return error["message"], error.get("hint")

    def reason(self, item):
        """Why an item could not be evaluated, and a hint or null, as the measurement has it."""
        if not isinstance(item, dict):
            return "%s holds something that is not a mapping" % ".".join(self.check.path), None
        name = self.render(self.check.object, {**self.context, "item": item}) if self.check.object else None
        paths, variables = self.check.named
        empty = [".".join(path) for path in paths if _follow(item, path) is None]
        measurement = self.outcome["measurement"][self.check.path[0]]
        for part in filter(None, [name, *empty, "*"]):
            entry = _entry_for(measurement, ".".join([*self.check.path[1:], part]))
            if entry:
                return entry["reason"], entry.get("hint")
        if empty:
            return "%s was not measured" % ", ".join(empty), None
        unset = [variable for variable in variables if self.context.get(variable) is None]
        if unset:
            return "not evaluated: %s has no value" % ", ".join(unset), None
        kinds = ["%s (%s)" % (".".join(path), _kind(_follow(item, path))) for path in paths]
        return "not evaluated: the check cannot use the values of %s" % (", ".join(kinds) or "the item"), None

    def findings(self):
        for status, fired in self.fired.items():
            for item, reason, hint in fired:
                yield self.finding(status, item, reason, hint)
            more = self.counts[status] - len(fired) - (self.covered if status == "unknown" else 0)
            if more > 0:
                yield self.base(status, "(%d more)" % more, "%d more like these are not listed" % more)
        if self.covered:
            yield self.base("unknown", None, "not evaluated: the host was %s" % self.starved)

    def failed(self):
        """The findings of a check that cannot be evaluated at all."""
        self.fired = {status: [] for status in self.fired}
        self.counts = dict.fromkeys(STATUSES, 0)
        self.counts["unknown"] = self.items = 1
        return [self.base("unknown", None, "not evaluated: the check cannot use what was measured")]

    def finding(self, status, item, reason, hint):
        check = self.check
        context = {**self.context, "item": item}
        name = self.render(check.object, context) if check.object and item is not None else None
        if status == "unknown":
            found = self.base(status, name, reason)
            found["hint"] = hint
            return found
        found = self.base(status, name, self.render(check.summary, context, prose))
        paths, variables = check.evidence[status]
        found["observed"] = {".".join(path): _follow(item, path) for path in paths}
        found["threshold"] = {variable: self.context.get(variable) for variable in variables}
        found["hint"] = self.render(check.hint, context, prose) if check.hint else None
        if check.remedy:
            found["remedy"] = check.remedy.proposal(context, found)
        return found

    def base(self, status, name, summary):
        return {
            "id": self.check.id,
            "area": self.area,
            "host": self.host,
            "object": name,
            "title": self.check.title,
            "status": status,
            "summary": summary,
            "observed": {},
            "threshold": {},
            "why": self.check.why,
            "guide": self.check.guide,
            "hint": None,
            "remedy": None,
            "fingerprint": fingerprint(self.check.id, self.host, name),
        }

    def render(self, text, context, make=render):
        try:
            return make(text, context)
        except Exception:  # pylint: disable=broad-except
            # The finding stands without its wording: what fired is in ``observed``.
            return "%s (some of its values were not measured)" % self.check.title


def fingerprint(check_id, host, name):
    """The same trouble has the same fingerprint in every run: a hash of check id, host and object."""
    return hashlib.sha256("\0".join((check_id, host, name or "")).encode()).hexdigest()[:16]


def worst(statuses):
    return max(statuses, key=STATUSES.index, default="ok")


def _follow(item, path):
    for part in path:
        item = item.get(part) if isinstance(item, dict) else None
    return item


def _why_unknown(measurement, walked):
    """The reason and the hint, or null, that the measurement itself gives for a part it could not read."""
    path = ".".join(walked)
    entries = measurement.get("unknown") or []
    # What is said of this very part, of one around it, of one in it.
    for fits in (
        str.__eq__,
        lambda part, path: path.startswith(part + "."),
        lambda part, path: part.startswith(path + "."),
    ):
        for entry in entries:
            if fits(entry["part"].removesuffix(".*").removesuffix("[...]"), path):
                return entry["reason"], entry.get("hint")
    return "%s was not measured" % path, None


def _entry_for(measurement, part):
    return next((entry for entry in measurement.get("unknown") or [] if entry["part"] == part), None)


def _kind(value):
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return names.get(type(value), type(value).__name__)
