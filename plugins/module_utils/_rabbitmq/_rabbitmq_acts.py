# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moves messages from a queue to a file and back. Private to this collection.

The broker's own purge is never used: it would drop messages that are not exported. Messages are fetched without
acknowledgement, written and synced to the disk, and only then acknowledged. If anything fails before, the broker
requeues every message at its original position.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from typing import Any, Iterator, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries, _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import LATE, CannotConnect, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_messages, _rabbitmq_queues
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import (
    READ_LOG,
    ReplyError,
    hint_for,
    management,
    start_deadline,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_amqp import (
    Amqp,
    QueueError,
    exact_headers,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import Depth
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# A channel and the name of an exchange.
_Route = Tuple[Any, str]

# The start of the names of exchanges for replays.
REPLAY_EXCHANGE = "tracktion.ops.replay."
# Confirmed messages between two records of the progress of a replay.
PROGRESS_EVERY = 500
PROGRESS_BYTES = 4096


class Aborted(Failure):
    """The change was not made, or not completed: the message says how far it got."""

    kind = "aborted"


def purge(options: Options, check_mode: bool) -> Part:
    """Export the ready messages of a queue and remove exactly those.

    Return ``{changed, before, after, exported_messages, exported_bytes, export_path}``, in check mode the expected
    values (``exported_bytes`` and ``export_path`` null). Raise Aborted and CannotConnect.
    """
    deadline = start_deadline(options)
    name, vhost = options["name"], options["vhost"]
    with Amqp(options, deadline, vhost) as amqp:
        before = _depth(amqp, options, deadline, name)
        result: Part = {"changed": False, "before": before, "after": before}
        result.update(exported_messages=0, exported_bytes=0, export_path=None)
        if before["ready"] == 0:
            return result
        _check_depth(before["ready"], options)
        _check_writable(options["export_directory"])
        result["changed"] = True
        if check_mode:
            result.update(exported_messages=before["ready"], exported_bytes=None, after=dict(before, ready=0))
            return result
        path = _rabbitmq_messages.export_path(options["export_directory"], vhost, name, time.time())
        try:
            with _rabbitmq_messages.ExportFile(path, options["max_bytes"]) as export, exact_headers(amqp.pika):
                tag = fetch(amqp, name, before["ready"], export, options["timeout"])
                export.keep()
        except OSError as exc:
            raise Aborted(
                "nothing was purged: the export cannot be written: %s" % exc,
                "Free disk space, or set `export_directory` to a directory on a disk with room for the messages.",
            )
        except _rabbitmq_messages.BadExport as exc:
            raise Aborted("nothing was purged: %s" % exc, "Raise `max_bytes`.")
        except QueueError as exc:
            raise _rejected_by_broker(exc, options, name, vhost, "nothing was purged")
        except CannotConnect as exc:
            raise Aborted("nothing was purged: %s" % exc, _hint_of(exc))
        result.update(exported_messages=export.messages, exported_bytes=export.bytes, export_path=path)
        if tag is None:
            # The queue has become empty in the meantime.
            _remove(path)
            result.update(changed=False, export_path=None, exported_bytes=0)
        else:
            _acknowledge(amqp, tag, path)
        result["after"] = _depth(amqp, options, deadline, name)
        return result


def _check_depth(ready: int, options: Options) -> None:
    expected = options["expected_messages"]
    if abs(ready - expected) > expected * options["drift_tolerance"]:
        raise Aborted(
            "nothing was purged: the queue %s holds %d ready messages, %d were expected"
            % (options["name"], ready, expected),
            "Measure again, then set `expected_messages` (`drift_tolerance` is %g)." % options["drift_tolerance"],
        )
    if ready > options["max_messages"]:
        raise Aborted(
            "nothing was purged: %d ready messages are more than one run may remove (max_messages %d)"
            % (ready, options["max_messages"]),
            "Raise `max_messages`.",
        )


def _check_writable(directory: str) -> None:
    """Raise Aborted before anything is fetched, and in check mode, if an export could not be written."""
    try:
        _safe_files.check_place(os.path.join(directory, "export"))
    except OSError as exc:
        raise Aborted(
            "nothing was purged: export_directory: %s" % (exc.strerror or exc),
            "Set `export_directory` to an absolute path that no other user can change.",
        )
    existing = directory
    while existing and not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK | os.X_OK):
        raise Aborted(
            "nothing was purged: %s is not a writable directory" % (existing or directory),
            "Set `export_directory` to an absolute path that the user of this task can write to.",
        )


def fetch(amqp: Amqp, name: str, count: int, export: _rabbitmq_messages.ExportFile, seconds: float) -> int | None:
    """Write up to ``count`` messages, each fetched within ``seconds``. Return the delivery tag of the last, or None."""
    channel = amqp.channel()
    tag = None
    for position in range(1, count + 1):
        # Only the network call: an OSError of the file must not be reported as one of the connection.
        with amqp.bounded(seconds):
            method, properties, body = channel.basic_get(name, auto_ack=False)
        if method is None:
            break
        export.write(_rabbitmq_messages.to_line(position, amqp.vhost, name, method, properties, body))
        tag = method.delivery_tag
    return tag


def _acknowledge(amqp: Amqp, tag: int, path: str) -> None:
    """Acknowledge everything fetched on the channel. The file is kept in any case."""
    try:
        channel = amqp.channel()
        with amqp.bounded():
            channel.basic_ack(tag, multiple=True)
            # The broker replies only after it has processed the acknowledgement.
            channel.close()
    except (CannotConnect, QueueError) as exc:
        raise Aborted(
            "the messages were exported to %s, but it is not known whether the broker removed them: %s" % (path, exc),
            "Check the queue: messages that it still holds are also in the file.",
        )


def replay(options: Options, check_mode: bool) -> Part:
    """Publish an export to the queue that it came from, with publisher confirms.

    The number of confirmed messages is recorded beside the file (``<export_path>.replayed``), so that a second run, or
    one after a failure, does not publish a message twice. Return the same as ``purge()``, with ``replayed_messages``.
    """
    deadline = start_deadline(options)
    path = options["export_path"]
    try:
        vhost, name, total = _rabbitmq_messages.read_export(path, options["max_messages"], options["max_bytes"])
        progress = options.get("progress_path") or path + ".replayed"
        done = _read_progress(progress, total)
    except (OSError, ValueError, _rabbitmq_messages.BadExport) as exc:
        raise Aborted("nothing was replayed: %s: %s" % (path, exc), "Check `export_path`.")
    if options["name"] not in (None, name):
        raise Aborted("nothing was replayed: the messages came from queue %s" % name, "Check `name` and `export_path`.")
    with Amqp(options, deadline, vhost) as amqp:
        before = _depth(amqp, options, deadline, name)
        result: Part = {"changed": done < total, "before": before, "after": before}
        result.update(replayed_messages=total - done, export_path=path)
        if done == total:
            return result
        _check_publishers(options, deadline)
        if check_mode:
            result["after"] = dict(before, ready=before["ready"] + total - done)
            return result
        _publish(amqp, options, name, (path, progress), done, total)
        result["after"] = _depth(amqp, options, deadline, name)
        return result


def _check_publishers(options: Options, deadline: Deadline) -> None:
    """Raise Aborted, also in check mode, if an alarm blocks publishers. Without the API that is not known."""
    with contextlib.suppress(CannotConnect, ReplyError):
        for node in management(options, deadline).get("nodes", columns="name,mem_alarm,disk_free_alarm"):
            if isinstance(node, dict) and (node.get("mem_alarm") or node.get("disk_free_alarm")):
                raise Aborted(
                    "nothing was replayed: the %s alarm of %s blocks publishers"
                    % ("memory" if node.get("mem_alarm") else "disk", node.get("name")),
                    hint_for("blocked", options),
                )


def _publish(amqp: Amqp, options: Options, name: str, paths: tuple[str, str], done: int, total: int) -> None:
    """Publish the messages after the first ``done``. ``paths`` are the export and the record of the progress."""
    (path, progress), confirmed = paths, done
    # Before the first message, so that a run after one that was killed knows that there was one.
    _record_progress(progress, confirmed, total)
    try:
        with _replay_exchange(amqp, name, progress) as (channel, exchange), _rabbitmq_messages.open_export(
            path
        ) as handle:
            for number, line in enumerate(handle, 1):
                if number > done:
                    _publish_one(amqp, channel, exchange, line, number, options)
                    confirmed = number
                    if confirmed % PROGRESS_EVERY == 0:
                        _record_progress(progress, confirmed, total)
    except QueueError as exc:
        raise _rejected_by_broker(
            exc, options, name, amqp.vhost, "%d of %d messages were replayed" % (confirmed, total)
        )
    except (CannotConnect, OSError) as exc:
        raise Aborted(
            "%d of %d messages were replayed: %s" % (confirmed, total, exc),
            "Run it again: it continues with message %d. %s" % (confirmed + 1, _hint_of(exc)),
        )
    finally:
        _record_progress(progress, confirmed, total)


@contextlib.contextmanager
def _replay_exchange(amqp: Amqp, name: str, progress: str) -> Iterator[_Route]:
    """Declare an exchange that is bound to this queue only.

    Messages published to it keep their routing keys, which consumers may evaluate, and reach no other queue. It has the
    same name for the same record of the ``progress``: a run after one that was killed uses and removes its exchange.
    """
    mark = hashlib.sha256(("%s\0%s\0%s" % (platform.node(), progress, name)).encode("utf-8", "surrogateescape"))
    exchange = REPLAY_EXCHANGE + mark.hexdigest()[:12]
    channel = amqp.channel()
    with amqp.bounded():
        channel.exchange_declare(exchange, "fanout", durable=False, auto_delete=True)
        channel.queue_bind(name, exchange)
        channel.confirm_delivery()
    try:
        yield channel, exchange
    finally:
        with contextlib.suppress(CannotConnect, QueueError), amqp.bounded(1.0):
            if channel.is_open:
                channel.exchange_delete(exchange)


def _publish_one(amqp: Amqp, channel: Any, exchange: str, line: bytes, number: int, options: Options) -> None:
    record, properties, body = _rabbitmq_messages.from_line(line, number)
    if properties.get("user_id") not in (None, options["login_user"]):
        # The broker rejects messages whose user id is not the one that is logged in.
        del properties["user_id"]
    with amqp.bounded(options["timeout"]), exact_headers(amqp.pika):
        channel.basic_publish(
            exchange,
            _rabbitmq_messages.from_json(record["routing_key"]),
            body,
            amqp.pika.BasicProperties(**properties),
            mandatory=True,
        )


def _remove(path: str) -> None:
    directory, name = _safe_files.beside(path)
    with directory:
        directory.remove(name)


def _read_progress(path: str, total: int) -> int:
    """Return how many messages were replayed before, by the record of the progress. Raise OSError, ValueError."""
    directory, name = _safe_files.beside(path, sticky=True)
    with directory:
        try:
            progress = _journal_entries.parsed(directory.read(name, PROGRESS_BYTES))
        except FileNotFoundError:
            return 0
    replayed = progress.get("replayed") if isinstance(progress, dict) and progress.get("total") == total else None
    if isinstance(replayed, bool) or not isinstance(replayed, int) or not 0 <= replayed <= total:
        raise ValueError("%s is not the progress of this export" % path)
    return replayed


def _record_progress(path: str, confirmed: int, total: int) -> None:
    directory, name = _safe_files.beside(path, sticky=True)
    text = json.dumps({"replayed": confirmed, "total": total, "at": round(time.time(), 3)})
    with directory:
        directory.replace(name, text.encode("ascii"), temporary=name + ".new")


def _depth(amqp: Amqp, options: Options, deadline: Deadline, name: str) -> Depth:
    """Return ready and consumers as the queue reports them, and unacked from the API (null without it)."""
    try:
        ready, consumers = amqp.declare_passive(name)
    except QueueError as exc:
        raise _rejected_by_broker(exc, options, name, amqp.vhost, "nothing was changed")
    unacked = None
    with contextlib.suppress(CannotConnect, ReplyError):
        for queue in _rabbitmq_queues.read_list(management(options, deadline), options["max_queues"]):
            if (queue["vhost"], queue["name"]) == (amqp.vhost, name):
                unacked = queue["unacked"]
    return {"ready": ready, "unacked": unacked, "consumers": consumers}


def _rejected_by_broker(exc: QueueError, options: Options, name: str, vhost: str, state: str) -> Aborted:
    if exc.kind == "permission":
        hint = (
            "Grant `login_user` the permissions configure, write and read on the queue, and check that no consumer is "
            "exclusive."
        )
    else:
        hint = hint_for(exc.kind, options)
    return Aborted("%s: queue %s in vhost %s: %s" % (state, name, vhost, exc), hint)


def _hint_of(exc: CannotConnect | OSError) -> str:
    if getattr(exc, "kind", None) in LATE:
        return "Raise `deadline`: one message takes about half a millisecond, more on a busy broker."
    return getattr(exc, "hint", None) or READ_LOG
