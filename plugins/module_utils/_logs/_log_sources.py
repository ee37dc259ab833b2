# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the logs of a host: containers, files, units of the journal. Private to this collection.

Container logs are read from the engine's files if possible: the API reads a log of 1 GB from its start to find the new
lines, and does not answer if the engine hangs. Logs of other drivers are read through the API.
"""

from __future__ import annotations

import glob
import json
import os
import re
import stat
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, epoch, writes_since
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import DEFAULT_HOST, socket_of
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_engine, _log_journal, _log_tally
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_health_checks import (
    HealthCheck,
    applies,
    of_container,
    of_engine,
)
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_windows import (
    File,
    Memory,
    Piece,
    TimeOf,
    newest_time,
    shifted,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, NotAllowed
from ansible_collections.tracktion.ops.plugins.module_utils._printable import raw, shown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

# Seconds; the times in a file may be off by a multiple of it, if the program is in another time zone.
ZONE_STEP = 900
# Limits: rotated files of one log, files of all patterns.
MOST_ROTATED = 20
MOST_FILES = 50
JOURNAL_RIGHT = "%s, or as an account of the group systemd-journal" % _rights.BECOME
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
COMPRESSED_SUFFIX = re.compile(r"\.(?:gz|bz2|xz|zst)$")
ROTATED = re.compile(r"[.-](\d+|\d{4}-?\d\d-?\d\d(?:-\d+)?)$")

# A container: id, name, service, project, state.
Row = Mapping[str, Any]


def permission_hint(exc: CannotConnect) -> str | None:
    """Return the hint of a failed request to the engine if a right is missing; else null."""
    return exc.hint if isinstance(_engine.unless_forbidden(exc), NotAllowed) else None


class Unreadable(Exception):
    """A log cannot be read. The message is the reason; ``hint`` names the missing right, or is null."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.hint = hint


class Log:
    """One log. ``open()`` may hang, so call it in a thread."""

    def __init__(self, name: str, source: str, form: _log_tally.Form) -> None:
        self.name = name
        self.source = source
        self.form = form
        self.about: dict[str, str | None] = dict.fromkeys(
            ("container", "project", "state", "driver", "path", "path_hex")
        )
        # Start of the container in epoch seconds; null if it is unknown.
        self.started: float | None = None
        # Health checks that cause errors in it, and the names of containers by address.
        self.health_checks: list[HealthCheck] = []
        self.names: Mapping[str, str] = {}
        # Why a part of the log is missing before anything is read; null for none.
        self.left_out: str | None = None
        # Bytes of the windows that are missing, if known.
        self.left_out_bytes = 0

    def open(self, begin: float, budget: int, seconds: float) -> Sequence[Piece]:
        """Return the pieces that may hold lines since ``begin``, newest first. Raises Unreadable."""
        raise NotImplementedError

    def may_have_lost(self, pieces: int) -> bool:
        """Return whether older pieces may have been deleted by rotation."""
        return pieces > 1


class Missing(Log):
    """An expected log that does not exist or cannot be found."""

    def __init__(self, name: str, source: str, reason: str, hint: str | None = None) -> None:
        super().__init__(shown(name), source, _log_tally.Text)
        self.reason = reason
        self.hint = hint

    def open(self, begin: float, budget: int, seconds: float) -> Sequence[Piece]:
        raise Unreadable(self.reason, self.hint)


class ContainerLog(Log):
    """The log of a container, found in the engine's files."""

    def __init__(self, engine: Engine, container: Row, socket: str) -> None:
        super().__init__(
            container["service"] or container["name"] or container["id"][:12], "container", _log_tally.Engine
        )
        self.container = container
        self.socket = socket
        self.folder = os.path.join(engine.root, container["id"])
        self.started = writes_since(container["started"])
        driver, settings = _driver(self.folder)
        # With this number of files, the engine has deleted older ones.
        self.most_files = int(settings.get("max-file") or 1)
        self.about.update(
            container=container["name"], project=container["project"], state=container["state"], driver=driver
        )

    def may_have_lost(self, pieces: int) -> bool:
        return pieces >= max(2, self.most_files)

    def open(self, begin: float, budget: int, seconds: float) -> Sequence[Piece]:
        driver = self.about["driver"]
        if driver == "none":
            raise Unreadable("its log driver none keeps no log")
        if driver == "json-file":
            path = os.path.join(self.folder, "%s-json.log" % self.container["id"])
            self.about.update(path=shown(path), path_hex=raw(path))
            return self._files(path, begin)
        self.form = _log_tally.Stamped
        try:
            data, self.left_out = _log_engine.read(self.socket, self.container["id"], begin, budget, seconds)
        except CannotConnect as exc:
            message = "its log driver %s: %s" % (driver or "is not known", exc)
            raise Unreadable(message, permission_hint(exc)) from exc
        return [Memory(data, self.form.time_of)]

    def _files(self, path: str, begin: float) -> Sequence[Piece]:
        try:
            pieces = chain(path, self.form.time_of, begin, self)
        except FileNotFoundError as exc:
            if os.path.isdir(self.folder):
                # The container was never started.
                return []
            raise Unreadable("the container was removed meanwhile") from exc
        except OSError as exc:
            raise Unreadable("%s: %s" % (shown(path), exc.strerror), _rights.hint_of(exc)) from exc
        # Leave out a last line that the engine has not written to its end.
        for piece in pieces[:1]:
            tail = piece.read(max(0, piece.size - (1 << 16)), piece.size)
            piece.size -= len(tail) - (tail.rfind(b"\n") + 1)
        return pieces


class EngineLog(Log):
    """The log of a container, found through the engine's API."""

    def __init__(self, row: Row, socket: str) -> None:
        super().__init__(row["service"] or row["name"], "container", _log_tally.Stamped)
        self.row = row
        self.socket = socket
        self.about.update(container=row["name"], project=row["project"], state=row["state"])

    def open(self, begin: float, budget: int, seconds: float) -> Sequence[Piece]:
        try:
            found = _log_engine.inspect(self.socket, self.row["id"], seconds)
            self.about["driver"] = found["HostConfig"]["LogConfig"]["Type"]
            self.started = writes_since(epoch((found.get("State") or {}).get("StartedAt")))
            check = of_container(found)
            self.health_checks = [check] if check and applies(check, self.row["name"], self.row["service"]) else []
            data, self.left_out = _log_engine.read(self.socket, self.row["id"], begin, budget, seconds)
        except CannotConnect as exc:
            driver = self.about["driver"]
            message = "%s%s" % ("its log driver %s: " % driver if driver else "", exc)
            raise Unreadable(message, permission_hint(exc)) from exc
        return [Memory(data, self.form.time_of)]


class FileLog(Log):
    """A file of a program, with its rotated files."""

    def __init__(self, path: str) -> None:
        # A file of the engine may be given, too.
        super().__init__(shown(path), "file", _log_tally.Engine if path.endswith("-json.log") else _log_tally.Text)
        self.file = path
        self.about.update(path=shown(path), path_hex=raw(path))

    def open(self, begin: float, budget: int, seconds: float) -> Sequence[Piece]:
        try:
            pieces = chain(self.file, self.form.time_of, begin, self)
        except OSError as exc:
            raise Unreadable(exc.strerror or str(exc), _rights.hint_of(exc)) from exc
        offset = zone_offset(pieces[0])
        for piece in pieces:
            piece.time_of = shifted(piece.time_of, offset)
        return pieces


class JournalLog(Log):
    """The entries of one unit. All units are read by one call of journalctl."""

    def __init__(self, unit: str, text: bytes, left_out: str | None) -> None:
        super().__init__(unit, "journal", _log_tally.Stamped)
        self.text = text
        self.left_out = left_out

    def open(self, begin: float, budget: int, seconds: float) -> Sequence[Piece]:
        return [Memory(self.text, self.form.time_of)]


def chain(path: str, time_of: TimeOf, begin: float, log: Log) -> list[File]:
    """Return a file and its rotated files, newest first, back to ``begin``. Sets ``left_out`` of the log."""
    pieces = [File(path, time_of)]
    seen = {pieces[0].identity}
    for older in rotated(path)[:MOST_ROTATED]:
        try:
            if os.stat(older).st_mtime < begin:
                break
            if older.endswith(COMPRESSED):
                log.left_out = "%s is compressed" % shown(os.path.basename(older))
                log.left_out_bytes = os.stat(older).st_size
                break
            piece = File(older, time_of)
        except FileNotFoundError:
            # Rotated meanwhile: the file has its next name.
            continue
        # A file that was renamed since the listing may be found twice.
        if piece.identity in seen:
            piece.close()
            continue
        seen.add(piece.identity)
        pieces.append(piece)
    return pieces


def rotated(path: str) -> list[str]:
    """Return the rotated files of a log, newest first by their modification time."""
    found = []
    for other in glob.glob(glob.escape(path) + "[.-]*"):
        name = COMPRESSED_SUFFIX.sub("", other)
        if ROTATED.fullmatch(name[len(path) :]):
            try:
                found.append((os.stat(other).st_mtime, other))
            except OSError:
                continue
    return [other for _modified, other in sorted(found, reverse=True)]


def zone_offset(piece: File) -> int:
    """Return the seconds to add to the times in a file, a multiple of ``ZONE_STEP``.

    The last line is assumed to be as old as the file.
    """
    last = newest_time(piece)
    if last is None:
        return 0
    off = piece.modified - last
    steps = round(off / ZONE_STEP)
    return steps * ZONE_STEP if 0 < abs(steps) <= 56 and abs(off - steps * ZONE_STEP) < 60 else 0


def containers(engine: Engine, options: Options) -> list[Log]:
    """Return the logs of the selected containers. Raises BadOption."""
    socket = socket_of(options["docker_host"])
    names, hidden = [], None
    # The files of another engine are not below this root, unless it is given.
    if options["docker_host"] == DEFAULT_HOST or options["docker_root"]:
        try:
            names = [name for name in os.listdir(engine.root) if len(name) == 64]
        except FileNotFoundError:
            pass
        except PermissionError:
            hidden = "the engine's files can be read by root only"
    if not names:
        return _by_engine(socket, options, hidden)
    rows = [row for row in map(engine.container, names) if row is not None]
    logs = [ContainerLog(engine, row, socket) for row in rows if is_selected(row, options)]
    checks, by_address = of_engine(engine, names)
    for log in logs:
        log.names = by_address
        log.health_checks = [
            check for check in checks if applies(check, log.container["name"], log.container["service"])
        ]
    return [*logs, *missing(rows, options)]


def _by_engine(socket: str, options: Options, hidden: str | None) -> list[Log]:
    """Return the logs of the containers that the API lists. ``hidden`` is why the engine's files cannot be used."""
    try:
        rows = _log_engine.containers(socket, options["timeout"])
    except CannotConnect as exc:
        if exc.kind == "no_engine" and options["docker_host"] == DEFAULT_HOST:
            return [Missing("containers", "container", hidden, _rights.BECOME)] if hidden else []
        reason = "%s, and %s" % (hidden, exc) if hidden else str(exc)
        hint = permission_hint(exc) or (_rights.BECOME if hidden else None)
        return [Missing("containers", "container", reason, hint)]
    return [EngineLog(row, socket) for row in rows if is_selected(row, options)] + missing(rows, options)


def missing(rows: Sequence[Row], options: Options) -> list[Log]:
    """Return a Missing for each service or project that is named and not among the containers, if there are any."""
    if not rows:
        return []
    rows = [row for row in rows if not options["project"] or row["project"] == options["project"]]
    names = {name for row in rows for name in (row["service"], row["name"])}
    found: list[Log] = [
        Missing(name, "container", "no such container") for name in options["services"] if name not in names
    ]
    if not rows:
        found.append(Missing(options["project"], "container", "no container of this compose project"))
    return found


def is_selected(row: Row, options: Options) -> bool:
    """Return whether the options select the log of a container."""
    names = {row["service"], row["name"]} - {None}
    if options["project"] and row["project"] != options["project"]:
        return False
    if names & set(options["exclude"]):
        return False
    return not options["services"] or bool(names & set(options["services"]))


def files(options: Options, begin: float) -> list[Log]:
    """Return the logs of the files that match the patterns and were written to since ``begin``."""
    found: list[str] = []
    logs: list[Log] = []
    for pattern in options["files"]:
        paths = sorted(glob.glob(pattern, recursive=True))
        problem = _problem(pattern, paths)
        if problem:
            logs.append(Missing(pattern, "file", *problem))
        for path in paths:
            try:
                if os.path.isfile(path) and not _is_rotated(path) and os.stat(path).st_mtime >= begin:
                    found.append(path)
            except OSError as exc:
                logs.append(Missing(path, "file", exc.strerror or str(exc), _rights.hint_of(exc)))
    found = list(dict.fromkeys(found))
    if len(found) > MOST_FILES:
        reason = "%d files match, of which only %d are read" % (len(found), MOST_FILES)
        logs.append(Missing("%s and more" % options["files"][0], "file", reason))
    return logs + [FileLog(path) for path in found[:MOST_FILES]]


def _problem(pattern: str, paths: Iterable[str]) -> tuple[str, str | None] | None:
    """Return why a pattern matches no log, as reason and hint or null; null if it matches one."""
    # Each path is checked once: rotation may remove and create it at any moment.
    modes = {path: mode for path, mode in ((path, _file_mode(path)) for path in paths) if mode is not None}
    compressed = [path for path in modes if path.endswith(COMPRESSED)]
    if any(stat.S_ISREG(mode) for path, mode in modes.items() if path not in compressed):
        return None
    if modes and all(stat.S_ISDIR(mode) for mode in modes.values()):
        return "it is a directory: name its files, such as %s" % shown(os.path.join(next(iter(modes)), "*.log")), None
    if modes:
        return ("it is compressed" if compressed else "it is not a regular file"), None
    folder = os.path.dirname(re.split(r"[*?[]", pattern)[0]) or "."
    # A path below a directory that the account cannot enter seems not to exist.
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder) or "."
    if not os.access(folder, os.R_OK | os.X_OK):
        return "the directory %s cannot be read" % shown(folder), _rights.hint("CAP_DAC_READ_SEARCH")
    return "no such file", None


def _file_mode(path: str) -> int | None:
    """Return the mode of a file; null if it does not exist, 0 for a dangling link or an error."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return 0 if os.path.islink(path) else None
    except OSError:
        return 0


def _is_rotated(path: str) -> bool:
    """Return whether a file is a rotated file of another log."""
    name = COMPRESSED_SUFFIX.sub("", path)
    found = ROTATED.search(name)
    return name != path or bool(found and os.path.exists(name[: found.start()]))


def journal(options: Options, begin: float, seconds: float) -> list[Log]:
    """Return the logs of the journal's units."""
    units, left_out, error = _log_journal.read(options, begin, seconds)
    hidden = _log_journal.is_hidden(options)
    if error or hidden:
        reason = error or "the system's journal cannot be read"
        return [Missing("journal", "journal", reason, JOURNAL_RIGHT if hidden else None)]
    return [JournalLog(unit, text, left_out) for unit, text in units.items()]


def _driver(folder: str) -> tuple[str | None, Mapping[str, Any]]:
    """Return a container's log driver and its options, from the engine's files."""
    try:
        with open(os.path.join(folder, "hostconfig.json"), encoding="utf-8", errors="replace") as stream:
            found = json.load(stream)["LogConfig"]
        return found["Type"] or None, found.get("Config") or {}
    except (OSError, ValueError, KeyError, TypeError):
        return None, {}
