# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backs up a RabbitMQ broker: its definitions and, on request, messages. Private to this collection."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import Management, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _broker_backups,
    _encryption,
    _rabbitmq_definitions,
    _rabbitmq_queue_copies,
    _space,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import cannot_store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import SourceServer
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import NEW
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

KIND = "rabbitmq"
FILE = "definitions.json"
COMMON: dict[str, Any] = dict(
    _rabbitmq.CONNECTION_SPEC,
    name={"type": "str", "default": "rabbitmq"},
    deadline={"type": "float", "default": 3600.0},
    **_broker_backups.STORE_SPEC,
)
BACKUP_SPEC: dict[str, Any] = dict(
    COMMON,
    password_hashes={"type": "bool", "default": False, "no_log": False},
    messages_of={"type": "list", "elements": "str", "default": []},
    max_messages={"type": "int", "default": 100000},
    max_bytes={"type": "int", "default": 1 << 30},
    **_broker_backups.KEEP_SPEC,
)
# Queues that the manifest lists with their messages; the total is beside them.
MOST_QUEUES = 1000


class NotRead(Failure):
    """The broker does not give its definitions. The message says why."""

    kind = "not_read"


def connect(options: Options, deadline: Deadline) -> Management:
    """Return the client of the management API. Raises CannotConnect."""
    _rabbitmq.check_options(options)
    return _rabbitmq.management(options, deadline)


def definitions(client: Management, options: Options) -> dict[str, Any]:
    """Return all definitions of the broker. Raises NotRead, CannotConnect."""
    try:
        document = client.get_long("definitions")
        _rabbitmq_definitions.items(document)
        return document
    except ReplyError as exc:
        if exc.kind == "permission":
            tags = " ".join(sorted(client.tags | {"administrator"}))
            raise NotRead(
                "the user %s may not read the definitions: %s" % (options["login_user"], exc),
                "Give the user the tag administrator: `%s set_user_tags -- %s %s`"
                % (_rabbitmq.rabbitmqctl(), _rabbitmq.shell_quote(options["login_user"] or ""), tags),
            )
        raise NotRead("the definitions cannot be read: %s" % exc, _rabbitmq.READ_LOG)
    except _rabbitmq_definitions.BadDefinitions as exc:
        raise NotRead("the broker sends other definitions than expected: %s" % exc, _rabbitmq.READ_LOG)


def backup(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.rabbitmq_backup) returns. Raises Failure."""
    deadline = Deadline(options["deadline"])
    store, name = Store(options["directory"]), options["name"]
    program = _encryption.program_for(options["encryption_recipients"])
    client = connect(options, deadline)
    document = definitions(client, options)
    found = _queues(client)
    wanted = _rabbitmq_queue_copies.chosen(found, options["messages_of"])
    copied = [each for each in wanted if each.type not in _rabbitmq_queue_copies.LEFT_OUT]
    # Base64 takes 4 bytes for 3, and each message has properties and its place.
    source = sum((each.bytes or 0) * 4 // 3 + (each.ready or 0) * 600 for each in copied) + 4 * len(
        json.dumps(document)
    )
    needed = _space.needed(source) or _space.LEAST_BYTES
    folder = store.folder(KIND, name)
    result: Part = {
        "changed": True,
        "name": name,
        "result": "planned" if check_mode else "done",
        "estimated_bytes": needed,
        "free_bytes": _space.check(folder, needed).bytes,
        "counts": _counts(document),
        "password_hashes": options["password_hashes"],
        "messages": [
            {"vhost": each.vhost, "queue": each.name, "messages": each.ready} for each in copied if each.ready != 0
        ],
        "removed": [],
    }
    if check_mode:
        _broker_backups.check_operation(options, "backup", "%s:%s" % (KIND, name))
        result.update(left_out=_left_out(wanted), bytes=None)
        return dict(result, path=os.path.join(folder, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())))
    progress = Progress(options["progress"])
    with _broker_backups.operation(options, "backup", "%s:%s" % (KIND, name)), store.create(KIND, name) as pending:
        started = time.time()
        document = definitions(client, options)
        if not options["password_hashes"]:
            document = _rabbitmq_definitions.without_secrets(document)
        _write(os.path.join(pending.path, FILE), document)
        progress.step("messages", source)
        messages, left_out = _rabbitmq_queue_copies.copy(options, deadline, wanted, pending.path)
        contents = _contents(client, document, found, options)
        contents.update(messages=messages, messages_left_out=left_out)
        if program:
            _encryption.encrypt_below(pending.path, program, options["encryption_recipients"], deadline)
        server: SourceServer = {
            "version": str(client.overview.get("rabbitmq_version") or ""),
            "version_num": _broker_backups.version_number(client.overview.get("rabbitmq_version")),
            "identity": client.overview.get("cluster_name"),
            "address": "%s:%d" % (options["login_host"], options["login_port"]),
            "container": None,
        }
        files = pending.files(deadline)
        made = pending.manifest(started, server, "definitions", source, files, contents, program)
        artefact = pending.finish(made, deadline)
        gone = store.rotate(KIND, name, options["keep"], options["max_age_days"] * 86400, protect=artefact.stamp)
    progress.end()
    result.update(_broker_backups.summary(artefact))
    return dict(
        result,
        counts=_counts(document),
        messages=[{name: each[name] for name in ("vhost", "queue", "messages")} for each in messages],
        left_out=left_out,
        removed=_broker_backups.removed(gone),
        unknown=contents["unknown"],
        seconds=round(made["finished"] - started, 3),
    )


def _left_out(wanted: list[_rabbitmq_queue_copies.Queue]) -> list[Part]:
    reasons = _rabbitmq_queue_copies.LEFT_OUT
    return [
        {"vhost": each.vhost, "queue": each.name, "reason": reasons[each.type]}
        for each in wanted
        if each.type in reasons
    ]


def _queues(client: Management) -> list[_rabbitmq_queue_copies.Queue]:
    try:
        return _rabbitmq_queue_copies.queues(client)
    except ReplyError as exc:
        raise NotRead("the queues cannot be listed: %s" % exc, _rabbitmq.READ_LOG)


def _counts(document: Mapping[str, Any]) -> dict[str, int]:
    counts = _rabbitmq_definitions.counts(_rabbitmq_definitions.items(document))
    return {category: each["count"] for category, each in counts.items()}


def _contents(
    client: Management, document: Mapping[str, Any], found: list[_rabbitmq_queue_copies.Queue], options: Options
) -> dict[str, Any]:
    """Return the contents of the manifest, without the messages."""
    unknown: dict[str, str] = {}
    counted = [each.messages for each in found]
    return {
        "items": _rabbitmq_definitions.counts(_rabbitmq_definitions.items(document)),
        "version": client.overview.get("rabbitmq_version"),
        "erlang_version": client.overview.get("erlang_version"),
        "cluster_name": client.overview.get("cluster_name"),
        "plugins": plugins(client, unknown),
        "password_hashes": options["password_hashes"],
        "queues": [
            {"vhost": each.vhost, "queue": each.name, "type": each.type, "messages": each.messages}
            for each in sorted(found, key=lambda queue: -(queue.messages or 0))[:MOST_QUEUES]
        ],
        "queues_total": len(found),
        "messages_total": None if None in counted else sum(count or 0 for count in counted),
        "unknown": unknown,
    }


def plugins(client: Management, unknown: dict[str, str]) -> list[str] | None:
    """Return the plugins that all nodes have enabled; null if they are not known."""
    try:
        nodes = client.get("nodes", columns="name,running,enabled_plugins")
        found = [set(node["enabled_plugins"]) for node in nodes if node.get("running")]
        return sorted(set.intersection(*found)) if found else None
    except KeyError:
        unknown["plugins"] = "the node has not reported its statistics yet"
    except (ReplyError, TypeError) as exc:
        unknown["plugins"] = str(exc)
    return None


def _write(path: str, document: Mapping[str, Any]) -> None:
    try:
        with os.fdopen(os.open(path, NEW, 0o600), "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=1, sort_keys=True)
            stream.write("\n")
    except OSError as exc:
        raise cannot_store(exc, path)
