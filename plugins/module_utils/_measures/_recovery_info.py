# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the backups in a directory of this machine. Private to this collection.

Nothing is changed. Checksums are not computed, because they read all files: a proof does that.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils import _bounded
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    Failure,
    NotAllowed,
    OutOfTime,
    Unknown,
    cut,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _space
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._files import verify_files
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact, Leftover
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import APART
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "databases": {"type": "list", "elements": "str", "default": []},
    "data_directories": {
        "type": "list",
        "elements": "path",
        "default": [
            "/var/lib/docker/volumes",
            "/var/lib/containers/storage/volumes",
            "/var/lib/postgresql",
            "/var/lib/pgsql",
            "/var/lib/redis",
            "/var/lib/rabbitmq",
        ],
    },
    "top": {"type": "int", "default": 50},
    "timeout": {"type": "float", "default": 3.0},
    "deadline": {"type": "float", "default": 15.0},
}
PARTS = ("exists", "directory", "targets", "targets_total")
DAMAGE_MOST = 5
RESERVE_SECONDS = 0.5


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.recovery_info documents."""
    for option in ("timeout", "top"):
        if options[option] <= 0:
            raise BadOption("%s: %s is not above 0" % (option, options[option]))
    deadline = Deadline(max(0.2, options["deadline"] - RESERVE_SECONDS))
    unknown = Unknown()
    try:
        # A dead mount is found here. What follows takes as long as the manifests are large.
        _bounded.within(deadline, options["timeout"], _space.free, options["directory"])
        return reached(_read(options, deadline), unknown)
    except OSError as exc:
        return unreachable(PARTS, _failure(exc, options["directory"]))
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    except Failure as exc:
        # BadOption names an option; other failures are about the directory.
        if isinstance(exc, BadOption):
            raise
        return unreachable(PARTS, CannotConnect("failed", str(exc), exc.hint), {"exists": True})


def _failure(exc: OSError, directory: str) -> CannotConnect:
    if isinstance(exc, _bounded.NotMeasured):
        return OutOfTime()
    if isinstance(exc, PermissionError):
        hint = "Run with --become: the directory is private to its owner."
        return NotAllowed("%s cannot be read: permission denied" % shell_quote(directory), hint)
    hint = "Check the file system: `findmnt --target=%s`." % shell_quote(directory)
    return CannotConnect("failed", "%s: %s" % (shell_quote(directory), exc.strerror or exc), hint)


def _read(options: Options, deadline: Deadline) -> Part:
    try:
        return _bounded.bounded(_parts, deadline.remaining(), options, deadline)
    except _bounded.Hung as exc:
        raise OutOfTime(0.0, "the manifests of the backups") from exc


def _parts(options: Options, deadline: Deadline) -> Part:
    path = options["directory"]
    store = Store(path)
    exists = os.path.isdir(path)
    wanted = [("postgresql", name) for name in options["databases"]]
    names: list[tuple[str, str]] = []
    if exists:
        # A directory of another user raises PermissionError here.
        entries = set(os.listdir(path))
        exists = not entries or bool(entries - APART)
        names = store.names()
    listed = wanted + [each for each in names if each not in wanted]
    space = _space.free(path)
    targets = []
    for kind, name in listed[: options["top"]]:
        deadline.step()
        targets.append(_target(store, kind, name, (kind, name) in wanted, space, deadline))
    return {
        "exists": exists,
        "directory": {
            "path": printable(path),
            "free_bytes": space.bytes,
            "total_bytes": space.total_bytes,
            "device": space.device,
            "shares_with": _shared(options["data_directories"], space.device) if exists else None,
        },
        "targets": targets,
        "targets_total": len(listed),
    }


def _shared(directories: list[str], device: int) -> str | None:
    """Return the first directory of data on this file system, or null."""
    for path in directories:
        with contextlib.suppress(OSError):
            if os.stat(path).st_dev == device:
                return printable(path)
    return None


def _target(store: Store, kind: str, name: str, wanted: bool, space: _space.Space, deadline: Deadline) -> Part:
    artefacts, left, now = store.list(kind, name), store.incomplete(kind, name), time.time()
    usable = [each for each in artefacts if each.manifest]
    newest = usable[0] if usable else None
    damage = verify_files(newest.path, newest.manifest, deadline, checksums=False) if newest and newest.manifest else []
    proven = next((each for each in usable if each.proven), None)
    last = max((each for each in usable if each.proof), key=_proof_time, default=None)
    needed = _needed(newest) if newest else None
    unreadable = [each for each in artefacts if each.manifest is None]
    return {
        "kind": kind,
        "name": printable(name),
        "path": printable(store.folder(kind, name)),
        "wanted": wanted,
        "total": len(usable),
        "bytes": sum(each.bytes or 0 for each in usable),
        "newest": _described(newest, now) if newest else None,
        "oldest_age": max(0.0, now - _finished(usable[-1])) if usable else None,
        "unreadable": [_unreadable(each) for each in unreadable[:DAMAGE_MOST]],
        "unreadable_total": len(unreadable),
        "damage": [printable(cut(text, 200)) for text in damage[:DAMAGE_MOST]],
        "exposed": _exposed(store, newest) if newest else None,
        "leftovers": [_leftover(each) for each in left[:DAMAGE_MOST]],
        "leftovers_total": sum(each.active is False for each in left),
        "running": any(each.active for each in left) if all(each.active is not None for each in left) else None,
        "proven_age": max(0.0, now - _proof_time(proven)) if proven else None,
        "last_proof": _proof(last, now) if last else None,
        "needed_bytes": needed,
        "fits": None if needed is None else needed <= space.bytes,
    }


def _described(artefact: Artefact, now: float) -> Part | None:
    manifest = artefact.manifest
    if not manifest:
        return None
    return {
        "stamp": artefact.stamp,
        "path": printable(artefact.path),
        "age": max(0.0, now - manifest["finished"]),
        "bytes": artefact.bytes,
        "files": len(manifest["files"]),
        "seconds": max(0.0, manifest["finished"] - manifest["started"]),
        "server_version": printable(cut(manifest["server"]["version"], 50)),
        "encryption": manifest["encryption"],
    }


def _finished(artefact: Artefact) -> float:
    return artefact.manifest["finished"] if artefact.manifest else artefact.time


def _proof_time(artefact: Artefact) -> float:
    return artefact.proof["finished"] if artefact.proof else 0.0


def _proof(artefact: Artefact, now: float) -> Part | None:
    proof = artefact.proof
    if not proof:
        return None
    return {
        "stamp": artefact.stamp,
        "path": printable(artefact.path),
        "result": proof["result"],
        "age": max(0.0, now - proof["finished"]),
        "differences_total": proof["differences_total"],
        "reason": printable(cut(" ".join(proof["reason"].split()), 300)) if proof["reason"] else None,
    }


def _unreadable(artefact: Artefact) -> Part:
    return {"path": printable(artefact.path), "problem": printable(cut(artefact.problem or "", 300))}


def _leftover(leftover: Leftover) -> Part:
    return {"path": printable(leftover.path), "active": leftover.active}


def _needed(newest: Artefact) -> int | None:
    """Return the bytes that the next backup is expected to take. The old ones are removed only afterwards."""
    return _space.needed(None, newest.bytes)


def _exposed(store: Store, artefact: Artefact) -> str | None:
    """Return the first file of a backup that users other than its owner can read, or null.

    Each directory on the way must admit them, too.
    """
    folders = [store.directory]
    for part in os.path.relpath(artefact.path, store.directory).split("/"):
        folders.append(os.path.join(folders[-1], part))
    for names, read in ((stat.S_IXOTH, stat.S_IROTH), (stat.S_IXGRP, stat.S_IRGRP)):
        infos = [os.stat(folder) for folder in folders]
        if not all(info.st_mode & names and (names == stat.S_IXOTH or info.st_gid) for info in infos):
            continue
        for folder, _folders, files in os.walk(artefact.path):
            if not os.stat(folder).st_mode & names:
                continue
            for name in files:
                path = os.path.join(folder, name)
                if os.lstat(path).st_mode & read:
                    return printable(path)
    return None
