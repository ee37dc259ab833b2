# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What backup, proof and restore of Redis and RabbitMQ have in common. Private to this collection."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Iterable, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _confirmed,
    _encryption,
    _operations,
    _proofs,
    _scratch_directory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._proofs import Outcome
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import (
    Difference,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

DIRECTORY = "/var/backups/tracktion"

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


def operation(options: Options, kind: str, target: str) -> _operations.Operation:
    """Return the operation that excludes others on this host. Raises Busy, CannotKeep."""
    begun = _operations.begin(
        options["state_dir"], kind, target, options["run"], options["operation"], options["broken"]
    )
    _scratch_directory.sweep_if_possible(options["directory"])
    return begun


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

    Raises BadOption, DamagedBackup, CannotDecrypt, NoSpace, OutOfTime, OSError.
    """
    found = artefact.manifest
    program = found["encryption"] if found else None
    if not found or not program:
        return artefact.path
    folder = os.path.join(work, "decrypted")
    os.mkdir(folder, 0o700)
    names = [each["path"] for each in found["files"]]
    _encryption.decrypt_below(artefact.path, folder, program, options["encryption_identity"], deadline, names)
    return folder


def proven(store: Store, artefact: Artefact, started: float, outcome: Outcome) -> Part:
    """Write the proof of an outcome. Return what a result says about it; ``failed`` and ``msg`` if it is not proven."""
    made = _proofs.write(store, artefact, started, outcome)
    found: Part = {name: made[name] for name in ("result", "differences", "differences_total")}
    found["seconds"] = round(made["finished"] - started, 3)
    problem = outcome.reason or shown_differences(outcome.differences)
    if problem:
        text = "The backup %s is not proven: %s. Fix: Run another backup: `ansible-playbook tracktion.ops.backup`"
        found.update(failed=True, msg=text % (artefact.stamp, problem))
    return found


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
