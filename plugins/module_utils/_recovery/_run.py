# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a long program: bounded, watched, ended with this process. Private to this collection."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from typing import IO, Callable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure, OutOfTime, cut
from ansible_collections.tracktion.ops.plugins.module_utils._programs import SEARCH_PATH
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

WATCH_SECONDS = 0.5
LINES_KEPT = 5
LINE_CHARACTERS = 300
PR_SET_PDEATHSIG = 1


class ProgramFailed(Failure):
    """A program failed. The message has its name and its last lines; ``lines`` are these lines.

    ``status`` is its exit status, or null if it could not be started.
    """

    kind = "program_failed"

    def __init__(self, program: str, lines: Sequence[str], status: int | None, hint: str | None = None) -> None:
        self.lines = list(lines)
        self.status = status
        reason = "; ".join(self.lines) or "exit status %s" % status
        super().__init__("%s failed: %s" % (program, reason), hint)


def run(
    name: str,
    command: Sequence[str],
    deadline: Deadline,
    environment: Mapping[str, str] | None = None,
    secret: str | None = None,
    output: str | None = None,
    watch: Callable[[], None] | None = None,
    secrets: Sequence[str] = (),
    most: int = 65536,
) -> str:
    """Run a program to its end and return the first ``most`` bytes of its standard output.

    ``secret`` is sent as the first line of its standard input: it is in no argument, environment or file. ``output`` is
    a new file for its standard output, which is flushed to the disk. ``watch`` is called twice a second, and ends the
    program by raising. ``secrets`` are removed from its messages. The program has no terminal, and is killed when this
    process ends. Raises ProgramFailed, OutOfTime, OSError.
    """
    deadline.step()
    target: int | IO[bytes] = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        if output is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = stack.enter_context(os.fdopen(os.open(output, flags, 0o600), "wb"))
        process = stack.enter_context(_started(name, command, environment, target))
        try:
            errors = _Tail(process.stderr, LINES_KEPT)
            text = _Head(process.stdout, most) if output is None else None
            _send(process.stdin, b"" if secret is None else (secret + "\n").encode("utf-8", "surrogateescape"))
            _wait(process, deadline, watch)
        except BaseException:
            _end(process)
            raise
        errors.thread.join(5)
        if process.returncode:
            raise ProgramFailed(name, _shown(errors.lines, secrets or [secret or ""]), process.returncode)
        if text is None:
            os.fsync(target)
            return ""
        text.thread.join(5)
        return text.data.decode("utf-8", "replace")


def _started(
    name: str, command: Sequence[str], environment: Mapping[str, str] | None, target: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    # Found before the fork: in the child, another thread may hold the lock of the dynamic linker for ever.
    prctl, death = ctypes.CDLL(None).prctl, int(signal.SIGKILL)

    def die_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, death)

    try:
        return subprocess.Popen(  # pylint: disable=ansible-bad-function,subprocess-popen-preexec-fn
            list(command),
            stdin=subprocess.PIPE,
            stdout=target,
            stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL="C", PATH=SEARCH_PATH, **(environment or {})),
            # Without a terminal, programs read a password from their standard input.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    except OSError as exc:
        raise ProgramFailed(name, [exc.strerror or str(exc)], None)


def _send(stream: IO[bytes] | None, data: bytes) -> None:
    # A program that has ended already says why on its standard error.
    with contextlib.suppress(BrokenPipeError):
        if stream:
            stream.write(data)
            stream.close()


def _wait(process: subprocess.Popen[bytes], deadline: Deadline, watch: Callable[[], None] | None) -> None:
    while True:
        try:
            process.wait(min(WATCH_SECONDS, max(0.001, deadline.remaining())))
            return
        except subprocess.TimeoutExpired:
            if deadline.expired():
                raise OutOfTime(0.0)
            if watch:
                watch()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def _shown(lines: Sequence[bytes], secrets: Sequence[str | None]) -> list[str]:
    shown = []
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        for secret in secrets:
            if secret:
                text = text.replace(secret, "********")
        if text:
            shown.append(cut(clean(redact(text)), LINE_CHARACTERS))
    return shown


class _Tail:
    """Keeps the last lines of a stream, read in a thread so that the program never waits for a full pipe."""

    def __init__(self, stream: IO[bytes] | None, lines: int) -> None:
        self.lines: collections.deque[bytes] = collections.deque(maxlen=lines)
        self._stream = stream
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while self._stream:
            line = self._stream.readline(65536)
            if not line:
                return
            # The prompt for a password has no newline.
            line = line[line.find(b"Password: ") + 10 :] if line.startswith(b"Password: ") else line
            if line.strip():
                self.lines.append(line)


class _Head:
    """Keeps the beginning of a stream and reads the rest."""

    def __init__(self, stream: IO[bytes] | None, most: int) -> None:
        self.data = b""
        self._stream = stream
        self._most = most
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while self._stream:
            block = self._stream.read1(65536)  # type: ignore[attr-defined]
            if not block:
                return
            self.data += block[: self._most - len(self.data)]
