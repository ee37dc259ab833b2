# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves a Redis backup, and restores it after such a proof. Private to this collection."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Iterator, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _broker_backups,
    _redis_backup,
    _redis_contents,
    _redis_restore,
    _redis_scratch,
    _redis_snapshot,
    _scratch_container,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._broker_backups import DamagedBackup, Proven
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact, cannot_store
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError, connect
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

KIND, FILE = _redis_backup.KIND, _redis_backup.FILE
PROVE_SPEC: dict[str, Any] = dict(_redis_backup.COMMON, **_broker_backups.PROOF_SPEC)
RESTORE_SPEC: dict[str, Any] = dict(
    PROVE_SPEC,
    action={"type": "str", "choices": ["restore", "undo", "drop"], "default": "restore"},
    restore_id={"type": "str"},
    databases={"type": "list", "elements": "int", "default": []},
)


class Loading(NamedTuple):
    """What loads a backup: the engine, what runs the scratch server, and a private directory."""

    api: DockerApi
    source: _redis_scratch.Source
    work: str


@contextlib.contextmanager
def _loading(options: Options, store: Store, client: Client | None, deadline: Deadline) -> Iterator[Loading]:
    """Yield what loads a backup. Raises NoScratch, CannotConnect, CannotStore."""
    api = _scratch_container.engine(options, deadline)
    pid = None
    if client:
        with contextlib.suppress(ReplyError):
            pid = _redis_process.local_pid(client, _redis_snapshot.info(client, "server"))
    source = _redis_scratch.source(options, pid, api)
    if source.image:
        api.negotiate()
        _scratch_container.sweep(api)
    try:
        with _scratch_container.directory(store.directory) as work:
            yield Loading(api, source, work)
    except OSError as exc:
        raise cannot_store(exc, store.directory)


def prove(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.redis_prove_backup) returns. Raises Failure."""
    deadline = Deadline(options["deadline"])
    store = Store(options["directory"])
    name, target = options["name"], "%s:%s" % (KIND, options["name"])
    artefact = _broker_backups.choose(store, "redis", name, options["stamp"])
    result = dict(_broker_backups.summary(artefact), changed=True)
    # A proof needs no server: it is asked only which image to use.
    try:
        client = None if options["image"] else connect(options)
    except CannotConnect:
        client = None
    if check_mode:
        _broker_backups.check_operation(options, "proof", target)
        _redis_scratch.require_memory(_contents(artefact).get("used_memory_bytes"))
        return dict(result, result="planned", differences=[], differences_total=0)
    started = time.time()
    with _broker_backups.operation(options, "proof", target), store.in_use(artefact):
        with _loading(options, store, client, deadline) as loading:
            outcome = _outcome(store, artefact, loading, options, deadline)
        proof = _broker_backups.proof(artefact, started, outcome)
        store.write_proof(artefact, proof)
    result.update(
        scratch=loading.source.name,
        result=proof["result"],
        differences=proof["differences"],
        differences_total=proof["differences_total"],
        seconds=round(proof["finished"] - started, 3),
    )
    return dict(result, **_broker_backups.failure_of(artefact, outcome))


def _outcome(store: Store, artefact: Artefact, loading: Loading, options: Options, deadline: Deadline) -> Proven:
    """Return the outcome of loading a backup. Raises NoScratch and CannotConnect, which prove nothing about it."""
    try:
        with _loaded(store, artefact, loading, options, deadline) as (_scratch, outcome):
            return outcome
    except (DamagedBackup, _redis_scratch.NotLoaded) as exc:
        return Proven(None, [], str(exc))


@contextlib.contextmanager
def _loaded(
    store: Store, artefact: Artefact, loading: Loading, options: Options, deadline: Deadline
) -> Iterator[tuple[Client, Proven]]:
    """Yield the client of a scratch server that has loaded the backup, and how it differs from the manifest.

    Raises DamagedBackup, NotLoaded, NoScratch, CannotConnect.
    """
    _broker_backups.check_files(store, artefact, deadline)
    folder = _broker_backups.readable(artefact, loading.work, options, deadline)
    path, contents = os.path.join(folder, FILE), _contents(artefact)
    problem = _redis_scratch.check(loading.source, loading.api, path, deadline)
    if problem:
        raise _redis_scratch.NotLoaded(problem)
    with _redis_scratch.loaded(loading.source, loading.api, path, contents, loading.work, options) as scratch:
        server = _redis_contents.of_server(scratch)
        differences = _redis_contents.compare(contents, _redis_contents.keyspace(scratch), server["functions"])
        yield scratch, Proven(server["version"], differences)


def _contents(artefact: Artefact) -> Mapping[str, Any]:
    return artefact.manifest["contents"] if artefact.manifest else {}


def restore(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.redis_restore_backup) returns. Raises Failure."""
    client = connect(options)
    target = "%s:%s" % (KIND, options["name"])
    if check_mode:
        _broker_backups.check_operation(options, "restore", target)
        return _restore(options, client, True)
    with _broker_backups.operation(options, "restore", target):
        return _restore(options, client, False)


def _restore(options: Options, client: Client, check_mode: bool) -> Part:
    try:
        if options["action"] != "restore":
            return _earlier(options, client, check_mode)
        return _from_backup(options, client, check_mode)
    except ReplyError as exc:
        raise _redis_restore.NotRestored("the server rejects a command: %s" % exc, client.hint(exc, "RESTORE"))


def _earlier(options: Options, client: Client, check_mode: bool) -> Part:
    """Undo a restore, or drop what it has replaced."""
    undo = options["action"] == "undo"
    chosen = _redis_restore.of_restore(client, options["restore_id"] or "")
    result: Part = {
        "changed": True,
        "name": options["name"],
        "result": "planned" if check_mode else "done",
        "databases": [{"database": each.database, "held_in": each.held_in, "keys": each.keys} for each in chosen],
        "restore_id": None,
        "undo": None,
    }
    if check_mode:
        return result
    if not undo:
        _redis_restore.drop(client, chosen)
        return result
    again = _redis_restore.undo(client, chosen)
    return dict(result, restore_id=again, undo=again, persisted=_persisted(client, Deadline(options["deadline"])))


def _from_backup(options: Options, client: Client, check_mode: bool) -> Part:
    deadline = Deadline(options["deadline"])
    client.deadline = deadline
    store = Store(options["directory"])
    artefact = _broker_backups.choose(store, "redis", options["name"], options["stamp"])
    contents = _contents(artefact)
    _redis_restore.check_server(client, contents)
    plan = _redis_restore.plan(client, contents, options["databases"])
    before = _redis_contents.keyspace(client)
    result: Part = dict(
        _broker_backups.summary(artefact),
        changed=bool(plan.spares),
        result="planned" if check_mode else "done",
        databases=[_row(contents, before, database, spare) for database, spare in plan.spares.items()],
        needed_bytes=plan.needed_bytes,
        free_bytes=plan.free_bytes,
        not_restored=_not_restored(contents, _redis_contents.of_server(client)),
        restore_id=None,
        undo=None,
    )
    if check_mode or not plan.spares:
        return result
    progress = Progress(options["progress"])
    with store.in_use(artefact), _loading(options, store, client, deadline) as loading:
        started = time.time()
        try:
            with _loaded(store, artefact, loading, options, deadline) as (scratch, outcome):
                store.write_proof(artefact, _broker_backups.proof(artefact, started, outcome))
                if outcome.differences:
                    raise DamagedBackup(
                        "the backup %s is not proven: %s"
                        % (artefact.stamp, _broker_backups.shown_differences(outcome.differences)),
                        "Set `stamp` to another backup: `ls %s`" % shell_quote(os.path.dirname(artefact.path)),
                    )
                functions = None
                if contents.get("functions") is not None and not options["databases"]:
                    functions = _functions(scratch)
                sent = _redis_restore.fill(client, scratch, plan, artefact.stamp, contents, deadline, progress)
                restored = _redis_restore.exchange(client, plan.spares, artefact.stamp, functions)
        except _redis_scratch.NotLoaded as exc:
            store.write_proof(artefact, _broker_backups.proof(artefact, started, Proven(None, [], str(exc))))
            raise
    progress.end()
    return dict(
        result,
        sent_bytes=sent,
        restore_id=restored,
        undo=restored,
        seconds=round(time.time() - started, 3),
        persisted=_persisted(client, deadline),
    )


def _row(contents: Mapping[str, Any], before: Mapping[str, Any], database: int, spare: int) -> Part:
    live, stored = before.get(str(database)) or {}, contents["databases"].get(str(database)) or {}
    return {
        "database": database,
        "held_in": spare,
        "keys": live.get("keys", 0),
        "backup_keys": stored.get("keys", 0),
        "backup_expires": stored.get("expires", 0),
    }


def _functions(scratch: Client) -> bytes | None:
    try:
        return scratch.ask("FUNCTION", "DUMP")
    except ReplyError:
        # Redis 6 has none.
        return None


def _not_restored(contents: Mapping[str, Any], server: _redis_contents.Server) -> list[str]:
    """Return what the server lacks that is not in an RDB file: users, settings."""
    found = []
    now = {each["name"]: each for each in server["users"] or []}
    for user in contents.get("users") or []:
        if server["users"] is not None and user["name"] not in now:
            found.append("ACL user %s is missing" % user["name"])
        elif server["users"] is not None and now[user["name"]]["rules_sha256"] != user["rules_sha256"]:
            found.append("ACL user %s has other rules" % user["name"])
    for name, value in (contents.get("settings") or {}).items():
        if server["settings"] and server["settings"].get(name) != value:
            found.append("%s is %r, it was %r" % (name, server["settings"].get(name), value))
    return found


def _persisted(client: Client, deadline: Deadline) -> str:
    """Let a server that has save points save; return ``saved``, ``aof``, ``off``, or why it failed."""
    client.deadline = deadline
    try:
        settings = {name: client.ask("CONFIG", "GET", name)[1] for name in ("save", "appendonly")}
        if settings["appendonly"] == b"yes":
            return "aof"
        if not settings["save"]:
            return "off"
        _redis_snapshot.start_save(client, deadline)
        return "saved"
    except ReplyError as exc:
        return str(exc)
    except Failure as exc:
        return str(exc)
