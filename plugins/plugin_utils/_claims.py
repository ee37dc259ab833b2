# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures once what many hosts measure from one probe host with the same options. Private to this collection.

The first worker of a task that claims a measurement makes it; the others refer to it and do not wait. Workers are
processes that share only the run's temporary directory, which is private to its user and removed at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import AreaOutcome, HostState, Values, Visit

CLAIM, MEASURED = "tracktion-claim-", "tracktion-shared-"
UNFINISHED = "the visit of another host was to make this measurement, and did not finish"


def key(task: str, probe_host: str, role: str, wanted: Mapping[str, object]) -> str:
    """Return the name of a measurement, a hash. A later task of the run has another ``task``, and measures again."""
    parts = json.dumps([task, probe_host, role, wanted], sort_keys=True, default=str)
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def take(name: str) -> bool:
    """Claim a measurement; return whether this is the first claim, so that this worker makes the measurement."""
    try:
        os.close(os.open(_path(CLAIM, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        return False
    except OSError:
        # Without a directory for claims, each host measures by itself.
        return True
    return True


def publish(name: str, measured: Mapping[str, object]) -> None:
    """Write a measurement for the other workers: ``{outcome, host, failure}``; without ``failure``, or only with it."""
    path = _path(MEASURED, name)
    temporary = "%s.%d" % (path, os.getpid())
    content = json.dumps(measured, default=str).encode("utf-8", "backslashreplace")
    # If it cannot be written, the visits of the hosts that refer to it have failed.
    with contextlib.suppress(OSError):
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)


def take_all(names: Mapping[str, str | None], visited: Mapping[str, AreaOutcome]) -> dict[str, str]:
    """Claim measurements, area -> name; return the claims that succeeded. Note the claim of each area in ``visited``.

    An area without a name is not shared with other hosts.
    """
    claimed: dict[str, str] = {}
    for area, name in names.items():
        shared = bool(name) and not take(name or "")
        visited[area]["claim"] = name
        visited[area]["shared"] = shared
        if name and not shared:
            claimed[area] = name
    return claimed


def publish_all(
    claimed: Mapping[str, str], visited: Mapping[str, AreaOutcome], host: HostState | None, failure: Values | None
) -> None:
    """Write the measurements of the claimed areas for the other workers, or the failure of the visit."""
    for area, name in claimed.items():
        if failure:
            publish(name, {"failure": failure})
        else:
            found = visited[area]
            outcome = {"measurement": found["measurement"], "error": found["error"], "seconds": found["seconds"]}
            publish(name, {"outcome": outcome, "host": host, "failure": None})


def resolve(visit: Visit) -> Visit:
    """Return a visit with the measurements of other workers that it refers to, or with the failure of one of them."""
    visit = {**visit, "areas": dict(visit["areas"])}
    for area, outcome in list(visit["areas"].items()):
        if not outcome.get("shared"):
            continue
        found = _read(outcome.get("claim") or "")
        if found["failure"]:
            del visit["areas"][area]
            visit["failure"] = visit.get("failure") or found["failure"]
        else:
            visit["areas"][area] = {**outcome, **found["outcome"], "shared": False}
            visit["host"] = visit.get("host") or found["host"]
    return visit


def _read(name: str) -> Values:
    try:
        with open(_path(MEASURED, name), encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {"failure": {"msg": UNFINISHED}}


def _path(prefix: str, name: str) -> str:
    return os.path.join(C.DEFAULT_LOCAL_TMP, prefix + os.path.basename(name))
