# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The moment that a backup of a PostgreSQL database shows, and its contents at it. Private to this collection."""

from __future__ import annotations

import contextlib
import threading
from typing import Iterator, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure, OutOfTime
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import (
    Client,
    QueryFailed,
    connect_apart,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_contents
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

# Of the connections of a backup: a measurement's few seconds are too few on a server that is busy.
CONNECT_SECONDS = 30.0
ABOUT = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS version_num,
       pg_is_in_recovery() AS in_recovery, pg_database_size(current_database()) AS bytes,
       extract(epoch FROM clock_timestamp())::float8 AS now
"""
IDENTITY = "SELECT 'postgresql:' || system_identifier AS identity FROM pg_control_system()"


class About(NamedTuple):
    """A server and the size of one of its databases in bytes. ``now`` is the server's clock, since 1970."""

    version: str
    version_num: int
    in_recovery: bool
    bytes: int
    identity: str | None
    now: float


def connect(options: Options, database: str, deadline: Deadline) -> Client:
    """Return a connection to a database, which the caller closes. Raises CannotConnect, OutOfTime."""
    left = deadline.step()
    timeout = max(options["timeout"], min(CONNECT_SECONDS, left))
    return connect_apart({**options, "login_db": database, "timeout": timeout, "deadline": left})


def about(client: Client, deadline: Deadline) -> About:
    """Return what is known of the server and the database of a connection. Raises QueryFailed."""
    row = client.statement(ABOUT, deadline.step(CONNECT_SECONDS))[0]
    identity = None
    # Without the right to it, there is no identity in the manifest.
    with contextlib.suppress(QueryFailed):
        identity = client.statement(IDENTITY, deadline.step(CONNECT_SECONDS))[0]["identity"]
    return About(identity=identity, **row)


@contextlib.contextmanager
def exported(client: Client, deadline: Deadline) -> Iterator[str]:
    """Yield the name of a snapshot, which is valid until the context is left. Raises QueryFailed."""
    seconds = deadline.step(CONNECT_SECONDS)
    client.statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", seconds)
    try:
        # The session is idle while others use the snapshot.
        client.statement("SET LOCAL idle_in_transaction_session_timeout = 0", seconds)
        client.statement("SET LOCAL statement_timeout = 0", seconds)
        yield client.statement("SELECT pg_export_snapshot() AS name", seconds)[0]["name"]
    finally:
        with contextlib.suppress(QueryFailed):
            client.statement("ROLLBACK", CONNECT_SECONDS)


class Collector:
    """Reads the contents of a database at a snapshot in a thread, while pg_dump reads the same.

    ``result()`` waits for them; ``stop()`` ends the queries.
    """

    def __init__(self, options: Options, database: str, snapshot: str, row_hashes: bool, deadline: Deadline) -> None:
        self._client = connect(options, database, deadline)
        self._deadline = deadline
        self._contents: _pg_contents.Contents | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._collect, args=(snapshot, row_hashes), daemon=True)
        self._thread.start()

    def _collect(self, snapshot: str, row_hashes: bool) -> None:
        try:
            self._contents = _pg_contents.collect(self._client, snapshot, row_hashes, self._deadline)
        except BaseException as exc:  # pylint: disable=broad-except
            self._error = exc

    @property
    def failed(self) -> bool:
        """Whether the contents could not be read."""
        return self._error is not None

    def result(self) -> _pg_contents.Contents:
        """Return the contents, with the sequences as they are now. Raises QueryFailed, OutOfTime."""
        self._thread.join(self._deadline.remaining())
        if self._thread.is_alive():
            raise OutOfTime(0.0, "contents of the database")
        if self._error:
            raise self._error
        if self._contents is None:
            raise Failure("the contents of the database were not read")
        _pg_contents.sequences_after(self._client, self._contents, self._deadline)
        return self._contents

    def stop(self) -> None:
        """End the queries that still run, and the connection."""
        with contextlib.suppress(Exception):
            if self._thread.is_alive():
                self._client.connection.cancel()
                self._thread.join(5)
        with contextlib.suppress(Exception):
            self._client.connection.close()
