# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deadlines, failures and results that all measuring functions share. Private to this collection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Optional, TypeVar, cast

if TYPE_CHECKING:
    from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo, Measurement, Part, UnknownPart

# A text, which may be null.
Text = TypeVar("Text", str, Optional[str])

# In less time than this, no answer proves nothing.
LEAST_SECONDS = 0.1


class Failure(Exception):
    """Why something was not done. ``kind`` is a stable word, ``hint`` the next step for a person or null.

    ``details``: more values for the result of a module.
    """

    kind = "failure"

    def __init__(self, message: str, hint: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.hint = hint
        self.details = details


class CannotConnect(Failure):
    """The service cannot be reached. A measurement reports this as data; the task does not fail.

    ``kind`` is a word of ``_failures.KINDS``, which a check may compare.
    """

    def __init__(self, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.kind = kind


# A step without an answer has failed if it had this share of its timeout. With less, nothing is known.
ENOUGH = 0.5


# Kinds of a failure without an answer: within the timeout of the step, or within the whole deadline.
LATE = ("timeout", "no_answer", "deadline")


class OutOfTime(CannotConnect):
    """The deadline left less time than a step may take. It proves nothing about the service."""

    def __init__(self, left: float = 0.0, what: str = "") -> None:
        hint = "Raise `deadline`, or measure when the host is less busy: `uptime`."
        super().__init__("deadline", (what and what + ": ") + out_of_time(left), hint)


class NotAllowed(CannotConnect):
    """The account lacks the right to connect to the service. It proves nothing about the service."""

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__("permission", message, hint)


class CannotMeasure(Failure):
    """The measurement cannot run on this host: a missing library, an invalid option."""

    kind = "cannot_measure"


class BadOption(CannotMeasure):
    """An option has an invalid value. The message names the option."""

    kind = "bad_option"


class MissingLibrary(CannotMeasure):
    """A Python library cannot be imported by the interpreter that runs this process."""

    kind = "missing_library"


class Deadline:
    """The time by which a measurement must end.

    ``remaining()`` is never negative, so it is a valid timeout in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self, at_most: float | None = None) -> float:
        """Return the seconds left, and no more than ``at_most``."""
        left = max(0.0, self._end - self._clock())
        return left if at_most is None else min(left, at_most)

    def step(self, at_most: float | None = None) -> float:
        """Return the seconds for the next connection, query or read. Raises OutOfTime if they are too few."""
        left = self.remaining(at_most)
        if left < LEAST_SECONDS and (at_most is None or left < at_most):
            raise OutOfTime(left)
        return left

    def expired(self) -> bool:
        """Return whether no time is left."""
        return self.remaining() == 0.0

    def too_short(self, timeout: float) -> bool:
        """Return whether so little is left that a step which gets no answer until the end proves nothing."""
        return self.remaining() < timeout * ENOUGH


class Unknown:
    """Collects the parts of a measurement that could not be read, with the reasons."""

    def __init__(self) -> None:
        self.parts: list[UnknownPart] = []

    def add(self, part: str, reason: object, hint: str | None = None) -> None:
        """Record that ``part`` could not be read. ``hint`` says how to make it readable, such as a GRANT.

        ``<list>.*`` means all items of a list or fields of a mapping, ``<list>[...]`` items that are missing from it. A
        Failure as the ``reason`` brings its own hint.
        """
        hint = hint or getattr(reason, "hint", None)
        entry: UnknownPart = {"part": part, "reason": cut(" ".join(str(reason).split()), 300)}
        if hint:
            entry["hint"] = hint
        self.parts.append(entry)


def error(exc: Failure) -> ErrorInfo:
    """Return the ``error`` field of a measurement."""
    return {"kind": exc.kind, "message": cut(" ".join(str(exc).split()), 500), "hint": exc.hint}


def unreachable(parts: Iterable[str], exc: Failure, known: Mapping[str, Any] | None = None) -> Measurement:
    """Return the measurement of a service that cannot be reached: the reason in ``error``, and every part null.

    Parts that were measured nevertheless are in ``known``. ``reachable`` is null if there was no time, or no right, to
    find out.
    """
    measurement: Part = dict.fromkeys(parts)
    measurement.update(
        known or {}, reachable=None if isinstance(exc, (NotAllowed, OutOfTime)) else False, error=error(exc), unknown=[]
    )
    return cast("Measurement", measurement)


def reached(parts: Mapping[str, Any], unknown: Unknown) -> Measurement:
    """Return the measurement of a service that answered. ``parts`` maps each part to its value, null if unknown."""
    return cast("Measurement", dict(parts, reachable=True, error=None, unknown=unknown.parts))


def out_of_time(left: float) -> str:
    """Return the reason why something was not measured in ``left`` seconds."""
    return "not measured (%.1f s of the deadline left)" % left


def cut(text: Text, limit: int) -> Text:
    """Return ``text`` in at most ``limit`` characters, with an ellipsis if it was longer."""
    if text is None or len(text) <= limit:
        return text
    return text[: limit - 1] + "\u2026"
