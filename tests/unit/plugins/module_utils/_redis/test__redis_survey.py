# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_survey as survey
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_keyspace import Survey

NO_KEY = ReplyError("NOPERM No permissions to access a key")
NO_COMMAND = ReplyError("NOPERM User x has no permissions to run the 'memory|usage' command")


class Scripted:
    """A client whose server sends these replies, in this order."""

    def __init__(self, *replies):
        self.replies = list(replies)

    def select(self, database):
        pass

    def round_trip_seconds(self):
        return 0.0

    def pack(self, commands):
        return b"x" * len(commands)

    def send(self, packed):
        pass

    def read(self, count):
        taken, self.replies = self.replies[:count], self.replies[count:]
        return taken


def empty():
    return Survey(":", 5, 1000, 10000)


def read_all(client):
    database = {"database": 0, "key_count": 9, "expiring_count": 1}
    return survey.survey(client, [database], True, empty(), survey.Limits(None, 1.0, Deadline(5)))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_error_leaves_no_replies_behind(at):
    """The replies after the error are read before it is raised."""
    answers = [10, -1, b"string"]
    answers[at] = ReplyError("LOADING now")
    client = Scripted([b"5", [b"a:1"]], *answers, [b"0", []])
    with pytest.raises(ReplyError):
        read_all(client)
    assert client.replies == []


def test_a_denied_command_is_tried_on_one_key():
    client = Scripted([b"5", [b"a:1", b"a:2"]], NO_COMMAND, -1, b"string", [b"0", []], -1, b"string")
    found = read_all(client)
    assert (client.replies, set(found.denied), found.seen) == ([], {"bytes"}, {0: 2})


def test_after_a_denied_key_one_key_of_each_prefix_is_tried():
    gate = survey.Gate(b":")
    names = [b"a:1", b"a:2", b"b:1", b"b:2"]
    assert gate.choose(names) == ([b"a:1"], names[1:], 0)
    gate.learn([b"a:1"], [True])
    assert gate.choose(names[1:]) == ([b"b:1"], [b"b:2"], 1)
    gate.learn([b"b:1"], [False])
    assert gate.choose([b"b:2", b"a:3"]) == ([b"b:2"], [], 1)
    assert gate.is_denied(b"a")
    assert not gate.is_denied(b"b")


def test_a_bounded_number_of_denied_prefixes_is_tried():
    gate = survey.Gate(b":")
    gate.learn([b"p%d:x" % number for number in range(survey.DENIED_MOST)], [True] * survey.DENIED_MOST)
    assert gate.choose([b"new:1"]) == ([], [], 1)


def test_a_denied_key_is_counted_and_the_others_are_read():
    client = Scripted([b"0", [b"a:1", b"b:1"]], *[NO_KEY] * 3, 10, -1, b"string")
    found = read_all(client)
    assert (found.unread, found.seen, set(found.denied), found.whole) == ({0: 1}, {0: 1}, {"keys"}, set())


class Endless(Scripted):
    """A client whose server returns ``size`` keys for each SCAN, endlessly."""

    def __init__(self, size):
        super().__init__()
        self.names = [b"a:%d" % number for number in range(size)]
        self.scan = False

    def pack(self, commands):
        # The last commands packed for a message are its SCAN, or none.
        self.scan = bool(commands) and commands[0][0] == "SCAN"
        return super().pack(commands)

    def read(self, count):
        return [10] * (count - self.scan) + [[b"5", self.names]] * self.scan


@pytest.mark.parametrize("size", [0, 1, 2, 50])
def test_a_budget_is_kept(size):
    for calls in range(1, 60):
        limits = survey.Limits(calls, 1.0, Deadline(5))
        database = {"database": 0, "key_count": 10**6, "expiring_count": 0}
        result = survey.survey(Endless(size), [database], False, empty(), limits)
        assert result.calls <= calls
        assert result.calls > calls // 2 - 4
        assert result.whole == set()


@pytest.mark.parametrize(
    ("load", "deadline", "pauses"),
    [(0.25, 60, [0.3]), (0.5, 60, [0.1]), (1.0, 60, []), (0.01, 60, [1.0]), (0.25, 0, [0])],
)
def test_a_step_is_followed_by_a_pause_in_proportion(monkeypatch, load, deadline, pauses):
    found = []
    monkeypatch.setattr(survey.time, "sleep", found.append)
    survey.Limits(None, load, Deadline(deadline)).pause(0.1)
    assert found == pytest.approx(pauses)


def test_slow_replies_to_few_commands_end_the_survey():
    limits = survey.Limits(None, 1.0, Deadline(5))
    assert [limits.reason_to_end(0.3, 5) for _step in range(3)] == [None, None, survey.BUSY]
    limits = survey.Limits(None, 1.0, Deadline(5))
    assert [limits.reason_to_end(seconds, 5) for seconds in (0.3, 0.3, 0.01, 0.3)] == [None] * 4
    assert survey.Limits(None, 1.0, Deadline(0)).reason_to_end(0.0, 5) == survey.DEADLINE
