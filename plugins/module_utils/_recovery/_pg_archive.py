# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive of pg_dump in a backup, and the programs that may read it. Private to this collection."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Collection, Iterator, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _encryption, _scratch_directory
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import cannot_store

# pg_restore of an earlier release runs code that a crafted archive holds. By major version, the first release with the
# fix; https://www.postgresql.org/support/security/
CVE = "CVE-2026-116314"
FIXED = {14: 140025, 15: 150020, 16: 160016, 17: 170012, 18: 180007}
TABLE_OF_CONTENTS = "toc.dat"
# Of the custom format.
FILE = "dump"


class VulnerableClient(Failure):
    """pg_restore is older than the release that fixes a code execution by a crafted archive."""

    kind = "vulnerable_client"


class NoArchive(Failure):
    """The backup holds no archive of pg_dump."""

    kind = "no_archive"


def vulnerable(version_num: int) -> str | None:
    """Return the release with the fix that this version lacks, or null. A later major version has it."""
    major = version_num // 10000
    if major > max(FIXED):
        return None
    fixed = FIXED.get(major)
    if fixed is None:
        return "%d.%d" % divmod(FIXED[min(FIXED)], 10000)
    return None if version_num >= fixed else "%d.%d" % divmod(fixed, 10000)


def require_fixed(version_num: int, source: str, accepted: Collection[str]) -> None:
    """Raise VulnerableClient if this pg_restore must not read an archive. ``accepted`` are CVE numbers."""
    fixed = vulnerable(version_num)
    if fixed and CVE not in accepted:
        raise VulnerableClient(
            "pg_restore %d.%d (%s) runs code that a crafted archive holds (%s)"
            % (*divmod(version_num, 10000), source, CVE),
            "Update to PostgreSQL %s; or, for a backup of a server that you trust, set `accept_cve: [%s]`."
            % (fixed, CVE),
        )


def location(manifest: Mapping[str, Any]) -> str:
    """Return the path of the archive below the backup: a directory with a table of contents, or a file.

    Without the suffix of an encryption. Raises NoArchive.
    """
    suffix = _encryption.SUFFIXES.get(manifest["encryption"] or "", "")
    paths = [each["path"] for each in manifest["files"]]
    plain = [path[: -len(suffix)] if suffix and path.endswith(suffix) else path for path in paths]
    for path in plain:
        if os.path.basename(path) == TABLE_OF_CONTENTS and os.path.dirname(path):
            return os.path.dirname(path)
    for path in plain:
        if path == FILE:
            return path
    raise NoArchive("the backup holds no archive of pg_dump")


@contextlib.contextmanager
def opened(
    path: str, manifest: Mapping[str, Any], identity: str | None, work_directory: str, deadline: Deadline
) -> Iterator[str]:
    """Yield the path of the archive, of an encrypted backup that of a decrypted copy, which is removed at the end.

    ``identity`` is the file with the key for age. Raises NoArchive, DamagedBackup, CannotDecrypt, NoSpace, OutOfTime.
    """
    where = location(manifest)
    program = manifest["encryption"]
    if not program:
        yield os.path.join(path, where)
        return
    suffix = _encryption.SUFFIXES[program]
    names = [each["path"] for each in manifest["files"]]
    wanted = [name for name in names if name == where + suffix or name.startswith(where + os.sep)]
    try:
        with _scratch_directory.made(work_directory) as folder:
            _encryption.decrypt_below(path, folder, program, identity, deadline, wanted)
            yield os.path.join(folder, where)
    except OSError as exc:
        raise cannot_store(exc, work_directory)


def arguments(archive: str, database: str, jobs: int | None = None, tablespaces: bool = True) -> list[str]:
    """Return the arguments of pg_restore: it ends at the first error.

    A subscription of a restored copy would take over the slot of the original, so none is restored.
    """
    words = ["--dbname", database, "--exit-on-error", "--no-subscriptions"]
    words += ["--jobs", str(jobs)] if jobs else []
    return words + ([] if tablespaces else ["--no-tablespaces"]) + [archive]
