# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults at the command line: a process of its own holds each fault until it is told to mend it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from . import faults
from .paths import CHECKOUT
from .servers import is_alive, this_process
from .shell import LabError, say, step, wait_until
from .stack import Stack

# What faults speak to the servers with.
LIBRARIES = ("psycopg2", "redis", "pika")
# Filling a table or a cache takes a while on a busy machine.
PATIENCE = 180


def record(stack: Stack, name: str) -> Path:
    """The file in which a holder says how it is getting on."""
    return stack.directory / "faults" / f"{name}.json"


def read(file: Path) -> dict | None:
    """What a holder has said last; nothing if there is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write(file: Path, **told: str | None) -> None:
    """Say it in one piece: a reader never sees half a record."""
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"process": this_process(), **told}), encoding="utf-8")
    draft.replace(file)


def held(stack: Stack) -> dict[str, dict]:
    """What is broken now, by name."""
    return {file.stem: read(file) or {} for file in sorted((stack.directory / "faults").glob("*.json"))}


def break_(stack: Stack, name: str) -> None:
    """Start a holder and wait until it has broken what it is to break."""
    faults.named(name)
    missing = [library for library in LIBRARIES if importlib.util.find_spec(library) is None]
    if missing:
        raise LabError(
            f"{sys.executable} lacks {', '.join(missing)}; `make setup` makes a .venv that has them, "
            "LAB_PYTHON names any other interpreter"
        )
    if not stack.exists:
        raise LabError(f"{stack.project} is down; first: lab up{stack.option}")
    file = record(stack, name)
    if file.exists():
        raise LabError(f"{name} is held already; first: lab mend {name}{stack.option}")
    file.parent.mkdir(exist_ok=True)
    log = file.with_suffix(".log")
    with step(f"breaking: {name}"), open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, stack.name, name], cwd=CHECKOUT, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip

        def settled() -> dict | None:
            told = read(file) or {}
            if told.get("status") == "broken":
                return told
            if process.poll() is not None:
                file.unlink(missing_ok=True)
                raise LabError(f"{name} could not be broken: {last_line(log)}")
            return None

        wait_until(settled, f"{name} to break (its log: {log})", PATIENCE)


def mend(stack: Stack, name: str, remaining_timeout: float = PATIENCE) -> None:
    """Tell the holder to mend, and wait until it has."""
    file = record(stack, name)
    told = read(file)
    if told is None:
        raise LabError(f"{name} is not held; held: {', '.join(held(stack)) or 'nothing'}")
    with step(f"mending: {name}"):
        process = told["process"]
        if is_alive(process):
            os.kill(int(process.partition(":")[0]), signal.SIGTERM)
            wait_until(lambda: not is_alive(process), f"the holder of {name} to end", remaining_timeout)
        failed = read(file)
        file.unlink(missing_ok=True)
        if failed is not None:
            log = file.with_suffix(".log")
            reason = last_line(log) if failed["status"] == "mending" else "its holder was killed"
            raise LabError(f"{name} may not be mended ({reason}); a fresh stack is: lab down, lab up")


def release(stack: Stack) -> None:
    """Before the stack goes: let every holder mend what may reach beyond the stack, and leave none of them running."""
    for name, told in held(stack).items():
        try:
            mend(stack, name, remaining_timeout=30)
        except LabError as error:
            say(f"  {error}")
            with contextlib.suppress(ProcessLookupError):
                if is_alive(told["process"]):
                    os.kill(int(told["process"].partition(":")[0]), signal.SIGKILL)


def last_line(log: Path) -> str:
    """What a failed holder died of."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no word in its log"


def hold(stack: Stack, name: str) -> None:
    """Break it, hold it until a signal comes, mend it."""
    file = record(stack, name)
    asked = threading.Event()
    # Also while it is being broken: then it is mended as soon as it is broken.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    write(file, status="breaking")
    with stack.fault(name):
        write(file, status="broken")
        asked.wait()
        write(file, status="mending")
    file.unlink()


if __name__ == "__main__":
    hold(Stack(sys.argv[1]), sys.argv[2])
