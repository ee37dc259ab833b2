# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves a backup of PostgreSQL: restores it into a scratch database and compares that. Private to this collection."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import QueryFailed
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _chosen,
    _operations,
    _pg_archive,
    _pg_clients,
    _pg_databases,
    _pg_restore_checks,
    _pg_restoring,
    _pg_scratch,
    _proofs,
    _scratch_container,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Artefact, Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_databases import Session
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._run import ProgramFailed
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

SPEC: dict[str, Any] = dict(
    _pg_restoring.SPEC, scratch={"type": "str", "default": "auto", "choices": ["auto", "container", "server"]}
)
del SPEC["source"]
# A scratch database has neither the tablespaces of the server nor subscriptions, which would use the original's slots.
IGNORED = ("tablespaces", "subscriptions")
MESSAGES = {
    "proven": "the backup %s of %s is proven: a restored copy has the contents of its manifest",
    "different": "a restored copy of the backup %s of %s differs from its manifest: %s",
    "failed": "the backup %s of %s cannot be restored: %s",
}


class Scratch:
    """Where the backup is restored: a container of ``image``, or the server if ``image`` is null."""

    def __init__(self, image: str | None, container: str | None) -> None:
        self.image = image
        self.description = (
            "a container without a network of the image of %s" % container if image else "a database of the server"
        )


def prove(options: Options, check_mode: bool) -> dict[str, Any]:
    """Return the result of the module. Raises Failure if nothing could be found out about the backup."""
    options = dict(options, source="")
    deadline = Deadline(options["deadline"])
    store = Store(options["directory"])
    artefact, unreadable = _pg_restoring.chosen(store, options)
    manifest: Mapping[str, Any] = artefact.manifest or {}
    with store.in_use(artefact), Session(options, deadline) as session:
        found = _pg_restore_checks.facts(session, options["database"])
        scratch = _scratch(options, deadline)
        _require(found, manifest, artefact, options, scratch)
        space = _space(found, manifest, options, scratch, deadline)
        result = {
            "changed": True,
            "database": options["database"],
            "stamp": artefact.stamp,
            "path": artefact.path,
            "scratch": scratch.description,
            "space": space,
            "unreadable": unreadable,
            "result": "planned",
            "differences": [],
            "differences_total": 0,
            "reason": None,
            "seconds": None,
            "removed": [],
        }
        if check_mode:
            text = "would restore the backup %s of %s into %s and compare it with its manifest"
            return dict(result, msg=text % (artefact.stamp, options["database"], scratch.description))
        target = "postgresql:%s" % options["database"]
        how = {"join": options["operation"], "broken": options["broken"]}
        with _operations.begin(options["state_dir"], "proof", target, options["run"], **how), _pg_restoring.progressing(
            options
        ) as progress:
            return _proved(store, artefact, session, scratch, result, options, progress)


def _proved(
    store: Store,
    artefact: Artefact,
    session: Session,
    scratch: Scratch,
    result: dict[str, Any],
    options: Options,
    progress: Progress,
) -> dict[str, Any]:
    began = time.time()
    manifest: Any = artefact.manifest
    result["removed"] = _pg_databases.remove_leftovers(session, _pg_databases.SCRATCH)
    listed: list[Any] = []
    total, reason = 0, None
    try:
        progress.step("verify")
        _chosen.require_intact(store, artefact, session.deadline)
        listed, total = _restored(artefact, manifest, session, scratch, options, progress)
    except (_chosen.DamagedBackup, _pg_archive.NoArchive, ProgramFailed) as exc:
        if isinstance(exc, ProgramFailed) and _pg_restoring.OF_THE_SERVER.search(str(exc)):
            raise
        reason = str(exc)
    version = session.rows("SELECT current_setting('server_version') AS version")[0]["version"]
    proof = _proofs.write(store, artefact, began, _proofs.Outcome(version, listed, reason, total))
    words = [artefact.stamp, options["database"]]
    if reason:
        words.append(reason)
    elif total:
        words.append(_pg_restoring.shown(listed, total))
    found = {name: proof[name] for name in ("result", "differences", "differences_total", "reason")}
    message = MESSAGES[proof["result"]] % tuple(words)
    failed = proof["result"] != "proven"
    return dict(result, **found, seconds=round(proof["finished"] - began, 3), msg=message, failed=failed)


def _restored(
    artefact: Artefact,
    manifest: Mapping[str, Any],
    session: Session,
    scratch: Scratch,
    options: Options,
    progress: Progress,
) -> tuple[list[Any], int]:
    """Return the differences of a restored copy, and their number."""
    deadline = session.deadline
    identity = options["encryption_identity"] or None
    with _pg_archive.opened(artefact.path, manifest, identity, options["directory"], deadline) as archive:
        if scratch.image is None:
            return _in_server(archive, manifest, session, options, progress)
        major = manifest["contents"]["version_num"] // 10000
        api = _scratch_container.engine(options, deadline)
        server = _pg_scratch.server(api, scratch.image, major, manifest["contents"], archive, deadline)
        with server as running, Session(running.options, deadline) as inner:
            name = _pg_databases.create(
                inner, _pg_databases.SCRATCH, manifest["contents"], {"for": options["database"]}
            )
            progress.step("restore", manifest["source_bytes"])
            running.restore(name, deadline, ["--jobs", str(options["jobs"])])
            return _compared(inner, name, manifest, options, progress)


def _in_server(
    archive: str, manifest: Mapping[str, Any], session: Session, options: Options, progress: Progress
) -> tuple[list[Any], int]:
    version = session.rows(_pg_restore_checks.SERVER)[0]["version_num"]
    with _pg_clients.find(options, version, archive.rpartition("/")[0], session.deadline) as clients:
        _pg_archive.require_fixed(clients.version_num, clients.source, options["accept_cve"])
        name = _pg_databases.create(session, _pg_databases.SCRATCH, manifest["contents"], {"for": options["database"]})
        try:
            progress.step("restore", manifest["source_bytes"])
            words = _pg_archive.arguments(archive, name, options["jobs"], tablespaces=False)
            watch = _pg_restoring.watching(session, name, progress)
            clients.run("pg_restore", words, session.deadline, database=name, watch=watch)
            return _compared(session, name, manifest, options, progress)
        finally:
            _drop(session, name)


def _drop(session: Session, name: str) -> None:
    """Drop the scratch database, after the deadline too. What stays is removed by the next run."""
    session.deadline = Deadline(60)
    with contextlib.suppress(QueryFailed, Failure):
        _pg_databases.drop(session, name)


def _compared(
    session: Session, name: str, manifest: Mapping[str, Any], options: Options, progress: Progress
) -> tuple[list[Any], int]:
    _pg_restoring.completed(session, name, manifest, progress, analyze=False)
    progress.step("compare")
    left, total, _taken = _pg_restoring.compared(session, name, manifest, IGNORED, options["accept_differences"])
    return left, total


def _require(
    found: _pg_restore_checks.Facts, manifest: Mapping[str, Any], artefact: Artefact, options: Options, scratch: Scratch
) -> None:
    what = "the backup %s of %s cannot be restored into %s" % (artefact.stamp, options["database"], scratch.description)
    if scratch.image:
        return
    problems = _pg_restore_checks.of_server(found)
    problems += [
        problem
        for problem in _pg_restore_checks.of_backup(found, manifest, artefact.path, options)
        if not problem.reason.startswith("tablespaces")
    ]
    _pg_restore_checks.require(problems, what)


def _space(
    found: _pg_restore_checks.Facts,
    manifest: Mapping[str, Any],
    options: Options,
    scratch: Scratch,
    deadline: Deadline,
) -> dict[str, Any]:
    wanted = _pg_restore_checks.needed(manifest, found.max_wal_bytes)
    if scratch.image:
        api = _scratch_container.engine(options, deadline)
        return _pg_restore_checks.require_space(api.read("info").get("DockerRootDir"), wanted)
    return _pg_restore_checks.require_space(_pg_restore_checks.data_path(found, options, deadline), wanted)


def _scratch(options: Options, deadline: Deadline) -> Scratch:
    """Return where to restore. Raises NoScratch if a container is required and not possible."""
    if options["scratch"] == "server":
        return Scratch(None, None)
    reason = "no container of this host serves the address of the server"
    try:
        server = _pg_clients.server_container(options, deadline)
        if server:
            return Scratch(server.image, server.name)
    except CannotConnect as exc:
        reason = str(exc)
    if options["scratch"] == "container":
        hint = "Set `scratch: server` to restore into a scratch database of the server instead."
        raise _scratch_container.NoScratch("there is no image to run a scratch server of: %s" % reason, hint)
    return Scratch(None, None)
