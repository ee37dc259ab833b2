# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Closes connections that the modules of one process share. Private to this collection.

A process that measures an area ends without Python's own exit functions, and a server logs a warning for each client
that vanishes.
"""

from __future__ import annotations

import contextlib

_functions = []


def at_end(function) -> None:
    """Call ``function`` once, when the process has measured everything."""
    _functions.append(function)


def run() -> None:
    """Call the registered functions, the last first. What they raise is ignored."""
    while _functions:
        with contextlib.suppress(Exception):
            _functions.pop()()
