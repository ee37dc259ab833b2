# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests paths from the network namespace of a container, without programs of its image. Private to this collection."""

from __future__ import annotations

import ctypes
import fcntl
import os
import threading
from typing import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _containers
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _mtu, _network_path
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_path import PathResult, Target

CLONE_NEWNET = 0x40000000
# ioctl_ns(2): returns the user namespace that owns a namespace, if this process may see it.
GET_USER_NAMESPACE = 0xB701
GONE = "its process %d is gone or hidden"
# Most bytes read of resolv.conf and hosts, which a container can make as large as it wants.
MAX_BYTES = 1 << 18


class Forbidden(Exception):
    """This process may not enter the network namespaces of containers; ``hint`` says how to get the right."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint or _rights.hint("CAP_SYS_ADMIN") or "Measure on the host itself, as root"


class Gone(Exception):
    """The process does not exist, or is not in this container."""


class ContainerResult(PathResult, total=False):
    """The result of a path from a container. ``ended``: the container ended, so there is nothing to measure."""

    ended: bool


def check_access(pid: int, container: str) -> None:
    """Raise Forbidden or Gone if paths from a container cannot be tested through its process ``pid``."""
    if not (_rights.has("CAP_SYS_ADMIN") and _rights.has("CAP_SYS_CHROOT")):
        raise Forbidden(_reason())
    try:
        namespace = os.open("/proc/%d/ns/net" % pid, os.O_RDONLY)
    except PermissionError as exc:
        raise Forbidden(_reason()) from exc
    except OSError as exc:
        raise Gone(GONE % pid) from exc
    try:
        os.close(fcntl.ioctl(namespace, GET_USER_NAMESPACE))
    except PermissionError as exc:
        raise Forbidden("its network belongs to a user namespace outside of that of this process") from exc
    except OSError:
        # A kernel before 4.9 has no such call: the attempt to enter will show it.
        pass
    finally:
        os.close(namespace)
    # After a crash of the machine, the files of the engine name earlier processes, whose ids others may have now.
    if _containers.container_id(pid) != container:
        raise Gone(GONE % pid)


def _reason() -> str:
    if os.geteuid():
        return "only root can enter the network namespaces of containers"
    return "this root may not enter the network namespaces of containers"


def follow_from(pid: int, targets: Sequence[Target], timeout: float, deadline: Deadline) -> list[ContainerResult]:
    """Return the results of the paths to ``targets`` from the network namespace of a process.

    Changes the namespace of the calling process: call it in a process of its own.
    """
    try:
        configuration = read_configuration("/proc/%d/root" % pid)
        routes = _mtu.RoutesOfHost()
        enter(pid)
    except OSError as exc:
        ended = isinstance(exc, (FileNotFoundError, ProcessLookupError))
        return _not_measured(targets, "its network could not be entered: %s" % (exc.strerror or exc), ended)
    results = follow_all(targets, configuration, timeout, deadline, routes)
    if not os.path.exists("/proc/%d" % pid):
        return _not_measured(targets, "it ended during the measurement", True)
    return results


def _not_measured(targets: Sequence[Target], reason: str, ended: bool = False) -> list[ContainerResult]:
    return [{**_network_path.no_result(reason), "ended": ended} for _target in targets]


def follow_all(
    targets: Sequence[Target],
    configuration: _dns.Configuration,
    timeout: float,
    deadline: Deadline,
    routes: _mtu.RoutesOfHost | None = None,
) -> list[ContainerResult]:
    """Return the results of all paths, tested in parallel. A thread inherits the network namespace."""
    results = _not_measured(targets, "it did not end in time")

    def follow(number: int, target: Target) -> None:
        try:
            results[number] = {**_network_path.follow(target, configuration, timeout, deadline, routes)}
        except Exception as exc:  # pylint: disable=broad-except
            (results[number],) = _not_measured([target], "%s: %s" % (type(exc).__name__, exc))

    threads = [
        threading.Thread(target=follow, args=(number, target), daemon=True) for number, target in enumerate(targets)
    ]
    for thread in threads:
        thread.start()
    end = Deadline(deadline.remaining() + 1.0)
    for thread in threads:
        thread.join(end.remaining())
    return results


def enter(pid: int) -> None:
    """Enter the network namespace of a process. Raises OSError."""
    fd = os.open("/proc/%d/ns/net" % pid, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)


def read_configuration(root: str = "/", resolv_conf: str = "/etc/resolv.conf") -> _dns.Configuration:
    """Return the DNS configuration under a root directory.

    The process enters the root to read it, so that links in it cannot point to files of the host.
    """
    own_root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        if root != "/":
            os.chroot(root)
            os.chdir("/")
        (text, unread), (hosts, _unread) = _read(resolv_conf), _read("/etc/hosts")
        return _dns.Configuration(text, hosts, unread)
    finally:
        if root != "/":
            os.fchdir(own_root)
            os.chroot(".")
        os.close(own_root)


def _read(path: str) -> tuple[str, str | None]:
    """Return the text of a file, and the reason why it cannot be read, or null. A FIFO does not block."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(fd, encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_BYTES), None
    except OSError as exc:
        return "", "%s cannot be read (%s)" % (path, exc.strerror)
