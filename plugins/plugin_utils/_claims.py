# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures once what many hosts want measured from one host with the same options. Private to this collection.

The first worker of a task that claims a measurement makes it; the others refer to it and do not wait. Workers are
processes that share nothing but the run's temporary directory, which is private to its user and removed at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

from ansible import constants as C

CLAIM, MEASURED = "tracktion-claim-", "tracktion-shared-"
UNFINISHED = "another host's visit was to measure this for all, and did not finish"


def key(task: str, probe_host: str, role: str, wanted: dict) -> str:
    """Name a measurement: the same task, host, role, probes and options. A later task of the run measures anew."""
    return hashlib.sha256(
        json.dumps([task, probe_host, role, wanted], sort_keys=True, default=str).encode()
    ).hexdigest()[:32]


def take(name: str) -> bool:
    """Return whether the measurement is ours to make: whether this is the first claim."""
    try:
        os.close(os.open(_path(CLAIM, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        return False
    except OSError:
        # Without a directory for claims, each host measures by itself.
        return True
    return True


def publish(name: str, measured: dict) -> None:
    """Hand out what was measured: ``{outcome, host, failure}``, of which ``failure`` or the others are null."""
    path = _path(MEASURED, name)
    temporary = "%s.%d" % (path, os.getpid())
    content = json.dumps(measured, default=str).encode("utf-8", "backslashreplace")
    # What cannot be handed out is a failed visit of the hosts that refer to it.
    with contextlib.suppress(OSError):
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)


def take_all(names: dict[str, str | None], visited: dict[str, dict]) -> dict[str, str]:
    """Claim measurements, area -> name, and return those that are ours. The areas in ``visited`` name their claim.

    An area without a name is not shared with other hosts.
    """
    claimed = {}
    for area, name in names.items():
        shared = bool(name) and not take(name)
        visited[area].update(claim=name or None, shared=shared)
        if name and not shared:
            claimed[area] = name
    return claimed


def publish_all(claimed: dict[str, str], visited: dict[str, dict], host: dict | None, failure: dict | None) -> None:
    """Hand out what was measured of the claimed areas, or why nothing was."""
    for area, name in claimed.items():
        if failure:
            publish(name, {"failure": failure})
        else:
            outcome = {each: visited[area][each] for each in ("measurement", "error", "seconds")}
            publish(name, {"outcome": outcome, "host": host, "failure": None})


def resolve(visit: dict) -> dict:
    """Return the result of a visit with the measurements that it refers to, or with the failure of one of them."""
    visit = {**visit, "areas": dict(visit["areas"])}
    for area, outcome in list(visit["areas"].items()):
        if not outcome.get("shared"):
            continue
        found = _read(outcome["claim"])
        if found["failure"]:
            del visit["areas"][area]
            visit["failure"] = visit.get("failure") or found["failure"]
        else:
            visit["areas"][area] = {**outcome, **found["outcome"], "shared": False}
            visit["host"] = visit.get("host") or found["host"]
    return visit


def _read(name: str) -> dict:
    try:
        with open(_path(MEASURED, name), encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {"failure": {"msg": UNFINISHED}}


def _path(prefix: str, name: str) -> str:
    return os.path.join(C.DEFAULT_LOCAL_TMP, prefix + os.path.basename(name))
