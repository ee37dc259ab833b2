# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services of a compose file, as far as they can be read without compose. Private to this collection.

Only what the checks compare is read: images, limits, profiles, scale and paths. Values of variables go into these and
nowhere else. A value that is not certain (a variable that only the shell that ran compose had, a service that extends
another file) is null, and null is never reported as a difference.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterable, Mapping, Match, Sequence, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import MissingLibrary

MAX_BYTES = 1 << 20
VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[A-Za-z_]\w*)"
    r"|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<operator>:?[-?+])(?P<default>[^{}]*))?\})"
)
SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*$", re.IGNORECASE)
# Text of the file that the parser quotes, but not the names of its own tokens.
QUOTED = re.compile(r"(['\"])(?!<)[^'\"]*\1")
UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


# A mapping of the file.
Layer = Dict[str, Any]
Environment = Mapping[str, str]


class Service(TypedDict):
    """The values of a service. ``expected`` is false for one with a profile or without replicas."""

    expected: bool
    image: str | None
    # 0 for none.
    memory_limit_bytes: int | None
    # Paths of the host that it mounts.
    paths: list[str]


class Unreadable(Exception):
    """The file cannot be read or parsed. ``hint`` is the next step for a person, or null."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def load(files: Sequence[str], directory: str, environment_files: Sequence[str] = ()) -> dict[str, Service]:
    """Return the services of these files by name. Raises Unreadable.

    Like compose, read variables from ``environment_files``, later ones winning, and from the ``.env`` of the directory
    only if there are none.
    """
    try:
        yaml = require("yaml")
    except MissingLibrary as exc:
        raise Unreadable("PyYAML is not installed here; compose files cannot be read without it", exc.hint) from exc
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    environment: dict[str, str] = {}
    for path in environment_files or [os.path.join(directory, ".env")]:
        environment.update(dotenv(path, required=bool(environment_files)))
    services: dict[str, list[Layer]] = {}
    has_services = False
    for path in files:
        try:
            with open(path, encoding="utf-8") as stream:
                document = loader(stream.read(MAX_BYTES)).get_single_data()
        except OSError as exc:
            raise Unreadable("%s: %s" % (path, exc.strerror)) from exc
        except (yaml.YAMLError, UnicodeDecodeError) as exc:
            # The whole message quotes the line, which may contain a password.
            mark = getattr(exc, "problem_mark", None)
            where = ", line %d" % (mark.line + 1) if mark else ""
            problem = QUOTED.sub("'...'", getattr(exc, "problem", None) or "it is not YAML")
            raise Unreadable("%s%s: %s" % (path, where, problem)) from exc
        if not isinstance(document, dict) or not isinstance(document.get("services", {}), dict):
            raise Unreadable("%s: has no services" % path)
        has_services = has_services or "services" in document
        for name, service in (document.get("services") or {}).items():
            services.setdefault(str(name), []).append(service or {})
    if not has_services:
        # The first format of compose has services at the top level; other files may only include files.
        raise Unreadable("%s: has no services" % ", ".join(files))
    try:
        return {name: service_of(merged(layers), environment, directory) for name, layers in services.items()}
    except (AttributeError, TypeError, ValueError) as exc:
        raise Unreadable("%s has an unexpected structure: %s" % (", ".join(files), exc)) from exc


def merged(layers: Iterable[Layer]) -> Layer:
    """Return one service of several files: later values win, volumes add up."""
    service: Layer = {}
    for layer in layers:
        service.update(layer, volumes=service.get("volumes", []) + list(layer.get("volumes") or []))
    return service


def service_of(service: Layer, environment: Environment, directory: str) -> Service:
    """Return the values of one service."""
    resources = ((service.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    limit = service.get("mem_limit", resources.get("memory"))
    image = service.get("image")
    replicas = service.get("scale", (service.get("deploy") or {}).get("replicas", 1))
    # The values of the other file are not known.
    partly = "extends" in service
    return {
        "expected": not service.get("profiles") and replicas != 0,
        "image": None if image is None else interpolated(str(image), environment),
        "memory_limit_bytes": 0 if limit is None and not partly else size(limit, environment),
        "paths": [path for path in (bind(volume, environment, directory) for volume in service["volumes"]) if path],
    }


def dotenv(path: str, required: bool = False) -> dict[str, str]:
    """Return the variables of an .env file; none if it is missing and not required.

    Raises Unreadable: without the file, variables would get wrong values.
    """
    found: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = stream.read(MAX_BYTES).splitlines()
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) and not required:
            return found
        raise Unreadable("%s: %s" % (path, exc.strerror)) from exc
    for line in lines:
        name, equals, value = line.strip().partition("=")
        name = name[len("export ") :].strip() if name.startswith("export ") else name.strip()
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = value[:1] in ("'", '"') and value[:1] == value[-1:] and len(value) > 1
            found[name] = value[1:-1] if quoted else value.split(" #", 1)[0].rstrip()
    return found


def interpolated(text: str, environment: Environment) -> str | None:
    """Return ``text`` with its variables replaced; null if one of them is unknown."""
    unknown = []

    def value(match: Match[str]) -> str:
        if match.group("escaped"):
            return "$"
        name = match.group("named") or match.group("braced")
        operator, default = match.group("operator") or "", match.group("default") or ""
        known = environment.get(name)
        if operator.endswith("-") and (known is None or (operator == ":-" and not known)):
            # A value of the shell that ran compose would win, but the default of the file is more likely.
            return default
        if operator.endswith("+"):
            return default if known else ""
        if known is None:
            unknown.append(name)
            return ""
        return known

    filled = VARIABLE.sub(value, text)
    return None if unknown else filled


def full_name(image: str) -> str:
    """Return the name of an image with its tag, and without the default registries."""
    for registry in ("docker.io/library/", "docker.io/", "localhost/"):
        if image.startswith(registry):
            image = image[len(registry) :]
            break
    return image if "@" in image or ":" in image.rpartition("/")[2] else image + ":latest"


def size(value: Any, environment: Environment) -> int | None:
    """Return the bytes of a size of compose (``512m``, ``1.5gb``, a number); null if unknown."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    match = SIZE.match(interpolated(str(value), environment) or "")
    return int(float(match.group(1)) * 1024 ** UNITS[match.group(2).lower()]) if match else None


def bind(volume: Any, environment: Environment, directory: str) -> str | None:
    """Return the path of the host that a volume mounts; null for named volumes."""
    if isinstance(volume, dict):
        source = volume.get("source") if volume.get("type") == "bind" else None
        text = None if source is None else interpolated(str(source), environment)
    else:
        path, colon, _target = (interpolated(str(volume), environment) or "").partition(":")
        text = path if colon else None
    if not text or text[0] not in "./~":
        return None
    return os.path.normpath(os.path.join(directory, os.path.expanduser(text)))
