# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recognize a Redis Sentinel, which speaks the protocol of Redis and has no data. Private to this collection."""

from __future__ import annotations

from typing import Iterable

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, unreachable
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError, address
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import pairs, parse_info, readable
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Fields
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options

# What HELLO calls it.
MODE = "sentinel"

# Monitored servers that the hint names.
NAMED_MOST = 3


def measurement(parts: Iterable[str], client: Client, options: Options) -> Measurement:
    """Return the measurement of a Sentinel: every part is null, and nothing is known about a server."""
    try:
        info = parse_info(client.ask("INFO", "sentinel"))
    except ReplyError:
        info = {}
    message = "%s is a Redis Sentinel, which has no data of its own" % address(options)
    # It is neither reachable nor unreachable: the server is another one.
    measured = unreachable(parts, CannotConnect("sentinel", message, hint(info)))
    measured["reachable"] = None
    return measured


def hint(info: Fields) -> str:
    """Return the next step, from the section ``sentinel`` of INFO."""
    fields = [pairs(value) for name, value in sorted(info.items()) if name.startswith("master") and name[6:].isdigit()]
    servers = [
        "%s at %s" % tuple(readable(each.get(name, "?").encode("utf-8")) for name in ("name", "address"))
        for each in fields
    ]
    named = ", ".join(servers[:NAMED_MOST])
    return "Set `login_host` and `login_port` to the server that it monitors%s." % (": " + named if named else "")
