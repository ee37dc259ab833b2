# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What fills a file system, from what was measured on it. Pure. Private to this collection."""

from __future__ import annotations

from typing import Iterable, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Share of the used space that is worth naming, and share of a directory at which a file in it is named instead.
LEAST_SHARE = 0.02
SAME = 0.8
MOST = 3
NONE: Part = dict.fromkeys(("kind", "path", "bytes", "container", "command", "pid"))


def causes(used: int, deleted: Iterable[Part], logs: Iterable[Part], walks: Sequence[Part]) -> list[Part]:
    """Return what holds most of the ``used`` bytes: deleted files, logs of containers, files and directories.

    The arguments are the parts of the measurement about one file system. ``walks`` are items of ``largest``.
    """
    found = [
        dict(NONE, kind="deleted", **{name: each[name] for name in ("path", "bytes", "container", "command", "pid")})
        for each in deleted
    ]
    found += [
        dict(NONE, kind="container_log", path=each["path"], bytes=each["bytes"], container=each["container"])
        for each in logs
    ]
    known = {each["path"] for each in found if each["kind"] == "container_log"}
    for walk in walks:
        place = {"container": walk["container"]}
        files = [each for each in walk["largest_files"] if each["path"] not in known]
        found += [dict(NONE, kind="file", path=each["path"], bytes=each["bytes"], **place) for each in files]
        found += [
            dict(NONE, kind="directory", path=each["path"], bytes=each["bytes"], **place)
            for each in walk["directories"]
        ]
    singles = [each for each in found if each["kind"] in ("file", "container_log")]
    found = [each for each in found if each["kind"] != "directory" or not _is_explained(each, singles)]
    directories = [each for each in found if each["kind"] == "directory"]
    # Many files of one directory are named by it.
    found = [each for each in found if each["kind"] != "file" or not any(_holds(one, each) for one in directories)]
    found = [each for each in found if each["bytes"] >= max(1, used * LEAST_SHARE)]
    return sorted(found, key=lambda each: (-each["bytes"], each["path"]))[:MOST]


def _is_explained(directory: Part, singles: Iterable[Part]) -> bool:
    inner = sum(
        each["bytes"] for each in singles if _holds(directory, each) and each["bytes"] >= directory["bytes"] / 4
    )
    return inner >= directory["bytes"] * SAME


def _holds(directory: Part, each: Part) -> bool:
    return each["path"].startswith(directory["path"].rstrip("/") + "/")
