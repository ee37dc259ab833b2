# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose files against the containers that they made. Private to this collection."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import bounded
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_file
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT

FILES = "com.docker.compose.project.config_files"
DIRECTORY = "com.docker.compose.project.working_dir"
PARTS = ("missing", "drift")


def compare(containers, labels_of, options, deadline, unknown):
    """``(compose, paths)``: the mapping of the measurement, and which services of the files mount which paths.

    ``missing`` and ``drift`` are null where no file could be read.
    ``containers`` are facts, ``labels_of`` the labels by the container's id.
    """
    found, paths = {"files": [], "missing": [], "drift": []}, {}
    for project, files, directory in sources(containers, labels_of, options):
        entry = {"project": project, "files": files, "error": None}
        found["files"].append(entry)
        seconds = deadline.remaining(options["timeout"])
        try:
            services = bounded(_compose_file.load, seconds, files, directory)
        except (OSError, _compose_file.Unreadable) as exc:
            entry["error"] = str(exc)
            unknown.add("compose", exc)
            continue
        mine = [container for container in containers if container["project"] == project]
        add_missing(found, project, services, mine)
        add_drift(found, services, mine)
        for name, service in services.items():
            for path in service["paths"]:
                paths.setdefault(path, []).append(name)
    if not found["files"] and any(container["project"] for container in containers):
        unknown.add("compose", "no container says which compose file made it, and compose_files names none")
        found.update(dict.fromkeys(PARTS))
    elif found["files"] and all(entry["error"] for entry in found["files"]):
        found.update(dict.fromkeys(PARTS))
    return found, paths


def sources(containers, labels_of, options):
    """``project, files, directory``: what the options name, else what compose v2 wrote on its containers."""
    if options["compose_files"]:
        files = options["compose_files"]
        yield options["project"], files, os.path.dirname(files[0])
        return
    seen = set()
    for container in containers:
        labels = labels_of[container["id"]]
        project, files = labels.get(PROJECT), labels.get(FILES)
        directory = labels.get(DIRECTORY) or ""
        if not project or not files or project in seen:
            continue
        seen.add(project)
        paths = located(files.split(","), directory)
        yield project, paths, directory or os.path.dirname(paths[0])


def located(files, directory):
    """Absolute paths of the files that compose noted.

    compose v1 noted them as they were given to it, and not where that was: above the directory of the project, where
    the first one leads down to it.
    """
    called_from, below = directory, "/" + os.path.dirname(files[0])
    if len(below) > 1 and directory.endswith(below):
        called_from = directory[: -len(below)] or "/"
    return [os.path.normpath(os.path.join(called_from, path)) for path in files]


def add_missing(found, project, services, mine):
    present = {container["service"] for container in mine}
    found["missing"] += [
        {"project": project, "service": name, "protected": False}
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
