# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all parts of a measurement of a host share: options, /proc, process tables. Private to this collection.

/proc is read once for each of the two samples: a part gets the process table of the context and never lists /proc.
"""

from __future__ import annotations

import os
import re
import time
from functools import cached_property
from typing import Any, Callable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, id_in
from ansible_collections.tracktion.ops.plugins.module_utils._host import _process_table
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import Table, readable
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._linux._cgroup import Reading
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Most bytes that are read of one file of /proc or /sys.
MAX_BYTES = 1 << 22
AT_ONCE = 1 << 16
# The service of systemd in the text of /proc/<pid>/cgroup.
UNIT = re.compile(r"/([^/\n]+\.service)(?=/|$)", re.MULTILINE)
ON_THE_HOST = "Measure on the host itself: set `host_resources_probe_host` to its inventory name"
NO_CONTAINER: Part = {"container": None, "service": None, "project": None}


class Context:
    """One measurement. ``first`` and ``second`` are the process tables of the two samples, ``seconds`` apart.

    ``deadline`` is that of all work between the samples, ``end`` that of the second sample.
    """

    def __init__(
        self, options: Options, deadline: Deadline, end: Deadline, proc: str = "/proc", sys: str = "/sys"
    ) -> None:
        self.options = options
        self.deadline = deadline
        self.end = end
        self.proc = proc
        self.sys = sys
        self.top: int = options["top"]
        self.unknown = Unknown()
        self.engine = Engine(options["docker_root"])
        self.first = Table()
        self.second = Table()
        # Id of a container -> its counters in the second sample, for all containers.
        self.readings: dict[str, Reading] = {}
        self._groups: dict[int, str] = {}

    @property
    def tables(self) -> list[Table]:
        """The process tables that have been read."""
        return [table for table in (self.first, self.second) if table]

    @property
    def seconds(self) -> float:
        """Seconds between the two process tables, by the monotonic clock."""
        return self.second.read_at - self.first.read_at

    @cached_property
    def users(self) -> dict[int, str]:
        """Names of users by uid."""
        return _processes.user_names()

    @cached_property
    def restriction(self) -> tuple[str, str | None] | None:
        """``(reason, hint)`` if some processes of the machine are hidden from this account, else null."""
        return _processes.view_restriction(ON_THE_HOST)

    @cached_property
    def own(self) -> frozenset[int]:
        """The processes of this diagnosis: the parent of this process, and all that descend from it."""
        return _process_table.family(self.second or self.first, os.getppid())

    def read_processes(self) -> Table:
        """Return the table of all visible processes, now."""
        return _process_table.read(self.proc, self.end)

    def text(self, name: str) -> str:
        """Return the text of a file of /proc. Raises OSError."""
        return read(os.path.join(self.proc, name))

    def sys_text(self, name: str) -> str:
        """Return the text of a file of /sys. Raises OSError."""
        return read(os.path.join(self.sys, name))

    def number(self, name: str) -> int | None:
        """Return the first number in a file of /proc; null if there is no such file."""
        try:
            return int(self.text(name).split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def part(self, name: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what ``function`` returns; null if it cannot read its files, with the reason, once, in ``unknown``."""
        try:
            return function(self, *arguments)
        except (OSError, ValueError, IndexError, KeyError, CannotConnect) as exc:
            if name not in [entry["part"] for entry in self.unknown.parts]:
                self.unknown.add(name, exc if isinstance(exc, CannotConnect) else "cannot be read: %s" % exc)
            return None

    def group(self, pid: int) -> str:
        """Return the text of /proc/<pid>/cgroup, empty if the process has ended."""
        if pid not in self._groups:
            try:
                self._groups[pid] = self.text("%d/cgroup" % pid)
            except OSError:
                self._groups[pid] = ""
        return self._groups[pid]

    def container(self, pid: int) -> Part:
        """Return ``container``, ``service`` and ``project`` of a process, null outside of containers.

        A container is named by its id if the files of its engine cannot be read.
        """
        return self.named(id_in(self.group(pid)))

    def named(self, identity: str | None) -> Part:
        """Return the same for a container by its id."""
        if identity is None:
            return dict(NO_CONTAINER)
        known = self.engine.container(identity)
        name = known["name"] or identity[:12]
        return {"container": name, "service": known["service"], "project": known["project"]}

    def publisher(self, protocol: str, port: int) -> Part:
        """Return the same for the container that publishes a port; all null if that is not known."""
        return self.named(self._published.get((protocol, port)))

    @cached_property
    def _published(self) -> dict[tuple[str, int], str]:
        try:
            identities = [name for name in os.listdir(self.engine.root) if len(name) == 64]
        except OSError:
            return {}
        found: dict[tuple[str, int], str] = {}
        for identity in identities:
            data = self.engine.file(identity, "config.v2.json") or {}
            if (data.get("State") or {}).get("Running"):
                for inner, published in ((data.get("NetworkSettings") or {}).get("Ports") or {}).items():
                    for each in published or ():
                        found[inner.partition("/")[2], int(each["HostPort"])] = identity
        return found

    def describe(self, pid: int, name: str) -> Part:
        """Return ``pid``, ``user``, ``command`` (without arguments), ``unit``, ``container``, ``service``, ``project``.

        ``name`` is the command if the process has no command line, as a kernel thread or a zombie.
        """
        try:
            uid: int | None = os.stat(os.path.join(self.proc, str(pid))).st_uid
        except OSError:
            uid = None
        user = None if uid is None else self.users.get(uid, str(uid))
        label = _processes.label(_process_table.arguments(self.proc, pid)) or name
        container = self.container(pid)
        # The unit of a container is that of its engine or its user.
        unit = [] if container["container"] else UNIT.findall(self.group(pid))
        shown = readable(os.fsencode(unit[-1])) if unit else None
        return {"pid": pid, "user": user, "command": label, "unit": shown, **container}

    def wait(self, until: float, tick: Callable[[], object], every: float = 0.1) -> None:
        """Sleep until a moment of the monotonic clock or the deadline, and call ``tick`` from time to time."""
        while True:
            left = min(until - time.monotonic(), self.deadline.remaining())
            if left <= 0:
                return
            time.sleep(min(left, every))
            tick()


def read(path: str) -> str:
    """Return the text of a small file. Bytes that are not UTF-8 become surrogates. Raises OSError."""
    found = []
    # In parts: the kernel allocates a buffer of the wanted size for some files.
    with open(path, "rb", buffering=0) as stream:
        for _part in range(MAX_BYTES // AT_ONCE):
            part = stream.read(AT_ONCE)
            if not part:
                break
            found.append(part)
    return b"".join(found).decode("utf-8", "surrogateescape")


def numbers(text: str) -> dict[str, int]:
    """Return the lines ``name number``, also with a colon and a unit, as a mapping."""
    found = {}
    for line in text.splitlines():
        words = line.replace(":", " ", 1).split()
        if len(words) > 1 and words[1].isdigit():
            found[words[0]] = int(words[1])
    return found


def first(items: list[Part], key: str, top: int) -> list[Part]:
    """Return the ``top`` items with the largest ``key``; those without one come last."""
    return sorted(items, key=lambda item: -1.0 if item[key] is None else item[key], reverse=True)[:top]


def known(values: Mapping[str, Any], *names: str) -> bool:
    """Return whether none of these values is null."""
    return all(values.get(name) is not None for name in names)
