# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls that may hang in the kernel, such as stat() on a dead network mount. Private to this collection."""

from __future__ import annotations

import threading
from typing import Any, Callable, TypeVar

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, out_of_time

T = TypeVar("T")


class Hung(OSError):
    """A call did not return in time. It continues in a thread that ends with the process."""

    @classmethod
    def after(cls, seconds: float) -> Hung:
        """Return the error of a call that did not return within ``seconds``."""
        return cls("no answer within %.1f s, as from a mount whose server is gone" % seconds)


class NotMeasured(OSError):
    """The deadline left less time than the call may take. It proves nothing about what was called."""


def within(deadline: Deadline, timeout: float, function: Callable[..., T], *arguments: Any) -> T:
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


def bounded(function: Callable[..., T], seconds: float, *arguments: Any) -> T:
    """Return what ``function`` returns, or raise what it raises.

    Raises Hung after ``seconds``, NotMeasured if these are not above 0.
    """
    if seconds <= 0:
        raise NotMeasured(out_of_time(0.0))
    values: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            values.append(function(*arguments))
        except BaseException as exc:  # pylint: disable=broad-except
            errors.append(exc)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Hung.after(seconds)
    if errors:
        raise errors[0]
    return values[0]
