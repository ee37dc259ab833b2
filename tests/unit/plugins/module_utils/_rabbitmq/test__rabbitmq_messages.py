# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Export files: messages are read as they were written, and incomplete files are rejected."""

from __future__ import annotations

import datetime
import decimal
import json
import os
import stat
from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_acts as acts
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_messages as messages
from tests.users import as_other_user, shared_directory

METHOD = SimpleNamespace(exchange="x", routing_key="ké.y", redelivered=True, delivery_tag=1)


def properties(**given):
    return SimpleNamespace(**{**dict.fromkeys(messages.PROPERTIES), **given})


VALUES = [
    "text",
    "ünicode",
    b"\xff\x00",
    0,
    -(2**40),
    1.5,
    True,
    None,
    [1, [b"x"]],
    {"a": {"b": b"c"}},
    decimal.Decimal("1.25"),
    datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    {"!bytes": "not really"},
    {"!table": {"!timestamp": 3}},
    {},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_is_read_as_it_was_written(value):
    assert messages.from_json(json.loads(json.dumps(messages.to_json(value)))) == value


def test_a_time_without_a_zone_is_utc():
    # Older versions of pika return such times.
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    assert messages.from_json(messages.to_json(moment)) == moment.replace(tzinfo=datetime.UTC)


def test_a_message_is_read_as_it_was_written():
    given = properties(content_type="a/b", priority=3, headers={"x": b"\x00"}, timestamp=7)
    line = messages.to_line(1, "/", "qü", METHOD, given, b"\x00\xffbody")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    record, found, body = messages.from_line(line, 1)
    assert (record["vhost"], record["queue"], record["exchange"], record["routing_key"]) == ("/", "qü", "x", "ké.y")
    assert record["redelivered"] is True
    assert found == {"content_type": "a/b", "priority": 3, "headers": {"x": b"\x00"}, "timestamp": 7}
    assert body == b"\x00\xffbody"


def test_headers_are_kept_byte_by_byte():
    raw = b"\x00\x00\x00\x04\x01ab\x07"
    line = messages.to_line(1, "/", "q", METHOD, properties(headers=messages.RawTable({"a": 7}, raw)), b"x")
    record, found, _body = messages.from_line(line, 1)
    assert (record["properties"]["headers"], found["headers"], found["headers"].raw) == ({"a": 7}, {"a": 7}, raw)
    for broken in (b"", b"\x00\x00\x00\x05\x01ab\x07"):
        line = messages.to_line(1, "/", "q", METHOD, properties(headers=messages.RawTable({}, broken)), b"x")
        with pytest.raises(messages.BadExport, match="line 1 is not a message"):
            messages.from_line(line, 1)


def test_a_routing_key_that_is_no_text_is_kept():
    method = SimpleNamespace(exchange="", routing_key=b"\xff", redelivered=False, delivery_tag=1)
    record = messages.from_line(messages.to_line(1, "/", "q", method, properties(), b"x"), 1)[0]
    assert messages.from_json(record["routing_key"]) == b"\xff"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"priority": 3', '"prioritx": 3', "prioritx is not a property of messages"),
        ('"priority": 3', '"priority": 256', "priority is not a number from 0 to 255"),
        ('"priority": 3', '"priority": true', "priority is not a number"),
        ('"timestamp": 7', '"timestamp": "7"', "timestamp is not a number"),
        ('"content_type": "a/b"', '"content_type": 7', "content_type is not a text of at most 255 bytes"),
        ('"content_type": "a/b"', '"content_type": "%s"' % ("\u00e9" * 128), "content_type is not a text"),
        ('"headers": {"x": 1}', '"headers": [1]', "headers is not a table"),
        ('"routing_key": "k\\u00e9.y"', '"routing_key": null', "routing_key is not a text"),
    ],
)
def test_a_message_that_cannot_be_published_is_rejected(old, new, reason):
    given = properties(content_type="a/b", priority=3, headers={"x": 1}, timestamp=7)
    text = messages.to_line(1, "/", "q", METHOD, given, b"x").decode()
    assert old in text
    with pytest.raises(messages.BadExport, match="line 1 is not a message: " + reason):
        messages.from_line(text.replace(old, new).encode(), 1)


def line(number=1, queue="q"):
    return messages.to_line(number, "/", queue, METHOD, properties(), b"x")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no message"),
        (b"[]\n", "line 1"),
        (b"{", "line 1 is not a message"),
        (line(1) + line(3), "line 2 has position 3"),
        (line(1) + line(2)[:-1], "line 2 is truncated"),
        (line(1) + line(2, "other"), "line 2 belongs to queue other"),
        (line(1).replace(b"eA==", b"e==="), "line 1 is not a message"),
        (line(1) + line(2) + line(3), "max_messages"),
        (b" " * 2000, "max_bytes"),
    ],
)
def test_an_invalid_export_is_rejected(tmp_path, content, reason):
    path = tmp_path / "export"
    path.write_bytes(content)
    with pytest.raises(messages.BadExport, match=reason):
        messages.read_export(str(path), 2, 1000)


def test_an_export_is_read(tmp_path):
    path = tmp_path / "export"
    path.write_bytes(line(1) + line(2))
    assert messages.read_export(str(path), 2, 1000) == ("/", "q", 2)


def test_a_complete_file_is_kept_and_never_overwritten(tmp_path):
    path = tmp_path / "below" / "export"
    with messages.ExportFile(str(path), 100) as export:
        export.write(b"12345\n")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        export.keep()
    assert path.read_bytes() == b"12345\n"
    with pytest.raises(FileExistsError), messages.ExportFile(str(path), 100):
        pass
    assert path.read_bytes() == b"12345\n"


def test_a_file_that_is_not_kept_is_removed(tmp_path):
    path = tmp_path / "export"
    with messages.ExportFile(str(path), 10) as export:
        export.write(b"12345\n")
        with pytest.raises(messages.BadExport, match="max_bytes"):
            export.write(b"12345\n")
    assert not path.exists()


def test_an_export_has_a_name_that_is_valid_on_any_file_system():
    path = messages.export_path("/exports", "/", "a/b ü" * 51, 0)
    directory, name = os.path.split(path)
    assert directory == "/exports"
    assert len(name) < 200
    assert name.isascii()
    assert name.endswith("-19700101T000000Z.jsonl")
    assert path != messages.export_path("/exports", "other", "a/b ü" * 51, 0)


def test_an_export_is_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with messages.ExportFile(str(tmp_path / "below" / "export"), 100) as export:
            export.keep()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "below").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "below" / "export").st_mode) == 0o600


def test_an_export_is_not_written_where_another_user_can_change_it(tmp_path):
    with shared_directory(0o777) as shared:
        as_other_user(lambda: (shared / "exports").symlink_to("/etc"))
        for path in (shared / "export", shared / "exports" / "export", shared / "new" / "export"):
            with pytest.raises(OSError, match=r"chmod o-w|chown -h root"), messages.ExportFile(str(path), 100):
                pass
        assert [path.name for path in shared.iterdir()] == ["exports"]
    assert not os.path.exists("/etc/export")


def test_an_export_of_another_user_is_not_read(tmp_path):
    with shared_directory(0o1777) as shared:
        path = shared / "export"
        as_other_user(lambda: path.write_bytes(line(1)))
        with pytest.raises(OSError, match="belongs to nobody"):
            messages.read_export(str(path), 2, 1000)
        as_other_user(lambda: (path.unlink(), os.mkfifo(path)))
        with pytest.raises(OSError, match="is a FIFO, not a regular file"):
            messages.read_export(str(path), 2, 1000)


@pytest.mark.parametrize(
    "recorded",
    [
        "null",
        "[]",
        "{",
        '{"total": 2}',
        '{"total": 2, "replayed": "1"}',
        '{"total": 2, "replayed": 3}',
        '{"total": 2, "replayed": -1}',
        '{"total": 2, "replayed": true}',
        '{"total": 3, "replayed": 1}',
    ],
)
def test_invalid_progress_stops_a_replay(tmp_path, recorded):
    """Otherwise messages would be lost or published twice."""
    (tmp_path / "export.replayed").write_text(recorded)
    with pytest.raises(ValueError, match=r"export\.replayed is not the progress of this export"):
        acts._read_progress(str(tmp_path / "export.replayed"), 2)


def test_progress_does_not_follow_planted_links(tmp_path):
    path, victim = tmp_path / "export.replayed", tmp_path / "victim"
    victim.write_text("untouched")
    for name in ("export.replayed", "export.replayed.new"):
        (tmp_path / name).symlink_to(victim)
    acts._record_progress(str(path), 1, 2)
    assert acts._read_progress(str(path), 2) == 1
    assert victim.read_text() == "untouched"
