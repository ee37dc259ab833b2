# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waits for many at the same time. Private to this collection."""

from __future__ import annotations

import contextlib
import queue
import threading

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, OutOfTime

SIDE_BY_SIDE = 64
# What the measurements leave of the deadline, to tell of themselves.
SHARE = 0.97


def reject_duplicates(option, subjects):
    """Raise BadOption where two have one name: nobody could tell which of them is meant."""
    names = [subject.name for subject in subjects]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise BadOption("%s: two are named %s" % (option, ", ".join(twins)), hint="give each a name of its own")


def measure_all(subjects, seconds, unknown, part):
    """What ``measure(deadline)`` of each subject returns, in their order, within ``seconds``.

    One that nobody came to, or that crashed, is as its ``unmeasured()`` says, and ``<part>.<name>`` is unknown.
    """
    waiting, done = queue.SimpleQueue(), queue.SimpleQueue()
    own, deadline = Deadline(seconds * SHARE), Deadline(seconds)
    for number, subject in enumerate(subjects):
        waiting.put((number, subject))

    def work():
        with contextlib.suppress(queue.Empty):
            while not own.expired():
                number, subject = waiting.get_nowait()
                try:
                    done.put((number, subject.measure(own)))
                except Exception as exc:  # pylint: disable=broad-except
                    done.put((number, exc))

    for _number in range(min(SIDE_BY_SIDE, len(subjects))):
        # They die with the process: whatever hangs in one of them keeps nobody.
        threading.Thread(target=work, daemon=True).start()
    found = {}
    with contextlib.suppress(queue.Empty):
        while len(found) < len(subjects):
            number, result = done.get(timeout=deadline.remaining())
            found[number] = result
    # A subject that found too little time left says so by returning nothing.
    missed = OutOfTime(own.remaining())
    return [_told(subject, found.get(number) or missed, unknown, part) for number, subject in enumerate(subjects)]


def _told(subject, result, unknown, part):
    if isinstance(result, dict):
        return result
    unknown.add("%s.%s" % (part, subject.name), result)
    return subject.unmeasured()
