# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Marks what a process has made, so that a later run knows whether it has ended. Private to this collection.

A mark is ``<pid>:<hash>``. The hash is one of the start of the process and the id of the boot. It is short, because the
path of a Unix socket, which must be shorter than 108 bytes, contains it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform

HASH_DIGITS = 8


def own() -> str:
    """Return the mark of this process."""
    return "%d:%s" % (os.getpid(), _started(os.getpid()))


def host() -> str:
    """Return a short text that differs between hosts and not between the boots of one: marks are those of a host."""
    identity = ""
    with contextlib.suppress(OSError), open("/etc/machine-id", encoding="ascii", errors="replace") as handle:
        identity = handle.read()
    return hashlib.sha256(("%s %s" % (platform.node(), identity)).encode("utf-8")).hexdigest()[:HASH_DIGITS]


def is_dead(mark: str) -> bool:
    """Return whether the process of a mark has ended. False for what is no mark."""
    pid, _colon, started = mark.partition(":")
    return pid.isdigit() and len(started) == HASH_DIGITS and _started(int(pid)) != started


def _started(pid: int) -> str:
    """Return the hash for a process; empty if it has ended."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as handle:
            fields = handle.read().rpartition(")")[2].split()
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            started = "%s %s" % (fields[19], handle.read())
    except (OSError, IndexError):
        return ""
    return "" if fields[0] == "Z" else hashlib.sha256(started.encode("ascii")).hexdigest()[:HASH_DIGITS]
