# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls that may hang in the kernel, as every look at a dead network mount does. Private to this collection."""

from __future__ import annotations

import threading

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import LEAST_SECONDS, OutOfTime


class Hung(OSError):
    """A call did not come back in time. It goes on in a thread that dies with the process."""


class NotCalled(OSError):
    """No time was left for a call. This says nothing about what it would have found."""


def bounded(function, seconds, *arguments):
    """What ``function`` returns or raises, or Hung after ``seconds``; NotCalled where too few are left."""
    if seconds < LEAST_SECONDS:
        raise NotCalled(str(OutOfTime(max(0.0, seconds))))
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
