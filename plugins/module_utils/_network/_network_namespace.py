# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at the network as a container sees it, with nothing of the container's image. Private to this collection."""

from __future__ import annotations

import ctypes
import fcntl
import os
import threading

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _containers
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _network_path

CLONE_NEWNET = 0x40000000
# ioctl_ns(2): the user namespace that a namespace belongs to, where it is one that we may see.
GET_USER_NAMESPACE = 0xB701
GONE = "its process %d is gone, or hidden from here"
# What resolv.conf and hosts have at most; a container may put anything there.
MAX_BYTES = 1 << 18


class Forbidden(Exception):
    """The network namespaces of containers are not ours to enter; ``hint`` says what would let us in."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint or _rights.hint("CAP_SYS_ADMIN") or "Measure on the host itself, as root"


class Gone(Exception):
    """The process is not there, or it is none of this container."""


def look(pid, container):
    """Raises Forbidden or Gone where the network of a container cannot be seen through this process of it."""
    if not _may_enter():
        raise Forbidden(_hint())
    try:
        namespace = os.open("/proc/%d/ns/net" % pid, os.O_RDONLY)
    except PermissionError as exc:
        raise Forbidden(_hint()) from exc
    except OSError as exc:
        raise Gone(GONE % pid) from exc
    try:
        os.close(fcntl.ioctl(namespace, GET_USER_NAMESPACE))
    except PermissionError as exc:
        raise Forbidden("its network belongs to a user namespace outside of ours") from exc
    except OSError:
        # A kernel before 4.9: we shall see.
        pass
    finally:
        os.close(namespace)
    # After a crash of the machine, the files of the engine name processes of before: others have their numbers now.
    if _containers.container_id(pid) != container:
        raise Gone(GONE % pid)


def _may_enter():
    """Whether we have the capabilities for it, CAP_SYS_ADMIN and CAP_SYS_CHROOT."""
    return _rights.has("CAP_SYS_ADMIN") and _rights.has("CAP_SYS_CHROOT")


def _hint():
    if os.geteuid():
        return "the network namespaces of containers can be entered by root only"
    return "this root may not enter the network namespaces of containers"


def follow_from(pid, targets, timeout, deadline):
    """What comes of each way to ``targets`` from where a process is.

    Changes the namespace of the process that calls: call it in one of its own.
    """
    try:
        configuration = read_configuration("/proc/%d/root" % pid)
        enter(pid)
    except OSError as exc:
        ended = isinstance(exc, (FileNotFoundError, ProcessLookupError))
        return _not_gone(targets, "its network could not be entered: %s" % (exc.strerror or exc), ended)
    results = follow_all(targets, configuration, timeout, deadline)
    if not os.path.exists("/proc/%d" % pid):
        return _not_gone(targets, "it ended while we looked", True)
    return results


def _not_gone(targets, reason, ended=False):
    """``ended``: whether there is nothing to look from any more, which is not the same as not knowing."""
    return [dict(dict.fromkeys(_network_path.RESULT), reason=reason, ended=ended) for _target in targets]


def follow_all(targets, configuration, timeout, deadline):
    """All ways side by side: a thread has the network namespace of the one that started it."""
    results = _not_gone(targets, "it did not end in time")

    def follow(number, target):
        try:
            results[number] = _network_path.follow(target, configuration, timeout, deadline)
        except Exception as exc:  # pylint: disable=broad-except
            (results[number],) = _not_gone([target], "%s: %s" % (type(exc).__name__, exc))

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
        (text, unread), (hosts, _unread) = _read("/etc/resolv.conf"), _read("/etc/hosts")
        return _dns.Configuration(text, hosts, unread)
    finally:
        if root != "/":
            os.fchdir(ours)
            os.chroot(".")
        os.close(ours)


def _read(path):
    """``text, reason``: what a file holds, and why it cannot be read, else null. A pipe does not hold us up."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(fd, encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_BYTES), None
    except OSError as exc:
        return "", "%s cannot be read (%s)" % (path, exc.strerror)
