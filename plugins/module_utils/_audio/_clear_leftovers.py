# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deletes old temporary files in the container of an audio service. Private to this collection."""

from __future__ import annotations

from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _inside, _results
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

SPEC: Part = {
    "service": {"type": "str", "required": True},
    "project": {"type": "str"},
    "user": {"type": "str"},
    "python": {"type": "str", "default": ""},
    **_engine.SOCKET_SPEC,
    "temporary_directory": {"type": "str", "default": ""},
    "patterns": {"type": "list", "elements": "str", "required": True},
    "older_than": {"type": "float", "default": 86400.0},
    "max_files": {"type": "int", "default": 1000},
    "timeout": {"type": "float", "default": 5.0},
    "deadline": {"type": "float", "default": 60.0},
}
# The age below which a file may be one that a process is about to open.
LEAST_SECONDS = 60.0
LISTED = 100


class NotDeleted(Failure):
    """The temporary directory cannot be opened."""

    kind = "failed"


def clear(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.audio_leftovers) returns. Raises CannotConnect, BadOption and NotDeleted."""
    _check(options)
    deadline = Deadline(options["deadline"])
    target, api = _inside.find(options, deadline)
    request: Part = {
        "seconds": deadline.remaining(),
        "delete": {
            "temporary": options["temporary_directory"],
            "patterns": options["patterns"],
            "leftover_seconds": options["older_than"],
        },
        "is_check": check_mode,
        "most": options["max_files"],
    }
    found = _inside.run(target, api, options, request, deadline)
    if found["error"]:
        message = str(_results.message(found["error"]))
        raise NotDeleted(message, "Correct `temporary_directory`.")
    deleted, kept = found["deleted"], found["kept"]
    paths = [each["path"] for each in deleted]
    return {
        "changed": bool(deleted),
        "container": target.container,
        "directory": found["path"],
        "deleted": [{**each, "reason": "planned" if check_mode else "deleted"} for each in deleted[:LISTED]],
        "deleted_total": len(deleted),
        "deleted_bytes": sum(each["bytes"] for each in deleted),
        "kept": kept[:LISTED],
        "kept_total": len(kept),
        "left_total": found["left"],
        "diff": {"before": _lines(paths), "after": ""},
    }


def _lines(paths: list[str]) -> str:
    return "".join("%s\n" % path for path in paths[:LISTED])


def _check(options: Options) -> None:
    rules: list[tuple[str, Any]] = [
        ("patterns: is empty", not options["patterns"]),
        ("patterns: one matches almost every name", any(len(each.strip("*?[]!")) < 3 for each in options["patterns"])),
        ("older_than: must be at least %d seconds" % LEAST_SECONDS, not options["older_than"] >= LEAST_SECONDS),
        ("max_files: must be 1 or more", options["max_files"] < 1),
        ("deadline: must be above 0", not options["deadline"] > 0),
    ]
    for message, is_wrong in rules:
        if is_wrong:
            raise BadOption(message, "Correct `%s`." % message.partition(":")[0])
