# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backs up a Redis server. Private to this collection."""

from __future__ import annotations

import os
import time
from typing import Any, Iterator

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _broker_backups,
    _encryption,
    _redis_contents,
    _redis_rdb,
    _redis_snapshot,
    _space,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import cannot_store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import SourceServer
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis, _redis_service
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, connect
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import NEW
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

KIND = "redis"
FILE = "dump.rdb"
CONNECTION = {name: spec for name, spec in _redis.CONNECTION_SPEC.items() if name != "deadline"}
COMMON = dict(
    CONNECTION,
    name={"type": "str", "default": "redis"},
    deadline={"type": "float", "default": 3600.0},
    **_broker_backups.STORE_SPEC,
)
BACKUP_SPEC: dict[str, Any] = dict(
    COMMON,
    method={"type": "str", "choices": ["auto", "save", "stream"], "default": "auto"},
    **_broker_backups.KEEP_SPEC,
)


class Incomplete(Failure):
    """The file does not hold what the server had. It was not kept."""

    kind = "incomplete"


def backup(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.redis_backup) returns. Raises Failure."""
    deadline = Deadline(options["deadline"])
    client = connect(options)
    store = Store(options["directory"])
    name = options["name"]
    _check_source(client)
    before = _redis_contents.of_server(client)
    program = _encryption.program_for(options["encryption_recipients"])
    method, place, why = _method(client, options, before)
    needed = _space.needed(before["used_memory_bytes"]) or _space.LEAST_BYTES
    folder = store.folder(KIND, name)
    free = _space.check(folder, needed).bytes
    result: Part = {
        "changed": True,
        "name": name,
        "result": "planned" if check_mode else "done",
        "method": method,
        "method_reason": why,
        "estimated_bytes": needed,
        "free_bytes": free,
        "used_memory_bytes": before["used_memory_bytes"],
        "removed": [],
    }
    if check_mode:
        _broker_backups.check_operation(options, "backup", "%s:%s" % (KIND, name))
        return dict(result, path=os.path.join(folder, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())), bytes=None)
    with _broker_backups.operation(options, "backup", "%s:%s" % (KIND, name)), store.create(KIND, name) as pending:
        started = time.time()
        keys_before = _redis_contents.keyspace(client)
        pieces = (
            _redis_snapshot.save(client, place, deadline)
            if method == "save" and place
            else _redis_snapshot.stream(options, deadline)
        )
        path = os.path.join(pending.path, FILE)
        progress = Progress(options["progress"])
        progress.step("snapshot", before["used_memory_bytes"])
        _write(path, pieces, progress)
        contents = _contents(path, client, before, keys_before, deadline)
        if program:
            _encryption.encrypt_below(pending.path, program, options["encryption_recipients"], deadline)
        server: SourceServer = {
            "version": before["version"] or "",
            "version_num": _broker_backups.version_number(before["version"]),
            "identity": _redis_service.read_identity(_redis_snapshot.info(client, "server")),
            "address": _redis.address(options),
            "container": None,
        }
        files = pending.files(deadline)
        made = pending.manifest(started, server, method, before["used_memory_bytes"], files, contents, program)
        artefact = pending.finish(made, deadline)
        gone = store.rotate(KIND, name, options["keep"], options["max_age_days"] * 86400, protect=artefact.stamp)
    progress.end()
    result.update(_broker_backups.summary(artefact))
    return dict(
        result,
        removed=_broker_backups.removed(gone),
        keys_total=contents["keys_total"],
        expires=contents["expires_total"],
        unknown=contents["unknown"],
        seconds=round(made["finished"] - started, 3),
    )


def _check_source(client: Client) -> None:
    """Raise NotSaved if the server's data is not what a backup should hold."""
    found = _redis_snapshot.info(client, "replication", "persistence")
    if found.get("loading") == "1":
        raise _redis_snapshot.NotSaved(
            "the server is loading its data", "Wait until it has loaded: `%s`" % client.command("INFO", "persistence")
        )
    if found.get("role") == "slave" and found.get("master_link_status") != "up":
        raise _redis_snapshot.NotSaved(
            "the server is a replica without a connection to its primary, so its data is old",
            "Back up the primary, %s:%s, or repair the replication: `%s`"
            % (found.get("master_host"), found.get("master_port"), client.command("INFO", "replication")),
        )


def _method(
    client: Client, options: Options, server: _redis_contents.Server
) -> tuple[str, _redis_snapshot.Place | None, str]:
    """Return ``save`` or ``stream``, where the file of a save is, and why this one. Raises NotSaved."""
    wanted = options["method"]
    if wanted == "stream":
        return wanted, None, "method: stream"
    place = _redis_snapshot.place(client)
    # The server's file is rarely larger than its memory.
    room = server["used_memory_bytes"] or 0
    if place is None:
        problem = "the server's directory cannot be read by this user on this host"
        hint = "Run as root on the host of the server, or set `method: stream`."
    elif place.free_bytes < room:
        problem = "the disk of the server has %d bytes for a file of up to %d" % (place.free_bytes, room)
        hint = "Free space on the disk of the server, or set `method: stream`: a save that fails would block writes."
    else:
        return "save", place, "the server's directory can be read, and its disk has room"
    if wanted == "save":
        raise _redis_snapshot.NotSaved(problem, hint)
    return "stream", None, problem


def _write(path: str, pieces: Iterator[bytes], progress: Progress) -> None:
    written = 0
    try:
        with os.fdopen(os.open(path, NEW, 0o600), "wb") as stream:
            for piece in pieces:
                stream.write(piece)
                written += len(piece)
                progress.update(written)
    except OSError as exc:
        raise cannot_store(exc, path)


def _contents(
    path: str,
    client: Client,
    before: _redis_contents.Server,
    keys_before: dict[str, _redis_rdb.Counts],
    deadline: Deadline,
) -> _redis_contents.Contents:
    """Return the contents for the manifest, after comparing the file with the server. Raises Incomplete."""
    try:
        rdb = _redis_rdb.read(path, deadline)
    except (_redis_rdb.Damaged, _redis_rdb.Unsupported) as exc:
        raise Incomplete("the snapshot is not a complete RDB file: %s" % exc, "Run the backup again.")
    client.deadline = deadline
    after, keys_after = _redis_contents.of_server(client), _redis_contents.keyspace(client)
    for number, counts in keys_before.items():
        later = keys_after.get(number)
        lasting = min(each["keys"] - each["expires"] for each in (counts, later or {"keys": 0, "expires": 0}))
        if lasting > 0 and number not in rdb["databases"]:
            raise Incomplete(
                "the snapshot lacks database %s, which has %d keys" % (number, counts["keys"]),
                "Check where the server writes its file: `%s`" % client.command("CONFIG", "GET", "d*"),
            )
    if before["functions"] != after["functions"] or len(after["functions"] or ()) != rdb["functions"]:
        after["functions"] = None
        after["unknown"].setdefault("functions", "the libraries of functions changed while the backup was taken")
    return _redis_contents.contents(after, rdb)
