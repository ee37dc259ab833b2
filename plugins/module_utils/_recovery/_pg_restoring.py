# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a proof and a restore of PostgreSQL share: options, the choice of the backup, loading it. Private."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any, Callable, Iterator, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import OutOfTime
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import CONNECTION_SPEC, QueryFailed
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _chosen,
    _operations,
    _pg_clients,
    _pg_contents,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Artefact, Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_databases import Session, properties
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import Difference
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

KIND = "postgresql"
# Options of all modules that restore an archive of pg_dump.
ARCHIVE_SPEC: dict[str, Any] = dict(
    {name: spec for name, spec in CONNECTION_SPEC.items() if name != "deadline"},
    **_pg_clients.SPEC,
    **_operations.SPEC,
    maintenance_db={"type": "str", "default": "postgres"},
    database={"type": "str", "required": True},
    directory={"type": "path", "default": "/var/backups/tracktion"},
    jobs={"type": "int", "default": 2},
    progress={"type": "path", "default": ""},
    deadline={"type": "float", "default": 14400.0},
)
# And of those that read a backup.
SPEC: dict[str, Any] = dict(
    ARCHIVE_SPEC,
    source={"type": "str", "default": ""},
    stamp={"type": "str", "default": ""},
    encryption_identity={"type": "path", "default": ""},
    accept_cve={"type": "list", "elements": "str", "default": []},
    accept_differences={"type": "list", "elements": "str", "default": []},
)
# The state of the machine, not of the backup: such a failure proves nothing.
OF_THE_SERVER = re.compile(
    r"No space left|could not extend|out of memory|out of shared memory|connection to server|terminating connection"
    r"|server closed the connection|the database system is|too many (clients|connections)|Cannot allocate"
    r"|could not resize shared memory|Killed",
    re.IGNORECASE,
)
# The size is read over the maintenance connection.
SIZE_SECONDS = 2.0


def chosen(store: Store, options: Options) -> tuple[Artefact, list[str]]:
    """Return the backup that the options name, and the stamps of newer ones that cannot be read.

    Raises NoBackup, DamagedBackup, BadOption.
    """
    return _chosen.choose(store, KIND, options["source"] or options["database"], options["stamp"])


def watching(session: Session, database: str, progress: Progress) -> Callable[[], None]:
    """Return a function that notes the size of a database as the progress, every two seconds."""
    last = [time.monotonic()]

    def watch() -> None:
        if time.monotonic() - last[0] >= SIZE_SECONDS:
            last[0] = time.monotonic()
            with contextlib.suppress(QueryFailed, OutOfTime):
                sql = "SELECT pg_database_size(%s) AS bytes"
                progress.update(session.rows(sql % _pg_contents.literal(database))[0]["bytes"])

    return watch


def completed(
    session: Session, database: str, manifest: Mapping[str, Any], progress: Progress, analyze: bool = True
) -> None:
    """Give a loaded database its properties, and collect statistics for the planner. Raises QueryFailed."""
    for statement in properties(database, manifest["contents"]):
        session.rows(statement)
    if not analyze:
        return
    progress.step("analyze")
    client = session.connect(database)
    try:
        client.command("ANALYZE (VERBOSE false)", session.deadline.step(10**6), {"lock_timeout": "0"})
    finally:
        client.connection.close()


def compared(
    session: Session, database: str, manifest: Mapping[str, Any], ignore: Sequence[str], accepted: Sequence[str]
) -> tuple[list[Difference], int, list[str]]:
    """Return the differences of a loaded database from the manifest, their number, and the accepted ones among them.

    A comment and a limit of connections come with the swap. Raises QueryFailed, OutOfTime.
    """
    expected = manifest["contents"]
    client = session.connect(database)
    try:
        found = _pg_contents.collect(client, None, expected["hashes"] is not None, session.deadline)
    finally:
        client.connection.close()
    for name in ("comment", "connection_limit", "is_template"):
        found["database"][name] = expected["database"][name]
    differences, total = _pg_contents.compare(expected, found, ignore)
    left = [each for each in differences if each["item"] not in accepted]
    taken = [each["item"] for each in differences if each["item"] in accepted]
    return left, total - len(taken), taken


@contextlib.contextmanager
def progressing(options: Options) -> Iterator[Progress]:
    """Yield the progress of this module."""
    progress = Progress(options["progress"] or None)
    try:
        yield progress
    finally:
        progress.end()


def shown(differences: Sequence[Difference], total: int) -> str:
    """Return the first differences for a message."""
    texts = ["%s (expected %s, found %s)" % (each["item"], each["expected"], each["found"]) for each in differences[:3]]
    return "; ".join(texts) + (" and %d more" % (total - 3) if total > 3 else "")
