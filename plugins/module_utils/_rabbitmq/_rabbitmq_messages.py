# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages in files: one JSON object per line, in the order of the queue. Private to this collection.

A line holds ``position``, ``vhost``, ``queue``, ``exchange``, ``routing_key``, ``redelivered``, ``properties`` (with
the headers among them) and ``body`` in base64. JSON lacks some types of AMQP; they are written as an object with one
key: ``{"!bytes": base64}``, ``{"!timestamp": epoch seconds}``, ``{"!decimal": text}``, and ``{"!table": {...}}`` for a
table of which a key starts with an exclamation mark.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import contextlib
import datetime
import decimal
import hashlib
import json
import os
import time
from urllib.parse import quote

from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import READ, beside

PROPERTIES = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
REQUIRED = ("position", "vhost", "queue", "exchange", "routing_key", "properties", "body")


class BadExport(Exception):
    """A file that is not a whole export of messages. The message names the line."""


def plain(value):
    """An AMQP value as JSON."""
    if isinstance(value, (bytes, bytearray)):
        return {"!bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, datetime.datetime):
        return {"!timestamp": calendar.timegm(value.utctimetuple())}
    if isinstance(value, decimal.Decimal):
        return {"!decimal": str(value)}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        table = {str(key): plain(entry) for key, entry in value.items()}
        return {"!table": table} if any(key.startswith("!") for key in table) else table
    return value


def amqp(value):
    """The AMQP value that plain() was given."""
    if isinstance(value, list):
        return [amqp(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        kind, inner = next(iter(value.items()))
        if kind == "!bytes":
            return base64.b64decode(inner, validate=True)
        if kind == "!timestamp":
            return datetime.datetime.fromtimestamp(inner, datetime.timezone.utc)
        if kind == "!decimal":
            return decimal.Decimal(inner)
        if kind == "!table":
            value = inner
    return {key: amqp(entry) for key, entry in value.items()}


def to_line(position, vhost, queue, method, properties, body):
    """One message as a line of an export, ``method`` being what basic.get answered."""
    record = {
        "position": position,
        "vhost": vhost,
        "queue": queue,
        "exchange": method.exchange,
        "routing_key": method.routing_key,
        "redelivered": method.redelivered,
        "properties": {
            name: plain(getattr(properties, name)) for name in PROPERTIES if getattr(properties, name, None) is not None
        },
        "body": base64.b64encode(body).decode("ascii"),
    }
    return json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n"


def from_line(line, number):
    """``(record, properties, body)`` of a line; raises BadExport naming it."""
    try:
        record = json.loads(line.decode("utf-8"))
        missing = [name for name in REQUIRED if name not in record]
        if missing:
            raise BadExport("line %d lacks %s" % (number, ", ".join(missing)))
        if record["position"] != number:
            raise BadExport("line %d is message %s of its export: lines are missing" % (number, record["position"]))
        if not line.endswith(b"\n"):
            raise BadExport("line %d is cut off" % number)
        return record, amqp(record["properties"]), base64.b64decode(record["body"], validate=True)
    except (ValueError, TypeError, AttributeError, binascii.Error, decimal.InvalidOperation) as exc:
        raise BadExport("line %d is not a message: %s" % (number, exc))


def opened(path):
    """An export, open for reading, if no other user can have written it. Raises OSError."""
    directory, name = beside(path, sticky=True)
    with directory:
        return os.fdopen(directory.open(name, READ), "rb")


def read_export(path, most_messages, most_bytes):
    """``(vhost, queue, number of messages)`` of a whole export. Raises BadExport, OSError."""
    number, name = 0, None
    with opened(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > most_bytes:
            raise BadExport("the file has %d bytes, more than max_bytes (%d)" % (size, most_bytes))
        for number, line in enumerate(handle, 1):
            record = from_line(line, number)[0]
            name = name or (record["vhost"], record["queue"])
            if (record["vhost"], record["queue"]) != name:
                raise BadExport("line %d belongs to queue %s, line 1 to %s" % (number, record["queue"], name[1]))
            if number > most_messages:
                raise BadExport("the file holds more messages than max_messages (%d)" % most_messages)
    if name is None:
        raise BadExport("the file holds no message")
    return name[0], name[1], number


def export_path(directory, vhost, queue, now):
    """Where an export goes: a name that no two queues and no two seconds share, and that any file system takes."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    digest = hashlib.sha256(("%s\0%s" % (vhost, queue)).encode("utf-8")).hexdigest()[:8]
    return os.path.join(directory, "%s-%s-%s.jsonl" % (quote(queue, safe="")[:100].rstrip("%"), digest, stamp))


class ExportFile:
    """A new file, readable by its owner only. It is whole on the disk once keep() has returned, else it is removed."""

    def __init__(self, path, most_bytes):
        self.path = path
        self.messages = 0
        self.bytes = 0
        self._most_bytes = most_bytes
        self._kept = False
        self._directory, self._name = beside(path, make=True)
        try:
            self._handle = os.fdopen(self._directory.create(self._name), "wb")
        except BaseException:
            self._directory.close()
            raise

    def write(self, line):
        if self.bytes + len(line) > self._most_bytes:
            raise BadExport("the messages take more than max_bytes (%d)" % self._most_bytes)
        self._handle.write(line)
        self.messages += 1
        self.bytes += len(line)

    def keep(self):
        """Bring file and directory entry to the disk. Raises OSError where that fails (a full disk, for one)."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()
        self._directory.sync()
        if self._directory.size(self._name) != self.bytes:
            raise OSError("%s has another size than was written" % self.path)
        self._kept = True

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        # What is still in the buffer may not fit on the disk; it is not wanted any more.
        with contextlib.suppress(OSError):
            self._handle.close()
        if not self._kept:
            self._directory.remove(self._name)
        self._directory.close()
