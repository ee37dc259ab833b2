# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fill a Redis server of a test with a known keyspace: 70 % strings, 20 % hashes, 5 % lists, 5 % zsets."""

from __future__ import annotations

import random
import socket

BATCH = 5000

# Prefix -> share of the keys.
SHARES = {"track": 0.40, "session": 0.20, "analysis": 0.10, "artist": 0.20, "playlist": 0.05, "chart": 0.05}
BIG_LIST = "queue:backlog"


def pack(*words):
    """Return one command in Redis' wire format."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


def commands(total, seed=1):
    """Yield the commands that create ``total`` keys, the same ones for the same seed."""
    chance = random.Random(seed)
    filler = b"x" * 600
    for prefix, share in SHARES.items():
        for number in range(int(total * share)):
            key = "%s:%d" % (prefix, number)
            size = chance.randrange(20, 200)
            if prefix == "track":
                yield pack("SET", key, filler[:size])
            elif prefix == "session":
                yield pack("SET", key, filler[:size], "EX", 86400 + size)
            elif prefix == "analysis":
                yield pack("SET", key, filler[: size * 3])
            elif prefix == "artist":
                yield pack("HSET", key, "name", filler[: size // 4], "bpm", size, "key", number % 24)
            elif prefix == "playlist":
                yield pack("RPUSH", key, *range(number % 20 + 1))
            else:
                yield pack("ZADD", key, *(word for rank in range(number % 10 + 1) for word in (rank, "t%d" % rank)))


def big_list(elements):
    for start in range(0, elements, 1000):
        yield pack("RPUSH", BIG_LIST, *("job-%010d" % number for number in range(start, min(start + 1000, elements))))


def fill(host, port, total=1000000, list_elements=100000, seed=1, timeout=120, password=None):
    """Empty the server and fill it. Raises RuntimeError if the server rejects a command."""
    with socket.create_connection((host, port), timeout=timeout) as connection:
        replies = connection.makefile("rb")
        if password:
            send(connection, replies, [pack("AUTH", password)])
        send(connection, replies, [pack("FLUSHALL")])
        batch = []
        for source in (commands(total, seed), big_list(list_elements)):
            for command in source:
                batch.append(command)
                if len(batch) == BATCH:
                    send(connection, replies, batch)
                    batch = []
        send(connection, replies, batch)


def send(connection, replies, batch):
    connection.sendall(b"".join(batch))
    for _command in batch:
        line = replies.readline()
        if line[:1] not in (b"+", b":"):
            raise RuntimeError("Redis rejected a command: %r" % line)
