# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the keys of a Redis server, all or a sample, within a budget. Private to this collection.

The keyspace is read with SCAN, never with KEYS, and MEMORY USAGE (with its default of 5 samples, so that a huge value
costs no more than a small one), PTTL and TYPE are sent for each name, many at once. None of these touches the idle
time or the frequency of a key.

A sample is a run of SCAN from a random cursor. A table's place for a key is a keyed hash of its name, so such a run
is a simple random sample without replacement of the keys, at a fiftieth of the cost of RANDOMKEY.

Three things bound what this costs the server:

- the number of commands of a sample;
- the share of the time: after each step comes a pause in proportion to how long the step took;
- how long a step takes: steps of few keys that are still slow mean that the server is busy, and reading ends.

Each refused command is an entry in the server's ACL LOG. So the first steps are small, and after the first key that
the user may not read, one key of each prefix is tried before the others of the prefix.
"""

from __future__ import annotations

import itertools
import random
import time

from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_keyspace import NO_TTL, Survey

# What is asked about each key: column -> the command up to the name of the key.
QUESTIONS = {"bytes": ("MEMORY", "USAGE"), "ttl": ("PTTL",), "type": ("TYPE",)}
# What the answers are for a key that is no longer there.
GONE = {"bytes": None, "ttl": -2, "type": b"none"}

COUNT_FIRST, COUNT_LEAST, COUNT_MOST = 1, 10, 1000
# A step that took longer halves COUNT; one that took less than half of it doubles COUNT.
STEP_SECONDS = 0.02
# So many steps in a row of COUNT_LEAST keys at most, each slower than this, mean that the server is busy.
BUSY_SECONDS, BUSY_STEPS = 0.2, 3
PAUSE_MOST = 1.0

# Keys without permission that are tried before no other prefix is.
DENIED_MOST = 20

# Why reading ended before all keys or the whole sample were read.
BUSY, DEADLINE = "busy", "deadline"


class Limits:
    """What the survey may cost: ``calls`` (null: any number), ``load`` (share of the time), ``deadline``."""

    def __init__(self, calls: int | None, load: float, deadline):
        self.calls = calls
        self.load = load
        self.deadline = deadline
        self._slow = 0

    def share(self, part: int, whole: int, sharers: int) -> int | None:
        """Return what one of ``sharers`` databases may use that has ``part`` of the ``whole`` keys left to read."""
        if self.calls is None:
            return None
        return max(self.calls * part // max(1, whole), self.calls // (2 * sharers))

    def used(self, calls: int) -> None:
        if self.calls is not None:
            self.calls = max(0, self.calls - calls)

    def pause(self, seconds: float) -> None:
        """Leave the server to others after a step that took so long."""
        if self.load < 1.0:
            time.sleep(self.deadline.remaining(min(PAUSE_MOST, seconds * (1.0 / max(0.01, self.load) - 1.0))))

    def ended(self, seconds: float, count: int) -> str | None:
        """Return why to end after a step of ``count`` keys that took so long; null to go on."""
        self._slow = self._slow + 1 if seconds > BUSY_SECONDS and count <= COUNT_LEAST else 0
        if self._slow >= BUSY_STEPS:
            return BUSY
        return DEADLINE if self.deadline.expired() else None


class Gate:
    """Chooses the names to ask about, so that few questions are refused."""

    def __init__(self, separator: bytes):
        self._separator = separator
        self._asked = False
        self._open = set()
        self._shut = set()
        self._denied = 0

    def choose(self, names):
        """Return (names to ask about now, those to ask about in the next step, how many not to ask about)."""
        if not self._asked:
            return names[:1], names[1:], 0
        if not self._denied:
            return names, [], 0
        now, later, tried, skipped = [], [], set(), 0
        for name in names:
            prefix = self._prefix(name)
            if prefix in self._open:
                now.append(name)
            elif prefix in self._shut or self._denied >= DENIED_MOST:
                skipped += 1
            elif prefix in tried:
                later.append(name)
            else:
                tried.add(prefix)
                now.append(name)
        return now, later, skipped

    def learn(self, names, denied) -> None:
        """Take in which of the names were denied: a flag for each."""
        self._asked = self._asked or bool(names)
        if not self._denied and not any(denied):
            return
        self._denied += sum(denied)
        self._shut |= {self._prefix(name) for name, flag in zip(names, denied) if flag}
        self._open = (self._open | {self._prefix(name) for name in names}) - self._shut

    def is_shut(self, prefix: bytes) -> bool:
        return prefix in self._shut

    def _prefix(self, name: bytes) -> bytes:
        head, found, _rest = name.partition(self._separator)
        return head if found else b""


def survey(client, databases, whole, separator, top, limits, chance=random) -> Survey:
    """Read the keyspace, or a sample of it.

    ``databases`` is what ``_redis_info.databases`` returned. Raises ReplyError where SCAN is refused, and CannotConnect
    where the connection is lost.
    """
    result = Survey(separator, top)
    # The smallest first: what it does not use of its share is left for the others.
    ordered = sorted(databases, key=lambda each: each["key_count"])
    left = sum(each["key_count"] for each in ordered)
    for at, each in enumerate(ordered):
        share = None if whole else limits.share(each["key_count"], left, len(ordered) - at)
        left -= each["key_count"]
        try:
            client.select(each["database"])
        except ReplyError as exc:
            if not exc.denied_command:
                raise
            result.denied["select"] = exc
            result.unread[each["database"]] = each["key_count"]
            continue
        if _Reading(client, each, share, result, limits, chance).run():
            result.whole.add(each["database"])
        if result.ended:
            break
    return result


class _Reading:
    """The reading of one database, of ``calls`` commands at most (null: any number)."""

    def __init__(self, client, database, calls, result, limits, chance):
        self.client = client
        self.number = database["database"]
        self.calls = calls
        self.result = result
        self.limits = limits
        self.gate = Gate(result.separator)
        self.network = client.network_seconds()
        # Where no key expires, none need be asked.
        self.known = {} if database["expiring_count"] else {"ttl": itertools.repeat(NO_TTL)}
        self.columns = [column for column in QUESTIONS if column not in self.known and column not in result.denied]
        # (COUNT grows from 1 to 1000, so this is about twice the number of SCANs that it takes.)
        scans = 25 + database["key_count"] // 500
        self.sampled = calls is not None and database["key_count"] * len(self.columns) + scans > calls
        # A run of SCAN from anywhere must not meet its own start.
        self.most = database["key_count"] * 3 // 4 if self.sampled else None
        self.cursor = chance.getrandbits(48) if self.sampled else 0
        self.drawn = 0
        self.cut_short = False

    def run(self) -> bool:
        """Return whether every key was read."""
        count, laps, waiting, over = COUNT_FIRST, 0, [], False
        while waiting or not over:
            names, waiting, skipped = self.gate.choose(waiting)
            self.result.skip(self.number, skipped)
            seconds, found = self.step(names, None if over else count)
            if not over:
                laps += self.cursor == 0
                waiting = waiting + self.bounded(found, len(waiting))
                # The run of a sample goes round the end of the table once.
                over = laps > self.sampled or self.room(len(waiting)) <= 0
            self.result.ended = self.limits.ended(seconds, len(names))
            if self.result.ended:
                self.cut_short = True
                break
            self.limits.pause(seconds)
            if seconds > STEP_SECONDS:
                count = min(count, max(COUNT_LEAST, count // 2))
            elif seconds < STEP_SECONDS / 2:
                count = min(COUNT_MOST, count * 2)
        # A part of the keys of a prefix tells nothing about the prefix.
        self.result.drop(self.number, self.gate.is_shut)
        return not (self.sampled or self.cut_short or self.result.unread.get(self.number))

    def step(self, names, count):
        """Ask about the names, and SCAN the next ``count`` unless that is null.

        Returns the seconds without those of the network, and the names that SCAN returned. All replies are read before
        an error is raised, so that whoever asks next does not take them for its own.
        """
        scan = [] if count is None else [("SCAN", self.cursor, "COUNT", count)]
        started = time.monotonic()
        self.client.send(questions(self.client, self.columns, names) + self.client.pack(scan))
        replies = self.client.read(len(names) * len(self.columns) + len(scan))
        seconds = max(0.0, time.monotonic() - started - self.network)
        self.result.longest_step = max(self.result.longest_step, seconds)
        self.result.calls += len(replies)
        self.limits.used(len(replies))
        if self.calls is not None:
            self.calls -= len(replies)
        found = []
        if scan:
            reply = replies.pop()
            if isinstance(reply, ReplyError):
                raise reply
            self.cursor, found = int(reply[0]), reply[1]
        self.take(names, replies)
        return seconds, found

    def take(self, names, replies) -> None:
        answers, denied = taken_apart(self.columns, replies, self.result)
        self.gate.learn(names, denied)
        if any(denied):
            self.result.skip(self.number, sum(denied))
            answers = {column: list(_without(found, denied)) for column, found in answers.items()}
            names = list(_without(names, denied))
        self.columns = [column for column in self.columns if column not in self.result.denied]
        self.result.add(self.number, names, dict(self.known, **answers))

    def room(self, waiting: int):
        """Return about how many more names may be asked, beside those that wait for it."""
        room = float("inf") if self.most is None else self.most - self.drawn
        if self.calls is not None:
            # (One more SCAN names them.)
            room = min(room, self.calls // max(1, len(self.columns)) - waiting - 1)
        return room

    def bounded(self, names, waiting: int):
        """Return those of the names that the budget leaves to ask about."""
        room = self.room(waiting)
        if len(names) > room:
            names = names[: max(0, room)]
            self.cut_short = True
        self.drawn += len(names)
        return names


def _without(entries, flags):
    return (entry for entry, flag in zip(entries, flags) if not flag)


def questions(client, columns, names) -> bytes:
    """Return the questions of ``columns`` about each name, as they are sent."""
    frames, packed = {}, []
    for name in names:
        frame = frames.get(len(name))
        if frame is None:
            # Packing takes longer than the server's answer. What is packed for one name serves all of its length.
            mark = b"\0" * len(name)
            frame = client.pack([QUESTIONS[column] + (mark,) for column in columns])
            frame = frames[len(name)] = frame.split(mark) if mark else [frame]
        packed.append(name.join(frame))
    return b"".join(packed)


def taken_apart(columns, replies, result):
    """Return (column -> an answer for each name, null where there is none; for each name whether it was denied).

    A command that the user may not run is noted in ``result.denied``, and its column left out.
    """
    answers = {}
    flags = [False] * (len(replies) // len(columns) if columns else 0)
    for at, column in enumerate(columns):
        found = replies[at :: len(columns)]
        refused = [reply for reply in found if isinstance(reply, ReplyError)]
        if refused:
            if refused[0].denied_command:
                result.denied[column] = refused[0]
                continue
            if not refused[0].denied_key:
                raise refused[0]
            result.denied["keys"] = refused[0]
            flags = [flag or isinstance(reply, ReplyError) for flag, reply in zip(flags, found)]
            found = [GONE[column] if isinstance(reply, ReplyError) else reply for reply in found]
        answers[column] = found
    return answers, flags
