# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chooses the backup that a proof or a restore reads, and checks its files. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure, cut
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Artefact, Store

MOST_PROBLEMS = 3


class NoBackup(Failure):
    """There is no backup to use."""

    kind = "no_backup"


class DamagedBackup(Failure):
    """The files of the backup are not those of its manifest."""

    kind = "damaged"


def choose(store: Store, kind: str, name: str, stamp: str | None) -> tuple[Artefact, list[str]]:
    """Return the backup with this stamp, else the newest one that can be read, and the stamps of newer ones.

    Raises NoBackup, DamagedBackup, BadOption.
    """
    where = shell_quote(store.folder(kind, name))
    if stamp:
        artefact = store.read(kind, name, stamp)
        if artefact is None:
            raise NoBackup(
                "there is no backup %s in %s" % (cut(stamp, 30), where), "List the backups: `ls -la -- %s`." % where
            )
        if artefact.problem:
            raise DamagedBackup(
                "the backup %s cannot be used: %s" % (artefact.stamp, artefact.problem),
                "Use another one: `ls -la -- %s`." % where,
            )
        return artefact, []
    artefacts = store.list(kind, name)
    usable = [artefact for artefact in artefacts if artefact.problem is None]
    if not usable:
        problems = "; ".join("%s: %s" % (each.stamp, each.problem) for each in artefacts[:MOST_PROBLEMS])
        raise NoBackup(
            "there is no complete backup of %s in %s%s" % (name, where, problems and ": " + problems),
            "If the backups are elsewhere, copy them there or set `recovery_directory`. Otherwise make one:"
            " `ansible-playbook tracktion.ops.backup`.",
        )
    return usable[0], [each.stamp for each in artefacts if each.problem and each.time > usable[0].time]


def require_intact(store: Store, artefact: Artefact, deadline: Deadline) -> None:
    """Raise DamagedBackup unless the files have the sizes and checksums of the manifest. Raises OutOfTime."""
    problems = store.verify(artefact, deadline)
    if problems:
        more = " and %d more" % (len(problems) - MOST_PROBLEMS) if len(problems) > MOST_PROBLEMS else ""
        raise DamagedBackup(
            "the backup %s is damaged: %s%s" % (artefact.stamp, "; ".join(problems[:MOST_PROBLEMS]), more),
            "Use another one: `ls -la -- %s`. Then test the disk: `dmesg --level=err`."
            % shell_quote(artefact.path.rpartition("/")[0]),
        )
