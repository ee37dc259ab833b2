# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves a Redis backup in a scratch server. Private to this collection."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Iterator, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _broker_backups,
    _chosen,
    _redis_backup,
    _redis_contents,
    _redis_scratch,
    _redis_snapshot,
    _scratch_container,
    _scratch_directory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._chosen import DamagedBackup
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._proofs import Outcome
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact, cannot_store
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError, connect
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

KIND, FILE = _redis_backup.KIND, _redis_backup.FILE
PROVE_SPEC: dict[str, Any] = dict(_redis_backup.COMMON, **_broker_backups.PROOF_SPEC)


class Loading(NamedTuple):
    """What loads a backup: the engine, what runs the scratch server, and a private directory."""

    api: DockerApi
    source: _redis_scratch.Source
    work: str


@contextlib.contextmanager
def loading_of(options: Options, store: Store, client: Client | None, deadline: Deadline) -> Iterator[Loading]:
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
        with _scratch_directory.made(store.directory) as work:
            yield Loading(api, source, work)
    except OSError as exc:
        raise cannot_store(exc, store.directory)


def prove(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.redis_prove_backup) returns. Raises Failure."""
    deadline = Deadline(options["deadline"])
    store = Store(options["directory"])
    name, target = options["name"], "%s:%s" % (KIND, options["name"])
    artefact = _chosen.choose(store, "redis", name, options["stamp"])[0]
    result = dict(_broker_backups.summary(artefact), changed=True)
    # A proof needs no server: it is asked only which image to use.
    try:
        client = None if options["image"] else connect(options)
    except CannotConnect:
        client = None
    if check_mode:
        _broker_backups.check_operation(options, "proof", target)
        _redis_scratch.require_memory(artefact.contents.get("used_memory_bytes"))
        return dict(result, result="planned", differences=[], differences_total=0)
    started = time.time()
    with _broker_backups.operation(options, "proof", target), store.in_use(artefact):
        with loading_of(options, store, client, deadline) as loading:
            outcome = _outcome(store, artefact, loading, options, deadline)
        result.update(_broker_backups.proven(store, artefact, started, outcome))
    result["scratch"] = loading.source.name
    return result


def _outcome(store: Store, artefact: Artefact, loading: Loading, options: Options, deadline: Deadline) -> Outcome:
    """Return the outcome of loading a backup. Raises NoScratch and CannotConnect, which prove nothing about it."""
    try:
        with loaded(store, artefact, loading, options, deadline) as (_scratch, outcome):
            return outcome
    except (DamagedBackup, _redis_scratch.NotLoaded) as exc:
        return Outcome(None, [], str(exc))


@contextlib.contextmanager
def loaded(
    store: Store, artefact: Artefact, loading: Loading, options: Options, deadline: Deadline
) -> Iterator[tuple[Client, Outcome]]:
    """Yield the client of a scratch server that has loaded the backup, and how it differs from the manifest.

    Raises DamagedBackup, NotLoaded, NoScratch, CannotConnect.
    """
    _chosen.require_intact(store, artefact, deadline)
    folder = _broker_backups.readable(artefact, loading.work, options, deadline)
    path, contents = os.path.join(folder, FILE), artefact.contents
    problem = _redis_scratch.check(loading.source, loading.api, path, deadline)
    if problem:
        raise _redis_scratch.NotLoaded(problem)
    with _redis_scratch.loaded(loading.source, loading.api, path, contents, loading.work, options) as scratch:
        server = _redis_contents.of_server(scratch)
        differences = _redis_contents.compare(contents, _redis_contents.keyspace(scratch), server["functions"])
        yield scratch, Outcome(server["version"], differences)
