# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a compose file wants, as far as it can be told without compose. Private to this collection.

Only what the checks compare is read: images, limits, restart policies, health checks, profiles and paths. Values of the
environment go into these and nowhere else. What cannot be told for certain (a variable that was only in the shell of
whoever ran compose, a service taken from another file) is null, and null is never called a difference.
"""

from __future__ import annotations

import os
import re

from ansible_collections.tracktion.ops.plugins.module_utils._libraries import optional

MAX_BYTES = 1 << 20
VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[A-Za-z_]\w*)"
    r"|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<operator>:?[-?+])(?P<default>[^{}]*))?\})"
)
SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*$", re.IGNORECASE)
# What the parser quotes of the file, but for the names of its own tokens.
QUOTED = re.compile(r"(['\"])(?!<)[^'\"]*\1")
UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Unreadable(Exception):
    """The file cannot be read or understood."""


def load(files, directory, environment_files=()):
    """The services that these files want, by name. Raises Unreadable.

    Variables come from ``environment_files``, the later ones winning, and from the ``.env`` of the directory only where
    there are none, as compose has it.
    """
    yaml = optional("yaml")
    if yaml is None:
        raise Unreadable("PyYAML is not installed here, which reads compose files")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    environment = {}
    for path in environment_files or [os.path.join(directory, ".env")]:
        environment.update(dotenv(path, required=bool(environment_files)))
    services, has_services = {}, False
    for path in files:
        try:
            with open(path, encoding="utf-8") as stream:
                document = loader(stream.read(MAX_BYTES)).get_single_data()
        except OSError as exc:
            raise Unreadable("%s: %s" % (path, exc.strerror)) from exc
        except (yaml.YAMLError, UnicodeDecodeError) as exc:
            # The whole message quotes the line, which may hold a password.
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
        # As in the first format of compose, where they stand at the top, or where another file is included.
        raise Unreadable("%s: has no services" % ", ".join(files))
    try:
        return {name: wanted(merged(layers), environment, directory) for name, layers in services.items()}
    except (AttributeError, TypeError, ValueError) as exc:
        raise Unreadable("%s is not as compose writes it: %s" % (", ".join(files), exc)) from exc


def merged(layers):
    """One service out of several files: what a later one says wins, volumes add up."""
    service = {}
    for layer in layers:
        service.update(layer, volumes=service.get("volumes", []) + list(layer.get("volumes") or []))
    return service


def wanted(service, environment, directory):
    """What one service of the file wants."""
    resources = ((service.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    limit = service.get("mem_limit", resources.get("memory"))
    image = service.get("image")
    replicas = service.get("scale", (service.get("deploy") or {}).get("replicas", 1))
    # What another file adds is not known here.
    partly = "extends" in service
    return {
        "expected": not service.get("profiles") and replicas != 0,
        "image": None if image is None else interpolated(str(image), environment),
        "memory_limit_bytes": 0 if limit is None and not partly else size(limit, environment),
        "paths": [path for path in (bind(volume, environment, directory) for volume in service["volumes"]) if path],
    }


def dotenv(path, required=False):
    """The variables of an .env file; none where there need not be one, and is none.

    Raises Unreadable: without it, variables would be guessed wrong.
    """
    found = {}
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


def interpolated(text, environment):
    """``text`` with its variables filled in; null where one of them is not known."""
    unknown = []

    def value(match):
        if match.group("escaped"):
            return "$"
        name = match.group("named") or match.group("braced")
        operator, default = match.group("operator") or "", match.group("default") or ""
        known = environment.get(name)
        if operator.endswith("-") and (known is None or (operator == ":-" and not known)):
            # The shell that ran compose may have had a value of its own, which wins; the file's default is likelier.
            return default
        if operator.endswith("+"):
            return default if known else ""
        if known is None:
            unknown.append(name)
            return ""
        return known

    filled = VARIABLE.sub(value, text)
    return None if unknown else filled


def full_name(image):
    """The name of an image with its tag, and without the registry where that is the one that is meant anyway."""
    for registry in ("docker.io/library/", "docker.io/", "localhost/"):
        if image.startswith(registry):
            image = image[len(registry) :]
            break
    return image if "@" in image or ":" in image.rpartition("/")[2] else image + ":latest"


def size(value, environment):
    """Bytes of a size as compose writes them (``512m``, ``1.5gb``, a number); null where it is not known."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    match = SIZE.match(interpolated(str(value), environment) or "")
    return int(float(match.group(1)) * 1024 ** UNITS[match.group(2).lower()]) if match else None


def bind(volume, environment, directory):
    """The path of this machine that a volume mounts; null for named volumes."""
    if isinstance(volume, dict):
        source = volume.get("source") if volume.get("type") == "bind" else None
        text = None if source is None else interpolated(str(source), environment)
    else:
        # A drive of Windows aside, a path has no colon.
        text = (interpolated(str(volume), environment) or "").partition(":")
        text = text[0] if text[1] else None
    if not text or text[0] not in "./~":
        return None
    return os.path.normpath(os.path.join(directory, os.path.expanduser(text)))
