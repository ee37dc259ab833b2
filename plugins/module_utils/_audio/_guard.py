# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a function in a child process that may crash, hang or use too much memory. Private to this collection.

Part of the program that runs inside the container of the audio service: standard library only.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import select
import signal
import time
from typing import Any, Callable, Dict, NamedTuple

# Bytes of all results of a child, and of its standard error that are kept.
MAX_RESULT, MAX_ERRORS = 262144, 2048
PIECE = 65536
# Seconds between two looks whether a child has ended.
LOOK_SECONDS = 0.05
# Seconds in which a killed process has to end.
ABANDON_SECONDS = 1.0
# Text of a failed allocation, by Python, C++ and libav.
OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory", "Unable to allocate")
# Ends of the pipes of this process, which its own children must not hold open.
_open: list[int] = []

Emit = Callable[[Dict[str, Any]], None]


class Outcome(NamedTuple):
    """How a child process ended.

    ``state`` is ok, error (an exception), crash, hang or out_of_memory; ``message`` the reason. ``values`` are what it
    has emitted, ``peak_bytes`` its largest resident memory.
    """

    state: str
    message: str | None
    values: list[dict[str, Any]]
    seconds: float
    peak_bytes: int | None


def run(function: Callable[[Emit], None], seconds: float, memory: int | None = None) -> Outcome:
    """Call ``function(emit)`` in a child process and return its outcome within ``seconds``.

    ``memory``: bytes that it may allocate in addition to what this process has (RLIMIT_DATA); null for no limit.
    """
    began = time.monotonic()
    results, errors = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        _child(function, seconds, memory, results, errors)
    os.close(results[1])
    os.close(errors[1])
    _open.extend((results[0], errors[0]))
    read = {results[0]: b"", errors[0]: b""}
    try:
        in_time = _collect(read, pid, began + seconds)
    finally:
        for descriptor in read:
            os.close(descriptor)
            _open.remove(descriptor)
    # Its own child processes end with it.
    if not in_time:
        _kill_group(pid)
    status, usage = _wait(pid, began + seconds)
    _kill_group(pid)
    values, failure = _parse(read[results[0]])
    text = read[errors[0]].decode("utf-8", "backslashreplace")
    state, message = _state(in_time, status, failure, text)
    peak = usage.ru_maxrss * 1024 if usage else None
    return Outcome(state, message, values, round(time.monotonic() - began, 3), peak)


def _child(
    function: Callable[[Emit], None],
    seconds: float,
    memory: int | None,
    results: tuple[int, int],
    errors: tuple[int, int],
) -> None:
    """Run the function, and never return."""
    code = 1
    try:
        os.setpgid(0, 0)
        for descriptor in (*_open, results[0], errors[0]):
            os.close(descriptor)
        del _open[:]
        _open.append(results[1])
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(errors[1], 2)
        # The kernel ends it even if its parent was killed, and even in a loop of C.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds) + 1)
        _confine(memory)

        def emit(value: dict[str, Any]) -> None:
            _write(results[1], json.dumps(value).encode("ascii") + b"\n")

        try:
            function(emit)
            code = 0
        except BaseException as exc:  # pylint: disable=broad-except
            text = ("%s: %s" % (type(exc).__name__, exc)).encode("utf-8", "backslashreplace").decode("utf-8")
            emit({"__failure__": text[:500]})
    finally:
        os._exit(code)


def _confine(memory: int | None) -> None:
    """Limit the memory of this process, and let the kernel kill it rather than the service if the memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
            stream.write("1000")
    except OSError:
        pass
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory is not None:
        limit = data_bytes() + memory
        _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def data_bytes() -> int:
    """Return the private writable memory of this process, which RLIMIT_DATA limits."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
            return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return 0


def _collect(read: dict[int, bytes], pid: int, end: float) -> bool:
    """Read both pipes until the results are closed or the process has ended; return false at ``end`` of the time."""
    waiting, most = list(read), (MAX_RESULT, MAX_ERRORS)
    limits = dict(zip(read, most))
    results = waiting[0]
    while results in waiting:
        left = end - time.monotonic()
        if left <= 0:
            return False
        ready = select.select(waiting, [], [], min(left, LOOK_SECONDS))[0]
        # Its own child processes may hold the pipes open.
        if not ready and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        for descriptor in ready:
            piece = os.read(descriptor, PIECE)
            if not piece:
                waiting.remove(descriptor)
            read[descriptor] += piece[: limits[descriptor] - len(read[descriptor])]
    return True


def _wait(pid: int, end: float) -> tuple[int, Any]:
    """Return the status and the use of a process that ends. One that closed its pipes and does not end is killed.

    A process that hangs in the kernel, as on a dead mount, is left behind: it ends when the kernel releases it.
    """
    until = max(end, time.monotonic()) + ABANDON_SECONDS
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return status, usage
        if time.monotonic() > until:
            return signal.SIGKILL, None
        if time.monotonic() > end:
            _kill_group(pid)
        time.sleep(0.002)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError as exc:
            if exc.errno not in (errno.ESRCH, errno.EPERM):
                raise


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _parse(data: bytes) -> tuple[list[dict[str, Any]], str | None]:
    """Return the values that a child has emitted, and the text of its exception or null."""
    values: list[dict[str, Any]] = []
    failure = None
    for line in data.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            # Its last line, if it ended while it wrote.
            continue
        if "__failure__" in value:
            failure = value["__failure__"]
        else:
            values.append(value)
    return values, failure


def _state(in_time: bool, status: int, failure: str | None, errors: str) -> tuple[str, str | None]:
    """Return the state and the message of a child that has ended."""
    said = " ".join(errors.split())[-300:]
    if not in_time:
        return "hang", None
    if failure is not None:
        return ("out_of_memory" if any(word in failure for word in OUT_OF_MEMORY) else "error"), failure
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGALRM:
            return "hang", None
        name = signal.Signals(number).name if number in list(signal.Signals) else "signal %d" % number
        if number == signal.SIGKILL or any(word in errors for word in OUT_OF_MEMORY):
            return "out_of_memory", said or "ended by %s" % name
        return "crash", "ended by %s%s" % (name, said and ": " + said)
    code = os.WEXITSTATUS(status)
    return ("ok", None) if code == 0 else ("crash", "ended with exit code %d" % code)
