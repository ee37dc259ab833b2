# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Format commands of the slow log without their values. Pure functions. Private to this collection.

A value can be a password, a token or personal data. So only names of keys are shown, and only for commands whose
arguments are known; other arguments are counted. The positions of keys are those of Redis' command table (COMMAND
DOCS).
"""

from __future__ import annotations

import re
from typing import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import shown

KEY_LENGTH = 64
LINE_LENGTH = 200
# Keys shown of one command.
KEYS_MOST = 3


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ONE_KEY = _words(
    """
    append bitcount bitfield bitfield_ro bitpos decr decrby dump expire expireat expiretime get getbit getdel getex
    getrange getset incr incrby incrbyfloat persist pexpire pexpireat pexpiretime psetex pttl restore set setbit setex
    setnx setrange strlen substr ttl type
    hdel hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby hincrbyfloat hkeys hlen hmget hmset
    hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan hset hsetex hsetnx hstrlen httl hvals
    lindex linsert llen lpop lpos lpush lpushx lrange lrem lset ltrim rpop rpush rpushx
    sadd scard sismember smembers smismember spop srandmember srem sscan sort sort_ro
    zadd zcard zcount zincrby zlexcount zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrank zrem
    zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore
    xack xackdel xadd xautoclaim xclaim xdel xdelex xlen xpending xrange xrevrange xsetid xtrim
    geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch pfadd
    """
)
_TWO_KEYS = _words("blmove brpoplpush copy geosearchstore lcs lmove rename renamenx rpoplpush smove zrangestore")
_ALL_KEYS = _words(
    "del exists mget pfcount pfmerge sdiff sdiffstore sinter sinterstore sunion sunionstore touch unlink watch"
)
_ALL_BUT_LAST = _words("blpop brpop bzpopmax bzpopmin")
_EVERY_SECOND = _words("mset msetnx")
# The argument that is the number of keys, counted from 1. The keys follow it.
_NUMBERED = {
    **dict.fromkeys(_words("lmpop sintercard zdiff zinter zintercard zmpop zunion"), 1),
    **dict.fromkeys(_words("blmpop bzmpop zdiffstore zinterstore zunionstore"), 2),
}
# Container commands, whose second word is the subcommand; and those that have a key after it.
_SUBCOMMANDS = _words(
    """
    acl client cluster command config debug function latency memory module object pubsub script slowlog xgroup xinfo
    """
)
_SUBCOMMANDS_WITH_KEY = _words("memory object xgroup xinfo")
_SUBCOMMAND = re.compile(rb"[A-Za-z][A-Za-z-]{1,20}\Z")
# What the slow log prints in place of bytes and arguments that it omits.
_MORE_BYTES = re.compile(rb"\.\.\. \((\d+) more bytes\)\Z")
_MORE_ARGUMENTS = re.compile(rb"\.\.\. \((\d+) more arguments\)\Z")


def command_line(words: Sequence[bytes], show: bool) -> str:
    """Return a command with its keys, and the number and size of its other arguments.

    If ``show`` is false: only with the number of its arguments.
    """
    if not words:
        return ""
    name, rest = shown(words[0], KEY_LENGTH), list(words[1:])
    more = _MORE_ARGUMENTS.match(rest[-1]) if rest else None
    hidden = int(more.group(1)) if more else 0
    if more:
        rest.pop()
    if not show:
        return "%s (%d arguments)" % (name.upper(), len(rest) + hidden)
    command = words[0].decode("ascii", "replace").lower()
    parts = [name]
    if command in _SUBCOMMANDS and rest and _SUBCOMMAND.match(rest[0]):
        parts.append(rest.pop(0).decode("ascii"))
        positions = [0] if command in _SUBCOMMANDS_WITH_KEY and parts[1].lower() != "help" else []
    else:
        positions = key_positions(command, rest)
    positions = [position for position in positions if position < len(rest)]
    parts += [shown(rest[position], KEY_LENGTH) for position in positions[:KEYS_MOST]]
    left = [word for position, word in enumerate(rest) if position not in positions[:KEYS_MOST]]
    if left or hidden:
        parts.append("(%s)" % _counted(len(left) + hidden, sum(map(_size, left)), len(positions) > 0))
    return cut(" ".join(parts), LINE_LENGTH)


def key_positions(command: str, arguments: Sequence[bytes]) -> list[int]:
    """Return the positions of keys in the arguments of a command (in lower case); empty if they are not known."""
    count = len(arguments)
    if command in _ONE_KEY or (command == "keys" and count == 1):
        return [0]
    if command in _TWO_KEYS:
        return [0, 1]
    if command in _ALL_KEYS:
        return list(range(count))
    if command in _ALL_BUT_LAST:
        return list(range(count - 1))
    if command in _EVERY_SECOND:
        return list(range(0, count, 2))
    if command in _NUMBERED and count >= _NUMBERED[command]:
        start = _NUMBERED[command]
        number = arguments[start - 1]
        first = [0] if command.endswith("store") else []
        return first + list(range(start, min(count, start + int(number)))) if number.isdigit() else []
    return []


def _size(word: bytes) -> int:
    more = _MORE_BYTES.search(word)
    return len(word) - len(more.group()) + int(more.group(1)) if more else len(word)


def _counted(count: int, size: int, after_keys: bool) -> str:
    noun = "argument" if count == 1 else "arguments"
    return "%d %s%s, %d bytes" % (count, "more " if after_keys else "", noun, size)
