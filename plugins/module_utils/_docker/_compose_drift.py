# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The differences between compose files and the containers of their projects. Private to this collection."""

from __future__ import annotations

import os
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_file
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

FILES = "com.docker.compose.project.config_files"
DIRECTORY = "com.docker.compose.project.working_dir"
ENVIRONMENT_FILES = "com.docker.compose.project.environment_file"
PARTS = ("missing", "drift")


class Source(NamedTuple):
    """What compose creates a project from. The paths are absolute."""

    project: str
    files: list[str]
    directory: str
    environment_files: list[str]


def compare(
    containers: Sequence[Part],
    labels_of: Mapping[str, Mapping[str, str]],
    options: Options,
    deadline: Deadline,
    unknown: Unknown,
) -> tuple[Part, dict[str, list[str]]]:
    """Return ``(compose, paths)``: the part of the measurement, and the services of the files by the path they mount.

    ``missing`` and ``drift`` are null if no file could be read. ``containers`` are facts of the inspected containers,
    ``labels_of`` the labels of all containers by id.
    """
    found: Part = {"files": [], "missing": [], "drift": []}
    paths: dict[str, list[str]] = {}
    for source in sources(labels_of.values(), options):
        project = source.project
        entry: Part = {"project": project, "files": source.files, "error": None}
        found["files"].append(entry)
        try:
            services = within(deadline, options["timeout"], load, source)
        except (OSError, _compose_file.Unreadable) as exc:
            entry["error"] = str(exc)
            cause = exc.__cause__ if isinstance(exc, _compose_file.Unreadable) else exc
            hint = _rights.hint_of(cause) if isinstance(cause, OSError) else None
            for part in PARTS:
                unknown.add("compose.%s[...]" % part, exc, hint)
            continue
        add_missing(found, source, services, labels_of.values())
        add_drift(found, services, [container for container in containers if container["project"] == project])
        for name, service in services.items():
            for path in service["paths"]:
                paths.setdefault(path, []).append(name)
    if not found["files"] and any(container["project"] for container in containers):
        unknown.add("compose", "no container has a label with its compose file, and compose_files is empty")
        found.update(dict.fromkeys(PARTS))
    elif found["files"] and all(entry["error"] for entry in found["files"]):
        found.update(dict.fromkeys(PARTS))
    return found, paths


def sources(all_labels: Iterable[Mapping[str, str]], options: Options) -> Iterator[Source]:
    """Yield the Source of each project: that of the options, else those in the labels of compose v2."""
    if options["compose_files"]:
        files = options["compose_files"]
        yield Source(options["project"], files, os.path.dirname(files[0]), [])
        return
    seen = set()
    for labels in all_labels:
        found = source(labels)
        if found and found.project not in seen:
            seen.add(found.project)
            yield found


def source(labels: Mapping[str, str]) -> Source | None:
    """Return the Source in the labels of a container; null if compose set none."""
    project, files = labels.get(PROJECT), labels.get(FILES)
    if not project or not files:
        return None
    directory = labels.get(DIRECTORY) or ""
    paths = located(files.split(","), directory)
    environment = [os.path.join(directory, path) for path in (labels.get(ENVIRONMENT_FILES) or "").split(",") if path]
    return Source(project, paths, directory or os.path.dirname(paths[0]), environment)


def located(files: Sequence[str], directory: str) -> list[str]:
    """Return the absolute paths of the files in a label.

    The label of compose v1 holds them relative to the directory that it ran in, which it does not record: a parent of
    the directory of the project, if the first file leads down to that.
    """
    called_from, below = directory, "/" + os.path.dirname(files[0])
    if len(below) > 1 and directory.endswith(below):
        called_from = directory[: -len(below)] or "/"
    return [os.path.normpath(os.path.join(called_from, path)) for path in files]


def load(source: Source) -> dict[str, _compose_file.Service]:
    """Return the services of a Source by name. Raises _compose_file.Unreadable."""
    return _compose_file.load(source.files, source.directory, source.environment_files)


def words(source: Source) -> list[str]:
    """Return the options of compose that select this project and its files."""
    found = ["--project-name", source.project, "--project-directory", source.directory]
    found += [word for path in source.environment_files for word in ("--env-file", path)]
    return found + [word for path in source.files for word in ("--file", path)]


def add_missing(
    found: Part,
    source: Source,
    services: Mapping[str, _compose_file.Service],
    all_labels: Iterable[Mapping[str, str]],
) -> None:
    """Add the services without a container."""
    present = {labels.get(SERVICE) for labels in all_labels if labels.get(PROJECT) == source.project}
    found["missing"] += [
        {
            "project": source.project,
            "service": name,
            "protected": False,
            "compose_options": words(source),
        }
        for name, service in sorted(services.items())
        if service["expected"] and name not in present
    ]


def differs(what: str, file: Any, running: Any) -> bool:
    """Return whether a value of the file differs from that of the container."""
    if what != "image":
        return file != running
    file, running = _compose_file.full_name(file), _compose_file.full_name(running or "")
    # Podman adds the registry to the name of an image; Docker replaces the name by the id once the tag has moved.
    registry, _slash, found_there = running.partition("/")
    is_there = ("." in registry or ":" in registry) and found_there == file
    return not (running == file or is_there or running.startswith("sha256:"))


def add_drift(found: Part, services: Mapping[str, _compose_file.Service], containers: Iterable[Part]) -> None:
    """Add changes of the file that were not applied: ``restart`` does not apply them, ``up -d`` does."""
    for container in containers:
        service = services.get(container["service"])
        if service is None:
            continue
        values = (
            ("image", service["image"], container["image"]),
            ("memory_limit_bytes", service["memory_limit_bytes"], container["memory_limit_set"]),
        )
        for what, wanted, running in values:
            if wanted is not None and differs(what, wanted, running):
                found["drift"].append(
                    {
                        "project": container["project"],
                        "service": container["service"],
                        "container": container["name"],
                        "id": container["id"],
                        "started_at": container["started_at"],
                        "protected": container["protected"],
                        "what": what,
                        "file": wanted,
                        "running": running,
                    }
                )
