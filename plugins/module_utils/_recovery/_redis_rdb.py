# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the structure of an RDB file: what it holds, and whether it is whole. Private to this collection.

No value is decoded: lengths are followed from key to key (about 5 microseconds for each). The counts that Redis
writes before the keys of each database (RESIZEDB) are those of the moment of the fork, so they are compared with the
keys that follow. Its checksum (CRC 64) is left to redis-check-rdb and to the server that loads the file.

Format: https://rdb.fnordig.de/file_format.html, and rdb.h of Redis 8.0 for the types since version 10.
"""

from __future__ import annotations

import mmap
import os
from typing import TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import READ

# Keys between two looks at the deadline.
STEP_KEYS = 20000
MAGIC = b"REDIS"
# Versions with the checksum at the end: since 5.
CHECKSUM_BYTES, CHECKSUM_VERSION = 8, 5

# Opcodes.
SLOT_INFO, FUNCTION, MODULE_AUX, IDLE, FREQUENCY, AUX = 244, 245, 247, 248, 249, 250
RESIZE, EXPIRES_MS, EXPIRES, SELECT, END = 251, 252, 253, 254, 255

# Types of values that are one string, or a number of strings for each element.
ONE_STRING = frozenset((0, 9, 10, 11, 12, 13, 16, 17, 20))
STRINGS = {1: 1, 2: 1, 4: 2, 14: 1}
SORTED_SET, SORTED_SET_2, MODULE_2, QUICKLIST_2 = 3, 5, 7, 18
HASH_TTL_EARLY, HASH_LISTPACK_TTL_EARLY, HASH_TTL, HASH_LISTPACK_TTL = 22, 23, 24, 25
STREAM, STREAM_2, STREAM_3 = 15, 19, 21
# A stream entry's id.
ID_BYTES = 16


class Damaged(Exception):
    """The file ends early, or its structure is invalid. The text names the offset."""


class Unsupported(Exception):
    """The file has a type of values that this version does not know. It proves nothing about the file."""


class Counts(TypedDict):
    """The keys of one database, and those of them with a time to live."""

    keys: int
    expires: int


class Contents(TypedDict):
    """What an RDB file holds. ``databases`` are those with keys, by their number as text."""

    version: int
    aux: dict[str, str]
    databases: dict[str, Counts]
    functions: int


def read(path: str, deadline: Deadline) -> Contents:
    """Return the contents of a complete RDB file. Raises Damaged, Unsupported, OutOfTime, OSError."""
    with os.fdopen(os.open(path, READ), "rb") as stream:
        if os.fstat(stream.fileno()).st_size < len(MAGIC) + 5:
            raise Damaged("the file has %d bytes, which is no RDB file" % os.fstat(stream.fileno()).st_size)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if hasattr(data, "madvise"):
                data.madvise(mmap.MADV_SEQUENTIAL)
            return _Reader(data, deadline).contents()


class _Reader:
    def __init__(self, data: mmap.mmap, deadline: Deadline) -> None:
        self.data = data
        self.size = len(data)
        self.at = len(MAGIC) + 4
        self.deadline = deadline

    def contents(self) -> Contents:
        """Read the whole file. Raises Damaged, Unsupported, OutOfTime."""
        if self.data[: len(MAGIC)] != MAGIC or not self.data[len(MAGIC) : self.at].isdigit():
            raise Damaged("the file does not begin like an RDB file")
        version = int(self.data[len(MAGIC) : self.at])
        found: Contents = {"version": version, "aux": {}, "databases": {}, "functions": 0}
        try:
            announced = self._read_all(found)
        except IndexError:
            raise Damaged("the file is truncated: it ends at byte %d within a value" % self.size)
        if version >= CHECKSUM_VERSION:
            self.at += CHECKSUM_BYTES
        if self.at != self.size:
            raise Damaged("the file has %d bytes, its contents end at byte %d" % (self.size, self.at))
        for name, counts in announced.items():
            if counts != found["databases"].get(name, counts):
                raise Damaged("database %s has %s, the file announces %s" % (name, found["databases"][name], counts))
        found["databases"] = {name: each for name, each in found["databases"].items() if each["keys"]}
        return found

    def _read_all(self, found: Contents) -> dict[str, Counts]:
        """Read up to the end opcode, and return the counts that the file announces."""
        data, announced = self.data, {}
        counts: Counts = {"keys": 0, "expires": 0}
        name = "0"
        while True:
            kind = data[self.at]
            self.at += 1
            if kind < SLOT_INFO:
                counts["keys"] += 1
                if counts["keys"] % STEP_KEYS == 0:
                    self.deadline.step()
                self.string()
                self.value(kind)
                found["databases"][name] = counts
            elif kind in (EXPIRES_MS, EXPIRES):
                self.at += 8 if kind == EXPIRES_MS else 4
                counts["expires"] += 1
            elif kind == SELECT:
                name = str(self.length())
                counts = found["databases"].setdefault(name, {"keys": 0, "expires": 0})
            elif kind == RESIZE:
                announced[name] = Counts(keys=self.length(), expires=self.length())
            elif kind == END:
                return announced
            else:
                self.opcode(kind, found)

    def opcode(self, kind: int, found: Contents) -> None:
        """Skip or note what is between the keys."""
        if kind == AUX:
            key = self.text()
            found["aux"][key] = self.text()
        elif kind == FUNCTION:
            self.string()
            found["functions"] += 1
        elif kind == IDLE:
            self.length()
        elif kind == FREQUENCY:
            self.at += 1
        elif kind == SLOT_INFO:
            self.lengths(3)
        elif kind == MODULE_AUX:
            self.length()
            self.module()
        else:
            raise Damaged("unknown opcode %d at byte %d" % (kind, self.at - 1))

    def length(self) -> int:
        """Read a length."""
        return self._length()[0]

    def _length(self) -> tuple[int, bool]:
        """Read a length, and whether it is the kind of a special encoding instead."""
        data, at = self.data, self.at
        first = data[at]
        kind = first >> 6
        if kind == 0:
            self.at = at + 1
            return first, False
        if kind == 1:
            self.at = at + 2
            return (first & 63) << 8 | data[at + 1], False
        if kind == 3:
            self.at = at + 1
            return first & 63, True
        wide = {0x80: 4, 0x81: 8}.get(first)
        if wide is None:
            raise Damaged("invalid length at byte %d" % at)
        self.at = at + 1 + wide
        return int.from_bytes(data[at + 1 : self.at], "big"), False

    def lengths(self, count: int) -> None:
        """Skip lengths."""
        for _number in range(count):
            self._length()

    def string(self) -> None:
        """Skip a string. Raises IndexError if it goes beyond the end."""
        length, special = self._length()
        if special:
            if length == 3:
                length = self._length()[0]
                self._length()
            elif length in (0, 1, 2):
                length = 1 << length
            else:
                raise Damaged("invalid string at byte %d" % self.at)
        self.at += length
        if self.at > self.size:
            raise IndexError

    def strings(self, count: int) -> None:
        """Skip strings."""
        for _number in range(count):
            self.string()

    def text(self) -> str:
        """Read a short string that is not compressed, or a number, as text."""
        start = self.at
        length, special = self._length()
        if special and length in (0, 1, 2):
            self.at += 1 << length
            return str(int.from_bytes(self.data[self.at - (1 << length) : self.at], "little", signed=True))
        if special:
            self.at = start
            self.string()
            return ""
        self.at += length
        if self.at > self.size:
            raise IndexError
        return self.data[self.at - length : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> None:
        """Skip a value."""
        if kind in ONE_STRING:
            self.string()
        elif kind in STRINGS:
            self.strings(self.length() * STRINGS[kind])
        elif kind in (SORTED_SET, SORTED_SET_2):
            self.sorted_set(kind)
        elif kind == QUICKLIST_2:
            for _number in range(self.length()):
                self.length()
                self.string()
        elif kind in (STREAM, STREAM_2, STREAM_3):
            self.stream(kind)
        elif kind == MODULE_2:
            self.length()
            self.module()
        elif HASH_TTL_EARLY <= kind <= HASH_LISTPACK_TTL:
            self.hash_with_ttl(kind)
        else:
            raise Unsupported("the file has values of type %d, which this version does not know" % kind)

    def sorted_set(self, kind: int) -> None:
        """Skip a sorted set: scores are 8 bytes, or text with its length before."""
        for _number in range(self.length()):
            self.string()
            size = 7 if kind == SORTED_SET_2 else self.data[self.at]
            self.at += 1 + (size if size < 253 else 0)

    def hash_with_ttl(self, kind: int) -> None:
        """Skip a hash whose fields have times to live, after the earliest of them."""
        self.at += 8 if kind in (HASH_TTL, HASH_LISTPACK_TTL) else 0
        if kind in (HASH_LISTPACK_TTL_EARLY, HASH_LISTPACK_TTL):
            self.string()
            return
        for _number in range(self.length()):
            self.length()
            self.strings(2)

    def stream(self, kind: int) -> None:
        """Skip a stream with its consumer groups."""
        self.strings(self.length() * 2)
        self.lengths(3 if kind == STREAM else 8)
        for _group in range(self.length()):
            self.string()
            self.lengths(2 if kind == STREAM else 3)
            for _entry in range(self.length()):
                self.at += ID_BYTES + 8
                self.length()
            for _consumer in range(self.length()):
                self.string()
                self.at += 16 if kind == STREAM_3 else 8
                pending = self.length()
                self.at += pending * ID_BYTES

    def module(self) -> None:
        """Skip a value of a module: a list of numbers and strings, each after its kind."""
        while True:
            kind = self.length()
            if kind == 0:
                return
            if kind in (1, 2):
                self.length()
            elif kind in (3, 4):
                self.at += 4 if kind == 3 else 8
            elif kind == 5:
                self.string()
            else:
                raise Damaged("invalid value of a module at byte %d" % self.at)
