# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether compose services have containers, and whether these run without crashing. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_facts, _engine, _last_words
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE, name_of
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# What containers.crash_loop calls a crash loop.
SPEC = {
    "restarts": {"type": "int", "default": 3},
    "restarts_window": {"type": "float", "default": 300.0},
}
# Containers of one service that are inspected.
MOST_CONTAINERS = 20


def service_states(options: Options, names: Sequence[str], deadline: Deadline) -> list[Part]:
    """Return ``[{name, project, containers, container_names, running, looping}]`` of compose services.

    Raises CannotConnect, BadOption.

    ``project`` is that of the containers, null without any, and if they are of several projects.
    ``looping`` is whether a container of the service is in a crash loop, which a restart does not end, by the options
    of SPEC. The other options are ``docker_host``, ``project`` and ``timeout``.
    """
    if not _engine.is_installed(options["docker_host"]):
        nothing: Part = {"project": None, "containers": 0, "container_names": [], "running": 0, "looping": False}
        return [{"name": name, **nothing} for name in names]
    address = _engine.address({"docker_host": options["docker_host"], "tls": False})
    label = ["%s=%s" % (PROJECT, options["project"])] if options["project"] else []
    with DockerApi(address, options["timeout"], deadline) as client:
        client.negotiate()
        rows = client.containers(*label)
        own = {name: [row for row in rows if (row.get("Labels") or {}).get(SERVICE) == name] for name in names}
        inspected = {name: _inspect(client, found[:MOST_CONTAINERS]) for name, found in own.items()}
        restarted = [data["Id"] for several in inspected.values() for data in several if data.get("RestartCount")]
        ends = _last_words.ends(client, restarted, options["restarts_window"])
    return [
        {
            "name": name,
            "project": _only({(row.get("Labels") or {}).get(PROJECT) for row in own[name]}),
            "containers": len(own[name]),
            "container_names": [name_of(row) for row in own[name][:MOST_CONTAINERS]],
            "running": sum(row.get("State") == "running" for row in own[name]),
            "looping": any(_is_looping(data, ends.get(data["Id"]), options) for data in inspected[name]),
        }
        for name in names
    ]


def _only(names: set[str | None]) -> str | None:
    return names.pop() if len(names) == 1 else None


def _inspect(client: DockerApi, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [data for data in (client.inspect(row["Id"]) for row in rows) if data]


def _is_looping(data: Mapping[str, Any], known: _last_words.Ends | None, options: Options) -> bool:
    restarts, window = options["restarts"], options["restarts_window"]
    recent = _last_words.recent_restarts(data, known, window)
    return _last_words.is_looping(_container_facts.facts(data, []), recent, restarts, window)
