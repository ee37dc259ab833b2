# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the containers of an engine, and the engine itself. Private to this collection.

It takes one list, one inspection of each container and two readings of the kernel's files. The statistics of the engine
are not used: they take a second for each container.
"""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _compose_drift,
    _container_facts,
    _container_filesystems,
    _container_logs,
    _container_processes,
    _container_use,
    _docker_disk,
    _engine,
    _last_words,
    _mounted_paths,
    _obstacles,
    _shared_network,
    _start_errors,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    DAEMON_CONFIGURATION,
    PROJECT,
    SERVICE,
    name_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import Row
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    Unknown,
    cut,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC = dict(
    _engine.SPEC,
    project={"type": "str", "default": ""},
    expected_services={"type": "list", "elements": "str", "default": []},
    compose_files={"type": "list", "elements": "path", "default": []},
    sample_seconds={"type": "float", "default": 0.3},
    disk_seconds={"type": "float", "default": 3.0},
    max_containers={"type": "int", "default": 500},
    restarts_window={"type": "float", "default": 300.0},
    daemon_config={"type": "path", "default": DAEMON_CONFIGURATION},
    top={"type": "int", "default": 100},
    top_volumes={"type": "int", "default": 10},
    deadline={"type": "float", "default": 10.0},
)

PARTS = (
    "engine",
    "containers",
    "containers_total",
    "without_memory_limit",
    "missing_services",
    "ports_taken",
    "compose",
    "paths",
    "filesystems",
    "unrotated_logs",
    "disk",
)
# Parts that are derived from inspections.
INSPECTED_PARTS = (
    "containers",
    "ports_taken",
    "paths",
    "filesystems",
    "compose.drift",
    "compose.orphans",
)
# Facts of a container that does not work.
EXPLANATIONS = (
    "recent_restarts",
    "last_exit_code",
    "last_exit_meaning",
    "health_output",
    "obstacle",
    "log_tail",
)
# Containers without a memory limit that are named.
LARGEST = 5
# Containers whose log is read.
MAX_LOGS = 20
# Seconds that are kept to build the measurement.
RESERVE_SECONDS = 0.3


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.container_state_info documents. Raises BadOption."""
    check_options(options)
    if not _engine.is_installed(options["docker_host"]):
        return reached(without_engine(), Unknown())
    deadline = Deadline(max(0.1, options["deadline"] - RESERVE_SECONDS))
    with DockerApi(_engine.address(options), options["timeout"], deadline) as client:
        try:
            return _measure(client, options, deadline)
        except CannotConnect as exc:
            return unreachable(PARTS, _engine.unless_forbidden(exc))


def _measure(client: DockerApi, options: Options, deadline: Deadline) -> Measurement:
    unknown = Unknown()
    version = client.negotiate()
    rows = listed(client, options)
    disk = _docker_disk.DiskUse(client, options["disk_seconds"]) if options["disk_seconds"] > 0 else None
    inspected = inspections(client, rows, options, unknown)
    partly = any(entry["part"] == "containers[...]" for entry in unknown.parts)
    engine = engine_facts(client, version, options, deadline, unknown)
    labels_of = {row["Id"]: row.get("Labels") or {} for row in rows}
    containers = [described(data, options) for data in inspected]
    add_namesakes(containers)
    compose = paths = ports = filesystems = None
    _shared_network.add(client, containers, inspected, unknown)
    is_local = _listeners.is_local(options["docker_host"])
    if is_local:
        use = _container_use.Use(inspected)
        processes = _container_processes.Processes(inspected)
        detailed = engine["kind"] == "docker"
        compose, of_files = _compose_drift.compare(
            inspected, containers, labels_of, options, deadline, unknown, images(client), detailed
        )
        paths = _mounted_paths.paths(inspected, of_files, options, deadline, unknown)
        ports = ports_taken(containers)
        filesystems = _container_filesystems.filesystems(inspected, engine["data_root"], options, deadline, unknown)
        now = partial(state_now, client)
        use.finish(containers, options["sample_seconds"], deadline, unknown, now, engine["rootless"])
        processes.finish(containers, deadline, unknown)
    else:
        unknown.add("containers.*", "the engine is on another machine, whose kernel counters cannot be read from here")
    around = _obstacles.Surroundings(
        rows,
        None,
        {entry["path"] for entry in paths or [] if entry["exists"] is False},
        is_local,
        ports or [],
        _engine.command(engine["kind"], options["docker_host"]),
    )
    explain(client, containers, inspected, around, options, filesystems or [])
    if disk:
        disk_use = disk.summary(deadline.remaining(options["disk_seconds"]), options["top_volumes"], unknown)
    return reached(
        {
            "engine": engine,
            "containers": worst_first(containers)[: options["top"]],
            "containers_total": len(rows),
            "without_memory_limit": None if partly else without_memory_limit(containers),
            "missing_services": missing_services(labels_of.values(), options, compose),
            "ports_taken": ports,
            "compose": compose,
            "paths": paths,
            "filesystems": filesystems,
            "unrotated_logs": None if partly else _container_logs.unrotated(inspected, is_local, unknown),
            "disk": disk_use if disk else None,
        },
        unknown,
    )


def check_options(options: Options) -> None:
    """Raise BadOption for a limit under which nothing would be measured, and so nothing be found."""
    for name, least in (("top", 1), ("max_containers", 1), ("top_volumes", 0), ("sample_seconds", 0)):
        if options[name] < least:
            raise BadOption(
                "%s: must be %d or more, not %s" % (name, least, options[name]), hint="Correct `%s`." % name
            )
    for name in ("timeout", "deadline"):
        if options[name] <= 0:
            raise BadOption("%s: must be above 0 seconds" % name, hint="Correct `%s`." % name)
    if not options["docker_host"]:
        raise BadOption("docker_host: is empty", hint="Set `docker_host` to the address of the engine, or omit it.")


def without_engine() -> Part:
    """Return the parts of a machine without an engine, which is no failure."""
    engine: Part = dict.fromkeys(ENGINE_FIELDS)
    engine.update(installed=False, daemon_configuration={"exists": False, "valid": None, "error": None, "path": None})
    return {
        "engine": engine,
        "containers": [],
        "containers_total": 0,
        "without_memory_limit": without_memory_limit([]),
        "missing_services": [],
        "ports_taken": [],
        "compose": {"files": [], **{part: [] for part in _compose_drift.PARTS}},
        "paths": [],
        "filesystems": [],
        "unrotated_logs": _container_logs.unrotated([], True, Unknown()),
        "disk": _docker_disk.summary({"LayersSize": 0}),
    }


def listed(client: DockerApi, options: Options) -> list[Row]:
    """Return the rows of the containers of the project, or of all."""
    label = ["%s=%s" % (PROJECT, options["project"])] if options["project"] else []
    return client.containers(*label)


def inspections(client: DockerApi, rows: Sequence[Row], options: Options, unknown: Unknown) -> list[Row]:
    """Return the inspection of each container, without those that were removed meanwhile."""
    found: list[Row] = []
    for row in rows[: options["max_containers"]]:
        try:
            data = client.inspect(row["Id"])
        except _engine.Rejected as exc:
            incomplete(unknown, "%s: %s" % (name_of(row), exc), exc.hint)
        except CannotConnect as exc:
            if not found:
                raise
            incomplete(unknown, "%s, and those after it: %s" % (name_of(row), exc), exc.hint)
            break
        else:
            found += [data] if data else []
    if len(rows) > options["max_containers"]:
        reason = "only %d of %d were inspected" % (options["max_containers"], len(rows))
        incomplete(unknown, reason, "Raise `max_containers`.")
    return found


def images(client: DockerApi) -> Callable[[str], Mapping[str, Any] | None]:
    """Return a function that returns the configuration of an image by its id, null if it cannot be read."""
    known: dict[str, Mapping[str, Any] | None] = {}

    def image_of(identity: str) -> Mapping[str, Any] | None:
        if identity not in known:
            try:
                known[identity] = client.read("images", identity, "json").get("Config") if identity else None
            except CannotConnect:
                known[identity] = None
        return known[identity]

    return image_of


def incomplete(unknown: Unknown, reason: str, hint: str | None) -> None:
    """Note that containers are missing from the measurement, and from the parts that are derived from them."""
    if not any(entry["part"] == "containers[...]" for entry in unknown.parts):
        for part in INSPECTED_PARTS:
            unknown.add(part + "[...]", reason, hint)
        for part in ("without_memory_limit", "unrotated_logs"):
            unknown.add(part, reason, hint)


def explain(
    client: DockerApi,
    containers: Sequence[Part],
    inspected: Sequence[Row],
    around: _obstacles.Surroundings,
    options: Options,
    filesystems: Sequence[Part],
) -> None:
    """Add why containers that do not work failed, and whether a restart may help them."""
    pairs = [(facts, data) for facts, data in zip(containers, inspected) if is_failing(facts)]
    if not pairs:
        return
    if options["project"]:
        # Containers of other projects may share a namespace with these.
        with contextlib.suppress(CannotConnect):
            around = around._replace(rows=client.all_containers())
    around = around._replace(networks=client.networks())
    window = options["restarts_window"]
    ends = _last_words.ends(client, [facts["id"] for facts, _data in pairs if facts["restarts"]], window)
    for position, (facts, data) in enumerate(pairs):
        known = ends.get(facts["id"])
        facts["recent_restarts"] = _last_words.recent_restarts(data, known, window)
        code = facts["exit_code"] if facts["status"] != "running" else None
        facts["last_exit_code"] = known.codes[-1] if code is None and known and known.codes else code
        facts["last_exit_meaning"] = _container_facts.explain(facts["last_exit_code"])
        facts["health_output"] = _last_words.health_output(data["State"])
        taken = [port for port in around.ports_taken if port["container"] == facts["name"]]
        obstacle = _obstacles.find(data, around._replace(ports_taken=taken), facts["compose_options"])
        tail = None
        if position < MAX_LOGS and not facts["error_message"]:
            tail = _last_words.tail(client, facts["id"])
            facts["log_tail"] = None if tail is None else tail[-_last_words.LINES :]
        if obstacle is None:
            written = "\n".join([*(facts["log_tail"] or []), facts["health_output"] or ""])
            obstacle = _obstacles.written(data, written, filesystems)
        ended = code is not None or facts["recent_restarts"]
        if obstacle is None and tail and ended:
            apply = _obstacles.apply_command(data, around, facts["compose_options"])
            obstacle = _start_errors.find("\n".join(tail), facts["last_exit_code"], apply) or obstacle
        facts["obstacle"] = obstacle._asdict() if obstacle else None
        if obstacle and obstacle.kind != "dependency":
            facts["awaits_start"] = False


def is_failing(facts: Part) -> bool:
    """Return whether a container is down with an error, restarts, or is not healthy."""
    if facts["status"] in ("running", "paused"):
        return facts["health"] == "unhealthy" or bool(facts["restarts"])
    return True


def state_now(client: DockerApi, identity: str) -> Mapping[str, Any] | None:
    """Return the current state of a container, empty if it was removed; null if it cannot be read."""
    try:
        return (client.inspect(identity) or {}).get("State", {})
    except CannotConnect:
        return None


ENGINE_FIELDS = (
    "installed",
    "kind",
    "rootless",
    "version",
    "major_version",
    "api_version",
    "cgroup_version",
    "cgroup_driver",
    "storage_driver",
    "live_restore",
    "data_root",
    "warnings",
    "daemon_configuration",
)


def engine_facts(client: DockerApi, version: Row, options: Options, deadline: Deadline, unknown: Unknown) -> Part:
    """Return the part ``engine``. ``version`` is the engine's answer to ``/version``."""
    try:
        info = client.read("info")
    except CannotConnect as exc:
        # The engine queries every driver and plugin for it, and may wait for a broken one.
        unknown.add("engine.*", exc)
        info = {}
    number = version.get("Version") or ""
    major = number.split(".", 1)[0]
    return {
        "installed": True,
        "kind": _engine.kind_of(version),
        "rootless": _engine.is_rootless(info) if info else None,
        "version": number,
        "major_version": int(major) if major.isdigit() else None,
        "api_version": version.get("ApiVersion"),
        "cgroup_version": int(info["CgroupVersion"]) if (info.get("CgroupVersion") or "").isdigit() else None,
        "cgroup_driver": info.get("CgroupDriver"),
        "storage_driver": info.get("Driver"),
        "live_restore": info.get("LiveRestoreEnabled"),
        "data_root": info.get("DockerRootDir"),
        "warnings": [cut(redact(warning), 300) for warning in info.get("Warnings") or []],
        "daemon_configuration": daemon_configuration(options, deadline, unknown),
    }


def daemon_configuration(options: Options, deadline: Deadline, unknown: Unknown) -> Part:
    """Return whether the configuration of the engine is valid, which its next start requires."""
    path = options["daemon_config"]
    found: Part = {"path": path, "exists": True, "valid": None, "error": None}
    try:
        content = within(deadline, options["timeout"], _content, path)
    except FileNotFoundError:
        return dict(found, exists=False)
    except OSError as exc:
        reason = "%s: %s" % (path, exc.strerror or exc)
        unknown.add("engine.daemon_configuration.valid", reason, _rights.hint_of(exc))
        return dict(found, exists=None, error=exc.strerror or str(exc))
    try:
        valid = isinstance(json.loads(content or "{}"), dict)
        return dict(found, valid=valid, error=None if valid else "it is not an object")
    except ValueError as exc:
        return dict(found, valid=False, error=str(exc))


def _content(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(1 << 20).strip()


def described(data: Row, options: Options) -> Part:
    """Return the facts of a container; its resource use is added later."""
    found = _container_facts.facts(data, options["expected_services"])
    found.update(
        dict.fromkeys((*_container_use.FIELDS, *_container_processes.FIELDS, *_shared_network.FIELDS, *EXPLANATIONS)),
        ended_meanwhile=False,
    )
    source = _compose_drift.source((data.get("Config") or {}).get("Labels") or {})
    found["compose_options"] = _compose_drift.words(source) if source else []
    return found


def missing_services(all_labels: Iterable[Mapping[str, str]], options: Options, compose: Part | None) -> list[Part]:
    """Return the expected services without any container, inspected or not."""
    present = {labels.get(SERVICE) for labels in all_labels}
    known = list(_compose_drift.sources(all_labels, options)) if options["project"] else []
    in_files = (compose or {}).get("missing") or []
    found: list[Part] = []
    for name in options["expected_services"]:
        if any(_compose_drift.is_expected(service, [name]) for service in present):
            continue
        # The project whose compose file has the service, if no project is named and only one has it.
        entries = [each for each in in_files if each["service"] == name]
        entries = [each for each in entries if options["project"] in ("", None, each["project"])]
        entry = entries[0] if len(entries) == 1 else {}
        found.append(
            {
                "project": options["project"] or entry.get("project"),
                "service": name,
                "protected": False,
                "compose_options": _compose_drift.words(known[0]) if known else entry.get("compose_options", []),
                "unconfirmed": entry.get("unconfirmed", []),
            }
        )
    return found


def add_namesakes(containers: Sequence[Part]) -> None:
    """Add whether another project, of those that are measured, has a service of the same name."""
    projects: dict[str, set[str]] = {}
    for each in containers:
        if each["service"] and each["project"]:
            projects.setdefault(each["service"], set()).add(each["project"])
    for each in containers:
        each["has_namesake"] = bool(projects.get(each["service"], set()) - {each["project"]})


def without_memory_limit(containers: Sequence[Part]) -> Part:
    """Return the running services without a memory limit, those that use most first."""
    found = [each for each in containers if each["status"] == "running" and each["service"] is not None]
    found = [each for each in found if each["memory_limit_set"] == 0]
    found.sort(key=lambda each: (-(each["memory_bytes"] or 0), each["name"]))
    used = [each["memory_bytes"] for each in found if each["memory_bytes"] is not None]
    return {
        "total": len(found),
        "memory_bytes": sum(used) if used else None,
        "largest": [{"name": each["name"], "memory_bytes": each["memory_bytes"]} for each in found[:LARGEST]],
    }


def ports_taken(containers: Sequence[Part]) -> list[Part]:
    """Return the ports of the host that a container which is down needs and another process holds."""
    down = [container for container in containers if container["status"] in ("created", "exited", "dead")]
    # A container that has finished its work does not need them.
    down = [
        container for container in down if container["exit_code"] != 0 or container["restart_policy"] not in ("no", "")
    ]
    if not any(container["ports"] for container in down):
        return []
    running = [container for container in containers if container["status"] in _container_use.ALIVE]
    listeners = _listeners.listeners()
    return [entry for container in down for entry in _listeners.taken(container, listeners, running)]


def worst_first(containers: Iterable[Part]) -> list[Part]:
    """Return the containers with those that are down or unhealthy first, so that no limit on the list hides them."""

    def rank(container: Part) -> tuple[bool, int, float, str]:
        well = container["status"] == "running" and container["health"] in (None, "healthy")
        return well, -(container["restarts"] or 0), -(container["memory_ratio"] or 0), container["name"]

    return sorted(containers, key=rank)
