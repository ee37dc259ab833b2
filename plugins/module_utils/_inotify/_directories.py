# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory that a watcher watches, as the host and the watcher see it. Private to this collection."""

from __future__ import annotations

import os
import stat
from typing import AbstractSet, Callable, NamedTuple, Sequence, TypeVar

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import Hung, NotMeasured, bounded, within
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import (
    _directory_tree,
    _inotify,
    _watched_directory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inside import resolve
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher_container import Container, Mount, below
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts
from ansible_collections.tracktion.ops.plugins.module_utils._linux._hung_mounts import HungMounts
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import ENOUGH, Deadline, Unknown, out_of_time
from ansible_collections.tracktion.ops.plugins.module_utils._printable import raw, shown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Time limit for the arrival of an event; the kernel needs microseconds.
EVENT_SECONDS = 1.0
# Kept from the deadline for processing the result of a walk.
RESERVE_SECONDS = 0.3


# Mounts in a result.
MAX_MOUNTS = 10
T = TypeVar("T")


class Place(NamedTuple):
    """A container of the watcher, without files if there is none, and its main process, null if it does not run."""

    pid: int | None
    container: Container


def _or_null(function: Callable[..., T], *arguments: object) -> T | None:
    """Return what a function returns; null if the watcher has ended, or something cannot be read."""
    try:
        return function(*arguments)
    except OSError:
        return None


class Directory:
    """One configured directory; ``result`` is its entry in the measurement."""

    def __init__(self, path: str, places: Sequence[Place], inside: bool, options: Options) -> None:
        self.path = path.rstrip("/") or "/"
        self.options = options
        # The containers of the watcher. The first one counts, unless another one mounts the directory.
        self.places = places
        self.pid, self.container = places[0]
        self.real: str | None = None
        self.inode: _watched_directory.Inode | None = None
        self.tree: _directory_tree.Tree | None = None
        self.inside = inside
        self.root = "/proc/%d/root" % self.pid if self.inside and self.pid else ""
        # Where the host and the container have it; null without a mount.
        self.mount: Mount | None = None
        self.result: Part = dict.fromkeys(_watched_directory.FACTS)
        self.result.update(
            path=shown(self.path),
            path_hex=raw(self.path),
            answers=None,
            error=None,
            host_path=None,
            container=None,
            watcher_readable=None,
            denied=None,
            mounted=None,
            replaced=None,
            hidden_mounts=None,
            similar=None,
            watched=None,
            instances=None,
            instances_at_least=None,
            watcher_instances=None,
            watchers=None,
            tree=None,
        )

    @property
    def part(self) -> str:
        """Its path in the measurement, as ``unknown`` names it."""
        return "directories.%s" % self.result["path"]

    def inspect(self, mounts: HungMounts, deadline: Deadline, unknown: Unknown) -> None:
        """Read the facts, in a thread that is abandoned if the mount does not answer."""
        try:
            if not self.inside:
                mounts.reject(self.path, self.options["timeout"], deadline)
            self.mount = within(deadline, self.options["timeout"], self._mounted)
            self.result["host_path"] = shown(self.mount.source) if self.mount else None
            self.result["container"] = self.container.name if self.mount else None
            if self.inside and not self.root and not self.mount:
                if self.container.known:
                    self.result["mounted"] = False
                    return
                raise NotMeasured("it is a path in the container of the watcher, which does not run")
            if self.mount:
                mounts.reject(self.mount.source, self.options["timeout"], deadline)
            found = within(deadline, self.options["timeout"], self._inspect)
        except OSError as exc:
            self._fail(exc, unknown)
            return
        self.real, self.inode = found.real, found.inode
        self.result.update(found.facts, answers=True)
        if found.facts["is_directory"] and not found.facts["readable"]:
            unknown.add(self.part, "this account may not list it", _rights.hint("CAP_DAC_READ_SEARCH"))

    def _mounted(self) -> Mount | None:
        """Return where the host has it, and where the container does; null without such a mount."""
        if self.inside:
            return self.container.to_host(self.path)
        real = os.path.realpath(self.path)
        for pid, container in self.places:
            mount = container.to_container(real)
            if mount:
                self.pid, self.container = pid, container
                return mount
        return None

    def _inspect(self) -> _watched_directory.Inspected:
        trigger = "create" if self.options["prove"] else "open"
        event_seconds = min(EVENT_SECONDS, self.options["timeout"] / 2)
        # A container that is down is looked at from the host.
        path = self.mount.source if self.mount and self.inside and not self.root else self.path
        found = _watched_directory.inspect(path, self.root, self._mount_table(), trigger, event_seconds)
        if self.root and not found.facts["exists"] and not os.path.exists(self.root):
            raise NotMeasured("the watcher ended during the measurement")
        found.facts["mounted"] = self._is_mounted(found.facts)
        found.facts["replaced"] = _or_null(self._is_replaced)
        found.facts["hidden_mounts"] = _or_null(self._hidden_mounts)
        access = _or_null(self._access, found.real) if found.real else None
        found.facts["watcher_readable"] = access.readable if access else None
        found.facts["denied"] = _or_null(self._denied, access) if access and access.readable is False else None
        found.facts["similar"] = _or_null(self._similar, found.real) if found.real else None
        return found

    def _is_mounted(self, facts: Part) -> bool | None:
        """Return whether a mount of the container covers it; null for its own files, unless there are none."""
        if self.mount or not self.container.known:
            return True if self.mount else None
        if not self.inside or not facts["exists"]:
            return False
        if not facts["is_directory"] or not facts["readable"]:
            return None
        with os.scandir(resolve(self.root, self.path)) as entries:
            return False if next(entries, None) is None else None

    def _is_replaced(self) -> bool | None:
        """Return whether the host has another directory at this path than the container, which was started before."""
        if not self.mount or not self.pid or not os.path.isdir(os.path.dirname(self.mount.source)):
            return None
        root = "/proc/%d/root" % self.pid
        inside = resolve(root, self.mount.destination)
        if not os.path.exists(inside):
            # Nothing is known if the watcher has ended.
            return True if os.path.exists(root) else None
        return not _watched_directory.is_same(inside, self.mount.source)

    def _hidden_mounts(self) -> list[str] | None:
        """Return the mounts of the host below it that the container lacks: it was started before them."""
        if not self.mount or not self.pid:
            return None
        inside = {(mount.point, mount.device) for mount in _mounts.mounts(self.pid)}
        found = []
        for mount in _mounts.mounts():
            rest = below(mount.point, self.mount.source)
            if rest and (self.mount.destination.rstrip("/") + rest, mount.device) not in inside:
                found.append(_mounts.printable(mount.point))
        return sorted(set(found))[:MAX_MOUNTS]

    def _access(self, real: str) -> _watched_directory.Access | None:
        if self.pid and (self.inside or self.mount):
            root = "/proc/%d/root" % self.pid
            inside = resolve(root, self.mount.destination if self.mount else self.path)
            try:
                return _watched_directory.access_of(self.pid, inside[len(root) :], root)
            except PermissionError:
                # The container cannot be entered without privilege: what is below the mount is visible on the host.
                return self._access_below(lambda base, path: _watched_directory.access_of(self.pid or 0, path, base))
        if self.pid:
            return _watched_directory.access_of(self.pid, real, "")
        user = self.container.user()
        if user is None:
            return None
        if user.uid == 0 and self.container.overrides_modes():
            return _watched_directory.Access(True, user.uid)
        return self._access_below(lambda base, path: _watched_directory.access(user.uid, user.gids, base, path))

    def _access_below(self, look: Callable[[str, str], _watched_directory.Access]) -> _watched_directory.Access | None:
        """Return the access by the directories of the host from the source of the mount on; null without a mount."""
        if not self.mount:
            return None
        base = self.container.base(self.mount.source)
        found = look(base.rstrip("/"), below(self.mount.source, base) or "")
        return found if found.denied is None else found._replace(denied=base.rstrip("/") + found.denied.rstrip("/"))

    def _denied(self, access: _watched_directory.Access) -> Part | None:
        """Return the user and the directory of the host that denies access; null if it is one of the container."""
        path = access.denied or ""
        if self.pid and (self.inside or self.mount):
            mount = self.container.to_host(path)
            path = mount.source if mount else path if self.container.base(path) != "/" else ""
        if not path or raw(path):
            return None
        return {"uid": access.uid, "path": path, "is_watched": path == (self.mount.source if self.mount else self.real)}

    def _similar(self, real: str) -> str | None:
        """Return the directory that was probably meant, if this one is empty: of the host, as the mount names it."""
        found = _watched_directory.similar(self.mount.source if self.mount and not self.root else real)
        if found is None and self.mount and self.root:
            found = _watched_directory.similar(self.mount.source)
        return shown(found) if found else None

    def walk(self, seconds: float, most: int, watched: AbstractSet[int] | None, unknown: Unknown) -> None:
        """Count its directories within ``seconds``."""
        limit = Deadline(seconds)
        try:
            tree = bounded(_directory_tree.walk, seconds + RESERVE_SECONDS / 2, self.real, limit, most, watched)
        except OSError as exc:
            if isinstance(exc, Hung) and seconds < self.options["timeout"] * ENOUGH:
                exc = NotMeasured(out_of_time(seconds))
            self._fail(exc, unknown)
            return
        self.tree = tree
        if not tree.complete:
            unknown.add(self.part, "not all of it was walked", _inotify.RAISE_DEADLINE)
        self.result["tree"] = {
            "directories": tree.directories,
            "entries": tree.entries,
            "unreadable": tree.unreadable,
            "complete": tree.complete,
            "not_watched": tree.not_watched if watched is not None else None,
            "not_watched_examples": [self._shown(path) for path in tree.not_watched_examples],
            "links_not_watched": None
            if watched is None
            else self._links_not_watched(
                tree.links, watched, min(self.options["timeout"], max(0.1, limit.remaining()))
            ),
            "fullest": [
                {"path": self._shown(path), "entries": entries} for entries, path in sorted(tree.fullest, reverse=True)
            ],
        }

    def _links_not_watched(self, links: list[str], watched: AbstractSet[int], seconds: float) -> list[str] | None:
        """Return the links to directories without a watch, null if one of them does not answer in time."""
        try:
            return bounded(self._followed, seconds, links, watched)
        except OSError:
            return None

    def _followed(self, links: list[str], watched: AbstractSet[int]) -> list[str]:
        found = []
        for link in links:
            try:
                target = resolve(self.root, link[len(self.root) :])
                status = os.stat(target)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode) and status.st_ino not in watched:
                found.append("%s -> %s" % (self._shown(link), self._shown(target)))
        return found

    def _shown(self, path: str) -> str:
        """Return a path in the form of the configured directory, without the root of the watcher."""
        return shown(path[len(self.root) :])

    def _mount_table(self) -> list[_mounts.Mount]:
        return _mounts.mounts(self.pid if self.root and self.pid else "self")

    def _fail(self, exc: OSError, unknown: Unknown) -> None:
        """Record why it is not, or not fully, measured. A lack of time or rights says nothing about the directory."""
        kind, message = "failed", exc.strerror or str(exc)
        if isinstance(exc, NotMeasured):
            unknown.add(self.part, message)
            return
        if isinstance(exc, PermissionError):
            unknown.add(self.part, message, _rights.hint_of(exc))
            return
        if isinstance(exc, Hung):
            kind = "no_answer"
            mount = _mounts.mount_of(self.path, self._mount_table())
            if mount:
                message += " (%s, %s from %s)" % tuple(map(_mounts.printable, (mount.point, mount.type, mount.source)))
        self.result["answers"] = False
        self.result["error"] = {"kind": kind, "message": message, "hint": None}
        unknown.add("directories", "%s: %s" % (self.result["path"], message))
