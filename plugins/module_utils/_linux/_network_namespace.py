# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at the network as a container sees it, with nothing of the container's image. Private to this collection."""

from __future__ import annotations

import ctypes
import os
import threading

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _network_path

CLONE_NEWNET = 0x40000000
# What resolv.conf and hosts have at most; a container may put anything there.
MAX_BYTES = 1 << 18


def why_not(pid):
    """Why the network namespace of a process is not ours to enter; null where it is."""
    try:
        os.close(os.open("/proc/%d/ns/net" % pid, os.O_RDONLY))
        return None if _may_enter() else "entering the network namespaces of containers takes root: measure with become"
    except PermissionError:
        return "the network namespaces of containers can be seen by root only: measure with become"
    except OSError as exc:
        return "its process %d is gone (%s)" % (pid, exc.strerror)


def _may_enter():
    """Whether we have the capabilities for it, CAP_SYS_ADMIN and CAP_SYS_CHROOT."""
    with open("/proc/self/status", encoding="utf-8") as stream:
        held = next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff:"))
    return bool(held >> 21 & 1 and held >> 18 & 1)


def follow_from(pid, targets, timeout, deadline):
    """What comes of each way to ``targets`` from where a process is.

    Changes the namespace of the process that calls: call it in one of its own.
    """
    configuration = read_configuration("/proc/%d/root" % pid)
    enter(pid)
    return follow_all(targets, configuration, timeout, deadline)


def follow_all(targets, configuration, timeout, deadline):
    """All ways side by side: a thread has the network namespace of the one that started it."""
    nothing = dict(dict.fromkeys(_network_path.RESULT), reason="it did not end in time")
    results = [nothing] * len(targets)

    def follow(number, target):
        try:
            results[number] = _network_path.follow(target, configuration, timeout, deadline)
        except Exception as exc:  # pylint: disable=broad-except
            results[number] = dict(nothing, reason="%s: %s" % (type(exc).__name__, exc))

    threads = [
        threading.Thread(target=follow, args=(number, target), daemon=True) for number, target in enumerate(targets)
    ]
    for thread in threads:
        thread.start()
    end = Deadline(deadline.remaining() + 1.0)
    for thread in threads:
        thread.join(end.remaining())
    return results


def enter(pid):
    """Go into the network namespace of a process."""
    fd = os.open("/proc/%d/ns/net" % pid, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)


def read_configuration(root="/"):
    """How names are resolved under a root directory.

    The root is entered to read: a link in it must not lead to a file of ours.
    """
    ours = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        if root != "/":
            os.chroot(root)
            os.chdir("/")
        return _dns.Configuration(_read("/etc/resolv.conf"), _read("/etc/hosts"))
    finally:
        if root != "/":
            os.fchdir(ours)
            os.chroot(".")
        os.close(ours)


def _read(path):
    """The text of a file, empty where there is none. A pipe in its place does not hold us up."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(fd, encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_BYTES)
    except OSError:
        return ""
