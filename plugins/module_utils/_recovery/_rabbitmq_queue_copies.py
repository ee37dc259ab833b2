# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies messages of queues to a backup, and publishes them again. Private to this collection.

A copy fetches the ready messages without acknowledging them, so the broker puts them back at their positions when the
connection ends. Meanwhile consumers do not get them, and afterwards they are marked as redelivered. A quorum queue
counts that as a delivery and drops a message after its delivery limit (20 by default since 4.0), and a stream has no
ready messages: both are left out.
"""

from __future__ import annotations

import fnmatch
import os
from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_acts, _rabbitmq_messages
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import Management
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_amqp import (
    Amqp,
    QueueError,
    exact_headers,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import cannot_store
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

FOLDER = "messages"
COLUMNS = "vhost,name,type,durable,exclusive,auto_delete,messages,messages_ready,message_bytes"
# Why queues of a type are left out.
LEFT_OUT = {
    "quorum": "a copy counts as a delivery of each message, and a quorum queue drops messages after its delivery limit",
    "stream": "a stream keeps its messages, and has no ready ones",
}


class NotCopied(Failure):
    """The messages of a queue could not be copied. The message says why; the queue has all of them."""

    kind = "not_copied"


class Queue(NamedTuple):
    """A queue of the broker. Null: the broker has no statistics of it yet."""

    vhost: str
    name: str
    type: str
    durable: bool
    messages: int | None
    ready: int | None
    bytes: int | None


def queues(client: Management) -> list[Queue]:
    """Return the queues of all vhosts, in order, without exclusive ones. Raises ReplyError, CannotConnect."""
    found = [
        Queue(
            row["vhost"],
            row["name"],
            row.get("type") or "classic",
            bool(row.get("durable")),
            row.get("messages"),
            row.get("messages_ready"),
            row.get("message_bytes"),
        )
        for row in client.get_long("queues", columns=COLUMNS)
        if isinstance(row, dict) and not row.get("exclusive")
    ]
    return sorted(found)


def chosen(found: Sequence[Queue], patterns: Sequence[str]) -> list[Queue]:
    """Return the queues whose name matches one of the shell patterns."""
    return [each for each in found if any(fnmatch.fnmatchcase(each.name, pattern) for pattern in patterns)]


def copy(options: Options, deadline: Deadline, wanted: Sequence[Queue], folder: str) -> tuple[list[Part], list[Part]]:
    """Write the messages of queues to files in ``folder``; return what was written, and what was left out.

    ``[{vhost, queue, path, messages, bytes}]`` and ``[{vhost, queue, reason}]``; ``path`` is relative to ``folder``.
    Raises NotCopied, CannotConnect, CannotStore.
    """
    copied: list[Part] = []
    left_out: list[Part] = []
    for number, queue in enumerate(wanted):
        reason = LEFT_OUT.get(queue.type)
        if reason:
            left_out.append({"vhost": queue.vhost, "queue": queue.name, "reason": reason})
            continue
        path = os.path.join(folder, FOLDER, "%05d.jsonl" % number)
        with Amqp(options, deadline, queue.vhost) as amqp:
            count, size = _copy_one(amqp, options, queue, path)
        if count:
            relative = os.path.join(FOLDER, os.path.basename(path))
            copied.append(
                {"vhost": queue.vhost, "queue": queue.name, "path": relative, "messages": count, "bytes": size}
            )
    return copied, left_out


def _copy_one(amqp: Amqp, options: Options, queue: Queue, path: str) -> tuple[int, int]:
    """Write the ready messages of a queue; return their number and the size of the file. None: no file."""
    try:
        ready, _consumers = amqp.declare_passive(queue.name)
        if not ready:
            return 0, 0
        if ready > options["max_messages"]:
            raise NotCopied(
                "queue %s has %d ready messages, more than max_messages (%d)"
                % (queue.name, ready, options["max_messages"]),
                "Raise `max_messages`, and `deadline` too: a message takes about half a millisecond.",
            )
        with _rabbitmq_messages.ExportFile(path, options["max_bytes"]) as export, exact_headers(amqp.pika):
            tag = _rabbitmq_acts.fetch(amqp, queue.name, ready, export, options["timeout"])
            if tag is not None:
                export.keep()
        return export.messages, export.bytes
    except QueueError as exc:
        raise NotCopied("queue %s in vhost %s: %s" % (queue.name, queue.vhost, exc), "Remove it from `messages_of`.")
    except _rabbitmq_messages.BadExport as exc:
        raise NotCopied("queue %s: %s" % (queue.name, exc), "Raise `max_bytes`.")
    except OSError as exc:
        raise cannot_store(exc, path)


def problems(folder: str, contents: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the files of messages that the manifest names: each line of them is read."""
    found = []
    for each in contents.get("messages") or []:
        path = os.path.join(folder, each["path"])
        try:
            vhost, queue, count = _rabbitmq_messages.read_export(path, each["messages"], each["bytes"])
            if (vhost, queue, count) != (each["vhost"], each["queue"], each["messages"]):
                found.append("%s has %d messages of queue %s" % (each["path"], count, queue))
        except (_rabbitmq_messages.BadExport, OSError) as exc:
            found.append("%s: %s" % (each["path"], exc))
    return found


def publish(options: Options, path: str, progress: str, name: str) -> Part:
    """Publish the messages of a file to their queue, with confirms; return what ``replay()`` returns.

    ``progress`` is the file that records how many were confirmed, so that a run after a failure continues.
    Raises Aborted, CannotConnect.
    """
    limits = {"max_messages": 1 << 40, "max_bytes": 1 << 50}
    return _rabbitmq_acts.replay(dict(options, export_path=path, progress_path=progress, name=name, **limits), False)
