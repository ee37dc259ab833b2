# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the process of a Redis server on this host, in a container or not. Private to this collection.

It gives what INFO does not: the memory limit of the control group, settings of the kernel, and the content of the
configuration file.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Iterator, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sockets
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import (
    End,
    Fields,
    KernelSettings,
)

NAMES = ("redis-server", "valkey-server")
# INFO has the uptime in whole seconds; the kernel has the start of a process to 0.01 s.
START_TOLERANCE = 2.5
# The script of an image may run for this long before it becomes the server, which then counts from its own start.
SCRIPT_SECONDS = 600.0
# A control group without a limit has a number near 2 ** 63 (version 1), or the word max (version 2).
NO_LIMIT = 1 << 60


def find(client: Client, info: Fields, root: str = "/") -> int | None:
    """Return the process id on this host of the server that ``info`` (its INFO) describes; null if it is not here.

    It is the process that has the server's process id in its own pid namespace, started when the server started, and
    has the name of a Redis server or of the server's executable. Containers that were started together are alike in
    this, so the connection of ``client`` must be in its network namespace too, if the server reports its ends. Then the
    process may have started earlier.
    """
    found = candidates(info, root, SCRIPT_SECONDS)
    ends = _ends(client) if found else None
    found = [pid for pid in found if ends in connections(pid, root)] if ends else candidates(info, root)
    return found[0] if len(found) == 1 else None


def local_pid(client: Client, info: Fields) -> int | None:
    """Return the result of ``find()``, which runs once for a connection."""
    if client.local_pid is None:
        client.local_pid = (find(client, info),)
    return client.local_pid[0]


def _ends(client: Client) -> tuple[End, End] | None:
    """Return the server's and the client's end of the connection, as the server reports them; null if it does not."""
    if client.client_id is None:
        return None
    try:
        line = client.ask("CLIENT", "LIST", "ID", client.client_id)
        parts = (part.partition("=") for part in line.decode("utf-8", "replace").split(" "))
        fields = {name: value for name, _equals, value in parts}
        return _parse_end(fields["laddr"]), _parse_end(fields["addr"])
    except (ReplyError, KeyError, ValueError, OSError):
        return None


def _parse_end(text: str) -> End:
    host, _colon, port = text.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, host)), int(port)


def connections(pid: int, root: str = "/") -> set[tuple[End, End]]:
    """Return the TCP connections in the network namespace of a process, the local end first."""
    return {
        ((each.address, each.port), (each.remote_address, each.remote_port))
        for each in _sockets.read(pid, proc=os.path.join(root, "proc"))
    }


def candidates(info: Fields, root: str = "/", earlier: float = START_TOLERANCE) -> list[int]:
    """Return the processes on this host that can be the server that ``info`` describes.

    ``earlier``: seconds that the process may have started before the server counts.
    """
    wanted = info.get("process_id")
    try:
        uptime = float(info["uptime_in_seconds"])
        now = float(_read(root, "proc/uptime").split()[0])
    except (KeyError, ValueError, OSError):
        return []
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
        if inner and inner.group(1) == wanted and -START_TOLERANCE <= now - started - uptime <= earlier:
            found.append(int(entry))
    return found


class Group(NamedTuple):
    """A control group with a memory limit, and the memory that its processes cannot give back, in bytes."""

    limit: int
    used: int


def memory_groups(pid: int, root: str = "/") -> list[Group]:
    """Return the control groups of a process, and their parents, that have a memory limit."""
    groups: list[Group] = []
    try:
        lines = _read(root, "proc", str(pid), "cgroup").splitlines()
    except OSError:
        return groups
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        if controllers == "memory":
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            groups.extend(_groups_upwards(os.path.join(root, "sys/fs/cgroup/memory"), path, files))
        elif not controllers:
            files = ("memory.max", "memory.current", "inactive_file")
            groups.extend(_groups_upwards(os.path.join(root, "sys/fs/cgroup"), path, files))
    return groups


def _groups_upwards(base: str, path: str, files: tuple[str, str, str]) -> Iterator[Group]:
    """Yield a control group and its parents, as far as they have a limit.

    ``files`` are the names of the files with limit and use, and of the field of memory.stat that is the page cache.
    """
    path = path.strip("/")
    while True:
        try:
            text = _read(base, path, files[0]).strip()
            if text.isdigit() and int(text) < NO_LIMIT:
                yield Group(int(text), _used_bytes(os.path.join(base, path), *files[1:]))
        except OSError:
            pass
        if not path:
            return
        path = os.path.dirname(path)


def _used_bytes(folder: str, file: str, cache: str) -> int:
    """Return the memory of a control group without its page cache, in bytes; 0 if it cannot be read."""
    try:
        fields = dict(line.split() for line in _read(folder, "memory.stat").splitlines())
        return max(0, int(_read(folder, file)) - int(fields.get(cache, 0)))
    except (OSError, ValueError):
        return 0


def memory_limit(groups: Sequence[Group]) -> int | None:
    """Return the lowest of the limits in bytes; null if there is none."""
    return min(group.limit for group in groups) if groups else None


def available_bytes(groups: Sequence[Group], rss: int | None, root: str = "/") -> int | None:
    """Return the memory that a process can have: its ``rss`` and what other processes leave; null if unknown.

    The least of what its control groups and the host leave.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(root, "proc/meminfo"), re.MULTILINE)
    if rss is None or not found:
        return None
    left = min([int(found.group(1)) * 1024, *(group.limit - group.used for group in groups)])
    # A part of what the process uses may be charged to another group.
    return min([rss + max(0, left), *(group.limit for group in groups)])


def rewrite_obstacle(pid: int, config_file: str, root: str = "/") -> str | None:
    """Return why the server cannot replace its configuration file; null if nothing known is in the way."""
    inside = os.path.join(root, "proc", str(pid), "root")
    folder = os.path.dirname(config_file) or "/"
    try:
        options = _mount_options(_read(root, "proc", str(pid), "mountinfo"))
        owner = int(re.findall(r"^Uid:\s+\d+\s+(\d+)", _read(root, "proc", str(pid), "status"), re.MULTILINE)[0])
        state = os.stat(inside + folder)
    except (OSError, IndexError):
        return None
    if config_file in options:
        return "the file is a mount of its own, which cannot be replaced"
    if "ro" in options[max((path for path in options if _is_below(folder, path)), key=len, default="")]:
        return "its file system is read-only"
    if owner and owner != state.st_uid and not state.st_mode & 0o022:
        return "user %d may not write to %s" % (owner, folder)
    return None


def _mount_options(mountinfo: str) -> dict[str, set[str]]:
    """Return the options of each mount point; of none, for a path below no mount point."""
    fields = [line.split() for line in mountinfo.splitlines()]
    return {"": set(), **{words[4]: set(words[5].split(",")) for words in fields if len(words) > 5}}


def _is_below(inner: str, outer: str) -> bool:
    return outer == "/" or inner == outer or inner.startswith(outer + "/")


def configured(pid: int, config_file: str | None, root: str = "/") -> Fields | None:
    """Return the settings in the server's configuration file, read in its mount namespace; null if it cannot be read.

    ``include`` is not followed.
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


def device(found: tuple[int | None] | None, directory: str | None, root: str = "/") -> int | None:
    """Return the device number of the file system with a directory of the server; null if it cannot be read.

    ``found`` is the result of ``find()`` in a tuple.
    """
    pid = found[0] if found else None
    if pid is None or not directory:
        return None
    try:
        return os.stat(os.path.join(root, "proc", str(pid), "root", directory.lstrip("/"))).st_dev
    except OSError:
        return None


def kernel(root: str = "/") -> KernelSettings:
    """Return the settings of the kernel on which Redis depends; null where unknown."""
    settings: KernelSettings = {"transparent_hugepage": None, "overcommit_memory": None}
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


def _read(root: str, *parts: str) -> str:
    with open(os.path.join(root, *parts), encoding="utf-8", errors="replace") as file:
        return file.read()
