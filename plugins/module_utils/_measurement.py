# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every measuring function of this collection shares. Private to this collection."""

from __future__ import annotations

import time

# With less time than this, silence proves nothing.
LEAST_SECONDS = 0.1


class Failure(Exception):
    """Why something was not done. ``kind`` is a stable word for it, ``hint`` the next step for a person, or null."""

    kind = "failure"

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


class CannotConnect(Failure):
    """The service did not let us in. For who measures, this is data about the service, not a failed task.

    ``kind`` is what a check can compare: ``refused``, ``timeout``, ``authentication``, ...
    """

    def __init__(self, kind, message, hint=None):
        super().__init__(message, hint)
        self.kind = kind


# A step that had this share of its timeout and got no answer has failed; with less, nothing is known.
ENOUGH = 0.5


# Kinds of a failure in which no answer came: within the timeout of the step, or of the whole measurement.
LATE = ("timeout", "deadline")


class OutOfTime(CannotConnect):
    """The deadline left less time than a step may take. It says nothing about the service."""

    def __init__(self, left=0.0, what=""):
        hint = "Raise the deadline of the area, or measure when the host is less busy."
        super().__init__("deadline", (what and what + ": ") + out_of_time(left), hint)


class NotAllowed(CannotConnect):
    """The account may not speak to the service. It says nothing about the service."""

    def __init__(self, message, hint):
        super().__init__("permission", message, hint)


class CannotMeasure(Failure):
    """The measurement cannot run here at all: a missing library, a bad option."""

    kind = "cannot_measure"


class BadOption(CannotMeasure):
    """An option has a value that cannot be used. The message names the option."""

    kind = "bad_option"


class MissingLibrary(CannotMeasure):
    """A Python library is not importable by the interpreter that runs us."""

    kind = "missing_library"


class Deadline:
    """A point in time by which a measurement has to be over.

    ``remaining()`` is never negative, so it can be handed to anything that takes a timeout in seconds.
    """

    def __init__(self, seconds, clock=time.monotonic):
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self, at_most=None):
        left = max(0.0, self._end - self._clock())
        return left if at_most is None else min(left, at_most)

    def step(self, at_most=None):
        """Seconds for the next connection, query or read. Raises OutOfTime where too few are left for an answer."""
        left = self.remaining(at_most)
        if left < LEAST_SECONDS and (at_most is None or left < at_most):
            raise OutOfTime(left)
        return left

    def expired(self):
        return self.remaining() == 0.0

    def too_short(self, timeout: float) -> bool:
        """Return whether so little is left that a step which gets no answer until the end proves nothing."""
        return self.remaining() < timeout * ENOUGH


class Unknown:
    """Collects the parts of a measurement that could not be read, and why."""

    def __init__(self):
        self.parts = []

    def add(self, part, reason, hint=None):
        """Note that ``part`` could not be read. ``hint``: what to do so that it can be, such as a GRANT.

        ``<list>.*`` means all items of a list or fields of a mapping, ``<list>[...]`` items that are missing from it. A
        Failure as the ``reason`` brings its own hint.
        """
        hint = hint or getattr(reason, "hint", None)
        entry = {"part": part, "reason": cut(" ".join(str(reason).split()), 300)}
        self.parts.append(dict(entry, hint=hint) if hint else entry)


def error(exc):
    """The ``error`` field of a measurement: kind, message, hint."""
    return {"kind": exc.kind, "message": cut(" ".join(str(exc).split()), 500), "hint": exc.hint}


def unreachable(parts, exc):
    """The measurement of a service that cannot be reached: every part null, the reason in ``error``.

    ``reachable`` is null if there was no time, or no right, to find out.
    """
    measurement = dict.fromkeys(parts)
    measurement.update(
        reachable=None if isinstance(exc, (NotAllowed, OutOfTime)) else False, error=error(exc), unknown=[]
    )
    return measurement


def reached(parts, unknown):
    """The measurement of a service that answered. ``parts`` maps each part to its value, null where unknown."""
    measurement = dict(parts)
    measurement.update(reachable=True, error=None, unknown=unknown.parts)
    return measurement


def out_of_time(left: float) -> str:
    """Return why something was not measured, if ``left`` seconds were too few for it."""
    return "not measured (%.1f s of the deadline left)" % left


def cut(text, limit):
    """``text`` in at most ``limit`` characters, with an ellipsis where something was cut off."""
    if text is None or len(text) <= limit:
        return text
    return text[: limit - 1] + "\u2026"
