# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves a backup of RabbitMQ in a scratch broker, or in scratch vhosts. Private to this collection."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _broker_backups,
    _chosen,
    _rabbitmq_backup,
    _rabbitmq_definitions,
    _rabbitmq_queue_copies,
    _rabbitmq_scratch,
    _rabbitmq_vhosts,
    _scratch_container,
    _scratch_directory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._chosen import DamagedBackup
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._proofs import Outcome
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._rabbitmq_definitions import Comparison, Items
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._rabbitmq_scratch import Source
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact, cannot_store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import Difference
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

KIND, FILE = _rabbitmq_backup.KIND, _rabbitmq_backup.FILE
PROVE_SPEC: dict[str, Any] = dict(
    _rabbitmq_backup.COMMON,
    container={"type": "str"},
    scratch={"type": "str", "choices": ["auto", "container", "server"], "default": "auto"},
    **_broker_backups.PROOF_SPEC,
)
MAX_BYTES = 256 * 1024 * 1024
# Always there: the export of definitions needs it on the live broker.
PLUGINS = ("rabbitmq_management",)


def prove(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.rabbitmq_prove_backup) returns. Raises Failure."""
    deadline = Deadline(options["deadline"])
    store = Store(options["directory"])
    name, target = options["name"], "%s:%s" % (KIND, options["name"])
    artefact = _chosen.choose(store, "rabbitmq", name, options["stamp"])[0]
    source = source_of(options, deadline)
    result = dict(_broker_backups.summary(artefact), changed=True, scratch=source.name)
    if check_mode:
        _broker_backups.check_operation(options, "proof", target)
        return dict(result, result="planned", differences=[], differences_total=0)
    started = time.time()
    with _broker_backups.operation(options, "proof", target), store.in_use(artefact):
        outcome = outcome_of(store, artefact, source, options, deadline)
        result.update(_broker_backups.proven(store, artefact, started, outcome))
    return result


def source_of(options: Options, deadline: Deadline) -> Source:
    """Return where to import to. Raises NoScratch, CannotConnect, BadOption."""
    wanted = options["scratch"]
    if wanted != "server":
        try:
            api = _scratch_container.engine(options, deadline)
            api.negotiate()
            place = options["login_host"], options["login_port"]
            return _rabbitmq_scratch.source(options["image"], options["container"], *place, api)
        except (CannotConnect, _scratch_container.NoScratch):
            if wanted == "container" or options["image"] or options["container"]:
                raise
    return Source("", "scratch vhosts of the broker")


def outcome_of(store: Store, artefact: Artefact, source: Source, options: Options, deadline: Deadline) -> Outcome:
    """Return the outcome of importing a backup into a scratch broker, or into scratch vhosts of the broker.

    Raises NoScratch and CannotConnect, which prove nothing about it.
    """
    try:
        with _scratch_directory.made(store.directory) as work:
            _chosen.require_intact(store, artefact, deadline)
            folder = _broker_backups.readable(artefact, work, options, deadline)
            document = read(folder)
            problems = file_problems(folder, document, artefact.contents)
            if problems:
                return Outcome(None, problems)
            if not source.image:
                client = _rabbitmq_backup.connect(options, deadline)
                version = str(client.overview.get("rabbitmq_version") or "") or None
                return Outcome(version, _rabbitmq_vhosts.differences(client, document))
            api = _scratch_container.engine(options, deadline)
            api.negotiate()
            _scratch_container.sweep(api)
            plugins = sorted({*PLUGINS, *(artefact.contents.get("plugins") or ())})
            with _rabbitmq_scratch.started(api, source.image, work, plugins) as broker:
                version = broker.version()
                before = _rabbitmq_definitions.items(broker.export())
                return Outcome(version, _imported(broker, document, before))
    except (DamagedBackup, _rabbitmq_scratch.NotImported, _rabbitmq_definitions.BadDefinitions) as exc:
        return Outcome(None, [], str(exc))
    except OSError as exc:
        raise cannot_store(exc, store.directory)


def read(folder: str) -> dict[str, Any]:
    """Return the definitions of a backup. Raises BadDefinitions, OSError."""
    with Directory(folder) as directory:
        text = directory.read(FILE, MAX_BYTES)
    try:
        document = json.loads(text.decode("utf-8"))
    except ValueError as exc:
        raise _rabbitmq_definitions.BadDefinitions("%s is not JSON: %s" % (FILE, exc))
    _rabbitmq_definitions.items(document)
    return document


def file_problems(folder: str, document: Mapping[str, Any], contents: Mapping[str, Any]) -> list[Difference]:
    """Return how the files differ from the manifest: the items of each category, and each message."""
    found: list[Difference] = []
    expected = contents.get("items") or {}
    counted = _rabbitmq_definitions.counts(_rabbitmq_definitions.items(document))
    for category in _rabbitmq_definitions.KEYS:
        if expected.get(category) != counted[category]:
            found.append({"item": category, "expected": expected.get(category), "found": counted[category]})
    if "messages" not in contents:
        found.append({"item": "messages", "expected": None, "found": None})
    for problem in _rabbitmq_queue_copies.problems(folder, contents):
        found.append({"item": "messages", "expected": "an export of messages", "found": problem})
    return found


def _imported(broker: _rabbitmq_scratch.Broker, document: dict[str, Any], before: Items) -> list[Difference]:
    """Import the definitions, and return how an export of the scratch broker differs from them."""
    wanted = _rabbitmq_definitions.items(document)
    broker.import_(_rabbitmq_definitions.document(document, wanted))
    restored = broker.export()
    for vhost in sorted({key[1] for key, value in wanted.items() if key[0] == "exchanges" and value.get("internal")}):
        restored["exchanges"] += broker.internal_exchanges(vhost)
    compared = Comparison(wanted, _rabbitmq_definitions.items(restored))
    # What a new broker has by itself is not in every backup.
    return compared.differences([key for key in compared.additional if key not in before])


@contextlib.contextmanager
def opened(store: Store, artefact: Artefact, options: Options, deadline: Deadline) -> Any:
    """Yield the directory with the files of a backup, decrypted if necessary. Raises CannotStore, ProgramFailed."""
    try:
        with _scratch_directory.made(store.directory) as work:
            yield _broker_backups.readable(artefact, work, options, deadline)
    except OSError as exc:
        raise cannot_store(exc, os.path.dirname(artefact.path))
