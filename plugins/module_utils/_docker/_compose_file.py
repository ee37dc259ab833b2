# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services of a compose file, as far as they can be read without compose. Private to this collection.

Only what the checks compare is read. The shell that ran compose overrides variables (see _compose_text), so a value
with one is kept as its text. What is not certain (such a value, a service that extends another file) is never reported
as a difference.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Sequence, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_text
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import MissingLibrary

MAX_BYTES = 1 << 20
SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*$", re.IGNORECASE)
# Text of the file that the parser quotes, but not the names of its own tokens.
QUOTED = re.compile(r"(['\"])(?!<)[^'\"]*\1")
UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
# Parts of a service that replace those of an earlier file, where other lists are joined.
REPLACED = ("command", "entrypoint", "test")
# Lists of NAME=value or of names, which can also be mappings.
KEYED = ("environment", "labels", "networks", "depends_on", "sysctls", "extra_hosts")
# Scalars without quotes as compose reads them: unlike PyYAML, 22:22 and yes are text.
PLAIN = {
    "bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "int": re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"),
    # Compose writes these in another way: their text is not certain.
    "float": re.compile(r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+)$"),
}
PLAIN_FIRST = {"bool": "tTfF", "int": "-+0123456789", "float": "-+.0123456789"}

# A mapping of the file.
Layer = Dict[str, Any]
Environment = Mapping[str, str]


class Service(TypedDict):
    """A service. ``expected`` is false for a job, with a profile, without replicas, or if that is not certain."""

    expected: bool
    # As in the file, with variables.
    image: str | None
    # The text of the memory limit, null for none.
    memory: str | None
    # Paths of the host that it certainly mounts.
    paths: list[str]
    # Whether another service that it extends has further values.
    partly: bool
    layer: Layer


class File(NamedTuple):
    """The content of the compose files of a project."""

    services: dict[str, Service]
    networks: Layer
    volumes: Layer
    directory: str
    # The variables that compose would use if it were run here now.
    environment: dict[str, str]
    # Whether other files that these include have further services.
    partly: bool


class Reset:
    """The tag ``!reset``: removes the value of an earlier file."""


class Override(NamedTuple):
    """The tag ``!override``: replaces the value of an earlier file."""

    value: Any


class Unreadable(Exception):
    """The file cannot be read or parsed. ``hint`` is the next step for a person, or null."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def load(files: Sequence[str], directory: str, environment_files: Sequence[str] = ()) -> File:
    """Return the content of these files. Raises Unreadable.

    Like compose, read variables from ``environment_files``, later ones winning, and from the ``.env`` of the directory
    only if there are none. Variables of this process override them.
    """
    try:
        yaml = require("yaml")
    except MissingLibrary as exc:
        raise Unreadable("PyYAML is not installed here; compose files cannot be read without it", exc.hint) from exc
    loader = loader_of(yaml)
    environment: dict[str, str] = {}
    for path in environment_files or [os.path.join(directory, ".env")]:
        environment.update(dotenv(path, required=bool(environment_files)))
    environment.update(os.environ)
    services: Layer = {}
    top: dict[str, Layer] = {"networks": {}, "volumes": {}}
    has_services = includes = False
    for path in files:
        document = parsed(path, yaml, loader)
        if not isinstance(document, dict) or not isinstance(document.get("services", {}), dict):
            raise Unreadable("%s: has no services" % path)
        has_services = has_services or "services" in document
        includes = includes or "include" in document
        try:
            services = merged(services, document.get("services") or {}, named=True)
            for part, known in top.items():
                top[part] = merged(known, document.get(part) or {}, named=True)
        except (AttributeError, TypeError, ValueError) as exc:
            raise unexpected(files, exc) from exc
    if not has_services:
        # The first format of compose has services at the top level; other files may only include files.
        raise Unreadable("%s: has no services" % ", ".join(files))
    try:
        found = {str(name): service_of(plain(service or {}), directory) for name, service in services.items()}
        for name in jobs(found.values()):
            if name in found:
                found[name]["expected"] = False
        return File(found, plain(top["networks"]), plain(top["volumes"]), directory, environment, includes)
    except (AttributeError, TypeError, ValueError) as exc:
        raise unexpected(files, exc) from exc


def unexpected(files: Sequence[str], exc: Exception) -> Unreadable:
    """Return the failure of files that are valid YAML, but no compose files."""
    return Unreadable("%s has an unexpected structure: %s" % (", ".join(files), exc))


def parsed(path: str, yaml: Any, loader: Any) -> Any:
    """Return the content of a file. Raises Unreadable."""
    try:
        with open(path, encoding="utf-8") as stream:
            return loader(stream.read(MAX_BYTES)).get_single_data()
    except OSError as exc:
        raise Unreadable("%s: %s" % (path, exc.strerror)) from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        # The whole message quotes the line, which may contain a password.
        mark = getattr(exc, "problem_mark", None)
        where = ", line %d" % (mark.line + 1) if mark else ""
        problem = QUOTED.sub("'...'", getattr(exc, "problem", None) or "it is not YAML")
        raise Unreadable("%s%s: %s" % (path, where, problem)) from exc


def loader_of(yaml: Any) -> Any:
    """Return a loader that reads scalars and tags as compose does."""
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    tags = {"tag:yaml.org,2002:" + name for name in ("bool", "int", "float", "timestamp")}
    resolvers = {
        first: [each for each in known if each[0] not in tags] for first, known in base.yaml_implicit_resolvers.items()
    }
    for name, pattern in PLAIN.items():
        for first in PLAIN_FIRST[name]:
            resolvers.setdefault(first, []).append(("tag:yaml.org,2002:" + name, pattern))
    loader: Any = type("ComposeLoader", (base,), {"yaml_implicit_resolvers": resolvers})
    loader.add_constructor("tag:yaml.org,2002:float", lambda _loader, _node: float("nan"))
    loader.add_constructor("!reset", lambda _loader, _node: Reset())
    loader.add_constructor("!override", override)
    return loader


def override(loader: Any, node: Any) -> Override:
    """Return the value of the tags !override and !reset (``Override``)."""
    if node.id == "mapping":
        return Override(loader.construct_mapping(node, deep=True))
    if node.id == "sequence":
        return Override(loader.construct_sequence(node, deep=True))
    return Override(loader.construct_scalar(node))


def merged(known: Any, layer: Mapping[Any, Any], named: bool = False) -> Layer:
    """Return a mapping of several files, as compose merges them: later values win, lists are joined.

    ``named``: its keys are names that the user has chosen.
    """
    found: Layer = dict(known)
    for name, value in layer.items():
        before = found.get(name)
        if isinstance(value, Reset):
            found.pop(name, None)
        elif isinstance(value, Override):
            found[name] = value.value
        else:
            found[name] = joined(None if named else name, before, value)
    return found


def joined(name: Any, before: Any, value: Any) -> Any:
    """Return a value of a later file joined with the one before."""
    if before is None or name in REPLACED:
        return value
    if name in KEYED:
        before, value = keyed(before), keyed(value)
    if isinstance(before, dict) and isinstance(value, dict):
        return merged(before, value)
    if isinstance(before, list) and isinstance(value, list):
        return before + value
    return before if value is None else value


def keyed(value: Any) -> Any:
    """Return a list of NAME=value, or of names, as a mapping."""
    if not isinstance(value, list):
        return value
    found = {}
    for each in value:
        name, equals, text = str(each).partition("=")
        found[name] = text if equals else None
    return found


def plain(value: Any) -> Any:
    """Return a value without tags that had nothing to remove or to replace."""
    if isinstance(value, Override):
        return plain(value.value)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if not isinstance(each, Reset)}
    if isinstance(value, list):
        return [plain(each) for each in value if not isinstance(each, Reset)]
    return value


def text_of(value: Any) -> str | None:
    """Return a scalar as the text of compose; null for none, and for a number that compose writes in another way."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None


def service_of(service: Layer, directory: str) -> Service:
    """Return a service."""
    deploy = service.get("deploy") or {}
    limits = (deploy.get("resources") or {}).get("limits") or {}
    limit = service.get("mem_limit", limits.get("memory"))
    image = service.get("image")
    replicas = text_of(service.get("scale", deploy.get("replicas", 1)))
    volumes = service.get("volumes") or []
    if not isinstance(volumes, list):
        raise ValueError("volumes is no list")
    return {
        "expected": not service.get("profiles") and (replicas or "").isdigit() and replicas != "0",
        "image": None if image is None else str(image),
        "memory": text_of(limit),
        "paths": [path for path in (bind(volume, directory) for volume in volumes) if path],
        # The values of the other file are not known.
        "partly": "extends" in service,
        "layer": service,
    }


def jobs(services: Iterable[Service]) -> Iterator[str]:
    """Yield the services for whose successful end others wait. Once done, their containers may be removed."""
    for service in services:
        for name, waited in (keyed(service["layer"].get("depends_on")) or {}).items():
            if isinstance(waited, dict) and waited.get("condition") == "service_completed_successfully":
                yield str(name)


def dotenv(path: str, required: bool = False) -> dict[str, str]:
    """Return the variables of an .env file; none if it is missing and not required.

    Raises Unreadable: without the file, variables would get wrong values.
    """
    return {name: value for name, value, _literal in dotenv_lines(path, required)}


def dotenv_lines(path: str, required: bool) -> Iterator[tuple[str, str, bool]]:
    """Yield name, value, and whether variables in the value are not replaced."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = stream.read(MAX_BYTES).splitlines()
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) and not required:
            return
        raise Unreadable("%s: %s" % (path, exc.strerror)) from exc
    for line in lines:
        name, equals, value = line.strip().partition("=")
        name = name[len("export ") :].strip() if name.startswith("export ") else name.strip()
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = value[:1] in ("'", '"') and value[:1] == value[-1:] and len(value) > 1
            yield name, value[1:-1] if quoted else value.split(" #", 1)[0].rstrip(), quoted and value[0] == "'"


def full_name(image: str) -> str:
    """Return the name of an image with its tag, and without the default registries."""
    for registry in ("docker.io/library/", "docker.io/", "localhost/"):
        if image.startswith(registry):
            image = image[len(registry) :]
            break
    return image if "@" in image or ":" in image.rpartition("/")[2] else image + ":latest"


def size(text: str | None) -> int | None:
    """Return the bytes of a size of compose (``512m``, ``1.5gb``, a number); null if unknown."""
    match = SIZE.match(text or "")
    return int(float(match.group(1)) * 1024 ** UNITS[match.group(2).lower()]) if match else None


def bind(volume: Any, directory: str) -> str | None:
    """Return the path of the host that a volume certainly mounts; null for others."""
    if isinstance(volume, dict):
        source = text_of(volume.get("source")) if volume.get("type") == "bind" else None
    else:
        source, *target = _compose_text.split(str(volume), ":")
        source = source if target else None
    text = None if source is None else _compose_text.certain(source)
    return located(text, directory) if text and text[0] in "./" else None


def located(path: str, directory: str) -> str:
    """Return the absolute path of one in a compose file."""
    return os.path.normpath(os.path.join(directory, path))
