# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the keys of a Redis server, all or a sample, within a budget. Private to this collection.

The keyspace is read with SCAN, never with KEYS. MEMORY USAGE (with its default of 5 samples, so that a huge value
costs no more than a small one), PTTL and TYPE are sent for each name, in pipelines. None of them changes the idle time
or the frequency of a key.

A sample is a run of SCAN from a random cursor. The slot of a key in the hash table is a keyed hash of its name, so a
run is a simple random sample of the keys without replacement, at a fiftieth of the cost of RANDOMKEY.

Three limits bound the cost for the server:

- the number of commands of a sample;
- the share of the time: after each step there is a pause in proportion to the duration of the step;
- the duration of a step: if steps with few keys are slow, the server is busy, and reading ends.

Each denied command is an entry in the server's ACL LOG. So the first steps are small, and after the first key that the
user may not read, one key of each prefix is tried before the other keys of the prefix.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from typing import Any, Iterable, Iterator, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_keyspace import NO_TTL, Survey
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import prefix_of
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Answers, Database, Reply

# Column -> the command for each key, up to the name of the key.
QUERIES = {"bytes": ("MEMORY", "USAGE"), "ttl": ("PTTL",), "type": ("TYPE",)}
# Column -> the answer for a key that no longer exists.
MISSING = {"bytes": None, "ttl": -2, "type": b"none"}

COUNT_FIRST, COUNT_LEAST, COUNT_MOST = 1, 10, 1000
# A longer step halves COUNT; one shorter than half of it doubles COUNT.
STEP_SECONDS = 0.02
# The server is busy if so many steps in a row, of at most COUNT_LEAST keys, are each slower than this.
BUSY_SECONDS, BUSY_STEPS = 0.2, 3
PAUSE_MOST = 1.0

# After so many denied keys no other prefix is tried.
DENIED_MOST = 20

# Why reading ended before the whole keyspace or sample was read.
BUSY, DEADLINE = "busy", "deadline"


class Limits:
    """The limits of a survey: ``calls`` (null: unlimited), ``load`` (share of the time, 0..1), ``deadline``."""

    def __init__(self, calls: int | None, load: float, deadline: Deadline) -> None:
        self.calls = calls
        self.load = load
        self.deadline = deadline
        self._slow = 0

    def share(self, part: int, whole: int, sharers: int) -> int | None:
        """Return the calls for a database with ``part`` of the ``whole`` keys that are left; null: unlimited.

        ``sharers`` databases are left. A database with few keys gets at least half of an even share.
        """
        if self.calls is None:
            return None
        return max(self.calls * part // max(1, whole), self.calls // (2 * sharers))

    def use(self, calls: int) -> None:
        """Subtract calls from the budget."""
        if self.calls is not None:
            self.calls = max(0, self.calls - calls)

    def pause(self, seconds: float) -> None:
        """Pause after a step of ``seconds``, so that the survey keeps to its share of the time."""
        if self.load < 1.0:
            time.sleep(self.deadline.remaining(min(PAUSE_MOST, seconds * (1.0 / max(0.01, self.load) - 1.0))))

    def reason_to_end(self, seconds: float, count: int) -> str | None:
        """Return why to end after a step of ``count`` keys that took ``seconds``; null to continue."""
        self._slow = self._slow + 1 if seconds > BUSY_SECONDS and count <= COUNT_LEAST else 0
        if self._slow >= BUSY_STEPS:
            return BUSY
        return DEADLINE if self.deadline.expired() else None


class Gate:
    """Chooses the names to query, so that few commands are denied."""

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._started = False
        self._allowed_prefixes: set[bytes] = set()
        self._denied_prefixes: set[bytes] = set()
        self._denied = 0

    def choose(self, names: list[bytes]) -> tuple[list[bytes], list[bytes], int]:
        """Return (names to query now, names to query in the next step, number of names to skip)."""
        if not self._started:
            return names[:1], names[1:], 0
        if not self._denied:
            return names, [], 0
        now: list[bytes] = []
        later: list[bytes] = []
        tried: set[bytes] = set()
        skipped = 0
        for name in names:
            prefix = self._prefix(name)
            if prefix in self._allowed_prefixes:
                now.append(name)
            elif prefix in self._denied_prefixes or self._denied >= DENIED_MOST:
                skipped += 1
            elif prefix in tried:
                later.append(name)
            else:
                tried.add(prefix)
                now.append(name)
        return now, later, skipped

    def learn(self, names: Sequence[bytes], denied: Sequence[bool]) -> None:
        """Record which of the names were denied: one flag for each name."""
        self._started = self._started or bool(names)
        if not self._denied and not any(denied):
            return
        self._denied += sum(denied)
        self._denied_prefixes |= {self._prefix(name) for name, flag in zip(names, denied) if flag}
        self._allowed_prefixes |= {self._prefix(name) for name in names}
        self._allowed_prefixes -= self._denied_prefixes

    def is_denied(self, prefix: bytes) -> bool:
        """Return whether a key with this prefix was denied."""
        return prefix in self._denied_prefixes

    def _prefix(self, name: bytes) -> bytes:
        return prefix_of(name, self._separator)


def survey(client: Client, databases: Iterable[Database], whole: bool, result: Survey, limits: Limits) -> Survey:
    """Read the keyspace (``whole``) or a sample of it, and return ``result`` with the sums over its keys.

    Raises ReplyError if SCAN is denied, and CannotConnect if the connection is lost.
    """
    # The smallest first: the others get what it leaves of its share.
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
        if _Reader(client, each, share, result, limits).run():
            result.whole.add(each["database"])
        if result.ended:
            break
    return result


def search(client: Client, databases: Iterable[Database], result: Survey, limits: Limits) -> None:
    """Read the size of every key of the databases, and add the large keys to ``result``.

    Raises ReplyError for a denied command or key, and CannotConnect.
    """
    for each in sorted(databases, key=lambda each: each["key_count"]):
        client.select(each["database"])
        if not _Search(client, each, result, limits).run():
            break


def _pop_scan(replies: list[Reply]) -> tuple[int, list[bytes]]:
    """Remove the last reply, that to SCAN, and return its cursor and names. Raises ReplyError."""
    reply = replies.pop()
    if isinstance(reply, ReplyError):
        raise reply
    return int(reply[0]), reply[1]


class _Search:
    """Reads the sizes of all keys of one database: one command for each key, and for each large key one or two more."""

    def __init__(self, client: Client, database: Database, result: Survey, limits: Limits) -> None:
        self.client = client
        self.number = database["database"]
        self.result = result
        self.limits = limits
        self.network = client.round_trip_seconds()
        self.columns = [
            column
            for column in ("ttl", "type")
            if column not in result.denied and (column != "ttl" or database["expiring_count"])
        ]
        self.never_expires = not database["expiring_count"]
        self.key_count = database["key_count"]
        self.started = time.monotonic()
        self.read_count = 0
        self.cursor = 0
        self.bytes = 0

    def run(self) -> bool:
        """Read the database and return whether every key was read."""
        count, over = COUNT_FIRST, False
        names: list[bytes] = []
        large: dict[bytes, int] = {}
        while names or large or not over:
            seconds, names, large = self.step(names, large, None if over else count)
            over = over or self.cursor == 0
            self.result.ended = self.limits.reason_to_end(seconds, count)
            if self.result.ended:
                return False
            if self.is_in_time():
                self.limits.pause(seconds)
            if seconds > STEP_SECONDS:
                count = max(COUNT_LEAST, count // 2)
            elif seconds < STEP_SECONDS / 2:
                count = min(COUNT_MOST, count * 2)
        self.result.searched[self.number] = self.bytes
        return True

    def step(
        self, names: list[bytes], large: dict[bytes, int], count: int | None
    ) -> tuple[float, list[bytes], dict[bytes, int]]:
        """Ask the sizes of the names, more about the ``large`` ones (name -> size) of the step before, and more names.

        Return the seconds without those of the network and of this process, the names from SCAN, and the large ones of
        ``names``.
        """
        scan = [] if count is None else [("SCAN", self.cursor, "COUNT", count)]
        started, used = time.monotonic(), time.thread_time()
        packed = pack_queries(self.client, ["bytes"], names) + pack_queries(self.client, self.columns, large)
        self.client.send(packed + self.client.pack(scan))
        replies = self.client.read(len(names) + len(large) * len(self.columns) + len(scan))
        # Half of the time of this process: while it packs and parses, the server waits or works.
        own = (time.thread_time() - used) / 2
        seconds = max(0.0, time.monotonic() - started - self.network - own)
        self.result.longest_step = max(self.result.longest_step, seconds)
        self.result.calls += len(replies)
        found: list[bytes] = []
        if scan:
            self.cursor, found = _pop_scan(replies)
        self.take(large, replies[len(names) :])
        sizes = replies[: len(names)]
        return seconds, found, self.sum_up(names, sizes)

    def is_in_time(self) -> bool:
        """Return whether the search ends before the deadline at the speed that it had so far, with its pauses."""
        left = (self.key_count - self.read_count) / max(1, self.read_count)
        return (time.monotonic() - self.started) * left < self.limits.deadline.remaining()

    def sum_up(self, names: list[bytes], sizes: list[Reply]) -> dict[bytes, int]:
        """Add up the sizes, and return those of large keys by name. A key that no longer exists has none."""
        self.read_count += len(sizes)
        least = self.result.large_bytes
        try:
            self.bytes += sum(filter(None, sizes))
            if max(filter(None, sizes), default=0) < least:
                return {}
        except TypeError:
            raise next(size for size in sizes if isinstance(size, ReplyError))
        return {name: size for name, size in zip(names, sizes) if size and size >= least}

    def take(self, large: dict[bytes, int], replies: list[Reply]) -> None:
        """Add the large keys."""
        answers = dict(split_replies(self.columns, replies, self.result)[0])
        if self.never_expires:
            answers["ttl"] = itertools.repeat(NO_TTL)
        none = itertools.repeat(None)
        for (name, size), ttl, kind in zip(large.items(), answers.get("ttl", none), answers.get("type", none)):
            if ttl != MISSING["ttl"] and kind != MISSING["type"]:
                self.result.add_large(self.number, name, size, ttl, kind)


class _Reader:
    """Reads one database with at most ``calls`` commands (null: unlimited)."""

    def __init__(self, client: Client, database: Database, calls: int | None, result: Survey, limits: Limits) -> None:
        self.client = client
        self.number = database["database"]
        self.calls = calls
        self.result = result
        self.limits = limits
        self.gate = Gate(result.separator)
        self.network = client.round_trip_seconds()
        # If no key expires, PTTL is not needed.
        self.known: dict[str, Any] = {} if database["expiring_count"] else {"ttl": itertools.repeat(NO_TTL)}
        self.columns = [column for column in QUERIES if column not in self.known and column not in result.denied]
        # COUNT grows from 1 to 1000, so this is about twice the number of SCANs needed.
        scans = 25 + database["key_count"] // 500
        self.sampled = calls is not None and database["key_count"] * len(self.columns) + scans > calls
        # A run of SCAN from a random cursor must not reach its own start.
        self.most = database["key_count"] * 3 // 4 if self.sampled else None
        self.cursor = random.getrandbits(48) if self.sampled else 0
        self.drawn = 0
        self.cut_short = False

    def run(self) -> bool:
        """Read the database and return whether every key was read."""
        count, laps, over = COUNT_FIRST, 0, False
        waiting: list[bytes] = []
        while waiting or not over:
            names, waiting, skipped = self.gate.choose(waiting)
            self.result.skip(self.number, skipped)
            seconds, found = self.step(names, None if over else count)
            if not over:
                laps += self.cursor == 0
                waiting = waiting + self.bounded(found, len(waiting))
                # The run of a sample passes the end of the table once.
                over = laps > self.sampled or self.room(len(waiting)) <= 0
            self.result.ended = self.limits.reason_to_end(seconds, len(names))
            if self.result.ended:
                self.cut_short = True
                break
            self.limits.pause(seconds)
            if seconds > STEP_SECONDS:
                count = min(count, max(COUNT_LEAST, count // 2))
            elif seconds < STEP_SECONDS / 2:
                count = min(COUNT_MOST, count * 2)
        # Some keys of a prefix are no sample of the prefix.
        self.result.drop(self.number, self.gate.is_denied)
        return not (self.sampled or self.cut_short or self.result.unread.get(self.number))

    def step(self, names: list[bytes], count: int | None) -> tuple[float, list[bytes]]:
        """Query the names, and SCAN the next ``count`` keys unless that is null.

        Return the seconds without those of the network, and the names from SCAN. All replies are read before an error
        is raised, so that the connection stays in step.
        """
        scan = [] if count is None else [("SCAN", self.cursor, "COUNT", count)]
        started = time.monotonic()
        self.client.send(pack_queries(self.client, self.columns, names) + self.client.pack(scan))
        replies = self.client.read(len(names) * len(self.columns) + len(scan))
        seconds = max(0.0, time.monotonic() - started - self.network)
        self.result.longest_step = max(self.result.longest_step, seconds)
        self.result.calls += len(replies)
        self.limits.use(len(replies))
        if self.calls is not None:
            self.calls -= len(replies)
        found: list[bytes] = []
        if scan:
            self.cursor, found = _pop_scan(replies)
        self.take(names, replies)
        return seconds, found

    def take(self, names: list[bytes], replies: list[Reply]) -> None:
        """Add the replies about the names to the result."""
        answers, denied = split_replies(self.columns, replies, self.result)
        self.gate.learn(names, denied)
        if any(denied):
            self.result.skip(self.number, sum(denied))
            answers = {column: list(_without(found, denied)) for column, found in answers.items()}
            names = list(_without(names, denied))
        self.columns = [column for column in self.columns if column not in self.result.denied]
        self.result.add(self.number, names, dict(self.known, **answers))

    def room(self, waiting: int) -> float:
        """Return about how many more names the budget allows, beside those that are waiting."""
        room = math.inf if self.most is None else self.most - self.drawn
        if self.calls is not None:
            # One call is for the SCAN that returns them.
            room = min(room, self.calls // max(1, len(self.columns)) - waiting - 1)
        return room

    def bounded(self, names: list[bytes], waiting: int) -> list[bytes]:
        """Return as many of the names as the budget allows."""
        room = self.room(waiting)
        if len(names) > room:
            names = names[: max(0, int(room))]
            self.cut_short = True
        self.drawn += len(names)
        return names


def _without(entries: Iterable[Any], flags: Iterable[bool]) -> Iterator[Any]:
    return (entry for entry, flag in zip(entries, flags) if not flag)


def pack_queries(client: Client, columns: Sequence[str], names: Iterable[bytes]) -> bytes:
    """Return the commands of ``columns`` for each name, in the wire format."""
    frames: dict[int, list[bytes]] = {}
    packed = []
    for name in names:
        frame = frames.get(len(name))
        if frame is None:
            # Packing takes longer than the server's answer, so the packed commands serve all names of this length.
            mark = b"\0" * len(name)
            commands = client.pack([(*QUERIES[column], mark) for column in columns])
            frame = frames[len(name)] = commands.split(mark) if mark else [commands]
        packed.append(name.join(frame))
    return b"".join(packed)


def split_replies(columns: Sequence[str], replies: list[Reply], result: Survey) -> tuple[Answers, list[bool]]:
    """Return (column -> one answer for each name; for each name whether it was denied).

    A denied command is recorded in ``result.denied``, and its column is left out. Raises ReplyError for other errors.
    """
    answers: dict[str, list[Any]] = {}
    flags = [False] * (len(replies) // len(columns) if columns else 0)
    for at, column in enumerate(columns):
        found = replies[at :: len(columns)]
        errors = [reply for reply in found if isinstance(reply, ReplyError)]
        if errors:
            if errors[0].denied_command:
                result.denied[column] = errors[0]
                continue
            if not errors[0].denied_key:
                raise errors[0]
            result.denied["keys"] = errors[0]
            flags = [flag or isinstance(reply, ReplyError) for flag, reply in zip(flags, found)]
            found = [MISSING[column] if isinstance(reply, ReplyError) else reply for reply in found]
        answers[column] = found
    return answers, flags
