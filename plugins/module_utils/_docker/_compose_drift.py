# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The differences between compose files and the containers of their projects. Private to this collection."""

from __future__ import annotations

import os
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_compare, _compose_file
from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_compare import ImageOf, Pair
from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_file import File, Service
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import Row
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

FILES = "com.docker.compose.project.config_files"
DIRECTORY = "com.docker.compose.project.working_dir"
ENVIRONMENT_FILES = "com.docker.compose.project.environment_file"
PARTS = ("missing", "drift", "orphans")
# Names of variables, ports and paths in one difference, and characters of a value.
MAX_NAMES = 10
MAX_TEXT = 300
# Names of variables in a command.
MAX_VARIABLES = 50

Pairs = Mapping[str, Sequence[Pair]]


class Source(NamedTuple):
    """What compose creates a project from. The paths are absolute."""

    project: str
    files: list[str]
    directory: str
    environment_files: list[str]


def compare(
    inspected: Sequence[Row],
    containers: Sequence[Part],
    labels_of: Mapping[str, Mapping[str, str]],
    options: Options,
    deadline: Deadline,
    unknown: Unknown,
    image_of: ImageOf,
    detailed: bool,
) -> tuple[Part, dict[str, list[str]]]:
    """Return ``(compose, paths)``: the part of the measurement, and the services of the files by the path they mount.

    ``missing``, ``drift`` and ``orphans`` are null if no file could be read. ``containers`` are the facts of the
    ``inspected`` containers, ``labels_of`` the labels of all containers by id. For ``image_of`` and ``detailed`` see
    _compose_compare.
    """
    found: Part = {"files": [], **{part: [] for part in PARTS}}
    paths: dict[str, list[str]] = {}
    known = list(sources(labels_of.values(), options))
    of_container = assigned(known, labels_of, options, deadline)
    for source in known:
        if not options["compose_files"] and source not in of_container.values():
            continue
        project = source.project
        entry: Part = {"project": project, "files": source.files, "error": None}
        found["files"].append(entry)
        try:
            file = within(deadline, options["timeout"], load, source)
        except (OSError, _compose_file.Unreadable) as exc:
            entry["error"] = str(exc)
            cause = exc.__cause__ if isinstance(exc, _compose_file.Unreadable) else exc
            hint = _rights.hint_of(cause) if isinstance(cause, OSError) else None
            for part in PARTS:
                unknown.add("compose.%s[...]" % part, exc, hint)
            continue
        mine = [(facts, data) for facts, data in zip(containers, inspected) if of_container.get(data["Id"]) is source]
        pairs = pairs_of(file, [data for _facts, data in mine], image_of, detailed)
        add_missing(found, source, file, labels_of.values(), pairs, options["expected_services"])
        add_drift(found, source, file, [facts for facts, _data in mine], pairs)
        add_orphans(found, source, file, [facts for facts, _data in mine])
        for name, service in file.services.items():
            for path in service["paths"]:
                paths.setdefault(path, []).append(name)
    if not found["files"] and any(container["project"] for container in containers):
        unknown.add("compose", "no container has a label with its compose file, and compose_files is empty")
        found.update(dict.fromkeys(PARTS))
    elif found["files"] and all(entry["error"] for entry in found["files"]):
        found.update(dict.fromkeys(PARTS))
    return found, paths


def assigned(
    known: Sequence[Source], labels_of: Mapping[str, Mapping[str, str]], options: Options, deadline: Deadline
) -> dict[str, Source]:
    """Return the Source of each container by its id.

    That of its own labels: services of a project may come from different files. If its files are gone, another one of
    its project.
    """
    found = {}
    gone: dict[str, bool] = {}
    for identity, labels in labels_of.items():
        own = source(labels)
        of_project = [each for each in known if each.project == labels.get(PROJECT)]
        if options["compose_files"] or own is None:
            fitting = of_project
        else:
            fitting = [each for each in of_project if each.files == own.files]
            for path in own.files:
                if len(of_project) > 1 and path not in gone:
                    gone[path] = is_gone(path, options, deadline)
            if len(of_project) > 1 and all(gone[path] for path in own.files):
                fitting = [each for each in of_project if each.files != own.files] or fitting
        if fitting:
            found[identity] = fitting[0]
    return found


def is_gone(path: str, options: Options, deadline: Deadline) -> bool:
    """Return whether a path does not exist. Raises OutOfTime."""
    try:
        return not within(deadline, options["timeout"], os.path.exists, path)
    except OSError:
        return False


def sources(all_labels: Iterable[Mapping[str, str]], options: Options) -> Iterator[Source]:
    """Yield each Source: that of the options, else those in the labels of the containers."""
    if options["compose_files"]:
        files = options["compose_files"]
        yield Source(options["project"], files, os.path.dirname(files[0]), [])
        return
    seen = set()
    for labels in all_labels:
        found = source(labels)
        if found and (found.project, *found.files) not in seen:
            seen.add((found.project, *found.files))
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


def load(source: Source) -> File:
    """Return the content of the files of a Source. Raises _compose_file.Unreadable."""
    return _compose_file.load(source.files, source.directory, source.environment_files)


def words(source: Source) -> list[str]:
    """Return the options of compose that select this project and its files."""
    found = ["--project-name", source.project, "--project-directory", source.directory]
    found += [word for path in source.environment_files for word in ("--env-file", path)]
    return found + [word for path in source.files for word in ("--file", path)]


def pairs_of(file: File, inspected: Iterable[Row], image_of: ImageOf, detailed: bool) -> dict[str, list[Pair]]:
    """Return the pairs of values of each container by its id, for those whose service is in the file."""
    found = {}
    for data in inspected:
        service = file.services.get(((data.get("Config") or {}).get("Labels") or {}).get(SERVICE) or "")
        if service is not None:
            found[data["Id"]] = _compose_compare.pairs(service, file, data, image_of, detailed)
    return found


def add_missing(
    found: Part,
    source: Source,
    file: File,
    all_labels: Iterable[Mapping[str, str]],
    pairs: Mapping[str, Sequence[Pair]],
    expected_services: Sequence[str],
) -> None:
    """Add the services without a container."""
    present = {labels.get(SERVICE) for labels in all_labels if labels.get(PROJECT) == source.project}
    listed = {(each["project"], each["service"]) for each in found["missing"]}
    found["missing"] += [
        {
            "project": source.project,
            "service": name,
            "expected": is_expected(name, expected_services),
            "protected": False,
            "compose_options": words(source),
            "unconfirmed": of_missing(file, name, pairs),
        }
        for name, service in sorted(file.services.items())
        if service["expected"] and name not in present and (source.project, name) not in listed
    ]


def is_expected(service: str | None, expected_services: Iterable[str]) -> bool:
    """Return whether a service is one of these; ``-`` and ``_`` are the same in names."""
    return service is not None and service.replace("-", "_") in {each.replace("-", "_") for each in expected_services}


def of_missing(file: File, name: str, pairs: Mapping[str, Sequence[Pair]]) -> list[str]:
    """Return the variables of a service without a container that no other container of its project confirms."""
    others = [pair for found in pairs.values() for pair in found]
    return _compose_compare.unconfirmed(file.services[name], file, [], others)[:MAX_VARIABLES]


def differences(container: Part, source: Source, service: Service, file: File, pairs: Pairs) -> list[Part]:
    """Return the certain differences of a container to its service in the file."""
    found: dict[str, list[Pair]] = {}
    mine = pairs[container["id"]]
    for pair in mine:
        if pair.what in _compose_compare.REPORTED and _compose_compare.differs(pair):
            found.setdefault(pair.what, []).append(pair)
    others = [pair for identity, of_other in pairs.items() if identity != container["id"] for pair in of_other]
    unconfirmed = _compose_compare.unconfirmed(service, file, mine, others)[:MAX_VARIABLES] if found else []
    return [
        {
            "project": container["project"],
            "service": container["service"],
            "container": container["name"],
            "id": container["id"],
            "started_at": container["started_at"],
            "protected": container["protected"],
            "compose_options": words(source),
            "unconfirmed": unconfirmed,
            "what": what,
            "names": [pair.name for pair in of_it if pair.name][:MAX_NAMES],
            "file": described(of_it, [pair.text for pair in of_it]),
            "running": described(of_it, [pair.running for pair in of_it]),
        }
        for what, of_it in found.items()
    ]


def described(pairs: Sequence[Pair], values: Sequence[str | None]) -> Any:
    """Return the values of one side of a difference for a person; those of the environment may be secrets."""
    first = pairs[0]
    if first.what == "memory_limit_bytes":
        return _compose_file.size(values[0])
    if first.what == "environment":
        there = [pair.name for pair, value in zip(pairs, values) if value is not None]
        return ", ".join(there[:MAX_NAMES]) or None
    texts = []
    for pair, value in zip(pairs, values):
        if value is None:
            continue
        if pair.what in ("command", "entrypoint"):
            value = " ".join(shell_quote(word) for word in value.split("\n") if word)
        elif pair.what == "ports":
            value = ", ".join("%s->%s" % (each.strip(":") or "any", pair.name) for each in value.split(", "))
        elif pair.what == "mounts":
            value = "%s on %s" % (value, pair.name)
        texts.append(cut(redact(printable(value)), MAX_TEXT))
    return ", ".join(texts[:MAX_NAMES]) or None


def add_drift(
    found: Part,
    source: Source,
    file: File,
    containers: Iterable[Part],
    pairs: Pairs,
) -> None:
    """Add changes of the file that were not applied: ``restart`` does not apply them, ``up -d`` does."""
    for container in containers:
        service = file.services.get(container["service"])
        if service is not None:
            found["drift"] += differences(container, source, service, file, pairs)


def add_orphans(found: Part, source: Source, file: File, containers: Iterable[Part]) -> None:
    """Add the containers of the project whose service the files no longer have, by name."""
    if file.partly:
        return
    found["orphans"] += [
        {
            "project": source.project,
            "service": container["service"],
            "container": container["name"],
            "status": container["status"],
            "compose_options": words(source),
        }
        for container in sorted(containers, key=lambda each: str(each["name"]))
        if container["created_by_compose"] and container["service"] and container["service"] not in file.services
    ]
