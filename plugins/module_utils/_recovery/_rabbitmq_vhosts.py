# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves definitions of RabbitMQ in scratch vhosts of the broker itself. Private to this collection.

For brokers outside of containers. Each vhost of the backup is imported into a vhost with a name of its own, exported
and compared. What belongs to the whole broker (users, permissions, global parameters) cannot be imported beside what
the broker has.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import Management, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _process_mark,
    _rabbitmq_definitions,
    _rabbitmq_scratch,
    _scratch_container,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._rabbitmq_definitions import (
    SCRATCH_VHOST,
    Comparison,
    Items,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import Difference

IMPORTED = ("parameters", "policies", "queues", "exchanges", "bindings")
# Parameters that do nothing by themselves. A shovel would move the messages of real queues, also from a scratch vhost.
PASSIVE = ("operator_policy", "vhost-limits")
# Seconds for the removal of a vhost, also after the deadline.
REMOVE_SECONDS = 60.0


def differences(client: Management, document: Mapping[str, Any]) -> list[Difference]:
    """Return how exports of scratch vhosts differ from the definitions that were imported into them.

    Raises NotImported, NoScratch, CannotConnect.
    """
    wanted = _rabbitmq_definitions.items(document)
    found: list[Difference] = []
    try:
        sweep(client)
        for number, row in enumerate(document.get("vhosts", [])):
            if ("vhosts", row["name"]) in wanted:
                found += _of_vhost(client, document, wanted, row, number)
    except ReplyError as exc:
        raise _scratch_container.NoScratch("the broker rejects a scratch vhost: %s" % exc, _rabbitmq.READ_LOG)
    return found


def sweep(client: Management) -> list[str]:
    """Remove the vhosts that killed runs of this host have left, and return their names. Raises ReplyError."""
    start = "%s%s-" % (SCRATCH_VHOST, _process_mark.host())
    removed = []
    for row in client.get_long("vhosts", columns="name"):
        mark = row["name"][len(start) :].rpartition("-")[0].replace(".", ":")
        if row["name"].startswith(start) and _process_mark.is_dead(mark):
            client.delete("vhosts", row["name"])
            removed.append(row["name"])
    return removed


def _of_vhost(
    client: Management, document: Mapping[str, Any], wanted: Items, row: Mapping[str, Any], number: int
) -> list[Difference]:
    """Return how an export of one vhost differs."""
    name = row["name"]
    keys = [key for key in wanted if key[0] in IMPORTED and key[1] == name and _is_passive(key)]
    part = _rabbitmq_definitions.document(document, keys)
    with _scratch(client, row, number) as scratch:
        try:
            client.post_long(
                {category: _without_vhost(part[category]) for category in IMPORTED}, "definitions", scratch
            )
        except ReplyError as exc:
            raise _rabbitmq_scratch.NotImported("the import of the vhost %s: %s" % (name, exc))
        exported = client.get_long("definitions", scratch)
        about = client.get_long("vhosts", scratch)
    rows = {category: [dict(each, vhost=name) for each in exported.get(category, [])] for category in IMPORTED}
    restored = _rabbitmq_definitions.items(dict(rows, vhosts=[dict(about, name=name)]))
    compared = Comparison({key: wanted[key] for key in [("vhosts", name), *keys]}, restored)
    return compared.differences(compared.additional)


def _is_passive(key: _rabbitmq_definitions.Key) -> bool:
    return key[0] != "parameters" or key[2] in PASSIVE


def _without_vhost(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{field: value for field, value in row.items() if field != "vhost"} for row in rows]


@contextlib.contextmanager
def _scratch(client: Management, row: Mapping[str, Any], number: int) -> Iterator[str]:
    """Yield a new vhost with the properties of one of the backup. The user gets all permissions in it."""
    name = "%s%s-%s-%d" % (SCRATCH_VHOST, _process_mark.host(), _process_mark.own().replace(":", "."), number)
    about = {**row, **(row.get("metadata") or {})}
    tags = about.get("tags") or []
    body = {"description": about.get("description") or "", "tags": tags if isinstance(tags, str) else ",".join(tags)}
    if about.get("default_queue_type") not in (None, "undefined"):
        body["default_queue_type"] = about["default_queue_type"]
    try:
        client.put_long(body, "vhosts", name)
        yield name
    finally:
        # What cannot be removed now is removed by the next run.
        client.deadline = Deadline(max(client.deadline.remaining(86400), REMOVE_SECONDS))
        with contextlib.suppress(ReplyError, CannotConnect):
            client.delete("vhosts", name)
