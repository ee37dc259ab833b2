# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the Redis server's own process, where it runs on this host, in a container or not. Private to this collection.

What a server cannot say of itself is read there: the memory limit of its control group, the kernel's settings, and
what its configuration file holds.
"""

from __future__ import annotations

import os
import re

NAMES = ("redis-server", "valkey-server")
# INFO counts the uptime in whole seconds; the start of a process is known to 0.01 s.
START_TOLERANCE = 2.5
# The limit of a control group that has none is a number near 2 ** 63 (version 1), or the word max (version 2).
NO_LIMIT = 1 << 60


def find(info, root="/"):
    """The process id on this host of the server that ``info`` (its INFO) describes; null where it is not here.

    It is the process that has the server's process id in its own pid namespace, was started when the server says,
    and has the name of a Redis server or of the executable the server names.
    """
    wanted = info.get("process_id")
    try:
        uptime = float(info["uptime_in_seconds"])
        now = float(_read(root, "proc/uptime").split()[0])
    except (KeyError, ValueError, OSError):
        return None
    names = NAMES + (os.path.basename(info.get("executable") or "")[:15],)
    found = []
    for entry in os.listdir(os.path.join(root, "proc")):
        if not entry.isdigit():
            continue
        try:
            if _read(root, "proc", entry, "comm").strip() not in names:
                continue
            inner = re.search(r"^NSpid:.*?(\d+)$", _read(root, "proc", entry, "status"), re.MULTILINE)
            started = int(_read(root, "proc", entry, "stat").rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            continue
        if inner and inner.group(1) == wanted and abs(now - started - uptime) <= START_TOLERANCE:
            found.append(int(entry))
    # Two servers started within the same seconds in two containers look alike: then neither is taken.
    return found[0] if len(found) == 1 else None


def memory_limit(pid, root="/"):
    """The least memory limit in bytes of the control groups the process is in; null where there is none."""
    limits = []
    for line in _read(root, "proc", str(pid), "cgroup").splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers == "memory":
            base, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        elif not controllers:
            base, name = "sys/fs/cgroup", "memory.max"
        else:
            continue
        limits.extend(_limits_upwards(root, base, path, name))
    return min(limits) if limits else None


def _limits_upwards(root, base, path, name):
    """The limits set in a control group and in all that hold it."""
    path = path.strip("/")
    while True:
        try:
            text = _read(root, base, path, name).strip()
            if text.isdigit() and int(text) < NO_LIMIT:
                yield int(text)
        except OSError:
            pass
        if not path:
            return
        path = os.path.dirname(path)


def configured(pid, config_file, root="/"):
    """The settings in the server's configuration file, as it sees it: name -> value. Null where it cannot be read.

    Files named by ``include`` are not followed.
    """
    if not config_file:
        return None
    path = os.path.join(root, "proc", str(pid), "root", config_file.lstrip("/"))
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    settings = {}
    for line in lines:
        words = line.split(None, 1)
        if len(words) == 2 and not words[0].startswith("#"):
            settings[words[0].lower()] = words[1].strip().strip('"')
    return settings


def kernel(root="/"):
    """The kernel's ``transparent_hugepage`` and ``overcommit_memory``, on which Redis depends; null where unknown."""
    settings = {"transparent_hugepage": None, "overcommit_memory": None}
    try:
        chosen = re.search(r"\[(\w+)\]", _read(root, "sys/kernel/mm/transparent_hugepage/enabled"))
        settings["transparent_hugepage"] = chosen.group(1) if chosen else None
    except OSError:
        pass
    try:
        settings["overcommit_memory"] = int(_read(root, "proc/sys/vm/overcommit_memory"))
    except (OSError, ValueError):
        pass
    return settings


def _read(root, *parts):
    with open(os.path.join(root, *parts), encoding="utf-8", errors="replace") as file:
        return file.read()
