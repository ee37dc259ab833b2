# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where logs are: files of containers, files of programs. Private to this collection.

The engine's own files are read where they may be: its API reads a log of 1 GB from its start to find what is new, and
says nothing when the engine hangs. What only the engine can read (its other drivers) it is asked for.
"""

from __future__ import annotations

import glob
import json
import os
import re
import stat

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_api
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DEFAULT_HOST, socket_of
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_engine, _log_journal, _log_tally
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_windows import File, Memory, newest, shifted
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, NotAllowed
from ansible_collections.tracktion.ops.plugins.module_utils._printable import raw, shown

# Whole quarters of an hour that the newest line may lie off the time of its file: a program in another time zone.
ZONE_STEP = 900
# Rotated files that are looked at, and files that a pattern may find.
MOST_ROTATED = 20
MOST_FILES = 50
JOURNAL_RIGHT = "%s, or as an account of the group systemd-journal" % _rights.BECOME
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
ROTATED = re.compile(r"[.-](\d+|\d{4}-?\d\d-?\d\d(?:-\d+)?)$")


def right_to(exc):
    """The hint of a failure to ask the engine, if a right is missing."""
    return exc.hint if isinstance(_docker_api.unless_forbidden(exc), NotAllowed) else None


class Unreadable(Exception):
    """A log that cannot be read; the message says why, ``hint`` how to get the right to read it, if that is missing."""

    def __init__(self, reason, hint=None):
        super().__init__(reason)
        self.hint = hint


class Log:
    """One log. ``open()`` gives its pieces, the newest first; it may hang, and is called where that harms nobody."""

    def __init__(self, name, source, form):
        self.name = name
        self.source = source
        self.form = form
        self.about = dict.fromkeys(("container", "project", "state", "driver", "path", "path_hex"))
        # What was left out before any reading, as text; null for nothing.
        self.left_out = None
        # Bytes that were left out and are of the windows, as far as that is known.
        self.left_out_bytes = 0

    def open(self, begin, budget, seconds):
        """The pieces that may hold lines since ``begin``. Raises Unreadable."""
        raise NotImplementedError

    def may_have_lost(self, pieces):
        """Whether there may have been more than these pieces, as a log that is rotated loses its oldest."""
        return pieces > 1


class Missing(Log):
    """What should be there and is not."""

    def __init__(self, name, source, reason, hint=None):
        super().__init__(shown(name), source, None)
        self.reason = reason
        self.hint = hint

    def open(self, begin, budget, seconds):
        raise Unreadable(self.reason, self.hint)


class ContainerLog(Log):
    """The log of a container, by the files of the engine."""

    def __init__(self, engine, container, socket):
        super().__init__(
            container["service"] or container["name"] or container["id"][:12], "container", _log_tally.Engine
        )
        self.container = container
        self.socket = socket
        self.folder = os.path.join(engine.root, container["id"])
        driver, settings = _driver(self.folder)
        # The engine deletes the oldest file once there are so many.
        self.most_files = int(settings.get("max-file") or 1)
        self.about.update(
            container=container["name"], project=container["project"], state=container["state"], driver=driver
        )

    def may_have_lost(self, pieces):
        return pieces >= max(2, self.most_files)

    def open(self, begin, budget, seconds):
        driver = self.about["driver"]
        if driver == "none":
            raise Unreadable("its log driver none keeps nothing")
        if driver == "json-file":
            path = os.path.join(self.folder, "%s-json.log" % self.container["id"])
            self.about.update(path=shown(path), path_hex=raw(path))
            return self._files(path, begin)
        self.form = _log_tally.Stamped
        try:
            data, self.left_out = _log_engine.read(self.socket, self.container["id"], begin, budget, seconds)
        except CannotConnect as exc:
            raise Unreadable("its log driver %s: %s" % (driver or "is not known", exc), right_to(exc)) from exc
        return [Memory(data, self.form.time_of)]

    def _files(self, path, begin):
        try:
            pieces = chain(path, self.form.time_of, begin, self)
        except FileNotFoundError as exc:
            if os.path.isdir(self.folder):
                # It has not been started yet.
                return []
            raise Unreadable("the container was removed meanwhile") from exc
        except OSError as exc:
            raise Unreadable("%s: %s" % (shown(path), exc.strerror), _rights.hint_of(exc)) from exc
        # A file is cut in the middle of a line while the engine writes it.
        for piece in pieces[:1]:
            tail = piece.read(max(0, piece.size - (1 << 16)), piece.size)
            piece.size -= len(tail) - (tail.rfind(b"\n") + 1)
        return pieces


class EngineLog(Log):
    """The log of a container by the engine's API, where its files may not be read."""

    def __init__(self, row, socket):
        super().__init__(row["service"] or row["name"], "container", _log_tally.Stamped)
        self.row = row
        self.socket = socket
        self.about.update(container=row["name"], project=row["project"], state=row["state"])

    def open(self, begin, budget, seconds):
        try:
            self.about["driver"] = _log_engine.driver(self.socket, self.row["id"], seconds)
            data, self.left_out = _log_engine.read(self.socket, self.row["id"], begin, budget, seconds)
        except CannotConnect as exc:
            driver = self.about["driver"]
            raise Unreadable("%s%s" % ("its log driver %s: " % driver if driver else "", exc), right_to(exc)) from exc
        return [Memory(data, self.form.time_of)]


class FileLog(Log):
    """A file that a program writes, with those it was rotated to."""

    def __init__(self, path):
        # One of the engine's own may be given as well.
        super().__init__(shown(path), "file", _log_tally.Engine if path.endswith("-json.log") else _log_tally.Text)
        self.file = path
        self.about.update(path=shown(path), path_hex=raw(path))

    def open(self, begin, budget, seconds):
        try:
            pieces = chain(self.file, self.form.time_of, begin, self)
        except OSError as exc:
            raise Unreadable(exc.strerror or str(exc), _rights.hint_of(exc)) from exc
        if pieces:
            offset = zone_offset(pieces[0])
            for piece in pieces:
                piece.time_of = shifted(piece.time_of, offset)
        return pieces


class JournalLog(Log):
    """What the journal holds of one unit, read by one call for all units."""

    def __init__(self, unit, text, left_out):
        super().__init__(unit, "journal", _log_tally.Stamped)
        self.text = text
        self.left_out = left_out

    def open(self, begin, budget, seconds):
        return [Memory(self.text, self.form.time_of)]


def chain(path, time_of, begin, log):
    """The file and those it was rotated to, the newest first, back to ``begin``."""
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
            # Rotated meanwhile: it is there under its next name.
            continue
        # A file that was renamed between two looks is met twice.
        if piece.identity in seen:
            piece.close()
            continue
        seen.add(piece.identity)
        pieces.append(piece)
    return pieces


def rotated(path):
    """The files that a log was rotated to, by their time, the newest first."""
    found = []
    for other in glob.glob(glob.escape(path) + "[.-]*"):
        name = re.sub(r"\.(?:gz|bz2|xz|zst)$", "", other)
        if ROTATED.fullmatch(name[len(path) :]):
            try:
                found.append((os.stat(other).st_mtime, other))
            except OSError:
                continue
    return [other for _modified, other in sorted(found, reverse=True)]


def zone_offset(piece):
    """Seconds, in whole quarters of an hour, to add to the times of a file: its last line is as old as the file."""
    last = newest(piece)
    if last is None:
        return 0
    off = piece.modified - last
    steps = round(off / ZONE_STEP)
    return steps * ZONE_STEP if 0 < abs(steps) <= 56 and abs(off - steps * ZONE_STEP) < 60 else 0


def containers(engine, options):
    """The logs of the containers that are wanted. Raises BadOption."""
    socket = socket_of(options["docker_host"])
    names, hidden = [], None
    # Another engine has its files elsewhere, and this root is not its own.
    if options["docker_host"] == DEFAULT_HOST or options["docker_root"]:
        try:
            names = [name for name in os.listdir(engine.root) if len(name) == 64]
        except FileNotFoundError:
            pass
        except PermissionError:
            hidden = "the engine's files cannot be read without privilege"
    if not names:
        return _by_engine(socket, options, hidden)
    rows = [engine.container(name) for name in names]
    return [ContainerLog(engine, row, socket) for row in rows if wanted(row, options)] + absent(rows, options)


def _by_engine(socket, options, hidden):
    """The same, of what the engine tells; ``hidden`` is why its files do not tell it."""
    try:
        rows = _log_engine.containers(socket, options["timeout"])
    except CannotConnect as exc:
        if exc.kind == "no_engine" and options["docker_host"] == DEFAULT_HOST:
            return [Missing("containers", "container", hidden, _rights.BECOME)] if hidden else []
        reason = "%s, and %s" % (hidden, exc) if hidden else str(exc)
        return [Missing("containers", "container", reason, right_to(exc) or (_rights.BECOME if hidden else None))]
    return [EngineLog(row, socket) for row in rows if wanted(row, options)] + absent(rows, options)


def absent(rows, options):
    """What was asked for by name where there are containers, and is none of them."""
    if not rows:
        return []
    rows = [row for row in rows if not options["project"] or row["project"] == options["project"]]
    names = {name for row in rows for name in (row["service"], row["name"])}
    missing = [Missing(name, "container", "no such container") for name in options["services"] if name not in names]
    if not rows:
        missing.append(Missing(options["project"], "container", "no container of this compose project"))
    return missing


def wanted(row, options):
    """Whether a container is one whose log is asked for."""
    names = {row["service"], row["name"]} - {None}
    if options["project"] and row["project"] != options["project"]:
        return False
    if names & set(options["exclude"]):
        return False
    return not options["services"] or bool(names & set(options["services"]))


def files(options, begin):
    """The logs of files, by their patterns; those that were not written to since ``begin`` have nothing to say."""
    found, logs = [], []
    for pattern in options["files"]:
        paths = sorted(glob.glob(pattern, recursive=True))
        reason = _no_log(pattern, paths)
        if reason:
            logs.append(Missing(pattern, "file", *reason))
        for path in paths:
            try:
                if os.path.isfile(path) and not _is_rotated(path) and os.stat(path).st_mtime >= begin:
                    found.append(path)
            except OSError as exc:
                logs.append(Missing(path, "file", exc.strerror, _rights.hint_of(exc)))
    found = list(dict.fromkeys(found))
    if len(found) > MOST_FILES:
        reason = "%d files match, of which only %d are read" % (len(found), MOST_FILES)
        logs.append(Missing("%s and more" % options["files"][0], "file", reason))
    return logs + [FileLog(path) for path in found[:MOST_FILES]]


def _no_log(pattern, paths):
    """Why what a pattern finds is no log at all, as ``(reason, hint or null)``; null where there is one."""
    # Each is looked at once: it may be rotated away, and there again, at any moment.
    modes = {path: mode for path, mode in ((path, _mode(path)) for path in paths) if mode is not None}
    compressed = [path for path in modes if path.endswith(COMPRESSED)]
    if any(stat.S_ISREG(mode) for path, mode in modes.items() if path not in compressed):
        return None
    if modes and all(stat.S_ISDIR(mode) for mode in modes.values()):
        return "it is a directory: name its files, as in %s" % shown(os.path.join(next(iter(modes)), "*.log")), None
    if modes:
        return ("it is compressed" if compressed else "it is no regular file"), None
    folder = os.path.dirname(re.split(r"[*?[]", pattern)[0]) or "."
    # What lies in a directory that is closed to us is not there, as far as we are told.
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder) or "."
    if not os.access(folder, os.R_OK | os.X_OK):
        return "the directory %s may not be read" % shown(folder), _rights.hint("CAP_DAC_READ_SEARCH")
    return "no such file", None


def _mode(path):
    """What kind of file it is, null where there is none; 0 where a link leads nowhere, or nobody tells."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return 0 if os.path.islink(path) else None
    except OSError:
        return 0


def _is_rotated(path):
    """Whether a file is what another was rotated to."""
    name = re.sub(r"\.(?:gz|bz2|xz|zst)$", "", path)
    found = ROTATED.search(name)
    return name != path or bool(found and os.path.exists(name[: found.start()]))


def journal(options, begin, seconds):
    """The logs of the journal's units."""
    units, left_out, error = _log_journal.read(options, begin, seconds)
    hidden = _log_journal.is_hidden(options)
    if error or hidden:
        reason = error or "the journal of the system may not be read"
        return [Missing("journal", "journal", reason, JOURNAL_RIGHT if hidden else None)]
    return [JournalLog(unit, text, left_out) for unit, text in units.items()]


def _driver(folder):
    """``(a container's log driver, its settings)``, by the engine's files."""
    try:
        with open(os.path.join(folder, "hostconfig.json"), encoding="utf-8", errors="replace") as stream:
            found = json.load(stream)["LogConfig"]
        return found["Type"] or None, found.get("Config") or {}
    except (OSError, ValueError, KeyError, TypeError):
        return None, {}
