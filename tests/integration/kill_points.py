# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kills a module with SIGKILL at a step of its work that is chosen by what the module does, not by time.

A step is a call that changes something outside of the process: a file or directory, a statement of SQL, a command of
Redis, a request that makes a broker or an engine work, a program. ``steps`` lists those of a run; ``killed`` repeats
the run and kills it before, during or after one of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_exec
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import Client as PgClient
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import Management
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _run
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client as RedisClient
from tests.integration.modules import run_module

FILES = ("mkdir", "replace", "unlink", "rmdir", "fsync", "ftruncate")
READS = re.compile(
    r"\s*(SELECT(?!.*(pg_try_advisory|pg_terminate|pg_export))|SHOW|SET|SAVEPOINT|ROLLBACK|WITH)\b", re.I
)
NAMES = re.compile(r"\"[^\"]*\"|'(?:[^']|'')*'")
VICTIMS = ("module", "program", "module")
STAMP = re.compile(r"\d{8}T\d{6}Z(-\d+)?")
WRITES = {"BGSAVE", "BGREWRITEAOF", "SYNC", "FLUSHDB", "HSET", "RESTORE", "MULTI", "DEL", "SWAPDB"}


class Kill(NamedTuple):
    """Where to kill. ``step`` counts from 1, or is the beginning of the title of the ``nth`` such step.

    ``how`` is before, during or after.

    ``seconds``: how long the step lasts before a kill during it. ``victim``: the module, the ``program`` that the
    step runs, or the container of a server.
    """

    step: int | str
    how: str = "before"
    seconds: float = 0.0
    victim: str = "module"
    nth: int = 1


class _Steps:
    """Wraps the calls of this process. Each one is written to ``descriptor`` before it is made."""

    def __init__(self, descriptor: int, kill: Kill | None) -> None:
        self._descriptor = descriptor
        self._kill = kill
        self._count = 0
        self._seen = 0
        self._lock = threading.Lock()
        self._inside = threading.local()

    def install(self) -> None:
        for name in FILES:
            self._wrap(os, name, lambda *_words, name=name, **_named: name)
        self._wrap(os, "open", _created)
        self._wrap(os, "rename", _renamed)
        for name in ("statement", "command"):
            self._wrap(PgClient, name, lambda _self, sql, *_words, **_named: _of_sql(sql))
        self._wrap(RedisClient, "ask_all", _of_redis)
        self._wrap(Management, "post_long", lambda *_words, **_named: "import of definitions")
        self._wrap(DockerApi, "ask", _of_engine)
        self._wrap(_docker_exec, "run", lambda *_words, **_named: "exec in a container")
        self._wrap(_run, "run", lambda name, *_words, **_named: "program %s" % name)

    def _wrap(self, owner: Any, name: str, named: Callable[..., str | None]) -> None:
        original = getattr(owner, name)

        def call(*words: Any, **options: Any) -> Any:
            # What a step does by other steps is a part of it, but for files: they are written by several layers.
            title = None if getattr(self._inside, "busy", False) else named(*words, **options)
            if title is None:
                return original(*words, **options)
            mine = self._begin(title)
            self._inside.busy = title.startswith("exec")
            try:
                result = original(*words, **options)
            finally:
                self._inside.busy = False
                if mine and mine.how != "before" and mine.victim == "module":
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, call)

    def _begin(self, title: str) -> Kill | None:
        """Note a step; return the kill if it is that of this step."""
        with self._lock:
            self._count += 1
            number = self._count
            os.write(self._descriptor, ("%s\n" % title).encode())
            kill = self._kill
            if not kill or not (title.startswith(kill.step) if isinstance(kill.step, str) else number == kill.step):
                return None
            self._seen += 1
            if self._seen < kill.nth:
                return None
            self._kill = None
        if kill.how == "before":
            self._end(kill)
        if kill.how == "during":
            threading.Thread(target=self._later, args=(kill,), daemon=True).start()
        return kill

    def _later(self, kill: Kill) -> None:
        time.sleep(kill.seconds)
        self._end(kill)

    def _end(self, kill: Kill) -> None:
        if kill.victim not in VICTIMS:
            subprocess.run(["docker", "kill", kill.victim], stdout=subprocess.DEVNULL, check=True)
            return
        for pid in [os.getpid()] if kill.victim == "module" else children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the process ids of the programs that a process runs."""
    found = subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True, check=False).stdout
    return [int(child) for child in found.split()]


def _created(path: Any, flags: int = 0, *_words: Any, **_named: Any) -> str | None:
    return "create" if flags & os.O_CREAT else None


def _renamed(_source: str, target: str, **_named: Any) -> str:
    return "rename to %s" % STAMP.sub("STAMP", os.path.basename(target))


def _of_sql(sql: str) -> str | None:
    return None if READS.match(sql.strip()) else " ".join(NAMES.sub("", sql).split()[:5])[:40]


def _of_redis(_self: Any, commands: Any) -> str | None:
    # A generator would be used up here.
    words = [str(command[0]) for command in commands] if isinstance(commands, list) else []
    found = [word for word in words if word in WRITES]
    return "%s%s" % (found[0], "" if len(words) == 1 else " ...") if found else None


def _of_engine(_self: Any, method: str, *parts: str, **_named: Any) -> str | None:
    known = [part for part in parts if part in ("containers", "create", "start", "wait", "exec")]
    return None if method == "GET" else "engine: %s %s" % (method, " ".join(known))


class Run(NamedTuple):
    """``result`` of the module, null if it was killed; ``steps`` that it began."""

    result: dict[str, Any] | None
    steps: list[str]


def killed(name: str, options: dict[str, Any], kill: Kill | None = None) -> Run:
    """Run a module and kill it."""
    with tempfile.TemporaryFile() as file:
        result = None
        # Without a line of output, it was killed.
        with contextlib.suppress(IndexError):
            result = run_module(name, options, before=_Steps(file.fileno(), kill).install)
        file.seek(0)
        return Run(result, file.read().decode().splitlines())


def chosen(steps: list[str], number: int, chance: random.Random) -> list[Kill]:
    """Return ``number`` kills: before and after a step of each kind, during programs, then at all other steps.

    The last kinds come first: they are the ones that commit.
    """
    places = range(1, len(steps) + 1)
    first = {title: place for place, title in zip(reversed(places), reversed(steps))}
    kills = [Kill(place, how) for place in sorted(first.values(), reverse=True) for how in ("before", "after")]
    programs = [place for place in places if steps[place - 1].startswith(("program", "exec"))]
    kills += [Kill(place, "during", 0.1 * part, who) for place in programs for part, who in enumerate(VICTIMS, 1)]
    others = [Kill(place, how) for place in places for how in ("before", "after")]
    others = [kill for kill in others if kill not in kills]
    chance.shuffle(others)
    kills += others
    while len(kills) < number:
        kills.append(Kill(chance.choice(places), "during", chance.choice([0.0, 0.001, 0.005, 0.02, 0.1])))
    return kills[:number]
