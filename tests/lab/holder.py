# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults from the command line: a process per fault holds it until a signal ends it."""

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

# Client libraries of the faults.
LIBRARIES = ("psycopg2", "redis", "pika")
# Filling a table or a cache takes a while on a busy machine.
TIMEOUT = 180


def record(stack: Stack, name: str) -> Path:
    """Return the file in which the process of a fault records its state."""
    return stack.directory / "faults" / f"{name}.json"


def read(file: Path) -> dict | None:
    """Return the recorded state of a fault, or None."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write(file: Path, **state: str | None) -> None:
    """Record a state in one piece: a reader never sees half a record."""
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"process": this_process(), **state}), encoding="utf-8")
    draft.replace(file)


def held(stack: Stack) -> dict[str, dict]:
    """Return the states of the faults that are held, by name."""
    return {file.stem: read(file) or {} for file in sorted((stack.directory / "faults").glob("*.json"))}


def break_(stack: Stack, name: str) -> None:
    """Start the process of a fault and wait until the fault is there."""
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
            state = read(file) or {}
            if state.get("status") == "broken":
                return state
            if process.poll() is not None:
                file.unlink(missing_ok=True)
                raise LabError(f"{name} could not be broken: {last_line(log)}")
            return None

        wait_until(settled, f"{name} to break (its log: {log})", TIMEOUT)


def mend(stack: Stack, name: str, timeout: float = TIMEOUT) -> None:
    """End the process of a fault and wait until it has mended."""
    file = record(stack, name)
    state = read(file)
    if state is None:
        raise LabError(f"{name} is not held; held: {', '.join(held(stack)) or 'nothing'}")
    with step(f"mending: {name}"):
        process = state["process"]
        if is_alive(process):
            os.kill(int(process.partition(":")[0]), signal.SIGTERM)
            wait_until(lambda: not is_alive(process), f"the holder of {name} to end", timeout)
        failed = read(file)
        file.unlink(missing_ok=True)
        if failed is not None:
            log = file.with_suffix(".log")
            reason = last_line(log) if failed["status"] == "mending" else "its holder was killed"
            raise LabError(f"{name} may not be mended ({reason}); a fresh stack is: lab down, lab up")


def release(stack: Stack) -> None:
    """End all faults before the stack is removed: some reach beyond the stack."""
    for name, state in held(stack).items():
        try:
            mend(stack, name, timeout=30)
        except LabError as error:
            say(f"  {error}")
            with contextlib.suppress(ProcessLookupError):
                if is_alive(state["process"]):
                    os.kill(int(state["process"].partition(":")[0]), signal.SIGKILL)


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"


def hold(stack: Stack, name: str) -> None:
    """Inject a fault, hold it until a signal arrives, and mend it."""
    file = record(stack, name)
    asked = threading.Event()
    # A signal may arrive earlier: the fault is then mended as soon as it is there.
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
