# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures PgBouncer: by its console, and by a login through it. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    Unknown,
    error,
    reached,
)
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pgbouncer as pgbouncer
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

POOLER_SPEC: dict[str, Any] = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 6432},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "database": {"type": "str", "default": ""},
    "service_user": {"type": "str", "default": ""},
    "service_password": {"type": "str", "default": "", "no_log": True},
}
ARGUMENT_SPEC: dict[str, Any] = dict(
    postgresql.CONNECTION_SPEC,
    poolers={"type": "list", "elements": "dict", "default": [], "options": POOLER_SPEC},
    top={"type": "int", "default": 20},
)


def measure(options: Options) -> Measurement:
    """Return the measurement of M(tracktion.ops.pg_pooler_info). Raises BadOption."""
    unknown = Unknown()
    deadline = Deadline(options["deadline"])
    parts: Part = {"poolers": [], "logins": [], "pools": [], "databases": []}
    for pooler in options["poolers"]:
        if not pooler["user"] and not pooler["database"]:
            raise BadOption(
                "poolers: %s needs user or database" % pooler["host"],
                hint="Set `poolers[].user` to read the console, or `poolers[].database` to test a login.",
            )
        _add(parts, pooler, options, deadline, unknown)
    for name in ("pools", "databases"):
        parts["%s_total" % name] = len(parts[name])
        parts[name] = sorted(parts[name], key=pgbouncer.urgency)[: options["top"]]
    return reached(parts, unknown)


def _add(parts: Part, pooler: Mapping[str, Any], options: Options, deadline: Deadline, unknown: Unknown) -> None:
    """Add what one of the ``poolers`` shows to ``parts``."""
    address = "%s:%d" % (pooler["host"], pooler["port"])
    if pooler["user"]:
        connection = _connection(pooler, options, deadline, pooler["user"], pooler["password"], pgbouncer.CONSOLE, "")
        entry, shown = pgbouncer.read_console(connection, address, unknown)
        parts["poolers"].append(entry)
        for name, rows in shown.items():
            parts[name] += rows
    if pooler["database"]:
        user, password = options["login_user"], options["login_password"]
        if pooler["service_user"]:
            user, password = pooler["service_user"], pooler["service_password"]
        connection = _connection(pooler, options, deadline, user, password, pooler["database"], "service_")
        parts["logins"].append(dict(_login(connection), pooler=address, user=user, database=pooler["database"]))


def _connection(
    pooler: Mapping[str, Any],
    options: Options,
    deadline: Deadline,
    user: str,
    password: str,
    database: str,
    prefix: str,
) -> dict[str, Any]:
    """Return the connection options for one login. ``prefix``: how the options of its user and password begin."""
    return {
        **options,
        "login_host": pooler["host"],
        "login_port": pooler["port"],
        "login_user": user,
        "login_password": password,
        "login_db": database,
        "login_unix_socket": "",
        "pooler": prefix,
        "deadline": deadline.remaining(),
    }


def _login(connection: dict[str, Any]) -> Part:
    """Return whether a login through the pooler reaches the server, with the failure."""
    try:
        pgbouncer.test_login(connection)
    except CannotConnect as exc:
        return {"reachable": None if exc.kind == "deadline" else False, "error": error(exc)}
    return {"reachable": True, "error": None}
