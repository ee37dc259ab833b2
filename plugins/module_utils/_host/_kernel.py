# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of the kernel with a fixed size. Private to this collection."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._interfaces import Sample
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part


def describe(context: Context, first: Sample | None, second: Sample | None) -> Part:
    """Return the part ``kernel``. ``first`` and ``second`` are samples of the network interfaces, with those of TCP."""
    handles = context.text("sys/fs/file-nr").split()
    used, limit = int(handles[0]), int(handles[2])
    threads = int(context.text("loadavg").split()[3].partition("/")[2])
    pid_max, threads_max = context.number("sys/kernel/pid_max"), context.number("sys/kernel/threads-max")
    most = min((each for each in (pid_max, threads_max) if each), default=None)
    entries, most_entries = (context.number("sys/net/netfilter/nf_conntrack_" + name) for name in ("count", "max"))
    before, now = (first.tcp if first else {}), (second.tcp if second else {})
    return {
        "release": os.uname().release,
        "uptime_seconds": float(context.text("uptime").split()[0]),
        "conntrack": entries,
        "conntrack_max": most_entries,
        "conntrack_ratio": _rates.ratio(entries, most_entries),
        "file_handles": used,
        "file_handles_max": limit,
        "file_handles_ratio": _rates.ratio(used, limit),
        "threads": threads,
        "threads_max": threads_max,
        "pid_max": pid_max,
        # Each thread has a pid.
        "pids_ratio": _rates.ratio(threads, most),
        "listen_overflows": now.get("ListenOverflows"),
        "new_listen_overflows": _rates.growth(before, now, "ListenOverflows"),
    }
