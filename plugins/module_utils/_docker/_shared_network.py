# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a container that shares the network of another one is still connected. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import SHARES, epoch
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import Row
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

FIELDS = ("network_owner", "network_owner_running", "network_disconnected")


def add(client: DockerApi, containers: Sequence[Part], inspected: Sequence[Row], unknown: Unknown) -> None:
    """Add the FIELDS to the facts of running containers that share the network of another one."""
    by_id = {data["Id"]: data for data in inspected}
    for facts, data in zip(containers, inspected):
        mode = (data.get("HostConfig") or {}).get("NetworkMode") or ""
        if facts["status"] != "running" or not mode.startswith(SHARES):
            continue
        identity = mode[len(SHARES) :]
        try:
            owner = by_id.get(identity) or client.inspect(identity)
        except CannotConnect as exc:
            unknown.add("containers.%s.network_disconnected" % facts["name"], exc)
            continue
        facts["network_owner"] = owner["Name"].lstrip("/") if owner else None
        facts["network_owner_running"] = is_running(owner)
        facts["network_disconnected"] = is_disconnected(data, owner)


def is_running(data: Mapping[str, Any] | None) -> bool:
    """Return whether a container, null for a removed one, has processes."""
    return bool(data) and bool((data or {})["State"].get("Running"))


def is_disconnected(data: Mapping[str, Any], owner: Mapping[str, Any] | None) -> bool | None:
    """Return whether a running container has the network of an earlier run of its owner; null if a time is unknown.

    The engine takes the interfaces away when the owner ends, and connects a new namespace when it starts again.
    """
    if not is_running(owner):
        return True
    began, owner_began = epoch(data["State"].get("StartedAt")), epoch((owner or {})["State"].get("StartedAt"))
    return None if began is None or owner_began is None else owner_began > began
