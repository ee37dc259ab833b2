# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a watcher polls instead of using inotify, and whether on purpose. Private to this collection."""

from __future__ import annotations

import ctypes
import os
import re
import select
import struct
import time
from typing import Collection, Iterator, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inside import resolve
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact_setting

# CHOKIDAR_USEPOLLING=1, WATCHPACK_POLLING=true, WATCHFILES_FORCE_POLLING=true; WATCHER_BACKEND=polling.
SWITCH = re.compile(r"(?:^|_)(?:USE|FORCE|ENABLE)?_?POLL(?:ING|ER)?$", re.IGNORECASE)
CHOICE = re.compile(r"WATCH|OBSERVER|INOTIFY|MONITOR", re.IGNORECASE)
CHOSEN = re.compile(r"(?:\w*polling\w*|poll|poller)$", re.IGNORECASE)
OFF = ("", "0", "false", "no", "off", "none", "null")
OPTION = re.compile(r"--(?:(?:use|force|enable)?-?poll(?:ing)?(?:=(?!0|false|no|off).*)?|legacy-watch)$", re.IGNORECASE)
POLLS = re.compile(r"\bPollingObserver(?:VFS)?\b|force_polling\s*=\s*True|usePolling['\"]?\s*:\s*true")
# An observer of inotify beside it: the code chooses while it runs.
USES_INOTIFY = re.compile(
    r"\bimport\s[^\n]*(?<![A-Za-z])Observer\b(?!\s*=)|(?<!\w)(?:Inotify)?Observer\s*\(|inotify_init|\bpyinotify\b"
)
RENAMED = re.compile(r"\bPollingObserver(?:VFS)?\s+as\s+Observer\b")
MAX_BYTES = 256 << 10
VALUE_LENGTH = 60
MAX_PROCESSES = 10
# PollingObserver of watchdog lists all directories every second.
SECONDS = 2.5

FAN_CLOEXEC, FAN_NONBLOCK, FAN_MARK_ADD = 0x1, 0x2, 0x1
FAN_OPEN, FAN_ONDIR = 0x20, 0x40000000
AT_FDCWD = -100
EVENT = struct.Struct("IBBHQii")

_libc = ctypes.CDLL(None, use_errno=True)


def declared(pids: Sequence[int]) -> str | None:
    """Return the setting, option or code by which these processes are made to poll; null for none."""
    for pid in list(pids)[:MAX_PROCESSES]:
        words = _processes.arguments(pid)
        found = by_environment(environment(pid)) or by_option(words) or by_code(_sources(pid, words))
        if found:
            return found
    return None


def by_environment(settings: Mapping[str, str]) -> str | None:
    """Return the variable that turns on polling, as ``NAME=value``; null for none."""
    for name, value in settings.items():
        on = SWITCH.search(name) and value.strip().lower() not in OFF
        if on or (CHOICE.search(name) and CHOSEN.match(value.strip())):
            return "%s=%s" % (shown(cut(name, VALUE_LENGTH)), redact_setting(name, shown(cut(value, VALUE_LENGTH))))
    return None


def by_option(words: Sequence[str]) -> str | None:
    """Return the option of a command line that turns on polling; null for none."""
    for word in words[1:]:
        if OPTION.match(word):
            return shown(cut(word, VALUE_LENGTH))
    return None


def by_code(sources: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> str | None:
    """Return the name of the first of these programs (name, text) that can do nothing but poll; null for none."""
    for name, text in sources:
        if POLLS.search(text) and (RENAMED.search(text) or not USES_INOTIFY.search(text)):
            return "its program %s" % shown(cut(name, VALUE_LENGTH))
    return None


def environment(pid: int) -> dict[str, str]:
    """Return the environment of a process, empty if it cannot be read. It contains passwords: do not report it."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            words = stream.read(1 << 20).split(b"\0")
    except OSError:
        return {}
    pairs = (word.decode("utf-8", "replace").partition("=") for word in words)
    return {name: value for name, equals, value in pairs if equals}


def _sources(pid: int, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of the script of an interpreter."""
    if not words or not _processes.INTERPRETER.match(os.path.basename(words[0])):
        return
    remaining = iter(words[1:])
    for word in remaining:
        if word in ("-c", "-e"):
            yield word, next(remaining, "")
            return
        if word == "-m":
            module = next(remaining, "").replace(".", "/")
            for path in (module + "/__main__.py", module + ".py"):
                yield path, _text(pid, path)
            return
        if not word.startswith("-"):
            yield os.path.basename(word), _text(pid, word)
            return


def _text(pid: int, path: str) -> str:
    """Return the text of a file as a process sees it, empty if it cannot be read."""
    try:
        full = os.path.join(os.readlink("/proc/%d/cwd" % pid), path)
        with open(resolve("/proc/%d/root" % pid, full), "rb", opener=_without_waiting) as stream:
            return stream.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def observed(pids: Collection[int], path: str, seconds: float) -> bool | None:
    """Return whether one of these processes lists a directory within ``seconds``; null if that cannot be seen.

    A watcher that only reads the times of files (stat) does not show.
    """
    group = _libc.fanotify_init(FAN_CLOEXEC | FAN_NONBLOCK, os.O_RDONLY | os.O_CLOEXEC)
    if group < 0:
        return None
    try:
        mask = ctypes.c_uint64(FAN_OPEN | FAN_ONDIR)
        if _libc.fanotify_mark(group, FAN_MARK_ADD, mask, AT_FDCWD, os.fsencode(path)) < 0:
            return None
        end = time.monotonic() + seconds
        while True:
            ready, _writable, _failed = select.select([group], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return False
            if not set(pids).isdisjoint(_openers(group)):
                return True
    finally:
        os.close(group)


def _openers(group: int) -> list[int]:
    """Return the processes of the pending events."""
    found = []
    data = os.read(group, 65536)
    while data:
        length, _version, _reserved, _header, _mask, fd, pid = EVENT.unpack_from(data)
        if fd >= 0:
            os.close(fd)
        found.append(pid)
        data = data[length:]
    return found
