# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures many subjects at the same time. Private to this collection."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Protocol, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, OutOfTime, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

SIDE_BY_SIDE = 64
# The subjects get this share of the deadline; the rest is for collecting their results.
SHARE = 0.97


class Named(Protocol):
    """Something with a name that is unique in its list."""

    @property
    def name(self) -> str:
        """The name, as the user wrote it in the option."""


class Subject(Named, Protocol):
    """Something that can be measured, and has a result of nulls for when it could not be."""

    def measure(self, deadline: Deadline) -> Part | None:
        """Return the measurement; null if too little of the deadline is left."""

    def unmeasured(self) -> Part:
        """Return the result with null for each value."""


def reject_duplicates(option: str, subjects: Sequence[Named]) -> None:
    """Raise BadOption if two subjects have the same name."""
    names = [subject.name for subject in subjects]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise BadOption(
            "%s: two are named %s" % (option, ", ".join(duplicates)),
            hint="Give each of `%s` a name of its own." % option,
        )


def measure_all(subjects: Sequence[Subject], seconds: float, unknown: Unknown, part: str) -> list[Part]:
    """Return what ``measure(deadline)`` of each subject returns, in their order, within ``seconds``.

    For a subject that was not measured in time or that raised an exception, return its ``unmeasured()`` and add
    ``<part>.<name>`` to ``unknown``.
    """
    waiting: queue.SimpleQueue[tuple[int, Subject]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Part | Exception | None]] = queue.SimpleQueue()
    own, deadline = Deadline(seconds * SHARE), Deadline(seconds)
    for number, subject in enumerate(subjects):
        waiting.put((number, subject))

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not own.expired():
                number, subject = waiting.get_nowait()
                try:
                    done.put((number, subject.measure(own)))
                except Exception as exc:  # pylint: disable=broad-except
                    done.put((number, exc))

    for _number in range(min(SIDE_BY_SIDE, len(subjects))):
        # Daemon threads end with the process, so one that hangs does not block it.
        threading.Thread(target=work, daemon=True).start()
    found: dict[int, Part | Exception | None] = {}
    with contextlib.suppress(queue.Empty):
        while len(found) < len(subjects):
            number, result = done.get(timeout=deadline.remaining())
            found[number] = result
    missed = OutOfTime(own.remaining())
    return [_as_part(subject, found.get(number) or missed, unknown, part) for number, subject in enumerate(subjects)]


def _as_part(subject: Subject, result: Part | Exception, unknown: Unknown, part: str) -> Part:
    if isinstance(result, dict):
        return result
    unknown.add("%s.%s" % (part, subject.name), result)
    return subject.unmeasured()
