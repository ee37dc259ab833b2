# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running commands, saying what is going on, and failing with a cause and a hint."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Engine and network tools live in sbin, which is not on every user's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class LabError(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal."""


def say(text: str) -> None:
    """Print a line of progress; to stderr, so that stdout carries only what was asked for."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and say at its end how long it took."""
    say(f"  {text} ...")
    started = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"  {text}: failed after {time.monotonic() - started:.1f} s")
        raise
    say(f"  {text}: {time.monotonic() - started:.1f} s")


def attempt(
    *command: str | Path, timeout: float = 60, stdin: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run a command and hand back its outcome, whatever it was; a missing program is exit code 127."""
    words = [str(word) for word in command]
    environment = {**os.environ, "PATH": SEARCH_PATH, **(env or {})}
    # Without input a child must not read the terminal of its caller.
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment,
            errors="replace",
            **source,
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: not installed")
    except subprocess.TimeoutExpired as expired:
        raise LabError(f"`{' '.join(words)}` did not finish within {timeout:.0f} s") from expired


def run(*command: str | Path, timeout: float = 60, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command that has to succeed and return its standard output."""
    outcome = attempt(*command, timeout=timeout, stdin=stdin, env=env)
    if outcome.returncode:
        said = (outcome.stderr.strip() or outcome.stdout.strip())[-2000:]
        raise LabError(f"`{' '.join(outcome.args)[:500]}` failed with exit code {outcome.returncode}: {said}")
    return outcome.stdout


def succeeds(*command: str | Path, timeout: float = 60) -> bool:
    """Whether a command ends well."""
    return attempt(*command, timeout=timeout).returncode == 0


@contextlib.contextmanager
def locked(path: Path, timeout: float = 600) -> Iterator[None]:
    """Hold a lock file, so that two labs on one machine do not install or build the same thing at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        deadline = time.monotonic() + timeout
        announced = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(f"another lab has held {path} for {timeout:.0f} s; is it hung?") from None
                if not announced:
                    say(f"  waiting for another lab, which holds {path}")
                    announced = True
                time.sleep(0.2)
        yield


def deadline_after(timeout: float) -> float:
    """Return when a wait has failed, by time.monotonic(). LAB_PATIENCE multiplies the limits, for a busy machine."""
    return time.monotonic() + timeout * float(os.environ.get("LAB_PATIENCE", "1"))


def wait_until(condition, what: str, timeout: float, interval: float = 0.1):
    """Poll until the condition returns something true, and return that."""
    started = time.monotonic()
    deadline = deadline_after(timeout)
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:.0f} s in vain for {what}")
        # Most conditions ask the engine, which costs more than what a long wait gains by an earlier end.
        time.sleep(max(interval, min((time.monotonic() - started) / 10, 0.5)))
