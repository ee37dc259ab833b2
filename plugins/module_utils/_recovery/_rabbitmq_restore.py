# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restores definitions, and on request messages, into a running RabbitMQ broker. Private to this collection.

Only what the broker lacks is imported, so nothing that it has is changed or deleted. What it has with other properties
is a conflict, which is named before anything is changed. Afterwards an export is compared item by item: an import
answers 204 whatever it did. A run after one that was killed imports what is still missing.
"""

from __future__ import annotations

import os
import time
from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import Management, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_amqp import Amqp, QueueError
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _broker_backups,
    _chosen,
    _proofs,
    _rabbitmq_backup,
    _rabbitmq_definitions,
    _rabbitmq_proof,
    _rabbitmq_queue_copies,
    _rabbitmq_undo,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._chosen import DamagedBackup
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._rabbitmq_definitions import Comparison, Key
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

KIND = _rabbitmq_backup.KIND
RESTORE_SPEC: dict[str, Any] = dict(
    _rabbitmq_proof.PROVE_SPEC,
    keep_existing={"type": "bool", "default": False},
    messages={"type": "bool", "default": False},
    action={"type": "str", "choices": ["restore", "undo"], "default": "restore"},
    restore_id={"type": "str"},
    **_broker_backups.CONFIRM_SPEC,
)
MOST_NAMED = 50
# Progress of the messages: one file per backup and queue in the state directory.
PROGRESS = "recovery-messages-%s-%s.json"


class NotRestored(Failure):
    """The backup was not restored, or not completely. The message says how far it got."""

    kind = "not_restored"


def restore(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.rabbitmq_restore_backup) returns. Raises Failure."""
    if not check_mode:
        _broker_backups.require_confirmation(options, KIND, "changes the broker of %s" % options["name"])
    deadline = Deadline(options["deadline"])
    target = "%s:%s" % (KIND, options["name"])
    client = _rabbitmq_backup.connect(options, deadline)
    if options["action"] == "undo":
        return _undo(client, options, check_mode)
    store = Store(options["directory"])
    artefact = _chosen.choose(store, "rabbitmq", options["name"], options["stamp"])[0]
    if check_mode:
        _broker_backups.check_operation(options, "restore", target)
        return _restore(store, artefact, client, options, deadline, None)
    with _broker_backups.operation(options, "restore", target) as operation:
        return _restore(store, artefact, client, options, deadline, operation.id)


def _restore(
    store: Store, artefact: Artefact, client: Management, options: Options, deadline: Deadline, run: str | None
) -> Part:
    """Return the result; ``run`` is the id of the operation, null in check mode."""
    contents = artefact.contents
    _check_version(client, contents)
    with store.in_use(artefact), _rabbitmq_proof.opened(store, artefact, options, deadline) as folder:
        _chosen.require_intact(store, artefact, deadline)
        document = _read(folder, contents)
        compared = Comparison(
            _rabbitmq_definitions.items(document),
            _rabbitmq_definitions.items(_rabbitmq_backup.definitions(client, options)),
        )
        users = _without_password(document, compared.missing)
        copies = contents.get("messages") or [] if options["messages"] else []
        result: Part = dict(
            _broker_backups.summary(artefact),
            changed=bool(compared.missing or copies),
            result="planned" if run is None else "done",
            created=_names(compared.missing),
            created_total=len(compared.missing),
            conflicts=_names(compared.different),
            conflicts_total=len(compared.different),
            users_without_password=users,
            messages=[{name: each[name] for name in ("vhost", "queue", "messages")} for each in copies],
            not_restored=_not_restored(contents, client),
            restore_id=None,
            undo=None,
            deleted=[],
            deleted_total=0,
            kept=[],
            kept_total=0,
        )
        _check_conflicts(compared, options)
        progress = _Progress(options["state_dir"], artefact)
        _check_queues(copies, compared, options, deadline, progress)
        if run is None or not result["changed"]:
            return dict(result, msg=_message(result, "would be "))
        started = time.time()
        if compared.missing:
            _prove(store, artefact, options, deadline)
        does = "import %d items of the backup %s, publish messages of %d queues" % (
            len(compared.missing),
            artefact.stamp,
            len(copies),
        )
        with _broker_backups.audited(options, KIND, does, run):
            if compared.missing:
                part = _rabbitmq_definitions.document(document, compared.missing)
                # An operation has a time in its name, and each import one operation.
                made = _rabbitmq_undo.Import(
                    run, options["name"], artefact.stamp, _rabbitmq_definitions.without_secrets(part)
                )
                _rabbitmq_undo.record(options["state_dir"], made)
                result.update(restore_id=run, undo=_broker_backups.command(KIND, options["name"], recovery_undo=run))
                _import(client, part, compared, options)
            for each in copies:
                path = os.path.join(folder, each["path"])
                _rabbitmq_queue_copies.publish(options, path, progress.path(each), each["queue"])
        progress.remove(copies)
        return dict(result, seconds=round(time.time() - started, 3), msg=_message(result, ""))


def _undo(client: Management, options: Options, check_mode: bool) -> Part:
    """Delete what an import has created and nothing uses; see ``_rabbitmq_undo``."""
    target = "%s:%s" % (KIND, options["name"])
    made = _rabbitmq_undo.find(options["state_dir"], options["name"], options["restore_id"] or _rabbitmq_undo.LAST)
    undo = _rabbitmq_undo.Undo(made, _rabbitmq_backup.definitions(client, options))
    started = time.time()
    result: Part = {
        "name": options["name"],
        "stamp": made.stamp,
        "changed": bool(undo.wanted),
        "result": "planned",
        "restore_id": made.identity,
        "undo": None,
    }
    if check_mode:
        _broker_backups.check_operation(options, "restore", target)
        return dict(result, **_undone(undo, undo.wanted), msg=_undo_message(undo, undo.wanted, "would be "))
    with _broker_backups.operation(options, "restore", target) as operation:
        does = "delete %d items that the import %s has created" % (len(undo.wanted), made.identity)
        with _broker_backups.audited(options, KIND, does, operation.id):
            undo.run(client)
    if not undo.kept:
        _rabbitmq_undo.forget(options["state_dir"], made)
    result.update(changed=bool(undo.deleted), result="undone", seconds=round(time.time() - started, 3))
    return dict(result, **_undone(undo, undo.deleted), msg=_undo_message(undo, undo.deleted, ""))


def _undone(undo: _rabbitmq_undo.Undo, deleted: Sequence[Key]) -> Part:
    kept = [{"item": _rabbitmq_definitions.shown(key), "reason": reason} for key, reason in undo.kept.items()]
    return {
        "deleted": _names(deleted),
        "deleted_total": len(deleted),
        "kept": kept[:MOST_NAMED],
        "kept_total": len(kept),
    }


def _undo_message(undo: _rabbitmq_undo.Undo, deleted: Sequence[Key], verb: str) -> str:
    texts = ["%d items %sdeleted" % (len(deleted), verb)]
    texts += ["%s is kept: %s" % (_rabbitmq_definitions.shown(key), why) for key, why in list(undo.kept.items())[:5]]
    return "; ".join(texts)


def _message(result: Part, verb: str) -> str:
    """Return the result for a person."""
    texts = ["%d items %simported" % (result["created_total"], verb)]
    if not result["changed"]:
        texts = ["the broker has all that the backup has"]
    if result["messages"]:
        texts.append("%d messages %spublished" % (sum(each["messages"] for each in result["messages"]), verb))
    if result["conflicts"]:
        texts.append("kept as they are: %s" % ", ".join(result["conflicts"][:5]))
    for name in result["users_without_password"]:
        texts.append("user %s has no password: `rabbitmqctl change_password -- %s`" % (name, shell_quote(name)))
    return "; ".join([*texts, *("not restored: %s" % text for text in result["not_restored"])])


def _check_version(client: Management, contents: Mapping[str, Any]) -> None:
    found, wanted = str(client.overview.get("rabbitmq_version") or ""), str(contents.get("version") or "")
    if (_broker_backups.version_number(found) or 0) // 100 < (_broker_backups.version_number(wanted) or 0) // 100:
        raise NotRestored(
            "the backup is of RabbitMQ %s, the broker is RabbitMQ %s, which is older" % (wanted, found),
            "Start the broker with the image or package of RabbitMQ %s." % wanted,
        )


def _read(folder: str, contents: Mapping[str, Any]) -> dict[str, Any]:
    try:
        document = _rabbitmq_proof.read(folder)
    except _rabbitmq_definitions.BadDefinitions as exc:
        raise DamagedBackup(str(exc), "Set `stamp` to another backup.")
    problems = _rabbitmq_proof.file_problems(folder, document, contents)
    if problems:
        raise DamagedBackup(
            "the files are not those of the manifest: %s" % _broker_backups.shown_differences(problems),
            "Set `stamp` to another backup.",
        )
    return document


def _names(keys: Sequence[Key]) -> list[str]:
    return [_rabbitmq_definitions.shown(key) for key in keys[:MOST_NAMED]]


def _without_password(document: Mapping[str, Any], missing: Sequence[Key]) -> list[str]:
    """Return the users that will be created without a password, because the backup has no hashes."""
    wanted = {key[1] for key in missing if key[0] == "users"}
    return [row["name"] for row in document.get("users", []) if row["name"] in wanted and not row.get("password_hash")]


def _not_restored(contents: Mapping[str, Any], client: Management) -> list[str]:
    """Return what is not part of definitions, and differs: plugins, and the messages that were not copied."""
    unknown: dict[str, str] = {}
    now = _rabbitmq_backup.plugins(client, unknown)
    found = []
    if now is not None and contents.get("plugins"):
        found = ["plugin %s is not enabled" % name for name in contents["plugins"] if name not in now]
    for each in contents.get("messages_left_out") or []:
        found.append("messages of queue %s: %s" % (each["queue"], each["reason"]))
    return found


def _check_conflicts(compared: Comparison, options: Options) -> None:
    """Raise NotRestored, before anything is changed, for what the broker has with other properties."""
    if compared.different and not options["keep_existing"]:
        raise NotRestored(
            "the broker has %d items with other properties than the backup: %s"
            % (
                len(compared.different),
                _broker_backups.shown_differences(compared.differences()[-len(compared.different) :]),
            ),
            "Set `keep_existing: true` to keep them as they are and restore the rest, or remove them first.",
        )


def _check_queues(
    copies: Sequence[Mapping[str, Any]],
    compared: Comparison,
    options: Options,
    deadline: Deadline,
    progress: _Progress,
) -> None:
    """Raise NotRestored if a queue whose messages will be published has some already."""
    for each in copies:
        if ("queues", each["vhost"], each["queue"]) not in compared.found or progress.exists(each):
            continue
        # The statistics of the API are seconds old.
        with Amqp(options, deadline, each["vhost"]) as amqp:
            try:
                ready = amqp.declare_passive(each["queue"])[0]
            except QueueError as exc:
                raise NotRestored("queue %s: %s" % (each["queue"], exc), _rabbitmq.READ_LOG)
        if ready:
            raise NotRestored(
                "queue %s in vhost %s has %d messages already, and would have some of them twice"
                % (each["queue"], each["vhost"], ready),
                "Set `messages: false`, or let the consumers take what is in it first.",
            )


def _prove(store: Store, artefact: Artefact, options: Options, deadline: Deadline) -> None:
    """Raise DamagedBackup unless the backup is proven, now or by an earlier run."""
    if artefact.proven:
        return
    source = _rabbitmq_proof.source_of(options, deadline)
    started = time.time()
    outcome = _rabbitmq_proof.outcome_of(store, artefact, source, options, deadline)
    _proofs.write(store, artefact, started, outcome)
    problem = outcome.reason or _broker_backups.shown_differences(outcome.differences)
    if problem:
        raise DamagedBackup(
            "the backup %s is not proven: %s" % (artefact.stamp, problem),
            "Set `stamp` to another backup: `ls %s`" % shell_quote(os.path.dirname(artefact.path)),
        )


def _import(client: Management, part: dict[str, Any], compared: Comparison, options: Options) -> None:
    """Import the missing items, and compare what the broker has then. Raises NotRestored, CannotConnect."""
    try:
        client.post_long(part, "definitions")
    except ReplyError as exc:
        raise NotRestored(
            "the broker rejects the import, which may have been done in part: %s" % exc, _rabbitmq.READ_LOG
        )
    after = _rabbitmq_definitions.items(_rabbitmq_backup.definitions(client, options))
    kept = set(compared.different)
    wanted = {key: value for key, value in compared.wanted.items() if key not in kept}
    left = Comparison(wanted, after)
    if left.missing or left.different:
        raise NotRestored(
            "the broker has accepted the import, and lacks %d items: %s"
            % (len(left.missing) + len(left.different), _broker_backups.shown_differences(left.differences())),
            _rabbitmq.READ_LOG,
        )


class _Progress:
    """The records of how many messages of each queue were confirmed, in the state directory."""

    def __init__(self, directory: str, artefact: Artefact) -> None:
        self._directory = directory
        self._mark = "%s-%s" % (artefact.stamp, str(artefact.manifest_sha256)[:12])

    def path(self, copy: Mapping[str, Any]) -> str:
        """Return the path of the record of one queue."""
        number = os.path.basename(copy["path"]).partition(".")[0]
        return os.path.join(self._directory, PROGRESS % (self._mark, number))

    def exists(self, copy: Mapping[str, Any]) -> bool:
        """Return whether an earlier run has published messages of this queue and was not finished."""
        return os.path.exists(self.path(copy))

    def remove(self, copies: Sequence[Mapping[str, Any]]) -> None:
        """Remove the records, when all messages are confirmed."""
        if copies:
            with Directory(self._directory) as directory:
                for each in copies:
                    directory.remove(os.path.basename(self.path(each)))
