# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the structure of RDB files."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, OutOfTime
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _redis_rdb

# Of Redis 8.0.2: strings, hashes (one with a time to live), a list, sets, a sorted set, a HyperLogLog, a function, and
# a stream with a group in database 3.
FILE = base64.b64decode(
    "UkVESVMwMDEy+glyZWRpcy12ZXIFOC4wLjL6CnJlZGlzLWJpdHPAQPoFY3RpbWXCNy0Ma/oIdXNlZC1tZW3C0E4qAPoOcmVwbC1z"
    "dHJlYW0tZGLAA/oHcmVwbC1pZCg5ZGMzMDkxNjJiMWQ2NmU1NWQxNzRlZjczMmZhZTU4YjI2OGQ1NzZl+gtyZXBsLW9mZnNldMLt"
    "9doA+ghhb2YtYmFzZcAA9UBEIyFsdWEgbmFtZT1saWIKcmVkaXMucmVnaXN0ZXJfZnVuY3Rpb24oJ2YnLCBmdW5jdGlvbigpIHJl"
    "dHVybiAxIGVuZCn+APsLARABaBERAAAABACBZgIBAYFnAgIB/xkCaGjh458nogEAAB0dAAAABgCBZgIBAfTh458nogEAAAmBZwIC"
    "AQAB/xQCczIQEAAAAAMAgWECgWICgWMC//zQ458nogEAAAABYsACEgFsAQIQEAAAAAMAgWECgWICgWMC/wsCczEOAgAAAAMAAAAB"
    "AAIAAwAAA2JpZ8MJQG4BYWHgYQABYWERAXoUFAAAAAQAgWECAQGBYgKDMi41BP8AAXAYSFlMTAEAAAAAAAAAAAAAgHGmhEv7gEJa"
    "AAFuwofWEgAAAWHAAf4D+wIB/I2lkCeiAQAAAAFlAXgVAXMBEAAAAaInkKGjAAAAAAAAAAAcHAAAAAoAAQEAAQEBgWECAAECAQAB"
    "AAEBAQQB/wGBAAABoieQoaMAgQAAAaInkKGjAAAAAQEBZ4EAAAGiJ5ChowABAQAAAaInkKGjAAAAAAAAAACkoZAnogEAAAEBAmMx"
    "pKGQJ6IBAACkoZAnogEAAAEAAAGiJ5ChowAAAAAAAAAA/xNOfich7mY+"
)
CRC = b"\0" * 8
# Version 11, and one database.
START = b"REDIS0011\xfe\x00"


def read(tmp_path, data, seconds=60.0):
    path = tmp_path / "dump.rdb"
    path.write_bytes(data)
    return _redis_rdb.read(str(path), Deadline(seconds))


def test_the_contents_of_a_file(tmp_path):
    found = read(tmp_path, FILE)
    assert found["version"] == 12
    assert found["aux"]["redis-ver"] == "8.0.2"
    assert found["databases"] == {"0": {"keys": 11, "expires": 1}, "3": {"keys": 2, "expires": 1}}
    assert found["functions"] == 1


def test_no_truncated_file_is_complete(tmp_path):
    for size in range(len(FILE)):
        with pytest.raises(_redis_rdb.Damaged):
            read(tmp_path, FILE[:size])


def test_nothing_follows_the_end(tmp_path):
    with pytest.raises(_redis_rdb.Damaged, match="its contents end at byte"):
        read(tmp_path, FILE + b"x")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (b"\x00\x01k\xc0\x05", "a number of one byte"),
        (b"\x00\x01k\xc2\x00\x00\x00\x05", "a number of four bytes"),
        (b"\x00\x01k\x40\x03abc", "a length of 14 bits"),
        (b"\x00\x01k\x80\x00\x00\x00\x03abc", "a length of 32 bits"),
        (b"\x00\x01k\x81" + b"\0" * 7 + b"\x03abc", "a length of 64 bits"),
        (b"\x00\x01k\xc3\x02\x05ab", "a compressed string"),
        (b"\x02\x01k\x02\x01a\x01b", "a set"),
        (b"\x03\x01k\x02\x01a\x031.5\x01b\xfe", "a sorted set with scores as text"),
        (b"\x05\x01k\x01\x01a" + b"\0" * 8, "a sorted set"),
        (b"\x07\x01k\x05\x02\x07\x05\x01a\x04" + b"\0" * 8 + b"\x00", "a value of a module"),
        (b"\x12\x01k\x01\x02\x01a", "a list"),
        (b"\xf8\x05\xf9\x07\x00\x01k\x01v", "with its idle time and its frequency"),
    ],
)
def test_each_kind_of_value_is_skipped(tmp_path, value, what):
    assert read(tmp_path, START + value + b"\xff" + CRC)["databases"] == {"0": {"keys": 1, "expires": 0}}, what


def test_other_numbers_of_keys_than_announced(tmp_path):
    with pytest.raises(_redis_rdb.Damaged, match="the file announces"):
        read(tmp_path, START + b"\xfb\x02\x00\x00\x01k\x01v\xff" + CRC)


def test_what_this_version_does_not_know_proves_nothing(tmp_path):
    with pytest.raises(_redis_rdb.Unsupported, match="values of type 99"):
        read(tmp_path, START + b"\x63\x01k\x01v\xff" + CRC)


def test_another_file(tmp_path):
    for data in (b"", b"x" * 100, b"REDISabcd" + b"x" * 20):
        with pytest.raises(_redis_rdb.Damaged):
            read(tmp_path, data)


def test_the_deadline(tmp_path, monkeypatch):
    monkeypatch.setattr(_redis_rdb, "STEP_KEYS", 1)
    with pytest.raises(OutOfTime):
        read(tmp_path, FILE, seconds=0.0)
