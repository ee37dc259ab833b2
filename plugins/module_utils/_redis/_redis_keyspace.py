# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the keys of a Redis server take: by prefix and type, whole or by sample. Private to this collection.

Both ways read the keyspace with SCAN, never with KEYS, and ask MEMORY USAGE (with its default of 5 samples, so that
a huge value costs no more than a small one), PTTL and TYPE for each name in one pipeline. None of these touches the
idle time of a key. A server works off a pipeline in pieces of 16 KiB and serves its other clients in between; COUNT
is adapted so that a step stays short on a slow server too.

A sample is a run of SCAN from a random cursor. A table's place for a key is a keyed hash of its name, so such a run
is a simple random sample without replacement of the keys, at a fiftieth of the cost of RANDOMKEY. Like every sample
it misses the rare big key; ``keyspace_bytes`` (what the server says all keys take) shows how much is missing.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import random
import re
import time

from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import ratio, readable

# Keys of a sample, over all databases. A prefix with 5 % of the keys is then known to about 5 % (95 % interval) where
# its keys are of much the same size.
SAMPLE = 30000
# No database goes without a look, however small its share.
SAMPLE_PER_DATABASE = 500

COUNT_FIRST, COUNT_LEAST, COUNT_MOST = 100, 10, 1000
# A step that took longer halves COUNT; one that took less than a quarter of it doubles COUNT.
STEP_SECONDS = 0.02

# Different prefixes that are kept apart; a keyspace without real prefixes must not fill the memory of the host.
GROUPS_MOST = 20000
OTHER = b"\x00other"

Z_95 = 1.96
# Assumed for a group of which one key was seen: sizes that vary by more than their mean.
ONE_VARIATION = 2.0

# PTTL of a key that does not expire.
NO_TTL = -1

# What is asked about each key: column -> the command up to the name of the key.
_QUESTIONS = {"bytes": ("MEMORY", "USAGE"), "ttl": ("PTTL",), "type": ("TYPE",)}


class Group:
    """Running sums over the keys seen of one prefix and type in one database."""

    __slots__ = ("seen", "sized", "bytes", "squares", "lasting", "lasting_bytes", "ttl_known", "ttl_seconds")

    def __init__(self):
        self.seen = 0
        self.sized = 0
        self.bytes = 0
        self.squares = 0
        self.ttl_known = 0
        self.ttl_seconds = 0.0
        self.lasting = 0
        self.lasting_bytes = 0


class Survey:
    """What has been seen of the keyspace so far."""

    def __init__(self, separator, top):
        self.separator = separator.encode("utf-8")
        self.top = top
        self.groups = {}
        self.biggest = []
        self.seen = {}
        self.whole = set()
        self.denied = {}
        self.longest_step = 0.0

    def add(self, database, names, answers):
        """Takes in the names of one step and the answers about them, as ``_answers`` returns them."""
        self.seen[database] = self.seen.get(database, 0) + len(names)
        # Loops in C wherever there is one: this runs while the server works on the next step.
        separator, by_group = self.separator, {}
        columns = [answers.get(column, itertools.repeat(None)) for column in _QUESTIONS]
        for name, size, ttl, kind in zip(names, *columns):
            head, found, _rest = name.partition(separator)
            key = (head if found else b"", kind)
            try:
                by_group[key].append((size, ttl, name))
            except KeyError:
                by_group[key] = [(size, ttl, name)]
        for (prefix, kind), rows in by_group.items():
            self._add_group(database, prefix, kind, rows)

    def _add_group(self, database, prefix, kind, rows):
        group = self._group((database, prefix, kind))
        group.seen += len(rows)
        sized = [row for row in rows if row[0] is not None]
        sizes = [row[0] for row in sized]
        group.sized += len(sizes)
        group.bytes += sum(sizes)
        group.squares += sum([size * size for size in sizes])
        group.lasting_bytes += sum([size for size, ttl, _name in sized if ttl == NO_TTL])
        # (-2 is a key that has expired since SCAN named it.)
        ttls = [ttl for _size, ttl, _name in rows if ttl is not None and ttl != -2]
        lasting = ttls.count(NO_TTL)
        group.lasting += lasting
        group.ttl_known += len(ttls)
        group.ttl_seconds += (sum(ttls) - NO_TTL * lasting) / 1000.0
        if sizes and max(sizes) > self._smallest():
            for size, ttl, name in sized:
                if size > self._smallest():
                    self._keep((size, database, name, kind, ttl))

    def _group(self, key):
        if key not in self.groups and len(self.groups) >= GROUPS_MOST:
            key = (key[0], OTHER, key[2])
        return self.groups.setdefault(key, Group())

    def _keep(self, entry):
        if len(self.biggest) < self.top:
            heapq.heappush(self.biggest, entry)
        else:
            heapq.heapreplace(self.biggest, entry)

    def _smallest(self):
        """What a key must exceed to be one of the biggest."""
        if not self.top:
            return math.inf
        return self.biggest[0][0] if len(self.biggest) == self.top else -1


def survey(client, databases, whole, separator, top, deadline, chance=random):
    """Reads the keyspace, or a sample of it, until ``deadline``. Returns a Survey.

    ``databases`` is what ``_redis_info.databases`` returned. Raises ReplyError where SCAN or SELECT is refused, and
    CannotConnect where the connection is lost.
    """
    result = Survey(separator, top)
    total = sum(each["key_count"] for each in databases)
    for each in databases:
        share = max(SAMPLE_PER_DATABASE, SAMPLE * each["key_count"] // max(1, total))
        # More than half of a database is not sampled but read: a run of SCAN must not meet its own start.
        limit = None if whole or each["key_count"] <= 2 * share else share
        client.select(each["database"])
        if _read(client, each, limit, result, deadline, chance):
            result.whole.add(each["database"])
    return result


def _read(client, database, limit, result, deadline, chance):
    """Reads one database, or ``limit`` keys of it. Whether every key was read."""
    number = database["database"]
    # Where no key expires, none need be asked.
    known = {} if database["expiring_count"] else {"ttl": itertools.repeat(NO_TTL)}
    columns = [column for column in _QUESTIONS if column not in known]
    cursor = 0 if limit is None else chance.getrandbits(48)
    count, seen, laps = COUNT_FIRST, 0, 0
    client.send(client.pack([("SCAN", cursor, "COUNT", count)]))
    asked = ([], columns)
    while True:
        started = time.monotonic()
        (reply,) = client.read(1)
        if isinstance(reply, ReplyError):
            # The answers to what was asked come after it: whoever asks next must not take them for its own.
            client.read(len(asked[0]) * len(asked[1]))
            raise reply
        cursor, names = int(reply[0]), reply[1]
        seen += len(names)
        laps += cursor == 0
        # The run starts anywhere, so it goes round the end of the table once.
        over = (laps == 1 if limit is None else laps == 2 or seen >= limit) or deadline.expired()
        # One message: the next step, and the questions about these names. Its first reply comes while the server works
        # on the questions, so the next message is there before it is through with this one.
        step = b"" if over else client.pack([("SCAN", cursor, "COUNT", count)])
        client.send(step + _questions(client, columns, names))
        answered = _take(client, number, asked, known, result)
        asked = (names, columns)
        columns = [column for column in columns if column in answered]
        if over:
            _take(client, number, asked, known, result)
            return limit is None and cursor == 0
        seconds = time.monotonic() - started
        result.longest_step = max(result.longest_step, seconds)
        if seconds > STEP_SECONDS:
            count = max(COUNT_LEAST, count // 2)
        elif seconds < STEP_SECONDS / 4:
            count = min(COUNT_MOST, count * 2)


def _take(client, database, asked, known, result):
    """Takes in what was asked about some names, with what is known of all; returns the answers."""
    names, columns = asked
    answers = _answers(columns, client.read(len(names) * len(columns)), result)
    result.add(database, names, dict(known, **answers))
    return answers


def _questions(client, columns, names):
    """The questions of ``columns`` about each name, as they are sent."""
    frames, packed = {}, []
    for name in names:
        frame = frames.get(len(name))
        if frame is None:
            # Packing takes longer than the server's answer. What is packed for one name serves all of its length.
            mark = b"\0" * len(name)
            frame = client.pack([_QUESTIONS[column] + (mark,) for column in columns])
            frame = frames[len(name)] = frame.split(mark) if mark else [frame]
        packed.append(name.join(frame))
    return b"".join(packed)


def _answers(columns, replies, result):
    """The replies about the names of one step: column -> one for each name, null where it is refused.

    A column that is refused for every name is left out, and so not asked again.
    """
    answers = {}
    for at, column in enumerate(columns):
        found = replies[at :: len(columns)]
        refused = [reply for reply in found if isinstance(reply, ReplyError)]
        if refused:
            result.denied.setdefault(column, str(refused[0]))
            found = [None if isinstance(reply, ReplyError) else reply for reply in found]
        if not found or len(refused) < len(found):
            answers[column] = found
    return answers


def interval(estimate, observed, seen, sampled, total, variation):
    """The 95 % interval (low, high) of a sum over the keys of one group, from a sample without replacement.

    ``observed`` is the sum over the ``seen`` keys of the group in the sample, ``estimate`` what it stands for;
    ``sampled`` of the ``total`` keys of the database are in the sample. ``variation`` is the squared coefficient of
    variation of the values. How many keys the group has is uncertain as a Poisson number is (Byar's approximation:
    one key seen stands for 0.01 to 5.6); what their values are, by the normal law on top of it. The sum is never less
    than what was seen.
    """
    left = max(0.0, 1.0 - sampled / total)
    values = Z_95**2 * variation / seen
    ends = []
    for count, sign in ((seen, -1), (seen + 1, 1)):
        end = count * (1 - 1 / (9 * count) + sign * Z_95 / (3 * math.sqrt(count))) ** 3
        counts = math.log(end / seen) ** 2 * (1 - seen / sampled)
        ends.append(estimate * math.exp(sign * math.sqrt((counts + values) * left)))
    return max(observed, int(ends[0])), int(math.ceil(ends[1]))


def variation_of(group, mean):
    """The squared coefficient of variation of the sizes, raised for groups of which few keys were seen.

    Sizes are skewed, and a few of them show too little of it. With what is added here, the intervals held in 92 to
    99 % of simulated samples with log-normal sizes up to sigma 1, from 6 seen keys on. With more skew and few keys
    seen they hold less often: no sample knows of the big key that is not in it.
    """
    if group.sized < 2 or not mean:
        return ONE_VARIATION
    found = max(0.0, group.squares / group.sized / mean**2 - 1.0)
    return found * (1.0 + min(2.0, 30.0 / group.sized))


def pattern_of(prefix, separator):
    """The pattern of SCAN that names the keys of a prefix; null where text cannot name them."""
    if not prefix or prefix == OTHER or readable(prefix) != prefix.replace(b"\\", b"\\\\").decode("utf-8", "replace"):
        return None
    return re.sub(r"([\\*?\[\]])", r"\\\1", prefix.decode("utf-8") + separator) + "*"


def group_row(key, group, sampled, total, complete, separator=":"):
    """One group as a row of the measurement. ``sampled`` and ``total`` are the keys of its database."""
    database, prefix, kind = key
    scale = 1.0 if complete or not sampled else max(1.0, total / sampled)
    left = sampled if complete else total
    count = int(round(group.seen * scale))
    count_low, count_high = interval(count, group.seen, group.seen, sampled, left, 0.0)
    row = {
        "database": database,
        "prefix": None if prefix == OTHER else readable(prefix),
        "pattern": pattern_of(prefix, separator),
        "type": readable(kind) if kind else None,
        "seen_count": group.seen,
        "key_count": count,
        "key_count_low": count_low,
        "key_count_high": count_high,
        "bytes": None,
        "bytes_low": None,
        "bytes_high": None,
        "mean_bytes": None,
        "without_ttl_count": None,
        "without_ttl_bytes": None,
        "ttl_ratio": None,
        "mean_ttl_seconds": None,
    }
    mean = None
    if group.sized:
        mean = group.bytes / group.sized
        row["bytes"] = int(round(mean * group.seen * scale))
        row["bytes_low"], row["bytes_high"] = interval(
            row["bytes"], group.bytes, group.seen, sampled, left, variation_of(group, mean)
        )
        row["mean_bytes"] = int(round(mean))
    if group.ttl_known:
        lasting = group.lasting / group.ttl_known
        row["without_ttl_count"] = int(round(lasting * group.seen * scale))
        row["ttl_ratio"] = round(1.0 - lasting, 6)
        if mean is not None:
            row["without_ttl_bytes"] = int(round(group.lasting_bytes / group.sized * group.seen * scale))
        if group.ttl_known > group.lasting:
            row["mean_ttl_seconds"] = round(group.ttl_seconds / (group.ttl_known - group.lasting), 3)
    return row


def by_type(rows):
    """The rows of all prefixes added up by type."""
    types = {}
    fields = ("key_count", "bytes", "without_ttl_count", "without_ttl_bytes")
    for row in rows:
        sums = types.setdefault(row["type"], dict({"type": row["type"]}, **dict.fromkeys(fields, 0)))
        for field in fields:
            sums[field] += row[field] or 0
    return sorted(types.values(), key=lambda each: -each["bytes"])


def key_name(name, separator, show):
    """A key as it may be shown: escaped, or its prefix and a hash where names are to be hidden."""
    if show:
        return readable(name)
    head, found, _rest = name.partition(separator)
    digest = hashlib.sha256(name).hexdigest()[:12]
    return "%s#%s" % (readable(head + found) if found else "", digest)


def big_key_row(entry, separator, show):
    size, database, name, kind, ttl = entry
    return {
        "database": database,
        "name": key_name(name, separator, show),
        "type": readable(kind) if kind else None,
        "bytes": size,
        "ttl_seconds": None if ttl is None or ttl < 0 else ttl / 1000.0,
    }


def distribution(result, databases, keyspace_bytes, options, seconds):
    """The part ``distribution`` of the measurement, from a finished Survey."""
    totals = {each["database"]: each["key_count"] for each in databases}
    rows = [
        group_row(key, group, result.seen[key[0]], totals[key[0]], key[0] in result.whole, options["prefix_separator"])
        for key, group in result.groups.items()
    ]
    rows.sort(key=lambda row: (-(row["bytes"] or 0), -row["key_count"], str(row["prefix"])))
    sized = any(row["bytes"] is not None for row in rows)
    total_bytes = sum(row["bytes"] or 0 for row in rows) if sized else None
    return {
        "mode": options["distribution"],
        "complete": all(database in result.whole for database in totals),
        "seconds": round(seconds, 6),
        "longest_step_seconds": round(result.longest_step, 6),
        "seen_count": sum(result.seen.values()),
        "key_count": sum(totals.values()),
        "bytes": total_bytes,
        "keyspace_bytes": keyspace_bytes,
        "explained_ratio": ratio(total_bytes, keyspace_bytes),
        "confidence": 0.95,
        "prefixes": rows[: options["top"]],
        "prefixes_total": len(rows),
        "types": by_type(rows),
        "biggest_keys": [
            big_key_row(entry, result.separator, options["show_key_names"])
            for entry in sorted(result.biggest, reverse=True)
        ],
    }
