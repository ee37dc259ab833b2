# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes messages out of a queue into a file, and puts them back. Private to this collection.

The broker's own purge is never used: it would drop messages that nobody has exported. Messages are fetched without
being acknowledged, written and synced to the disk, and only then acknowledged. Whatever fails before, the broker puts
every message back to its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries, _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_messages, _rabbitmq_queues
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import ReplyError, management, started
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_amqp import (
    Amqp,
    QueueError,
    exact_floats,
)

# Confirmed messages between two notes of how far a replay has come.
NOTE_EVERY = 500
NOTE_BYTES = 4096


class Refused(Failure):
    """Nothing was changed, or what was is said in the message. ``hint`` names the option to look at."""

    kind = "refused"


def purge(options, check_mode):
    """Export the ready messages of a queue and remove exactly those.

    Returns ``{changed, before, after, exported_messages, exported_bytes, export_path}``, in check mode the same with
    what would be (``exported_bytes`` and ``export_path`` null). Raises Refused and CannotConnect.
    """
    deadline = started(options)
    name, vhost = options["name"], options["vhost"]
    with Amqp(options, deadline, vhost) as amqp:
        before = _depth(amqp, options, deadline, name)
        result = {"changed": False, "before": before, "after": before}
        result.update(exported_messages=0, exported_bytes=0, export_path=None)
        if before["ready"] == 0:
            return result
        _still_expected(before["ready"], options)
        _writable(options["export_directory"])
        result["changed"] = True
        if check_mode:
            result.update(exported_messages=before["ready"], exported_bytes=None, after=dict(before, ready=0))
            return result
        path = _rabbitmq_messages.export_path(options["export_directory"], vhost, name, time.time())
        try:
            with _rabbitmq_messages.ExportFile(path, options["max_bytes"]) as export, exact_floats(amqp.pika):
                tag = _fetch(amqp, name, before["ready"], export, options["timeout"])
                export.keep()
        except OSError as exc:
            raise Refused(
                "nothing was purged: the export cannot be written: %s" % exc,
                "export_directory must be on a disk with room for the messages",
            )
        except _rabbitmq_messages.BadExport as exc:
            raise Refused("nothing was purged: %s" % exc, "raise max_bytes")
        except QueueError as exc:
            raise _refused_by_broker(exc, name, vhost, "nothing was purged")
        except CannotConnect as exc:
            raise Refused("nothing was purged: %s" % exc, _more_time(exc))
        result.update(exported_messages=export.messages, exported_bytes=export.bytes, export_path=path)
        if tag is None:
            # Somebody else has emptied the queue meanwhile.
            _remove(path)
            result.update(changed=False, export_path=None, exported_bytes=0)
        else:
            _drop(amqp, tag, path)
        result["after"] = _depth(amqp, options, deadline, name)
        return result


def _still_expected(ready, options):
    expected = options["expected_messages"]
    if abs(ready - expected) > expected * options["drift_tolerance"]:
        raise Refused(
            "nothing was purged: the queue %s holds %d ready messages, %d were expected"
            % (options["name"], ready, expected),
            "look again, then set expected_messages (drift_tolerance is %g)" % options["drift_tolerance"],
        )
    if ready > options["max_messages"]:
        raise Refused(
            "nothing was purged: %d ready messages are more than one run may remove (max_messages %d)"
            % (ready, options["max_messages"]),
            "raise max_messages",
        )


def _writable(directory):
    """Refuse early, in check mode too, where an export could not be written."""
    try:
        _safe_files.check_place(os.path.join(directory, "export"))
    except OSError as exc:
        raise Refused(
            "nothing was purged: export_directory: %s" % (exc.strerror or exc),
            "or set export_directory to an absolute path that no other user can change",
        )
    existing = directory
    while existing and not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK | os.X_OK):
        raise Refused(
            "nothing was purged: %s is no directory that can be written" % (existing or directory),
            "set export_directory to an absolute path that the user of this task may write",
        )


def _fetch(amqp, name, count, export, seconds):
    """Write up to ``count`` messages, each fetched within ``seconds``; the delivery tag of the last, or None."""
    channel = amqp.channel()
    tag = None
    for position in range(1, count + 1):
        # Only what is on the wire is bounded and explained as such: writing the file has failures of its own.
        with amqp.bounded(seconds):
            method, properties, body = channel.basic_get(name, auto_ack=False)
        if method is None:
            break
        export.write(_rabbitmq_messages.to_line(position, amqp.vhost, name, method, properties, body))
        tag = method.delivery_tag
    return tag


def _drop(amqp, tag, path):
    """Acknowledge everything fetched on the channel. The file stays, whatever happens."""
    try:
        channel = amqp.channel()
        with amqp.bounded():
            channel.basic_ack(tag, multiple=True)
            # Answered only after the acknowledgement has been taken in.
            channel.close()
    except (CannotConnect, QueueError) as exc:
        raise Refused(
            "the messages were exported to %s, but it is not known whether the broker removed them: %s" % (path, exc),
            "look at the queue; messages it still holds are in the file too",
        )


def replay(options, check_mode):
    """Publish an export again, to the queue it came from, with publisher confirms.

    How many messages are back is noted beside the file (``<export_path>.replayed``), so that a second run, or one
    after a failure, does not publish a message twice. Returns as purge(), with ``replayed_messages``.
    """
    deadline = started(options)
    path = options["export_path"]
    try:
        vhost, name, total = _rabbitmq_messages.read_export(path, options["max_messages"], options["max_bytes"])
        done = _noted(path, total)
    except (OSError, ValueError, _rabbitmq_messages.BadExport) as exc:
        raise Refused("nothing was replayed: %s: %s" % (path, exc), "check export_path")
    if options["name"] not in (None, name):
        raise Refused("nothing was replayed: the messages came from queue %s" % name, "check name and export_path")
    with Amqp(options, deadline, vhost) as amqp:
        before = _depth(amqp, options, deadline, name)
        result = {"changed": done < total, "before": before, "after": before}
        result.update(replayed_messages=total - done, export_path=path)
        if done == total:
            return result
        if check_mode:
            result["after"] = dict(before, ready=before["ready"] + total - done)
            return result
        _publish(amqp, options, name, path, done, total)
        result["after"] = _depth(amqp, options, deadline, name)
        return result


def _publish(amqp, options, name, path, done, total):
    confirmed = done
    try:
        with _own_exchange(amqp, name) as (channel, exchange), _rabbitmq_messages.opened(path) as handle:
            for number, line in enumerate(handle, 1):
                if number > done:
                    _publish_one(amqp, channel, exchange, line, number, options)
                    confirmed = number
                    if confirmed % NOTE_EVERY == 0:
                        _note(path, confirmed, total)
    except QueueError as exc:
        raise _refused_by_broker(exc, name, amqp.vhost, "%d of %d messages are back" % (confirmed, total))
    except (CannotConnect, OSError) as exc:
        raise Refused(
            "%d of %d messages are back: %s" % (confirmed, total, exc),
            "run it again: it goes on with message %d. %s" % (confirmed + 1, _more_time(exc)),
        )
    finally:
        _note(path, confirmed, total)


@contextlib.contextmanager
def _own_exchange(amqp, name):
    """``(channel, exchange)``: an exchange that leads to this one queue.

    Through it messages keep their routing keys, by which consumers may tell them apart, and reach no other queue.
    """
    exchange = "tracktion.ops.replay.%s" % secrets.token_hex(6)
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


def _publish_one(amqp, channel, exchange, line, number, options):
    record, properties, body = _rabbitmq_messages.from_line(line, number)
    if properties.get("user_id") not in (None, options["login_user"]):
        # The broker refuses messages that claim to come from another user than the one who is logged in.
        del properties["user_id"]
    with amqp.bounded(options["timeout"]), exact_floats(amqp.pika):
        channel.basic_publish(
            exchange, record["routing_key"], body, amqp.pika.BasicProperties(**properties), mandatory=True
        )


def _remove(path):
    directory, name = _safe_files.beside(path)
    with directory:
        directory.remove(name)


def _note_path(path):
    return path + ".replayed"


def _noted(path, total):
    """How many messages of the file are back already."""
    directory, name = _safe_files.beside(_note_path(path), sticky=True)
    with directory:
        try:
            noted = _journal_entries.parsed(directory.read(name, NOTE_BYTES))
        except FileNotFoundError:
            return 0
    replayed = noted.get("replayed") if isinstance(noted, dict) and noted.get("total") == total else None
    if isinstance(replayed, bool) or not isinstance(replayed, int) or not 0 <= replayed <= total:
        raise ValueError("%s is not the note of this export" % _note_path(path))
    return replayed


def _note(path, confirmed, total):
    directory, name = _safe_files.beside(_note_path(path), sticky=True)
    text = json.dumps({"replayed": confirmed, "total": total, "at": round(time.time(), 3)})
    with directory:
        directory.replace(name, text.encode("ascii"), temporary=name + ".new")


def _depth(amqp, options, deadline, name):
    """``{ready, unacked, consumers}``: ready and consumers from the queue, unacked from the API (null without it)."""
    try:
        ready, consumers = amqp.declare_passive(name)
    except QueueError as exc:
        raise _refused_by_broker(exc, name, amqp.vhost, "nothing was changed")
    unacked = None
    with contextlib.suppress(CannotConnect, ReplyError):
        for queue in _rabbitmq_queues.read_list(management(options, deadline), options["max_queues"]):
            if (queue["vhost"], queue["name"]) == (amqp.vhost, name):
                unacked = queue["unacked"]
    return {"ready": ready, "unacked": unacked, "consumers": consumers}


def _refused_by_broker(exc, name, vhost, state):
    hints = {
        "not_found": "check name and vhost",
        "exclusive": "an exclusive queue belongs to the connection that declared it: nobody else can touch it",
        "permission": "login_user needs the permissions configure, write and read on the queue; "
        "and no consumer may be exclusive",
        "not_supported": "streams keep their messages; set a retention (x-max-age) instead",
    }
    return Refused(
        "%s: queue %s in vhost %s: %s" % (state, name, vhost, exc), hints.get(exc.kind, "see the broker's log")
    )


def _more_time(exc):
    if getattr(exc, "kind", None) == "timeout":
        return "raise deadline: one message takes about half a millisecond, more on a busy broker"
    return getattr(exc, "hint", None) or "look at the broker's log"
