# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads /proc/<pid>. Private to this collection."""

from __future__ import annotations

import os
import re
from typing import Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

# Programs that are identified by the script or module that they run.
INTERPRETER = re.compile(r"^(python|pypy|node|nodejs|ruby|perl|php|bash|sh|dash|java|uvicorn|gunicorn)[0-9.]*$")
COMMAND_LENGTH = 100
# The inodes of the initial namespaces (include/linux/proc_ns.h).
INITIAL_USER_NAMESPACE = 0xEFFFFFFD
INITIAL_PID_NAMESPACE = 0xEFFFFFFC


def pids() -> list[int]:
    """Return the ids of all processes in ascending order: the oldest first, unless numbers were reused."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def status(pid: int | str) -> dict[str, str]:
    """Return the fields of /proc/<pid>/status."""
    with open("/proc/%s/status" % pid, encoding="utf-8", errors="replace") as stream:
        return {name: value.strip() for name, _colon, value in (line.partition(":") for line in stream)}


def effective_uid(fields: Mapping[str, str]) -> int:
    """Return the effective uid in the fields of ``status()``."""
    return int(fields["Uid"].split()[1])


def arguments(pid: int) -> list[str]:
    """Return the command line of a process, empty if it has ended. It may contain passwords: do not report it."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            words = stream.read(65536).rstrip(b"\0").split(b"\0")
    except OSError:
        return []
    return [word.decode("utf-8", "replace") for word in words]


def label(words: Sequence[str]) -> str | None:
    """Return the program of a command line, with the script or module that it runs: nothing that may be secret."""
    if not words or not words[0]:
        return None
    program = os.path.basename(words[0].split(" ", 1)[0]) or words[0]
    if INTERPRETER.match(program):
        script = _script(words[1:])
        if script:
            program = "%s %s" % (program, script)
    return cut(redact(program), COMMAND_LENGTH)


def _script(words: Sequence[str]) -> str | None:
    remaining = iter(words)
    for word in remaining:
        if word in ("-m", "-jar"):
            return "%s %s" % (word, next(remaining, ""))
        if word in ("-c", "-e"):
            return word
        if not word.startswith("-"):
            return word
    return None


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the name, which may contain anything. Raises OSError."""
    with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as stream:
        return stream.read().rpartition(")")[2].split()


def started(pid: int) -> float | None:
    """Return when a process started, in epoch seconds; null if it has ended."""
    try:
        ticks = int(stat(pid)[19])
        with open("/proc/stat", encoding="utf-8") as stream:
            boot = next(int(line.split()[1]) for line in stream if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return round(boot + ticks / os.sysconf("SC_CLK_TCK"), 2)


def in_initial_user_namespace(pid: int | str = "self") -> bool:
    """Return whether a process is in the initial user namespace.

    Raises OSError if the process has ended or its namespace cannot be read.
    """
    return os.stat("/proc/%s/ns/user" % pid).st_ino == INITIAL_USER_NAMESPACE


def in_initial_pid_namespace() -> bool:
    """Return whether this process is in the initial pid namespace. Raises OSError if that cannot be read."""
    return os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE


def view_restriction(on_the_host: str) -> tuple[str, str | None] | None:
    """Return ``(reason, hint)`` if /proc does not show all processes of the machine, else null.

    ``on_the_host`` is the hint for a measurement inside a container.
    """
    try:
        if not in_initial_pid_namespace():
            return "this runs inside a container, which sees only its own processes", on_the_host
        if not in_initial_user_namespace():
            return "this runs inside a user namespace, which does not see the uids of the machine", on_the_host
    except OSError as exc:
        return "the namespaces cannot be read: %s" % exc, _rights.hint("CAP_SYS_PTRACE")
    if not os.access("/proc/1/status", os.R_OK):
        return "/proc hides the processes of other users (hidepid)", _rights.hint("CAP_SYS_PTRACE")
    return None


def networks_differ(pid: int, other: int) -> bool:
    """Return whether two processes are in different network namespaces; false if that cannot be read."""
    try:
        return os.readlink("/proc/%d/ns/net" % pid) != os.readlink("/proc/%d/ns/net" % other)
    except OSError:
        return False


def user_names(path: str = "/etc/passwd") -> dict[int, str]:
    """Return names by uid, from the local file only: a directory service might not answer."""
    names: dict[int, str] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                fields = line.split(":")
                if len(fields) > 2 and fields[2].isdigit():
                    names.setdefault(int(fields[2]), fields[0])
    except OSError:
        pass
    return names
