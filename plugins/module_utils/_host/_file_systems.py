# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Space and inodes of file systems. Private to this collection."""

from __future__ import annotations

import os
from typing import Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._host._places import IN_MEMORY, Place
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _statvfs
from ansible_collections.tracktion.ops.plugins.module_utils._linux._mounts import Mount
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown, cut
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

FSTAB = "/etc/fstab"
# Words in the options of a file system that the kernel has stopped to write to (fs/ext4/super.c).
STOPPED = frozenset(("emergency_ro", "shutdown"))
# Characters of a path in the result.
PATH_LENGTH = 300


def measure(
    places: Sequence[Place], engine: Engine, timeout: float, deadline: Deadline, unknown: Unknown
) -> list[Part]:
    """Return the file systems: those that hang first, then those that should not be read-only, then the fullest."""
    targets = [_statvfs.Target(place.mount.device, place.path, place.may_hang) for place in places]
    answers = _statvfs.read(targets, timeout, deadline)
    wanted = writable_in_fstab()
    found, missed = [], 0
    for position, place in enumerate(places):
        answer = answers.get(position)
        if answer is None:
            missed += 1
        elif answer.errno is not None:
            note_error(place, answer.errno, unknown)
        elif answer.hung_since is not None or (answer.sizes and answer.sizes.bytes):
            found.append(describe(place, answer, engine, wanted))
    if missed:
        unknown.add("file_systems[...]", "%d of %d mounts were not read in time" % (missed, len(targets)))
    return sorted(found, key=rank)


def rank(entry: Part) -> tuple[bool, bool, float, str]:
    """Return the sort key of a file system: what has a finding comes before what has none."""
    use = max(entry["used_ratio"] or 0.0, entry["inodes_ratio"] or 0.0)
    return not entry["hung"], entry["read_only_reason"] is None, -use, entry["mount_point"]


def note_error(place: Place, number: int, unknown: Unknown) -> None:
    """Note a mount that cannot be read, unless it has ended with its container."""
    exc = OSError(number, os.strerror(number))
    if place.pid is not None and isinstance(exc, (FileNotFoundError, ProcessLookupError)):
        return
    label = "%s (%s): %s" % (_mounts.printable(place.mount.point), place.mount.type, exc.strerror)
    unknown.add("file_systems[...]", label, _rights.hint_of(exc))


def describe(place: Place, answer: _statvfs.Answer, engine: Engine, wanted: Mapping[str, str]) -> Part:
    """Return a file system as the measurement has it."""
    mount, sizes = place.mount, answer.sizes
    container = engine.container(place.container)
    entry: Part = {
        "mount_point": cut(_mounts.printable(mount.point), PATH_LENGTH),
        "source": cut(_mounts.printable(mount.source), PATH_LENGTH),
        "type": mount.type,
        "device": mount.device,
        "pid": place.pid,
        "container": container["name"] if container else None,
        "service": container["service"] if container else None,
        "in_memory": mount.type in IN_MEMORY,
        "hung": sizes is None,
        "hung_since": answer.hung_since,
        "bytes": None,
        "used_bytes": None,
        "available_bytes": None,
        "reserved_bytes": None,
        "used_ratio": None,
        "inodes": None,
        "inodes_used": None,
        "inodes_ratio": None,
        "read_only": None,
        "read_only_reason": None,
    }
    if sizes is not None:
        entry.update(space(sizes))
        reason = read_only_reason(mount, wanted) if place.pid is None else None
        entry.update(read_only=bool(sizes.flags & os.ST_RDONLY) or reason == "errors", read_only_reason=reason)
    return entry


def space(sizes: _statvfs.Sizes) -> Part:
    """Return use and ratios, as df(1) shows them: what is reserved for root counts as neither used nor available."""
    used = sizes.bytes - sizes.free
    usable = used + sizes.available
    # Some file systems, such as btrfs, have no fixed number of inodes.
    has_inodes = sizes.inodes > 0
    return {
        "bytes": sizes.bytes,
        "used_bytes": used,
        "available_bytes": sizes.available,
        "reserved_bytes": max(0, sizes.free - sizes.available),
        "used_ratio": round(used / usable, 4) if usable else 1.0,
        "inodes": sizes.inodes if has_inodes else None,
        "inodes_used": sizes.inodes - sizes.inodes_free if has_inodes else None,
        "inodes_ratio": round(1 - sizes.inodes_available / sizes.inodes, 4) if has_inodes else None,
    }


def read_only_reason(mount: Mount, wanted: Mapping[str, str]) -> str | None:
    """Return why a file system is read-only that should not be: ``errors``, ``fstab``, or null if it is as wanted.

    The kernel sets the state of the file system only; mount(8) sets that of the mount too (proc_pid_mountinfo(5)).
    """
    of_mount, of_file_system = mount.options.split(","), mount.super_options.split(",")
    if STOPPED.intersection(of_file_system) or ("rw" in of_mount and "ro" in of_file_system):
        return "errors"
    if ("ro" in of_mount or "ro" in of_file_system) and wanted.get(mount.point) in (mount.type, "auto"):
        return "fstab"
    return None


def writable_in_fstab(path: str = FSTAB) -> dict[str, str]:
    """Return the mount points that fstab(5) mounts writable, with their types; none if it cannot be read."""
    found = {}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                fields = line.split()
                if len(fields) >= 4 and not fields[0].startswith("#") and "ro" not in fields[3].split(","):
                    found[_mounts.unescape(fields[1])] = fields[2]
    except OSError:
        return {}
    return found
