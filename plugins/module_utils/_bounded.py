# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls that may hang in the kernel, as every look at a dead network mount does. Private to this collection."""

from __future__ import annotations

import threading

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, out_of_time


class Hung(OSError):
    """A call did not come back in time. It goes on in a thread that dies with the process."""


class NotMeasured(OSError):
    """The deadline left less time than the call may take. It says nothing about what was called."""


def within(deadline: Deadline, timeout: float, function, *arguments):
    """Return what ``function`` returns, or raise what it raises.

    Raises Hung after ``timeout`` seconds, NotMeasured if the deadline comes long before that.
    """
    left, too_short = deadline.remaining(), deadline.too_short(timeout)
    try:
        return bounded(function, min(left, timeout), *arguments)
    except Hung as exc:
        if too_short:
            raise NotMeasured(out_of_time(left)) from exc
        raise


def bounded(function, seconds, *arguments):
    """What ``function`` returns or raises; Hung after ``seconds``, and NotMeasured where these are none."""
    if seconds <= 0:
        raise NotMeasured(out_of_time(0.0))
    outcome = {}

    def work():
        try:
            outcome["value"] = function(*arguments)
        except BaseException as exc:  # pylint: disable=broad-except
            outcome["error"] = exc

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Hung("no answer within %.1f s, as from a mount whose server is gone" % seconds)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
