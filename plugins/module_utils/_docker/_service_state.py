# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether compose services have containers, and whether these run without crashing. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_facts, _engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Restarts by the restart policy, the last one within the seconds, that are a crash loop: the defaults of the check
# containers.crash_loop.
LOOP_RESTARTS = 3
LOOP_SECONDS = 300.0
# Containers of one service that are inspected.
MOST_CONTAINERS = 20


def service_states(
    docker_host: str, names: Sequence[str], project: str, timeout: float, deadline: Deadline
) -> list[Part]:
    """Return ``[{name, containers, container_names, looping}]`` of compose services. Raises CannotConnect, BadOption.

    ``looping`` is whether a container of the service is in a crash loop, which a restart does not end.
    """
    if not _engine.is_installed(docker_host):
        return [{"name": name, "containers": 0, "container_names": [], "looping": False} for name in names]
    address = _engine.address({"docker_host": docker_host, "tls": False})
    label = ["%s=%s" % (PROJECT, project)] if project else []
    with DockerApi(address, timeout, deadline) as client:
        client.negotiate()
        rows = client.containers(*label)
        return [_state(client, name, rows) for name in names]


def _state(client: DockerApi, name: str, rows: Sequence[Mapping[str, Any]]) -> Part:
    own = [row for row in rows if (row.get("Labels") or {}).get(SERVICE) == name]
    inspected = (client.inspect(row["Id"]) for row in own[:MOST_CONTAINERS])
    return {
        "name": name,
        "containers": len(own),
        "container_names": [(row.get("Names") or [row["Id"]])[0].lstrip("/") for row in own[:MOST_CONTAINERS]],
        "looping": any(_is_looping(_container_facts.facts(data, [])) for data in inspected if data),
    }


def _is_looping(facts: Mapping[str, Any]) -> bool:
    if facts["gave_up"] or facts["status"] == "restarting":
        return True
    uptime = facts["uptime_seconds"]
    return (facts["restarts"] or 0) >= LOOP_RESTARTS and uptime is not None and uptime < LOOP_SECONDS
