# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scratch server that loads an RDB file. Private to this collection.

It is a container of the server's image without a network or, if the server does not run in a container, a process of
the program of the host; it listens at a Unix socket only and writes nothing. It runs as a replica of a server that does
not exist: so it keeps keys whose time to live is over, and its counts are exactly those of the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from typing import Any, Callable, Iterator, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import container_id
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure, cut
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _run, _scratch_container
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

PROGRAM, CHECK = "redis-server", "redis-check-rdb"
SOCKET = "redis.sock"
# Paths in the container.
BACKUP, WORK = "/backup", "/work"
# exit codes of timeout(1): the program does not exist, or did not end.
NO_PROGRAM, TIMED_OUT = 127, 124
POLL_SECONDS = 0.1
# Memory of the copy, as a multiple of that of the server, and the bytes of an empty server.
MEMORY_FACTOR, MEMORY_LEAST = 1.2, 50 * 1024 * 1024
LOG_WORDS = re.compile(r"error|wrong|short read|can't|cannot|oom|fatal|invalid|unknown|failed", re.IGNORECASE)
# The replica that it pretends to be reports this each second.
NOISE = re.compile(r"MASTER|master")


class NotLoaded(Failure):
    """The scratch server rejects the file: the message is what it reports."""

    kind = "not_loaded"


class Source(NamedTuple):
    """What runs the scratch server: an image of the engine, or a program of the host. ``name`` is for messages."""

    image: str | None
    program: str | None
    name: str
    container: str | None = None


def source(options: Options, pid: int | None, api: DockerApi) -> Source:
    """Return what to run: the ``image`` of the options, else that of the server ``pid``, else the program of the host.

    Raises NoScratch, CannotConnect.
    """
    identity = container_id(pid) if pid else None
    image, container = _scratch_container.image_of(api, identity) if identity else (None, None)
    if options["image"]:
        return Source(options["image"], None, options["image"], container)
    if image:
        return Source(image, None, "the image of %s" % container, container)
    program = _programs.find(PROGRAM)
    if program:
        return Source(None, program, program)
    raise _scratch_container.NoScratch(
        "there is no redis-server to load the backup with: the server is not in a container of this host",
        "Set `image` to the image of the server, or install its program: `apt-get install redis-server`.",
    )


def require_memory(used: int | None, root: str = "/") -> None:
    """Raise NoScratch if the host has no memory for a copy of ``used`` bytes."""
    if used is None:
        return
    with open(os.path.join(root, "proc/meminfo"), encoding="ascii") as stream:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", stream.read(), re.MULTILINE)
    needed = int(used * MEMORY_FACTOR) + MEMORY_LEAST
    if found and int(found.group(1)) * 1024 < needed:
        raise _scratch_container.NoScratch(
            "a copy of the data needs %d bytes of memory, the host has %d" % (needed, int(found.group(1)) * 1024),
            "Free memory on this host, or load the backup on another one.",
        )


def check(where: Source, api: DockerApi, path: str, deadline: Deadline) -> str | None:
    """Run redis-check-rdb; return what it finds wrong, null if nothing or if the program is missing."""
    folder, name = os.path.split(path)
    if where.image:
        command = [CHECK, "%s/%s" % (BACKUP, name)]
        with _scratch_container.Scratch(api, where.image, command, {BACKUP: (folder, False)}) as scratch:
            code, lines = scratch.wait(), scratch.log()
    else:
        program = _programs.find(CHECK)
        if not program:
            return None
        try:
            _run.run(CHECK, [program, path], deadline)
            code, lines = 0, []
        except _run.ProgramFailed as exc:
            code, lines = exc.status or 1, exc.lines
    if code in (0, NO_PROGRAM):
        return None
    if code == TIMED_OUT:
        raise _scratch_container.NoScratch("redis-check-rdb did not end within the deadline", "Raise `deadline`.")
    return "redis-check-rdb: %s" % _reason(lines, code)


@contextlib.contextmanager
def loaded(
    where: Source, api: DockerApi, path: str, contents: Mapping[str, Any], work: str, options: Options
) -> Iterator[Client]:
    """Yield a client of a scratch server that has loaded the RDB file ``path``.

    ``contents`` are those of the manifest, ``work`` is a private directory of this process. Raises NotLoaded,
    NoScratch, CannotConnect.
    """
    require_memory(contents.get("used_memory_bytes"))
    folder, name = os.path.split(path)
    if where.image:
        mounts = {BACKUP: (folder, False), WORK: (work, True)}
        command = [PROGRAM, *_arguments(BACKUP, name, WORK, contents)]
        with _scratch_container.Scratch(api, where.image, command, mounts) as scratch:
            yield from _connected(work, options, api.deadline, scratch.exit_code, scratch.log)
        return
    log = os.path.join(work, "log")
    seconds = int(api.deadline.remaining(86400)) + _scratch_container.SPARE_SECONDS
    command = ["timeout", str(seconds), str(where.program), *_arguments(folder, name, work, contents)]
    with open(log, "wb") as output:
        process = subprocess.Popen(  # noqa: S603  # pylint: disable=ansible-bad-function
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
        )
    try:
        yield from _connected(work, options, api.deadline, process.poll, lambda: _last_lines(log))
    finally:
        # timeout(1) passes SIGTERM on to the server; without a save point the server ends at once.
        process.terminate()
        process.wait()


def _arguments(folder: str, name: str, work: str, contents: Mapping[str, Any]) -> list[str]:
    numbers = [int(number) for number in contents.get("databases") or {} if str(number).isdigit()]
    databases = max(
        [16, *(number + 1 for number in numbers), _number((contents.get("settings") or {}).get("databases"))]
    )
    words = {
        "dir": [folder],
        "dbfilename": [name],
        "save": [""],
        "appendonly": ["no"],
        "port": ["0"],
        "unixsocket": [os.path.join(work, SOCKET)],
        "unixsocketperm": ["700"],
        "replicaof": ["127.0.0.1", "1"],
        "maxmemory": ["0"],
        "databases": [str(databases)],
    }
    command = [word for option, values in words.items() for word in ("--" + option, *values)]
    for module in contents.get("modules") or []:
        if module.get("path"):
            command += ["--loadmodule", module["path"], *module.get("arguments", [])]
    return command


def _number(text: Any) -> int:
    return int(text) if str(text).isdigit() else 0


def _connected(
    work: str,
    options: Options,
    deadline: Deadline,
    exit_code: Callable[[], int | None],
    log: Callable[[], list[str]],
) -> Iterator[Client]:
    """Yield the client once the server has loaded the file."""
    client = _wait(work, options, deadline, exit_code, log)
    try:
        yield client
    finally:
        client.close()


def _wait(
    work: str,
    options: Options,
    deadline: Deadline,
    exit_code: Callable[[], int | None],
    log: Callable[[], list[str]],
) -> Client:
    path = os.path.join(work, SOCKET)
    client = None
    while True:
        with contextlib.suppress(OSError, CannotConnect):
            client = client if client and not client.broken else _redis.connect_path(path, options)
            client.deadline = deadline
            try:
                client.ask("PING")
                return client
            except ReplyError as exc:
                if exc.code != "LOADING":
                    raise NotLoaded("the scratch server answers: %s" % exc)
        code = exit_code()
        if code is not None:
            raise NotLoaded("the server rejects the file: %s" % _reason(log(), code))
        if deadline.remaining() <= POLL_SECONDS:
            raise _scratch_container.NoScratch(
                "the scratch server has not loaded the file within the deadline", "Raise `deadline`."
            )
        time.sleep(POLL_SECONDS)


def _last_lines(path: str) -> list[str]:
    with open(path, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _scratch_container.LOG_BYTES))
        return stream.read().decode("utf-8", "replace").splitlines()


def _reason(lines: list[str], code: int | None) -> str:
    """Return the line of a log that says most, without the process and the time before it."""
    lines = [line for line in lines if line.strip() and not NOISE.search(line)]
    chosen = next((line for line in reversed(lines) if LOG_WORDS.search(line)), lines[-1] if lines else "")
    chosen = re.sub(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ [#*.-] ", "", chosen)
    return cut(chosen, 300) or "exit code %s" % code
