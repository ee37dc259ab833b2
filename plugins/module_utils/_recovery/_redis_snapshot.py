# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes a snapshot of a Redis server as an RDB file. Private to this collection.

An RDB file holds the whole data set, whether or not the server has an append-only file, so it is all that is copied.
There are two ways to get one:

``save``
    BGSAVE, awaited and checked, and a copy of the file that the server wrote. Needs the server's process on this host
    and root, who reads the directory of the server through ``/proc/<pid>/root``, in a container or not.
``stream``
    The server sends the snapshot as to a new replica (as with ``redis-cli --rdb``) and writes nothing to its own disk.
    Works over the network, and needs the right to run SYNC.

A BGSAVE that fails makes a server with save points reject all writes (MISCONF). So ``save`` is used only where the
server's disk has room for another copy.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Callable, Iterator, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_info, _redis_process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError, connect_anew
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Fields
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

PIECE = 1 << 20
POLL_SECONDS = 0.1
# A stream without a known length ends with the 40 bytes that it announces.
MARK_BYTES = 40
# Commands that show the log of the server.
LOG = "`docker logs --tail 50 CONTAINER` or `tail -n 50 /var/log/redis/*.log`"
# The most bytes of the line before the stream.
MAX_LINE = 1024

# Takes the next bytes of the snapshot.
Sink = Callable[[bytes], object]


class NotSaved(Failure):
    """The server did not make a snapshot. The message says why."""

    kind = "not_saved"


class Place(NamedTuple):
    """Where this host can read the file that BGSAVE writes: its directory, its name, and bytes that are free there."""

    directory: str
    name: str
    free_bytes: int


def info(client: Client, *sections: str) -> Fields:
    """Return the fields of sections of INFO. Raises ReplyError, CannotConnect."""
    found: Fields = {}
    for section in sections:
        found.update(_redis_info.parse_info(client.ask("INFO", section)))
    return found


def place(client: Client) -> Place | None:
    """Return where the server's RDB file is; null if this process cannot read it."""
    try:
        pid = _redis_process.local_pid(client, info(client, "server"))
        reply = client.ask("CONFIG", "GET", "dir") + client.ask("CONFIG", "GET", "dbfilename")
    except ReplyError:
        return None
    if pid is None or len(reply) != 4:
        return None
    directory, name = os.fsdecode(reply[1]), os.fsdecode(reply[3])
    inside = "/proc/%d/root%s" % (pid, directory)
    try:
        state = os.statvfs(inside)
        readable = os.access(inside, os.R_OK | os.X_OK)
    except OSError:
        return None
    return Place(inside, name, state.f_bavail * state.f_frsize) if readable and "/" not in name else None


def save(client: Client, where: Place, deadline: Deadline) -> Iterator[bytes]:
    """Run BGSAVE, and yield the file that the server wrote. Raises NotSaved, CannotConnect, OSError."""
    stamp = start_save(client, deadline)
    with open(os.path.join(where.directory, where.name), "rb") as stream:
        # The open file is of this save, or of a later one: a later save replaces the file, and does not change it.
        if os.fstat(stream.fileno()).st_mtime < stamp - 1:
            raise NotSaved(
                "the server has saved, but %s is older than that" % where.name,
                "Check where the server writes its file: `%s`" % client.command("CONFIG", "GET", "d*"),
            )
        while True:
            deadline.step()
            piece = stream.read(PIECE)
            if not piece:
                return
            yield piece


def start_save(client: Client, deadline: Deadline) -> float:
    """Run BGSAVE and wait for its end; return the server's time at its start. Raises NotSaved, CannotConnect."""
    until = Deadline(deadline.remaining())
    while True:
        state = _state(client)
        started = _server_time(client)
        busy = state.get("rdb_bgsave_in_progress") == "1" or state.get("aof_rewrite_in_progress") == "1"
        last = _redis_info.integer(state, "rdb_last_save_time") or 0
        # An older save is not ours, and LASTSAVE has whole seconds: it has to advance.
        if not busy and int(started) > last:
            try:
                client.ask("BGSAVE")
                break
            except ReplyError as exc:
                # Another process of the server has started in the meantime.
                if "progress" not in str(exc) and "child process" not in str(exc):
                    raise _rejected(exc, client)
        _pause(until, "another save or rewrite of the server has not ended")
    while True:
        _pause(until, "the save of the server has not ended")
        state = _state(client)
        if state.get("rdb_bgsave_in_progress") == "1":
            continue
        if state.get("rdb_last_bgsave_status") != "ok":
            raise NotSaved(
                "the save of the server failed (rdb_last_bgsave_status: %s)" % state.get("rdb_last_bgsave_status"),
                "Read why in its log: %s. A server with save points rejects writes until a save succeeds: `%s`"
                % (LOG, client.command("BGSAVE")),
            )
        if (_redis_info.integer(state, "rdb_last_save_time") or 0) < int(started):
            raise NotSaved(
                "the save was ended before it was complete, for example by FLUSHALL", "Run the backup again."
            )
        return started


def _state(client: Client) -> Fields:
    state = info(client, "persistence")
    if state.get("loading") == "1" or state.get("async_loading") == "1":
        raise NotSaved(
            "the server is loading its data", "Wait until it has loaded: `%s`" % client.command("INFO", "persistence")
        )
    return state


def _server_time(client: Client) -> float:
    try:
        seconds, micro = client.ask("TIME")
        return int(seconds) + int(micro) / 1e6
    except ReplyError:
        return time.time()


def _pause(deadline: Deadline, what: str) -> None:
    if deadline.remaining() <= POLL_SECONDS:
        raise NotSaved("%s within the deadline" % what, "Raise `deadline`.")
    time.sleep(POLL_SECONDS)


def _rejected(exc: ReplyError, client: Client, *words: str) -> NotSaved:
    """Return why the server rejects a command that makes a snapshot."""
    hint = client.hint(exc, *(words or ("BGSAVE",)))
    if hint is None and "fork" in str(exc).lower():
        hint = "Free memory on the host of the server, or allow the fork: `sysctl vm.overcommit_memory=1`"
    return NotSaved(
        "the server rejects %s: %s" % (words[0] if words else "BGSAVE", exc), hint or "Read its log: %s" % LOG
    )


def stream(options: Options, deadline: Deadline) -> Iterator[bytes]:
    """Yield the snapshot that the server sends to a replica. Raises NotSaved, CannotConnect."""
    client = connect_anew(dict(options, deadline=min(options["timeout"] * 2, deadline.remaining())))
    try:
        client.deadline = deadline
        # The server keeps silent while it forks and, by default, 5 s before that.
        client.set_timeout(max(options["timeout"], deadline.remaining()))
        for words in (("REPLCONF", "capa", "eof"), ("REPLCONF", "rdb-only", "1")):
            # Older servers know neither, and then send the length first, or commands afterwards.
            with contextlib.suppress(ReplyError):
                client.ask(*words)
        client.send(client.pack([("SYNC",)]))
        yield from _transfer(client)
    finally:
        client.close()


def _transfer(client: Client) -> Iterator[bytes]:
    line, rest = _first_line(client)
    if line.startswith(b"-"):
        raise _rejected(client.reply_error(line[1:]), client, "SYNC")
    if not line.startswith(b"$"):
        raise NotSaved("the server answers SYNC with %r" % line[:40], "Correct `login_host` and `login_port`.")
    if line.startswith(b"$EOF:"):
        yield from _until_mark(client, rest, line[5:])
        return
    left = int(line[1:])
    while True:
        piece, rest = rest[:left], b""
        left -= len(piece)
        if piece:
            yield piece
        if not left:
            return
        rest = client.receive()


def _first_line(client: Client) -> tuple[bytes, bytes]:
    """Return the line before the data, and what came after it. Empty lines keep the connection alive."""
    received = b""
    while True:
        received = received.lstrip(b"\n")
        line, end, rest = received.partition(b"\r\n")
        if end or len(received) > MAX_LINE:
            return line, rest
        received += client.receive()


def _until_mark(client: Client, received: bytes, mark: bytes) -> Iterator[bytes]:
    """Yield what comes before the mark, which ends the stream."""
    if len(mark) != MARK_BYTES:
        raise NotSaved("the server announces an invalid end of the stream", "Read its log: %s" % LOG)
    while not received.endswith(mark):
        if len(received) > MARK_BYTES:
            yield received[:-MARK_BYTES]
            received = received[-MARK_BYTES:]
        received += client.receive()
    if received[:-MARK_BYTES]:
        yield received[:-MARK_BYTES]
