# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What backup, proof and restore of Redis and RabbitMQ have in common. Private to this collection."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _confirmed, _encryption, _operations
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import (
    SCHEMA_VERSION,
    BackupFile,
    Difference,
    Kind,
    Manifest,
    Proof,
    SourceServer,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._version import COLLECTION_VERSION
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

DIRECTORY = "/var/backups/tracktion"
# Differences that a proof and a result list; their total is beside them.
MOST_DIFFERENCES = 50

# Options of all modules that work on backups of a broker.
STORE_SPEC: dict[str, Any] = {
    "directory": {"type": "path", "default": DIRECTORY},
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    **_operations.SPEC,
    "progress": {"type": "path"},
}
KEEP_SPEC: dict[str, Any] = {
    "keep": {"type": "int", "default": 7},
    "max_age_days": {"type": "float", "default": 0.0},
    "encryption_recipients": {"type": "list", "elements": "str", "default": []},
}
CONFIRM_SPEC: dict[str, Any] = {"confirm": {"type": "list", "elements": "str", "default": []}}
PROOF_SPEC: dict[str, Any] = {
    "stamp": {"type": "str"},
    "image": {"type": "str"},
    "encryption_identity": {"type": "path"},
}


class Proven(NamedTuple):
    """The outcome of loading a backup and comparing it. ``reason`` is null unless it could not be loaded."""

    server_version: str | None
    differences: Sequence[Difference]
    reason: str | None = None


def operation(options: Options, kind: str, target: str) -> _operations.Operation:
    """Return the operation that excludes others on this host. Raises Busy, CannotKeep."""
    return _operations.begin(
        options["state_dir"], kind, target, options["run"], options["operation"], options["broken"]
    )


def check_operation(options: Options, kind: str, target: str) -> None:
    """Raise Busy if another operation excludes this one; nothing is written, for check mode."""
    _operations.check(options["state_dir"], kind, target, options["operation"], options["broken"])


def command(kind: str, name: str, **variables: str) -> str:
    """Return the command that runs the playbook for one product, with these variables."""
    return _confirmed.command(name, recovery_restore_products=[kind], **variables)


def require_confirmation(options: Options, kind: str, does: str) -> None:
    """Raise NotConfirmed unless the name is among those of ``confirm``."""
    _confirmed.require_confirmation(options, options["name"], does, recovery_restore_products=[kind])


def audited(options: Options, kind: str, does: str, run: str) -> contextlib.AbstractContextManager[dict[str, Any]]:
    """Log an action to the audit log of the host, before and after (``_confirmed.audited``)."""
    return _confirmed.audited(options, options["name"], "%s:%s" % (kind, options["name"]), does, run)


def readable(artefact: Artefact, work: str, options: Options, deadline: Deadline) -> str:
    """Return the directory with the files of a backup; if it is encrypted, decrypted below ``work``.

    Raises BadOption, ProgramFailed, OutOfTime.
    """
    found = artefact.manifest
    program = found["encryption"] if found else None
    if not found or not program:
        return artefact.path
    if program == "age" and not options["encryption_identity"]:
        raise BadOption("encryption_identity: the backup is encrypted for age", "Set `encryption_identity`.")
    folder = os.path.join(work, "decrypted")
    os.mkdir(folder, 0o700)
    names = [each["path"] for each in found["files"]]
    _encryption.decrypt_below(artefact.path, folder, program, options["encryption_identity"], deadline, names)
    return folder


def manifest(
    kind: Kind,
    name: str,
    stamp: str,
    started: float,
    server: SourceServer,
    tool: str | None,
    source_bytes: int | None,
    files: list[BackupFile],
    contents: Mapping[str, Any],
    encryption: str | None = None,
) -> Manifest:
    """Return the manifest of a backup that is complete now."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "name": name,
        "stamp": stamp,
        "host": platform.node(),
        "started": round(started, 3),
        "finished": round(time.time(), 3),
        "server": server,
        "tool": tool,
        "collection_version": COLLECTION_VERSION,
        "source_bytes": source_bytes,
        "files": files,
        "encryption": encryption,
        "contents": dict(contents),
    }


def proof(artefact: Artefact, started: float, outcome: Proven) -> Proof:
    """Return the proof of an outcome."""
    return {
        "schema_version": SCHEMA_VERSION,
        "result": "failed" if outcome.reason else ("different" if outcome.differences else "proven"),
        "started": round(started, 3),
        "finished": round(time.time(), 3),
        "server_version": outcome.server_version,
        "manifest_sha256": str(artefact.manifest_sha256),
        "differences": list(outcome.differences[:MOST_DIFFERENCES]),
        "differences_total": len(outcome.differences),
        "reason": cut(outcome.reason, 1000),
    }


def failure_of(artefact: Artefact, outcome: Proven) -> Part:
    """Return ``failed`` and ``msg`` for a backup that is not proven; nothing for one that is."""
    problem = outcome.reason or shown_differences(outcome.differences)
    if not problem:
        return {}
    text = "The backup %s is not proven: %s. Fix: Run another backup: `ansible-playbook tracktion.ops.backup`"
    return {"failed": True, "msg": text % (artefact.stamp, problem)}


def shown_differences(differences: Sequence[Difference], most: int = 5) -> str:
    """Return the first differences as text: ``databases.0.keys: 12 expected, 11 found``."""
    texts = ["%s: %s expected, %s found" % (each["item"], each["expected"], each["found"]) for each in differences]
    more = len(texts) - most
    return cut("; ".join(texts[:most]), 600) + ("; and %d more" % more if more > 0 else "")


def summary(artefact: Artefact) -> Part:
    """Return what a result says about a backup."""
    found = artefact.manifest
    return {
        "name": artefact.name,
        "path": artefact.path,
        "stamp": artefact.stamp,
        "bytes": sum(each["bytes"] for each in found["files"]) if found else None,
        "finished": found["finished"] if found else None,
        "server_version": found["server"]["version"] if found else None,
    }


def removed(artefacts: Iterable[Artefact]) -> list[str]:
    """Return the paths of backups that were removed."""
    return [each.path for each in artefacts]


def version_number(version: str | None) -> int | None:
    """Return a version as one number: 8.0.2 -> 80002; null if it is none."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version or "")
    return int(found.group(1)) * 10000 + int(found.group(2)) * 100 + int(found.group(3) or 0) if found else None
