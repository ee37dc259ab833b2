# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log files of containers that no rotation bounds, from the files of the engine. Private to this collection."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_logs import is_unbounded
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

ID_LENGTH = 64
PATH_LENGTH = 300


class LogFile(NamedTuple):
    """The log file of a container, by its id."""

    container: str
    path: str
    bytes: int


def find(engine: Engine, deadline: Deadline, unknown: Unknown) -> list[LogFile] | None:
    """Return the log files without a maximum size, the largest first; null without the right to read them."""
    try:
        identities = [name for name in os.listdir(engine.root) if len(name) == ID_LENGTH]
    except FileNotFoundError:
        return []
    except OSError as exc:
        unknown.add("container_logs", "%s: %s" % (engine.root, exc.strerror or exc), _rights.hint_of(exc))
        return None
    found = []
    for identity in identities:
        if deadline.expired():
            unknown.add("container_logs[...]", "there was no time for the logs of all containers")
            break
        if is_unbounded(engine.file(identity, "hostconfig.json") or {}):
            # Where the engine puts it; the other files of the container do not have to be read.
            path = "%s/%s/%s-json.log" % (engine.root, identity, identity)
            with contextlib.suppress(OSError):
                found.append(LogFile(identity, path, os.stat(path).st_blocks * 512))
    return sorted(found, key=lambda each: (-each.bytes, each.container))


def describe(log: LogFile, named: Part) -> Part:
    """Return a log file as the measurement has it. ``named`` has ``container``, ``service`` and ``project``."""
    return dict(named, path=cut(shown(log.path), PATH_LENGTH), bytes=log.bytes)
