# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""File systems and files: what is full, and what fills it. Private to this collection.

Directories are walked, and removable files counted, only on file systems that are nearly full.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, Iterator, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._host import (
    _causes,
    _deleted_files,
    _file_systems,
    _largest,
    _log_files,
    _places,
    _removable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._descriptors import Descriptors
from ansible_collections.tracktion.ops.plugins.module_utils._host._places import View
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _statvfs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

WEEK = 604800.0
ARGUMENT_SPEC: dict[str, Any] = {
    "mount_timeout": {"type": "float", "default": 2.0},
    "ignored_mounts": {"type": "list", "elements": "str", "default": []},
    "largest_roots": {"type": "list", "elements": "path", "default": []},
    "watched_roots": {"type": "list", "elements": "path", "default": []},
    "largest_above": {"type": "float", "default": 0.85},
    "largest_seconds": {"type": "float", "default": 2.0},
    "log_roots": {"type": "list", "elements": "path", "default": []},
    "log_patterns": {"type": "list", "elements": "str", "default": []},
    "log_age": {"type": "float", "default": WEEK},
    "temporary_roots": {"type": "list", "elements": "path", "default": []},
    "temporary_patterns": {"type": "list", "elements": "str", "default": []},
    "temporary_age": {"type": "float", "default": WEEK},
    "deny": {"type": "list", "elements": "path", "default": []},
}
# File systems on which directories are walked, and share of the deadline for it.
WALKED = 5
# File systems in the result, whatever their state.
LISTED = 200
SHARE = 0.4
LINKS_MOST = 40
# Kinds of files that a remedy removes: the prefix of their options.
REMOVABLE = ("log", "temporary")
COUNTS = ("_roots", "_files", "_bytes")


class Walk(NamedTuple):
    """A directory to walk: the path for this process, and the path and the container that are reported."""

    path: str
    device: int
    label: str
    container: str | None


def describe(context: Context, descriptors: Descriptors) -> Part:
    """Return the parts about file systems and files. It runs between the two samples. Raises BadOption."""
    options = context.options
    patterns = {kind: _removable.compiled(options[kind + "_patterns"], kind + "_patterns") for kind in REMOVABLE}
    if options["largest_above"] < 0:
        raise BadOption("largest_above: is below 0", hint="Correct `largest_above`.")
    view = _places.look(sorted(context.first), options["ignored_mounts"], context.deadline, context.unknown)
    found = _file_systems.measure(
        view.places, context.engine, options["mount_timeout"], context.deadline, context.unknown
    )
    held = _deleted_files.find(context, descriptors, view)
    logs = _log_files.find(context.engine, context.deadline, context.unknown)
    near = [entry for entry in found if is_near(entry, options["largest_above"])][:WALKED]
    walks = walk_all(context, view, near)
    by_device: dict[int, list[Part]] = {}
    for device, part in walks:
        by_device.setdefault(device, []).append(part)
    explained = {entry["device"]: entry for entry in near}
    for entry in found:
        entry.update(
            dict.fromkeys(("causes", "causes_complete", *(kind + name for kind in REMOVABLE for name in COUNTS)))
        )
    described = [_log_files.describe(each, context.named(each.container)) for each in (logs or ())]
    for device, entry in explained.items():
        entry["causes"] = _causes.causes(
            entry["used_bytes"],
            _deleted_files.describe(context, [each for each in held if each.device == device], found, _causes.MOST),
            [part for part in described if device_of(part["path"], view) == device][: _causes.MOST],
            by_device.get(device, ()),
        )
        entry["causes_complete"] = all(part["complete"] for part in by_device.get(device, ()))
        for kind in REMOVABLE:
            count_removable(context, view, entry, kind, patterns[kind])
    problems = sum(has_problem(entry, options["largest_above"]) for entry in found)
    if problems > LISTED:
        context.unknown.add("file_systems[...]", "%d of %d with a problem are listed" % (LISTED, problems))
    return {
        "file_systems": found[: min(LISTED, context.top + problems)],
        "file_systems_total": len(found),
        "deleted_open_files": _deleted_files.describe(context, held, found, context.top),
        "deleted_open_files_total": len(held),
        "deleted_open_files_bytes": sum(each.bytes for each in held),
        "largest": [part for _device, part in walks],
        "container_logs": None if logs is None else described[: context.top],
        "container_logs_total": None if logs is None else len(logs),
        "container_logs_bytes": None if logs is None else sum(each.bytes for each in logs),
    }


def is_near(entry: Part, above: float) -> bool:
    """Return whether a file system is so full that it is worth to look for what fills it."""
    if entry["hung"] or entry["read_only"]:
        return False
    return max(entry["used_ratio"] or 0.0, entry["inodes_ratio"] or 0.0) >= above


def has_problem(entry: Part, above: float) -> bool:
    """Return whether a check may have a finding about a file system, so that no limit leaves it out."""
    return entry["hung"] or entry["read_only_reason"] is not None or is_near(entry, above)


def walk_all(context: Context, view: View, near: Sequence[Part]) -> list[tuple[int, Part]]:
    """Return the largest files and directories of the nearly full file systems, each with its device."""
    options = context.options
    end = time.monotonic() + min(options["largest_seconds"], context.deadline.remaining() * SHARE)
    walks = list(to_walk([*options["largest_roots"], *options["watched_roots"]], view, near))
    beside = {mount.point for mount in view.table} | {walk.path for walk in walks}
    found = []
    for position, walk in enumerate(walks):
        try:
            inner = beside if walk.container is None else mounted_in(walk.path)
            # What one walk does not use is left to the others.
            left = max(0.0, end - time.monotonic()) / (len(walks) - position)
            part = _largest.walk(walk.path, inner, left, context.top, walk.label)
        except OSError as exc:
            context.unknown.add("largest[...]", "%s: %s" % (_mounts.printable(walk.label), exc.strerror or exc))
            continue
        found.append((walk.device, dict(part, container=walk.container)))
    return found


def to_walk(roots: Sequence[str], view: View, near: Sequence[Part]) -> Iterator[Walk]:
    """Yield the named directories on nearly full file systems, and then these file systems themselves."""
    wanted = {entry["device"]: entry for entry in near if is_local(entry)}
    seen = set()
    for root in roots:
        path = resolved(root, view)
        device = device_of(path, view) if path else None
        if path and device is not None and device in wanted and path not in seen and os.path.isdir(path):
            seen.add(path)
            yield Walk(path, device, path, None)
    for place in view.places:
        entry = wanted.get(place.mount.device)
        if entry is not None and place.path not in seen:
            container = None if place.pid is None else entry["container"] or "process %d" % place.pid
            yield Walk(place.path, place.mount.device, place.mount.point, container)


def is_local(entry: Part) -> bool:
    """Return whether the directories of a file system can be read without a server."""
    return entry["type"] in _statvfs.LOCAL


def mounted_in(path: str) -> list[str]:
    """Return the mount points of another mount namespace, as paths of this process (``/proc/<pid>/root/...``)."""
    match = re.match(r"(/proc/(\d+)/root)/", path + "/")
    if not match:
        return []
    return [match.group(1) + mount.point for mount in _mounts.mounts(match.group(2))]


def device_of(path: str, view: View) -> int | None:
    """Return the device of the file system that holds a real path."""
    mount = _mounts.mount_of(path, view.table)
    return None if mount is None else view.device(mount.device)


def resolved(path: str, view: View) -> str | None:
    """Return the real path of a directory; null if it is not on local file systems, which are not asked for it."""
    names, done, links = os.path.normpath(path).split("/")[:0:-1], "", 0
    while names:
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = os.path.dirname(done)
            continue
        here = done + "/" + name
        mount = _mounts.mount_of(here, view.table)
        if mount is None or mount.type not in _statvfs.LOCAL:
            return None
        try:
            target = os.readlink(here)
        except FileNotFoundError:
            return None
        except OSError:
            # It is no link.
            done = here
            continue
        links += 1
        if links > LINKS_MOST:
            return None
        if target.startswith("/"):
            done = ""
        names += target.split("/")[::-1]
    return done or "/"


def count_removable(context: Context, view: View, entry: Part, kind: str, pattern: re.Pattern[str]) -> None:
    """Add how many files, and how much space, a remedy could remove from a file system."""
    options: Options = context.options
    found: list[_removable.Candidate] = []
    roots = []
    deadline = Deadline(context.deadline.remaining() * SHARE)
    for path in options[kind + "_roots"] if options[kind + "_patterns"] else ():
        # A root behind a link is rejected by the remedy too.
        if resolved(path, view) != os.path.normpath(path) or device_of(path, view) != entry["device"]:
            continue
        try:
            with _removable.Root(path, options["deny"], kind + "_roots") as root:
                roots.append(path)
                for each in _removable.find(root, pattern, options[kind + "_age"], deadline):
                    if isinstance(each, _removable.Candidate):
                        found.append(each)
        except OSError:
            continue
    opened = _removable.opened(sorted(context.first), {each.name for each in found}) if found else set()
    found = [each for each in found if (each.device, each.inode) not in opened]
    entry[kind + "_roots"] = roots
    entry[kind + "_files"] = len(found)
    entry[kind + "_bytes"] = sum(each.bytes for each in found)
