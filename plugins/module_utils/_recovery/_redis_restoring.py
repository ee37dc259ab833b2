# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restores a proven backup into a Redis server, undoes a restore, or drops what it has replaced.

Private to this collection.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _broker_backups,
    _chosen,
    _proofs,
    _redis_contents,
    _redis_proof,
    _redis_restore,
    _redis_scratch,
    _redis_snapshot,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._chosen import DamagedBackup
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._proofs import Outcome
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError, connect
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

KIND = _redis_proof.KIND
RESTORE_SPEC: dict[str, Any] = dict(
    _redis_proof.PROVE_SPEC,
    action={"type": "str", "choices": ["restore", "undo", "drop"], "default": "restore"},
    restore_id={"type": "str"},
    databases={"type": "list", "elements": "int", "default": []},
    **_broker_backups.CONFIRM_SPEC,
)
# The newest restore that can be undone.
LAST = "last"


def restore(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.redis_restore_backup) returns. Raises Failure."""
    if not check_mode and options["action"] != "drop":
        _broker_backups.require_confirmation(options, KIND, "replaces the data of %s" % options["name"])
    client = connect(options)
    target = "%s:%s" % (KIND, options["name"])
    work = _from_backup if options["action"] == "restore" else _earlier
    if check_mode:
        _broker_backups.check_operation(options, "restore", target)
        return _explained(work, options, client, None)
    with _broker_backups.operation(options, "restore", target) as operation:
        return _explained(work, options, client, operation.id)


def _explained(
    work: Callable[[Options, Client, str | None], Part], options: Options, client: Client, run: str | None
) -> Part:
    """Return what ``work`` returns. ``run`` is null in check mode."""
    try:
        return work(options, client, run)
    except ReplyError as exc:
        raise _redis_restore.NotRestored("the server rejects a command: %s" % exc, client.hint(exc, "RESTORE"))


def _earlier(options: Options, client: Client, run: str | None) -> Part:
    """Undo a restore, or drop what it has replaced."""
    name, undo, wanted = options["name"], options["action"] == "undo", options["restore_id"] or ""
    if wanted == LAST:
        newest = next(iter(_redis_restore.previous(client)), None)
        wanted = newest.restore if newest else ""
        if undo and newest and newest.backup.startswith(_redis_restore.UNDO_OF):
            # A person who runs an interrupted undo again must not get the restored data back.
            raise _redis_restore.NotRestored(
                "the last restore is undone already",
                "To exchange the data once more, name it: `%s`."
                % _broker_backups.command(KIND, name, recovery_undo=newest.restore),
            )
    chosen = _redis_restore.of_restore(client, wanted)
    result: Part = {
        "changed": True,
        "name": name,
        "result": "planned" if run is None else "done",
        "databases": [{"database": each.database, "held_in": each.held_in, "keys": each.keys} for each in chosen],
        "restore_id": None,
        "undo": None,
    }
    numbers = ", ".join(str(each.database) for each in chosen)
    if not undo:
        numbers = ", ".join(str(each.held_in) for each in chosen)
        result["msg"] = "%s databases %s, which hold what the restore %s has replaced" % (
            "would empty" if run is None else "emptied",
            numbers,
            wanted,
        )
        if run is not None:
            with _broker_backups.audited(options, KIND, "drop what the restore %s has replaced" % wanted, run):
                _redis_restore.drop(client, chosen)
        return result
    if run is None:
        return dict(result, msg="would exchange databases %s with what the restore %s has replaced" % (numbers, wanted))
    with _broker_backups.audited(options, KIND, "undo the restore %s" % wanted, run) as audit:
        again = _redis_restore.undo(client, chosen)
        audit.update(restore_id=again)
    return dict(
        result,
        restore_id=again,
        undo=_broker_backups.command(KIND, name, recovery_undo=again),
        persisted=_persisted(client, Deadline(options["deadline"])),
        msg="exchanged databases %s with what the restore %s had replaced" % (numbers, wanted),
    )


def _from_backup(options: Options, client: Client, run: str | None) -> Part:
    """Restore a backup."""
    deadline = Deadline(options["deadline"])
    client.deadline = deadline
    store = Store(options["directory"])
    artefact = _chosen.choose(store, "redis", options["name"], options["stamp"])[0]
    contents = artefact.contents
    _redis_restore.check_server(client, contents)
    plan = _redis_restore.plan(client, contents, options["databases"])
    before = _redis_contents.keyspace(client)
    result: Part = dict(
        _broker_backups.summary(artefact),
        changed=bool(plan.spares),
        result="planned" if run is None else "done",
        databases=[_row(contents, before, database, spare) for database, spare in plan.spares.items()],
        needed_bytes=plan.needed_bytes,
        free_bytes=plan.free_bytes,
        not_restored=_not_restored(contents, _redis_contents.of_server(client)),
        restore_id=None,
        undo=None,
    )
    if run is None or not plan.spares:
        return dict(result, msg=_message(result, "would be replaced"))
    progress = Progress(options["progress"])
    with store.in_use(artefact), _redis_proof.loading_of(options, store, client, deadline) as loading:
        started = time.time()
        try:
            with _redis_proof.loaded(store, artefact, loading, options, deadline) as (scratch, outcome):
                _proofs.write(store, artefact, started, outcome)
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
                does = "replace databases %s by the backup %s" % (", ".join(map(str, plan.spares)), artefact.stamp)
                with _broker_backups.audited(options, KIND, does, run) as audit:
                    restored = _redis_restore.exchange(client, plan.spares, artefact.stamp, functions)
                    audit.update(restore_id=restored)
        except _redis_scratch.NotLoaded as exc:
            _proofs.write(store, artefact, started, Outcome(None, [], str(exc)))
            raise
    progress.end()
    undo = _broker_backups.command(KIND, options["name"], recovery_undo=restored)
    return dict(
        result,
        sent_bytes=sent,
        restore_id=restored,
        undo=undo,
        msg="%s. Undo: `%s`" % (_message(result, "replaced"), undo),
        seconds=round(time.time() - started, 3),
        persisted=_persisted(client, deadline),
    )


def _message(result: Part, verb: str) -> str:
    """Return the result for a person."""
    if not result["databases"]:
        return "neither the server nor the backup has keys"
    texts = [
        "database %(database)d: %(keys)d keys {verb} by %(backup_keys)d, kept in database %(held_in)d".format(verb=verb)
        % each
        for each in result["databases"]
    ]
    return "; ".join([*texts, *("not restored: %s" % text for text in result["not_restored"])])


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
