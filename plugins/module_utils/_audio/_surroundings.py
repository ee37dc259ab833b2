# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures what an audio file passes on its way: library, temporary directory, code. Private to this collection.

Part of the program that runs inside the container of the audio service: standard library only. Nothing is imported
that belongs to the service.
"""

from __future__ import annotations

import fnmatch
import os
import stat
import time
from typing import Any, Dict, Iterable, Iterator, Mapping

Part = Dict[str, Any]

# Where a directory for temporary files is taken from (tempfile.gettempdir).
TEMPORARY = ("TMPDIR", "TEMP", "TMP")
# Entries of the temporary directory, and open files of all processes, that are looked at.
MOST_ENTRIES = 50000
# Directories that are being walked at the same time: a deeper tree is not walked to its end.
MOST_DEPTH = 64


def shown(path: str) -> str:
    """Return a path as valid Unicode: a byte that is not UTF-8 becomes ``\\xf6``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# The library of music


def library(request: Mapping[str, Any]) -> list[Part]:
    """Return a part for each directory of the library. ``request`` is that of the probe program."""
    paths = list(request["directories"])
    if not paths:
        paths = [os.environ[name] for name in request["settings"] if os.environ.get(name, "").startswith("/")][:1]
    if not paths:
        paths = [path for path in request["candidates"] if os.path.isdir(path)][:1]
    mounts, end = _mounts(), time.monotonic() + request["walk_seconds"]
    parts = []
    for number, path in enumerate(paths):
        until = time.monotonic() + (end - time.monotonic()) / (len(paths) - number)
        parts.append(_directory(path, mounts, request["extensions"], until, request["top"]))
    return parts


def _mounts() -> dict[str, str]:
    """Return the type of the file system by mount point."""
    found = {}
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            for line in stream:
                fields, _dash, rest = line.partition(b" - ")
                point = fields.split()[4].replace(b"\\040", b" ")
                found[os.fsdecode(point)] = os.fsdecode(rest.split()[0])
    except (OSError, IndexError):
        return {}
    return found


def _directory(path: str, mounts: Mapping[str, str], extensions: Iterable[str], end: float, top: int) -> Part:
    part: Part = dict.fromkeys(
        ("exists", "mounted", "file_system", "files", "complete", "unreadable_total", "first_unreadable")
    )
    part.update(path=shown(path), unreadable=[], empty=None)
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError:
        part.update(unreadable_total=1, first_unreadable=_unreadable(path), unreadable=[_unreadable(path)])
        return part
    except OSError:
        is_directory = False
    part["exists"] = is_directory
    if not is_directory:
        return part
    if mounts:
        real = os.path.realpath(path)
        point = max((each for each in mounts if _is_below(real, each)), key=len, default="/")
        part.update(mounted=point != "/", file_system=mounts.get(point))
    return {**part, **_walk(path, tuple(extensions), end, top)}


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _walk(path: str, extensions: tuple[str, ...], end: float, top: int) -> Part:
    """Count the audio files below a directory, in the order of their names, and find what cannot be read."""
    files, hidden, total, complete, entries = 0, [], 0, True, 0
    # Depth first, by name: the first path is the same in every run.
    waiting = [[path]]
    while waiting:
        if not waiting[-1]:
            waiting.pop()
            continue
        folder = waiting[-1].pop()
        try:
            with os.scandir(folder) as found:
                names = sorted(found, key=lambda entry: entry.name)
        except PermissionError:
            total += 1
            hidden.append(folder)
            continue
        except OSError:
            continue
        below = []
        for entry in names:
            entries += 1
            if time.monotonic() > end:
                complete, waiting = False, []
                break
            if _is_folder(entry):
                below.append(entry.path)
            elif entry.name.lower().endswith(extensions):
                files += 1
                if not os.access(entry.path, os.R_OK):
                    total += 1
                    hidden += [entry.path] if len(hidden) < top else []
        if waiting and len(waiting) < MOST_DEPTH:
            waiting.append(below[::-1])
        elif below:
            complete = False
    unreadable = [_unreadable(each) for each in hidden[:top]]
    return {
        "files": files,
        "empty": entries == 0 and total == 0,
        "complete": complete,
        "unreadable": unreadable,
        "unreadable_total": total,
        "first_unreadable": unreadable[0] if unreadable else None,
    }


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _unreadable(path: str) -> Part:
    """Return a path that this user cannot read, with what denies it: itself, or the first directory above it."""
    denied, info = path, None
    parts = path.split("/")
    for number in range(2, len(parts) + 1):
        above = "/".join(parts[:number])
        if number < len(parts) and os.path.isdir(above) and not os.access(above, os.X_OK):
            denied = above
            break
    try:
        info = os.stat(denied)
    except OSError:
        pass
    return {
        "path": shown(path),
        "denied": shown(denied),
        "mode": "%04o" % stat.S_IMODE(info.st_mode) if info else None,
        "uid": info.st_uid if info else None,
        "gid": info.st_gid if info else None,
        "directory": stat.S_ISDIR(info.st_mode) if info else None,
    }


def changed(path: str) -> tuple[bool | None, float | None]:
    """Return whether a path exists, and when it was changed (also its mode); null for what cannot be seen."""
    try:
        return True, os.stat(path).st_ctime
    except (FileNotFoundError, NotADirectoryError):
        return False, None
    except (OSError, ValueError):
        return None, None


# The temporary directory


def temporary_path(request: Mapping[str, Any]) -> str:
    """Return the directory for temporary files."""
    named = next((os.environ[name] for name in TEMPORARY if os.environ.get(name)), "/tmp")  # noqa: S108
    return str(request["temporary"] or named)


def temporary(request: Mapping[str, Any]) -> Part:
    """Return space, inodes and leftovers of the directory for temporary files."""
    path = temporary_path(request)
    part: Part = dict.fromkeys(("bytes", "bytes_free", "bytes_ratio", "inodes", "inodes_free", "inodes_ratio"))
    part.update(path=shown(path), exists=os.path.isdir(path), writable=None, leftovers=None)
    if not part["exists"]:
        return part
    part["writable"] = os.access(path, os.W_OK | os.X_OK)
    try:
        found = os.statvfs(path)
        if found.f_blocks:
            size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            part.update(bytes=size, bytes_free=free, bytes_ratio=round(used / max(1, used + free), 4))
        if found.f_files:
            ratio = round(1 - found.f_ffree / found.f_files, 4)
            part.update(inodes=found.f_files, inodes_free=found.f_ffree, inodes_ratio=ratio)
        part["leftovers"] = _leftovers(path, request)
    except OSError:
        pass
    return part


def old_files(path: str, request: Mapping[str, Any], now: float) -> tuple[int, list[tuple[str, os.stat_result]]]:
    """Return how many entries match the patterns, and the plain files of them that are old. Raises OSError."""
    total, old = 0, []
    with os.scandir(path) as entries:
        for _number, entry in zip(range(MOST_ENTRIES), entries):
            if not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in request["patterns"]):
                continue
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            total += 1
            # Whether a directory is in use cannot be seen.
            if stat.S_ISREG(info.st_mode) and now - info.st_mtime >= request["leftover_seconds"]:
                old.append((entry.path, info))
    return total, old


def _leftovers(path: str, request: Mapping[str, Any]) -> Part:
    """Return how many entries match the patterns, and the files of them that are old and not open."""
    now = time.time()
    total, old = old_files(path, request, now)
    is_open, known = open_files() if old else (set(), True)
    closed = [(each, info) for each, info in old if (info.st_dev, info.st_ino) not in is_open]
    closed.sort(key=lambda row: row[1].st_mtime)
    return {
        "total": total,
        "old": len(closed),
        "old_bytes": sum(info.st_blocks * 512 for _path, info in closed),
        "oldest_seconds": round(now - closed[0][1].st_mtime, 1) if closed else None,
        "open": len(old) - len(closed),
        "open_known": known,
        "examples": [shown(each) for each, _info in closed[: request["top"]]],
    }


def open_files() -> tuple[set[tuple[int, int]], bool]:
    """Return device and inode of each open file of the processes here, and whether all of them could be read."""
    found, known = set(), True
    for _number, pid in zip(range(MOST_ENTRIES), _processes()):
        try:
            names = os.listdir("/proc/%s/fd" % pid)
        except PermissionError:
            known = False
            continue
        except OSError:
            continue
        for name in names[:MOST_ENTRIES]:
            try:
                info = os.stat("/proc/%s/fd/%s" % (pid, name))
            except OSError:
                continue
            found.add((info.st_dev, info.st_ino))
    return found, known


def _processes() -> Iterator[str]:
    try:
        yield from (name for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return


# What is installed


def installed(name: str) -> Part:
    """Return whether a Python package can be found, and its version, without importing it."""
    import importlib.util

    part: Part = {"name": name, "installed": False, "version": None, "path": None}
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        return part
    part["installed"] = True
    origin = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    folder = os.path.dirname(os.path.dirname(origin) if spec.origin and spec.submodule_search_locations else origin)
    part["path"] = shown(folder)
    try:
        for entry in sorted(os.listdir(folder)):
            # The folder of the metadata is called like the distribution: name-version.dist-info.
            if entry.endswith(".dist-info") and entry.lower().replace("_", "-").startswith(name.lower() + "-"):
                part["version"] = entry[len(name) + 1 : -len(".dist-info")]
    except OSError:
        pass
    return part


def memory() -> Part:
    """Return limit and use of the control group of this process; null where there is no limit, or it is not known."""
    for folder, limit, use in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        found = _number(folder, limit)
        if found is not None:
            # A limit near 2^63 is none (cgroup v1).
            cache = _number_in(folder + "/memory.stat", ("inactive_file", "total_inactive_file"))
            used = _number(folder, use)
            return {
                "limit": found if 0 < found < 1 << 60 else None,
                "used": None if used is None else max(0, used - (cache or 0)),
            }
    return {"limit": None, "used": None}


def _number(folder: str, name: str) -> int | None:
    try:
        with open("%s/%s" % (folder, name), encoding="ascii", errors="replace") as stream:
            text = stream.read(64).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else 1 << 62 if text == "max" else None


def _number_in(path: str, names: Iterable[str]) -> int | None:
    found = None
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            for line in stream:
                name, _space, value = line.partition(" ")
                if name in names:
                    found = int(value)
    except (OSError, ValueError):
        return None
    return found
