# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Closes the connections that the modules of one process share. Private to this collection.

The process of an area ends without Python's exit functions, and a server logs a warning for each client that vanishes.
"""

from __future__ import annotations

import contextlib
from typing import Callable

_functions: list[Callable[[], object]] = []


def at_end(function: Callable[[], object]) -> None:
    """Call ``function`` once, after the last measurement of this process."""
    _functions.append(function)


def run() -> None:
    """Call the registered functions, the last first. Exceptions are ignored."""
    while _functions:
        with contextlib.suppress(Exception):
            _functions.pop()()
