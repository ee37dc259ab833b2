# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose files against the containers that they made. Private to this collection."""

from __future__ import annotations

import os
from collections import namedtuple

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_file
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE

FILES = "com.docker.compose.project.config_files"
DIRECTORY = "com.docker.compose.project.working_dir"
ENVIRONMENT_FILES = "com.docker.compose.project.environment_file"
PARTS = ("missing", "drift")

# What a project was made of.
Source = namedtuple("Source", "project files directory environment_files")


def compare(containers, labels_of, options, deadline, unknown):
    """``(compose, paths)``: the mapping of the measurement, and which services of the files mount which paths.

    ``missing`` and ``drift`` are null where no file could be read.
    ``containers`` are facts, ``labels_of`` the labels of all containers, by their ids, looked at or not.
    """
    found, paths = {"files": [], "missing": [], "drift": []}, {}
    for source in sources(labels_of.values(), options):
        project = source.project
        entry = {"project": project, "files": source.files, "error": None}
        found["files"].append(entry)
        try:
            services = within(deadline, options["timeout"], load, source)
        except (OSError, _compose_file.Unreadable) as exc:
            entry["error"] = str(exc)
            cause = exc.__cause__ if isinstance(exc, _compose_file.Unreadable) else exc
            for part in PARTS:
                unknown.add("compose.%s[...]" % part, exc, _rights.hint_of(cause) if cause else None)
            continue
        add_missing(found, source, services, labels_of.values())
        add_drift(found, services, [container for container in containers if container["project"] == project])
        for name, service in services.items():
            for path in service["paths"]:
                paths.setdefault(path, []).append(name)
    if not found["files"] and any(container["project"] for container in containers):
        unknown.add("compose", "no container says which compose file made it, and compose_files names none")
        found.update(dict.fromkeys(PARTS))
    elif found["files"] and all(entry["error"] for entry in found["files"]):
        found.update(dict.fromkeys(PARTS))
    return found, paths


def sources(all_labels, options):
    """The Source of each project: what the options name, else what compose v2 wrote on its containers."""
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


def source(labels):
    """What compose says on a container about its origin; null where it says nothing."""
    project, files = labels.get(PROJECT), labels.get(FILES)
    if not project or not files:
        return None
    directory = labels.get(DIRECTORY) or ""
    paths = located(files.split(","), directory)
    environment = [os.path.join(directory, path) for path in (labels.get(ENVIRONMENT_FILES) or "").split(",") if path]
    return Source(project, paths, directory or os.path.dirname(paths[0]), environment)


def located(files, directory):
    """Absolute paths of the files that compose noted.

    compose v1 noted them as they were given to it, and not where that was: above the directory of the project, where
    the first one leads down to it.
    """
    called_from, below = directory, "/" + os.path.dirname(files[0])
    if len(below) > 1 and directory.endswith(below):
        called_from = directory[: -len(below)] or "/"
    return [os.path.normpath(os.path.join(called_from, path)) for path in files]


def load(source):
    """The services that it wants, by name. Raises _compose_file.Unreadable."""
    return _compose_file.load(source.files, source.directory, source.environment_files)


def words(source):
    """What tells compose that this project is meant, and all that it was made of."""
    found = ["--project-name", source.project, "--project-directory", source.directory]
    found += [word for path in source.environment_files for word in ("--env-file", path)]
    return found + [word for path in source.files for word in ("--file", path)]


def add_missing(found, source, services, all_labels):
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


def differs(what, file, running):
    """Whether a value of the file is another than that of the container."""
    if what != "image":
        return file != running
    file, running = _compose_file.full_name(file), _compose_file.full_name(running or "")
    # Podman calls an image by the registry that it has found it in, Docker by its id once the tag has moved on.
    registry, _slash, found_there = running.partition("/")
    is_there = ("." in registry or ":" in registry) and found_there == file
    return not (running == file or is_there or running.startswith("sha256:"))


def add_drift(found, services, mine):
    """What was changed in the file and never applied: ``restart`` does not, only ``up -d`` does."""
    for container in mine:
        service = services.get(container["service"])
        if service is None:
            continue
        for what, running in (("image", container["image"]), ("memory_limit_bytes", container["memory_limit_set"])):
            if service[what] is not None and differs(what, service[what], running):
                found["drift"].append(
                    {
                        "project": container["project"],
                        "service": container["service"],
                        "container": container["name"],
                        "id": container["id"],
                        "started_at": container["started_at"],
                        "protected": container["protected"],
                        "what": what,
                        "file": service[what],
                        "running": running,
                    }
                )
