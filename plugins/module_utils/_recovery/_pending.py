# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes one backup. Private to this collection."""

from __future__ import annotations

import os
import platform
import time
from typing import Any, Mapping, Sequence, cast

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _manifests
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._files import (
    MANIFEST_BYTES,
    File,
    files_below,
    hash_all,
    sync_all,
    verify_files,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._names import stamp_time
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import (
    Artefact,
    Damaged,
    cannot_store,
    sync_directory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import (
    MANIFEST,
    SCHEMA_VERSION,
    Kind,
    Manifest,
    SourceServer,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._version import COLLECTION_VERSION
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory


class Pending:
    """A backup that is being written below ``path``. ``stamp`` is its name when it is complete."""

    def __init__(self, kind: str, name: str, folder: str, stamp: str) -> None:
        self.kind = kind
        self.name = name
        self.stamp = stamp
        self.path = os.path.join(folder, ".%s.incomplete" % stamp)
        self.finished = False
        self._complete = os.path.join(folder, stamp)
        os.mkdir(self.path, 0o700)
        os.chmod(self.path, 0o700)

    def files(self, deadline: Deadline, threads: int = 2) -> list[File]:
        """Return the files that were written, with their checksums, for a manifest. Raises OutOfTime, CannotStore."""
        try:
            found = files_below(self.path, private=True)
            return hash_all(self.path, [path for path in found if path != MANIFEST], deadline, threads)
        except OSError as exc:
            raise cannot_store(exc, self.path)

    def manifest(
        self,
        started: float,
        server: SourceServer,
        tool: str | None,
        source_bytes: int | None,
        files: Sequence[File],
        contents: Mapping[str, Any],
        encryption: str | None = None,
    ) -> Manifest:
        """Return the manifest of the backup, which is complete now."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": cast(Kind, self.kind),
            "name": self.name,
            "stamp": self.stamp,
            "host": platform.node(),
            "started": round(started, 3),
            "finished": round(time.time(), 3),
            "server": server,
            "tool": tool,
            "collection_version": COLLECTION_VERSION,
            "source_bytes": source_bytes,
            "files": list(files),
            "encryption": encryption,
            "contents": dict(contents),
        }

    def finish(self, manifest: Manifest, deadline: Deadline | None = None, reread: bool = True) -> Artefact:
        """Make the backup complete: write the manifest, flush everything to the disk, verify it, and rename it.

        ``reread``: compare all checksums with what is on the disk, not only the sizes. Raises CannotStore, Damaged,
        OutOfTime.
        """
        deadline = deadline or Deadline(float("inf"))
        problem = _manifests.manifest_problem(manifest, self.kind, self.name, self.stamp)
        if problem:
            raise BadOption("manifest: %s" % problem)
        text = _manifests.written(_manifests.sealed(manifest))
        try:
            sync_all(self.path, deadline)
            with Directory(self.path) as directory:
                directory.replace(MANIFEST, text)
            problems = verify_files(self.path, manifest, deadline, checksums=reread)
            with Directory(self.path) as directory:
                if directory.read(MANIFEST, MANIFEST_BYTES) != text:
                    problems.append("%s differs from what was written" % MANIFEST)
            if problems:
                raise Damaged("The backup was not written as it was sent: %s" % "; ".join(problems[:5]))
            os.rename(self.path, self._complete)
            self.finished = True
            sync_directory(os.path.dirname(self._complete))
        except OSError as exc:
            raise cannot_store(exc, self.path)
        return Artefact(
            self.kind,
            self.name,
            self.stamp,
            self._complete,
            stamp_time(self.stamp),
            manifest,
            _manifests.checksum(text),
            None,
            None,
            None,
        )
