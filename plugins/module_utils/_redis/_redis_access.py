# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure who can use a Redis server without a password. Private to this collection."""

from __future__ import annotations

import ipaddress
import os

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners, _sockets
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import (
    Client,
    ReplyError,
    connect_without_password,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import readable
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Fields
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# The user of clients that do not log in.
DEFAULT_USER = "default"


def measure(client: Client, options: Options, settings: Fields, pid: int | None) -> Part:
    """Return the part ``access``. ``settings`` are those of the server, ``pid`` its process on this host, or null."""
    required, may_configure = _without_password(client, options)
    bind = settings.get("bind")
    addresses = None if bind is None else bind.split()
    protected = settings.get("protected-mode")
    loopback = None if addresses is None else is_loopback_only(addresses)
    return {
        "password_required": required,
        "may_configure": may_configure,
        "protected_mode": None if protected is None else protected == "yes",
        "bind": None if addresses is None else [readable(each.encode("utf-8")) for each in addresses],
        "loopback_only": loopback,
        # It searches all processes.
        "beyond_host": None if required else _is_beyond_host(pid, options["login_port"], loopback),
    }


def _without_password(client: Client, options: Options) -> tuple[bool | None, bool | None]:
    """Return whether the server requires a password, and whether clients without one may use CONFIG; null: unknown."""
    try:
        if _is_default_with_password(client):
            return True, None
        anonymous = connect_without_password(client, options)
    except CannotConnect as exc:
        return {"authentication": True, "protected_mode": False}.get(exc.kind), None
    try:
        anonymous.ask("CONFIG", "GET", "dir")
        return False, True
    except ReplyError:
        return False, False
    except CannotConnect:
        return False, None


def _is_default_with_password(client: Client) -> bool:
    """Return whether the client is the user default, and that user is known to have a password.

    Another user would need a right for this that shows hashes of passwords.
    """
    if client.user != DEFAULT_USER:
        return False
    try:
        reply = client.ask("ACL", "GETUSER", DEFAULT_USER)
    except ReplyError:
        return False
    return b"nopass" not in dict(zip(reply[::2], reply[1::2])).get(b"flags", ())


def is_loopback_only(bind: list[str]) -> bool:
    """Return whether all addresses of the setting ``bind`` are of the loopback interface. None means all interfaces."""
    return bool(bind) and all(_is_loopback(each.lstrip("-")) for each in bind)


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return text == "localhost"


def _is_beyond_host(pid: int | None, port: int, loopback_only: bool | None, root: str = "/") -> bool | None:
    """Return whether other hosts can connect to the server; null if unknown.

    A server in a network namespace of its own (a container) can be reached if a program of the engine, such as
    docker-proxy, listens on its port of the host. Another server may listen there instead.
    """
    if pid is None or loopback_only is None:
        return None
    try:
        namespaces = [os.readlink(os.path.join(root, "proc", name, "ns/net")) for name in ("self", str(pid))]
        if namespaces[0] == namespaces[1]:
            return not loopback_only
    except OSError:
        return None
    found = {
        _publishes(each, pid, root)
        for each in _sockets.read(os.getpid(), states=(_sockets.LISTEN,), proc=os.path.join(root, "proc"))
        if each.port == port and not _sockets.is_loopback(each.address)
    }
    return True if True in found else None if None in found else False


def _publishes(listening: _sockets.Socket, pid: int, root: str) -> bool | None:
    """Return whether what listens on a port of the host leads to the container of a process; null if unknown."""
    holder = _listeners.holder(listening.inode)
    if holder is None:
        return None
    target = _listeners.target(holder["pid"])
    if target is None:
        return _listeners.is_of_engine(holder["command"])
    # Our own connection is one of those to the server.
    return _sockets.plain(target) in {_sockets.plain(own) for (own, _port), _peer in process.connections(pid, root)}
