# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Export files of messages: one JSON object per line, in the order of the queue. Private to this collection.

A line holds ``position``, ``vhost``, ``queue``, ``exchange``, ``routing_key``, ``redelivered``, ``properties`` and
``body`` in base64. If the message has headers, ``headers_amqp`` is their table in base64, as AMQP transfers it: that is
what a replay publishes. ``properties`` shows them as well, for people and for exports of 0.2.0, which lack the table.
Types of AMQP that JSON lacks are objects with one key:
``{"!bytes": base64}``, ``{"!timestamp": epoch seconds}``, ``{"!decimal": text}``, and ``{"!table": {...}}`` for a table
with a key that starts with an exclamation mark.
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
from typing import IO, Any, Dict, Mapping
from urllib.parse import quote

from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import READ, beside

# One line of an export.
Record = Dict[str, Any]

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
# Highest values of numbers, and bytes of texts (AMQP 0-9-1, class basic).
NUMBERS = {"delivery_mode": 255, "priority": 255, "timestamp": (1 << 64) - 1}
TEXT_BYTES = 255
REQUIRED = ("position", "vhost", "queue", "exchange", "routing_key", "properties", "body")


class RawTable(Dict[str, Any]):
    """A table of headers, with the bytes that it was read from: ``raw``, its size and its entries."""

    def __init__(self, values: Mapping[str, Any], raw: bytes) -> None:
        super().__init__(values)
        self.raw = raw


class BadExport(Exception):
    """A file that is not a complete export of messages. The text names the line."""


def to_json(value: Any) -> Any:
    """Return an AMQP value as JSON."""
    if isinstance(value, (bytes, bytearray)):
        return {"!bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, datetime.datetime):
        return {"!timestamp": calendar.timegm(value.utctimetuple())}
    if isinstance(value, decimal.Decimal):
        return {"!decimal": str(value)}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    if isinstance(value, dict):
        table = {str(key): to_json(entry) for key, entry in value.items()}
        return {"!table": table} if any(key.startswith("!") for key in table) else table
    return value


def from_json(value: Any) -> Any:
    """Return the AMQP value of what ``to_json()`` returned."""
    if isinstance(value, list):
        return [from_json(entry) for entry in value]
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
    return {key: from_json(entry) for key, entry in value.items()}


def to_line(position: int, vhost: str, queue: str, method: Any, properties: Any, body: bytes) -> bytes:
    """Return one message as a line of an export. ``method`` is pika's reply to basic.get."""
    record = {
        "position": position,
        "vhost": vhost,
        "queue": queue,
        "exchange": to_json(method.exchange),
        "routing_key": to_json(method.routing_key),
        "redelivered": method.redelivered,
        "properties": {
            name: to_json(getattr(properties, name))
            for name in PROPERTIES
            if getattr(properties, name, None) is not None
        },
        "body": base64.b64encode(body).decode("ascii"),
    }
    if isinstance(properties.headers, RawTable):
        record["headers_amqp"] = base64.b64encode(properties.headers.raw).decode("ascii")
    return json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n"


def from_line(line: bytes, number: int) -> tuple[Record, dict[str, Any], bytes]:
    """Return ``(record, properties, body)`` of a line. Raise BadExport, whose text names it."""
    try:
        record = json.loads(line.decode("utf-8"))
        missing = [name for name in REQUIRED if name not in record]
        if missing:
            raise BadExport("line %d lacks %s" % (number, ", ".join(missing)))
        if record["position"] != number:
            raise BadExport("line %d has position %s: lines are missing" % (number, record["position"]))
        if not line.endswith(b"\n"):
            raise BadExport("line %d is truncated" % number)
        properties = from_json(record["properties"])
        if "headers_amqp" in record:
            properties["headers"] = _raw_table(properties.get("headers"), record["headers_amqp"])
        _require_valid(properties, from_json(record["routing_key"]))
        return record, properties, base64.b64decode(record["body"], validate=True)
    except (ValueError, TypeError, AttributeError, binascii.Error, decimal.InvalidOperation) as exc:
        raise BadExport("line %d is not a message: %s" % (number, exc))


def _require_valid(properties: Any, routing_key: Any) -> None:
    """Raise ValueError, TypeError if AMQP cannot transfer one of them. Pure."""
    texts = {"routing_key": routing_key}
    for name, value in properties.items():
        if name not in PROPERTIES:
            raise ValueError("%s is not a property of messages" % name)
        if name == "headers":
            if not isinstance(value, dict):
                raise TypeError("headers is not a table")
        elif name not in NUMBERS:
            texts[name] = value
        elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= NUMBERS[name]:
            raise ValueError("%s is not a number from 0 to %d" % (name, NUMBERS[name]))
    for name, text in texts.items():
        raw = text.encode("utf-8") if isinstance(text, str) else text
        if not isinstance(raw, bytes) or len(raw) > TEXT_BYTES:
            raise ValueError("%s is not a text of at most %d bytes" % (name, TEXT_BYTES))


def _raw_table(values: Any, text: str) -> RawTable:
    raw = base64.b64decode(text, validate=True)
    if len(raw) < 4 or int.from_bytes(raw[:4], "big") != len(raw) - 4:
        raise ValueError("headers_amqp is not a table of headers")
    return RawTable(values or {}, raw)


def open_export(path: str) -> IO[bytes]:
    """Open an export for reading. Raise OSError, also if another user could have written it."""
    directory, name = beside(path, sticky=True)
    with directory:
        return os.fdopen(directory.open(name, READ), "rb")


def read_export(path: str, most_messages: int, most_bytes: int) -> tuple[str, str, int]:
    """Check an export and return ``(vhost, queue, number of messages)``. Raise BadExport, OSError."""
    number, name = 0, None
    with open_export(path) as handle:
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


def export_path(directory: str, vhost: str, queue: str, now: float) -> str:
    """Return the path of a new export: unique for each queue and second, and a valid name on any file system."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    digest = hashlib.sha256(("%s\0%s" % (vhost, queue)).encode("utf-8")).hexdigest()[:8]
    return os.path.join(directory, "%s-%s-%s.jsonl" % (quote(queue, safe="")[:100].rstrip("%"), digest, stamp))


class ExportFile:
    """A new file, readable by its owner only. It is removed unless ``keep()`` has written it to the disk."""

    def __init__(self, path: str, most_bytes: int) -> None:
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

    def write(self, line: bytes) -> None:
        """Append a message, one line of JSON with its newline. Raises BadExport above ``most_bytes``, OSError."""
        if self.bytes + len(line) > self._most_bytes:
            raise BadExport("the messages take more than max_bytes (%d)" % self._most_bytes)
        self._handle.write(line)
        self.messages += 1
        self.bytes += len(line)

    def keep(self) -> None:
        """Sync file and directory entry to the disk. Raise OSError if that fails (a full disk, for example)."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()
        self._directory.sync()
        if self._directory.size(self._name) != self.bytes:
            raise OSError("%s does not have the size that was written" % self.path)
        self._kept = True

    def __enter__(self) -> ExportFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Writing what is still in the buffer may fail on a full disk; it is not needed any more.
        with contextlib.suppress(OSError):
            self._handle.close()
        if not self._kept:
            self._directory.remove(self._name)
        self._directory.close()
