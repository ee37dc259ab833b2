# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What /proc says about a process. Private to this collection."""

from __future__ import annotations

import os
import re

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

# Programs whose first argument says more than their own name does.
INTERPRETER = re.compile(r"^(python|pypy|node|nodejs|ruby|perl|php|bash|sh|dash|java|uvicorn|gunicorn)[0-9.]*$")
COMMAND_LENGTH = 100
# The inodes of the initial namespaces (include/linux/proc_ns.h).
INITIAL_USER_NAMESPACE = 0xEFFFFFFD
INITIAL_PID_NAMESPACE = 0xEFFFFFFC


def pids():
    """The ids of all processes, the oldest first as far as numbers say so."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def status(pid):
    """The fields of /proc/<pid>/status, as text."""
    with open("/proc/%s/status" % pid, encoding="utf-8", errors="replace") as stream:
        return {name: value.strip() for name, _colon, value in (line.partition(":") for line in stream)}


def effective_uid(fields):
    return int(fields["Uid"].split()[1])


def arguments(pid):
    """The words of a process's command line. They may hold passwords: never return them."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            words = stream.read(65536).rstrip(b"\0").split(b"\0")
    except OSError:
        return []
    return [word.decode("utf-8", "replace") for word in words]


def label(words):
    """A command line without what may be secret in it: the program, and the script or module that it interprets."""
    if not words or not words[0]:
        return None
    program = os.path.basename(words[0].split(" ", 1)[0]) or words[0]
    if INTERPRETER.match(program):
        script = _script(words[1:])
        if script:
            program = "%s %s" % (program, script)
    return cut(redact(program), COMMAND_LENGTH)


def _script(words):
    words = iter(words)
    for word in words:
        if word in ("-m", "-jar"):
            return "%s %s" % (word, next(words, ""))
        if word in ("-c", "-e"):
            return word
        if not word.startswith("-"):
            return word
    return None


def started(pid):
    """When a process started, in epoch seconds; null when it is gone."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as stream:
            # The name, in brackets, may hold anything.
            ticks = int(stream.read().rpartition(")")[2].split()[19])
        with open("/proc/stat", encoding="utf-8") as stream:
            boot = next(int(line.split()[1]) for line in stream if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return round(boot + ticks / os.sysconf("SC_CLK_TCK"), 2)


def in_initial_user_namespace(pid="self"):
    """Raises OSError where that process is gone, or not ours to look at."""
    return os.stat("/proc/%s/ns/user" % pid).st_ino == INITIAL_USER_NAMESPACE


def in_initial_pid_namespace():
    """Whether this process is; raises OSError where that cannot be told."""
    return os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE


def networks_differ(pid, other):
    """Whether two processes surely see different networks."""
    try:
        return os.readlink("/proc/%d/ns/net" % pid) != os.readlink("/proc/%d/ns/net" % other)
    except OSError:
        return False


def user_names(path="/etc/passwd"):
    """Names by uid, from the local file only: a directory service that hangs must not hang us."""
    names = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                fields = line.split(":")
                if len(fields) > 2 and fields[2].isdigit():
                    names.setdefault(int(fields[2]), fields[0])
    except OSError:
        pass
    return names
