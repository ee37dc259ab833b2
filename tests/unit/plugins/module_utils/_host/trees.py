# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A context whose /proc and /sys are directories of a test."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import Process, Table
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

STAT = "%d (%s) %s %d 1 1 0 -1 4194304 100 0 0 0 %d %d 0 0 20 0 %d 0 %d 10000000 %d 18446744073709551615 1 1"


def context(folder, files=None, top=10):
    """Return a context for ``folder``, in which ``files`` (path below it -> text or bytes) are written."""
    for name, content in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = {"top": top, "docker_root": str(folder / "docker")}
    return Context(options, Deadline(10), Deadline(10), str(folder / "proc"), str(folder / "sys"))


def stat(pid, name="cat", state="S", parent=1, user=0, system=0, threads=1, started=1000, pages=100):
    """Return the line of /proc/<pid>/stat."""
    return STAT % (pid, name, state, parent, user, system, threads, started, pages)


def process(pid, name="cat", state="S", parent=1, ticks=0, started=1000, threads=1, size=0):
    return Process(pid, name, state, parent, ticks, started, threads, size)


def table(*processes, at=0.0):
    found = Table({each.pid: each for each in processes})
    found.read_at = at
    return found
