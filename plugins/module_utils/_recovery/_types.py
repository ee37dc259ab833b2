# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types of the files that a backup consists of. Private to this collection.

A backup is a directory ``<recovery_directory>/<kind>/<name>/<stamp>``. It is complete when it was renamed into place
with its ``manifest.json``, and proven when it was restored and compared, which its ``proof.json`` records.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Kind = Literal["postgresql", "redis", "rabbitmq"]
# A later version of the collection reads earlier manifests; an unknown version is refused.
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
PROOF = "proof.json"
# Directories below that of the backups, laid out like it, which the diagnosis leaves out: archives of others, and what
# remedies back up first (roles/cache/tasks/backup_first.yml). They say nothing about scheduled backups.
ADOPTED = "adopted"
APART = {ADOPTED, "remedies"}


class BackupFile(TypedDict):
    """One file of a backup: its path below the backup's directory, its size, and its checksum in hexadecimal."""

    path: str
    bytes: int
    sha256: str


class SourceServer(TypedDict):
    """The server that was backed up. ``identity`` is that of its measurement, ``container`` its name or null.

    ``version_num`` is the server's version as one number (150004), where the product has one.
    """

    version: str
    version_num: int | None
    identity: str | None
    address: str
    container: str | None


class Manifest(TypedDict):
    """``manifest.json``. Times are seconds since 1970; ``started`` is not after the moment that the contents show.

    ``name`` is the database, or the name under which a server is backed up. ``source_bytes`` is the size of what was
    backed up, in the server. ``encryption`` is the program whose recipients can read the files, or null. ``contents``
    is what a restored copy is compared with; its keys depend on the kind.
    """

    schema_version: int
    kind: Kind
    name: str
    stamp: str
    host: str
    started: float
    finished: float
    server: SourceServer
    tool: str | None
    collection_version: str
    source_bytes: int | None
    files: list[BackupFile]
    encryption: str | None
    contents: dict[str, Any]


class Difference(TypedDict):
    """One item of ``contents`` that a restored copy does not have as the manifest says. Null: not there."""

    item: str
    expected: Any
    found: Any


class Proof(TypedDict):
    """``proof.json``: the last attempt to restore the backup into a scratch server or database.

    ``result``: ``proven``, ``different`` (with the first differences and their number), or ``failed`` (``reason``).
    ``manifest_sha256`` is the checksum of the manifest that was compared.
    """

    schema_version: int
    result: Literal["proven", "different", "failed"]
    started: float
    finished: float
    server_version: str | None
    manifest_sha256: str
    differences: list[Difference]
    differences_total: int
    reason: str | None
