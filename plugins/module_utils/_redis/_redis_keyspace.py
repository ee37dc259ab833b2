# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sum up the memory of the keys of a Redis server by prefix and type. Private to this collection.

The keys are all keys or a sample. A sample misses the rare large key, and one in the sample does not stand for others.
So keys that are large in comparison with the mean are never extrapolated: a search among all keys finds them.
``keyspace_bytes`` (the memory of all keys by the server's own account) shows how much is missing.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from typing import Callable, Iterable, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import ratio, readable
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import (
    HASH_TAG,
    is_plain,
    key_name,
    prefix_of,
    printf_format,
    shown,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Answers, Database, GroupKey
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Groups that are kept; the others are summed up as one, so that a keyspace without real prefixes needs bounded memory.
GROUPS_MOST = 20000
OTHER = b"\x00other"

Z_95 = 1.96
# The assumed variation for a group of which one key was seen: sizes that vary by more than their mean.
ONE_VARIATION = 2.0

# The reply to PTTL for a key that does not expire.
NO_TTL = -1

# A key is large from so many times the mean size on, and at least from so many bytes on.
LARGE_TIMES, LARGE_LEAST = 50, 4096
# Keys of a group of big keys that are named.
NAMED_MOST = 3


class Group:
    """Sums over the keys of one prefix and type in one database that were seen.

    ``sized`` and ``ttl_known`` count the keys whose size and time to live are known, ``lasting`` those without a time
    to live; ``squares`` is the sum of the squared sizes.
    """

    __slots__ = ("seen", "sized", "bytes", "squares", "lasting", "lasting_bytes", "ttl_known", "ttl_seconds")

    def __init__(self) -> None:
        self.seen = 0
        self.sized = 0
        self.bytes = 0
        self.squares = 0
        self.ttl_known = 0
        self.ttl_seconds = 0.0
        self.lasting = 0
        self.lasting_bytes = 0


class BigGroup:
    """Big keys of one prefix and type, or one big key without a prefix; ``largest`` are some of them, in a heap."""

    __slots__ = ("prefix", "count", "bytes", "lasting", "ttl_known", "largest")

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.count = 0
        self.bytes = 0
        self.lasting = 0
        self.ttl_known = 0
        self.largest: list[BigKey] = []


class BigKey(NamedTuple):
    """One of the biggest keys that were seen. ``kind`` and ``ttl`` (milliseconds) are null if the command is denied."""

    size: int
    database: int
    name: bytes
    kind: bytes | None
    ttl: int | None


class Survey:
    """The sums over the keys that were seen so far."""

    def __init__(self, separator: str, top: int, large_bytes: int, big_bytes: int) -> None:
        self.separator = separator.encode("utf-8")
        self.top = top
        # Keys from these sizes on are large, or big. Big keys are large too.
        self.large_bytes = min(large_bytes, big_bytes)
        self.big_bytes = big_bytes
        # Sums over the other keys that were seen, and over the large ones.
        self.groups: dict[GroupKey, Group] = {}
        self.large: dict[GroupKey, Group] = {}
        self.big: dict[tuple[int, bytes, bytes | None], BigGroup] = {}
        # By database: names of large keys, and how many of them were in the sample. The search finds those again.
        self.large_names: dict[int, set[bytes]] = {}
        self.large_drawn: dict[int, int] = {}
        # By database, if the size of every key was read: the sum of the sizes.
        self.searched: dict[int, int] = {}
        # A heap, the smallest first.
        self.biggest: list[BigKey] = []
        # By database: the names from SCAN; those that were queried and exist; those that the user may not read.
        self.drawn: dict[int, int] = {}
        self.seen: dict[int, int] = {}
        self.unread: dict[int, int] = {}
        # Databases of which every key was seen.
        self.whole: set[int] = set()
        # A column, ``keys`` or ``select`` -> the error reply that denies it.
        self.denied: dict[str, ReplyError] = {}
        self.calls = 0
        self.ended: str | None = None
        self.longest_step = 0.0

    def add(self, database: int, names: Sequence[bytes], answers: Answers) -> None:
        """Add names and their answers. A name without a key does not count."""
        self.drawn[database] = self.drawn.get(database, 0) + len(names)
        # Loops in C wherever possible: there can be millions of names.
        separator, missing, large, brace = self.separator, 0, self.large_bytes, b"{"
        by_group: dict[tuple[bytes, bytes | None], list[tuple[int | None, int | None, bytes]]] = {}
        none = itertools.repeat(None)
        sized = "bytes" in answers
        for name, size, ttl, kind in zip(names, *(answers.get(column, none) for column in ("bytes", "ttl", "type"))):
            if ttl == -2 or kind == b"none" or (sized and size is None):
                # The key has expired, or was deleted, since SCAN returned its name.
                missing += 1
                continue
            if size is not None and size >= large:
                self.add_large(database, name, size, ttl, kind)
                self.large_drawn[database] = self.large_drawn.get(database, 0) + 1
                continue
            if brace in name:
                key = (prefix_of(name, separator), kind)
            else:
                head, found, _rest = name.partition(separator)
                key = (head if found else b"", kind)
            try:
                by_group[key].append((size, ttl, name))
            except KeyError:
                by_group[key] = [(size, ttl, name)]
        self.seen[database] = self.seen.get(database, 0) + len(names) - missing
        for (prefix, kind), rows in by_group.items():
            self._add_group(self.groups, (database, prefix, kind), rows)

    def add_large(self, database: int, name: bytes, size: int, ttl: int | None, kind: bytes | None) -> None:
        """Add a large key, unless it was added before."""
        names = self.large_names.setdefault(database, set())
        if name in names:
            return
        names.add(name)
        prefix = prefix_of(name, self.separator)
        self._add_group(self.large, (database, prefix, kind), [(size, ttl, name)])
        if size < self.big_bytes:
            return
        # Without a prefix, names have nothing in common.
        key = (database, prefix or self.separator + name, kind)
        if key not in self.big and len(self.big) >= GROUPS_MOST:
            return
        group = self.big.setdefault(key, BigGroup(prefix))
        group.count += 1
        group.bytes += size
        group.ttl_known += ttl is not None
        group.lasting += ttl == NO_TTL
        push = heapq.heappushpop if len(group.largest) == NAMED_MOST else heapq.heappush
        push(group.largest, BigKey(size, database, name, kind, ttl))

    def skip(self, database: int, count: int) -> None:
        """Count keys that the user may not read."""
        if count:
            self.drawn[database] = self.drawn.get(database, 0) + count
            self.unread[database] = self.unread.get(database, 0) + count

    def sampled_of(self, database: int, total: int) -> tuple[int, int]:
        """Return how many of how many keys of a database the sums of ``groups`` stand for."""
        drawn = self.drawn.get(database, 0)
        if database not in self.searched:
            return drawn, total
        # All large keys are known.
        small = max(0, total - len(self.large_names.get(database, ())))
        return min(small, drawn - self.large_drawn.get(database, 0)), small

    def drop(self, database: int, is_denied: Callable[[bytes], bool]) -> None:
        """Count the keys of a database as unread whose prefix is denied."""
        for groups in (self.groups, self.large):
            for key in [key for key in groups if key[0] == database and is_denied(key[1])]:
                count = groups.pop(key).seen
                self.seen[database] -= count
                self.unread[database] = self.unread.get(database, 0) + count

    def _add_group(
        self, groups: dict[GroupKey, Group], key: GroupKey, rows: list[tuple[int | None, int | None, bytes]]
    ) -> None:
        database, _prefix, kind = key
        if key not in groups and len(groups) >= GROUPS_MOST:
            key = (database, OTHER, kind)
        group = groups.setdefault(key, Group())
        group.seen += len(rows)
        sized = [(size, ttl, name) for size, ttl, name in rows if size is not None]
        sizes = [row[0] for row in sized]
        group.sized += len(sizes)
        group.bytes += sum(sizes)
        group.squares += sum([size * size for size in sizes])
        group.lasting_bytes += sum([size for size, ttl, _name in sized if ttl == NO_TTL])
        ttls = [ttl for _size, ttl, _name in rows if ttl is not None]
        lasting = ttls.count(NO_TTL)
        group.lasting += lasting
        group.ttl_known += len(ttls)
        group.ttl_seconds += (sum(ttls) - NO_TTL * lasting) / 1000.0
        if sizes and max(sizes) > self._smallest():
            for size, ttl, name in sized:
                if size > self._smallest():
                    self._keep(BigKey(size, database, name, kind, ttl))

    def _keep(self, entry: BigKey) -> None:
        if len(self.biggest) < self.top:
            heapq.heappush(self.biggest, entry)
        else:
            heapq.heapreplace(self.biggest, entry)

    def _smallest(self) -> float:
        """Return the size that a key must exceed to be one of the biggest."""
        if not self.top:
            return math.inf
        return self.biggest[0][0] if len(self.biggest) == self.top else -1


def large_from(keyspace_bytes: int | None, key_count: int) -> int:
    """Return the size from which a key is large in a keyspace."""
    return max(LARGE_LEAST, LARGE_TIMES * (keyspace_bytes or 0) // max(1, key_count))


def interval(estimate: float, observed: int, seen: int, sampled: int, total: int, variation: float) -> tuple[int, int]:
    """Return the 95 % interval (low, high) of a sum over the keys of one group, from a sample without replacement.

    ``observed`` is the sum over the ``seen`` keys of the group in the sample, ``estimate`` the sum extrapolated to the
    database; ``sampled`` of the ``total`` keys of the database are in the sample. ``variation`` is the squared
    coefficient of variation of the values. The number of keys of the group varies as a Poisson number (Byar's
    approximation: one key seen stands for 0.01 to 5.6), the mean of their values as a normal one. The lower end is at
    least ``observed``.
    """
    left = max(0.0, 1.0 - sampled / total)
    values = Z_95**2 * variation / seen
    ends: list[float] = []
    for count, sign in ((seen, -1), (seen + 1, 1)):
        end = count * (1 - 1 / (9 * count) + sign * Z_95 / (3 * math.sqrt(count))) ** 3
        counts = math.log(end / seen) ** 2 * (1 - seen / sampled)
        ends.append(estimate * math.exp(sign * math.sqrt((counts + values) * left)))
    return max(observed, int(ends[0])), int(math.ceil(ends[1]))


def estimate_variation(group: Group, mean: float) -> float:
    """Return the squared coefficient of variation of the sizes, raised for groups of which few keys were seen.

    Sizes are skewed, and few of them show too little of it. With the correction, the intervals contained the true value
    in 92 to 99 % of simulated samples with log-normal sizes up to sigma 1, from 6 seen keys on. With more skew and few
    keys seen they contain it less often: a sample does not show a big key that is not in it.
    """
    if group.sized < 2 or not mean:
        return ONE_VARIATION
    found = max(0.0, group.squares / group.sized / mean**2 - 1.0)
    return found * (1.0 + min(2.0, 30.0 / group.sized))


def scan_pattern(prefix: bytes, separator: str) -> str | None:
    """Return the pattern of SCAN for the keys of a prefix; null if text cannot express it."""
    # The pattern for a hash tag would also match names with another structure.
    if not prefix or prefix == OTHER or HASH_TAG in prefix or not is_plain(prefix.replace(b"\\", b"")):
        return None
    return re.sub(r"([\\*?\[\]])", r"\\\1", prefix.decode("utf-8") + separator) + "*"


def add_names(row: Part, key: GroupKey, separator: str) -> Part:
    """Return the row of a group with its prefix and pattern."""
    prefix = key[1]
    return dict(row, prefix=None if prefix == OTHER else shown(prefix), pattern=scan_pattern(prefix, separator))


def group_row(
    key: GroupKey,
    group: Group,
    sampled: int,
    total: int,
    complete: bool,
    large: Group | None = None,
    found: bool = True,
) -> Part:
    """Return the row of a group without its prefix and pattern, which take time to format.

    ``sampled`` of the ``total`` keys of its database are in the sample; ``complete``: every key was seen. ``large`` are
    the sums over its large keys; ``found``: they are all of them, not those of the sample.
    """
    row = _sampled_row(key, group, sampled, total, complete)
    if not large:
        return row
    exact = _sampled_row(key, large, 1, 1, True)
    if not found and sampled:
        # How many others there are is not known.
        scale = max(1.0, total / sampled)
        exact["key_count_high"] = int(math.ceil(large.seen * scale))
        exact["bytes_high"] = int(math.ceil(large.bytes * scale))
    return _sum_of(row, exact) if group.seen else exact


SUMMED = (
    "seen_count",
    "key_count",
    "key_count_low",
    "key_count_high",
    "bytes",
    "bytes_low",
    "bytes_high",
    "without_ttl_count",
    "without_ttl_bytes",
)


def _sum_of(first: Part, second: Part) -> Part:
    """Return the sum of two rows of a group; what is null in one of them is null."""
    row = dict(first)
    for name in SUMMED:
        row[name] = None if first[name] is None or second[name] is None else first[name] + second[name]
    count, lasting = row["key_count"], row["without_ttl_count"]
    row["mean_bytes"] = None if row["bytes"] is None else int(round(row["bytes"] / count))
    row["ttl_ratio"] = None if lasting is None else round(1.0 - lasting / count, 6)
    expiring = [
        (each["mean_ttl_seconds"], each["key_count"] - (each["without_ttl_count"] or 0)) for each in (first, second)
    ]
    known = [(mean, number) for mean, number in expiring if mean is not None and number > 0]
    seconds = sum(mean * number for mean, number in known)
    row["mean_ttl_seconds"] = round(seconds / sum(number for _mean, number in known), 3) if known else None
    return row


def _sampled_row(key: GroupKey, group: Group, sampled: int, total: int, complete: bool) -> Part:
    database, _prefix, kind = key
    scale = 1.0 if complete or not sampled else max(1.0, total / sampled)
    left = sampled if complete else total
    count = int(round(group.seen * scale))
    count_low, count_high = interval(count, group.seen, group.seen, sampled, left, 0.0) if group.seen else (0, 0)
    row: Part = {
        "database": database,
        "readable": True,
        "prefix": None,
        "pattern": None,
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
            row["bytes"], group.bytes, group.seen, sampled, left, estimate_variation(group, mean)
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


def sum_by_type(rows: Iterable[Part]) -> list[Part]:
    """Return the sums of the rows by type, the biggest first."""
    types: dict[str | None, Part] = {}
    fields = ("key_count", "bytes", "without_ttl_count", "without_ttl_bytes")
    for row in rows:
        sums = types.setdefault(row["type"], dict(dict.fromkeys(fields, 0), type=row["type"]))
        for field in fields:
            sums[field] += row[field] or 0
    return sorted(types.values(), key=lambda each: -each["bytes"])


def unread_row(database: int, count: int) -> Part:
    """Return the row for the keys of a database that the user may not read: all but their number is null."""
    row: Part = dict.fromkeys(group_row((database, b"", None), Group(), 0, 0, True))
    row.update(database=database, readable=False, seen_count=0, key_count=count)
    row.update(key_count_low=count, key_count_high=count)
    return row


def big_key_row(entry: BigKey, separator: bytes, show: bool) -> Part:
    """Return a row of ``biggest_keys``. If ``show`` is false, the name is a prefix and a hash."""
    size, database, name, kind, ttl = entry
    return {
        "database": database,
        "readable": True,
        "name": key_name(name, separator, show),
        "is_exact": show and is_plain(name),
        "printf_format": printf_format(name, show),
        "type": readable(kind) if kind else None,
        "bytes": size,
        "expires": None if ttl is None else ttl >= 0,
        "ttl_seconds": None if ttl is None or ttl < 0 else ttl / 1000.0,
    }


def big_group_row(key: tuple[int, bytes, bytes | None], group: BigGroup, separator: str, show: bool) -> Part:
    """Return a row of ``big_groups``."""
    database, _name, kind = key
    rows = [big_key_row(entry, separator.encode("utf-8"), show) for entry in sorted(group.largest, reverse=True)]
    return {
        "database": database,
        "readable": True,
        "prefix": shown(group.prefix),
        "pattern": scan_pattern(group.prefix, separator),
        "type": readable(kind) if kind else None,
        "key_count": group.count,
        "bytes": group.bytes,
        "largest_bytes": rows[0]["bytes"],
        "without_ttl_count": group.lasting if group.ttl_known else None,
        "largest": rows,
    }


def unread_big_group_row(database: int) -> Part:
    """Return the row of ``big_groups`` for the keys of a database that the user may not read."""
    group = BigGroup(b"")
    group.largest = [BigKey(0, database, b"", None, None)]
    row: Part = dict.fromkeys(big_group_row((database, b"", None), group, ":", False))
    row.update(database=database, readable=False)
    return row


def unread_key_row(database: int) -> Part:
    """Return the row of ``biggest_keys`` for the keys of a database that the user may not read."""
    row: Part = dict.fromkeys(big_key_row(BigKey(0, database, b"", None, None), b":", False))
    row.update(database=database, readable=False)
    return row


def build_distribution(
    result: Survey, databases: Iterable[Database], keyspace_bytes: int | None, options: Options, seconds: float
) -> Part:
    """Return the part ``distribution`` from a finished survey."""
    totals = {each["database"]: each["key_count"] for each in databases}
    ranked = [
        (
            group_row(
                key,
                result.groups.get(key) or Group(),
                *result.sampled_of(key[0], totals[key[0]]),
                key[0] in result.whole,
                result.large.get(key),
                key[0] in result.whole or key[0] in result.searched,
            ),
            key,
        )
        for key in {**result.groups, **result.large}
    ]
    ranked.sort(key=lambda each: (-(each[0]["bytes"] or 0), -each[0]["key_count"], each[1][1]))
    rows = [row for row, _key in ranked]
    sized = any(row["bytes"] is not None for row in rows)
    total_bytes = None
    if sized:
        total_bytes = sum(row["bytes"] or 0 for row in rows if row["database"] not in result.searched)
        total_bytes += sum(result.searched.values())
    big = sorted(result.big.items(), key=lambda each: (-each[1].bytes, each[0][1]))
    unread = {
        database: int(round(count * max(1.0, totals[database] / (result.drawn.get(database) or count))))
        for database, count in sorted(result.unread.items())
        if count
    }
    # Without sizes and times to live the rows are of no use.
    denied = [column for column in ("bytes", "ttl") if column in result.denied]
    room = max(0, options["top"] - len(unread))
    return {
        "mode": options["distribution"],
        "complete": all(database in result.whole for database in totals) and not denied,
        "searched": all(database in result.whole or database in result.searched for database in totals) and not denied,
        "ended": result.ended,
        "seconds": round(seconds, 6),
        "longest_step_seconds": round(result.longest_step, 6),
        "call_count": result.calls,
        "seen_count": sum(result.seen.values()),
        "unread_count": sum(unread.values()),
        "key_count": sum(totals.values()),
        "bytes": total_bytes,
        "keyspace_bytes": keyspace_bytes,
        "explained_ratio": None if unread else ratio(total_bytes, keyspace_bytes),
        "confidence": 0.95,
        "prefixes": None
        if denied
        else [add_names(*each, options["prefix_separator"]) for each in ranked[:room]]
        + [unread_row(*each) for each in unread.items()],
        "prefixes_total": len(rows),
        "types": sum_by_type(rows),
        "biggest_keys": None
        if "bytes" in denied
        else [
            big_key_row(entry, result.separator, options["show_key_names"])
            for entry in sorted(result.biggest, key=lambda entry: -entry[0])
        ]
        + [unread_key_row(database) for database in unread],
        "big_groups": None
        if "bytes" in denied
        else [
            big_group_row(key, group, options["prefix_separator"], options["show_key_names"])
            for key, group in big[: options["top"]]
        ]
        + [unread_big_group_row(database) for database in unread],
        "big_groups_total": len(big),
    }
