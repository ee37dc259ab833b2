# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds area roles and reads their files. Private to this collection."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.plugin_utils import _options, _row_cache
from ansible_collections.tracktion.ops.plugins.plugin_utils._core import trust_as_template
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

COLLECTION = "tracktion.ops"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Area:
    """A role that diagnoses one symptom area.

    ``name`` is the role's name without its collection; it prefixes the role's variables.
    """

    def __init__(self, role: str, path: Path) -> None:
        self.role = role
        self.name = role.rpartition(".")[2]
        self.path = path

    def file(self, *parts: str) -> Path:
        """Return the path of a file of the role, whether it exists or not."""
        return self.path.joinpath(*parts)

    @property
    def probes_file(self) -> Path:
        """The file that lists the measurements of the role, ``diagnosis/probes.yml``."""
        return self.file("diagnosis", "probes.yml")

    @property
    def checks_file(self) -> Path:
        """The file that lists the check rows of the role, ``diagnosis/checks.yml``."""
        return self.file("diagnosis", "checks.yml")

    @property
    def remedies_file(self) -> Path:
        """The file that lists the remedy rows of the role, ``diagnosis/remedies.yml``."""
        return self.file("diagnosis", "remedies.yml")

    @property
    def presence_file(self) -> Path:
        """The file that lists what the defaults of the role expect, ``diagnosis/presence.yml``."""
        return self.file("diagnosis", "presence.yml")

    @property
    def charts_file(self) -> Path:
        """The file that lists the values for charts, ``diagnosis/charts.yml``."""
        return self.file("diagnosis", "charts.yml")

    @property
    def causes_file(self) -> Path:
        """The file that lists which findings explain those of the role, ``diagnosis/causes.yml``."""
        return self.file("diagnosis", "causes.yml")

    @property
    def defaults_file(self) -> Path:
        """The file with the defaults of the role's variables."""
        return self.file("defaults", "main.yml")

    @cached_property
    def is_area(self) -> bool:
        """Whether the role exists and diagnoses an area."""
        return self.checks_file.exists()

    @cached_property
    def defaults(self) -> Values:
        """The role's variables with their defaults, as templates for Ansible."""
        return _trusted(read_yaml(self.defaults_file) or {})

    def connection(self) -> Values:
        """Return the options that all probes and remedies of the role share, as templates for Ansible."""
        return self._probes.get("connection") or {}

    def probes(self) -> dict[str, Values]:
        """Return the role's probes by name, with the shared options, as templates for Ansible."""
        shared = self.connection()
        return {
            name: {**probe, "options": {**shared, **(probe.get("options") or {})}}
            for name, probe in self._probes["probes"].items()
        }

    @cached_property
    def _probes(self) -> Values:
        data = read_yaml(self.probes_file)
        if not isinstance(data, dict) or not isinstance(data.get("probes"), dict):
            raise AnsibleError("%s: must be a mapping with the key probes" % self.probes_file)
        return _trusted(data)

    def libraries(self) -> list[str]:
        """Return the Python libraries that the role's modules import."""
        path = self.file("diagnosis", "libraries.yml")
        return read_yaml(path) if path.exists() else []

    def rows(self, kind: str) -> list[Any]:
        """Return the rows of ``checks.yml``, or of another file, as plain data, which is no template for Ansible.

        ``kind`` is ``checks``, ``remedies``, ``causes``, ``presence`` or ``charts``. Only the first file is required.
        """
        path = self.file("diagnosis", "%s.yml" % kind)
        if kind != "checks" and not path.exists():
            return []
        data = read_yaml(path)
        if not isinstance(data, list):
            raise AnsibleError("%s: must be a list of %s" % (path, kind))
        return data

    @cached_property
    def argument_spec(self) -> dict[str, Values]:
        """The options of the role's entry point ``main``, as in its ``meta/argument_specs.yml``."""
        main = read_yaml(self.file("meta", "argument_specs.yml"))["argument_specs"]["main"]
        return main.get("options") or {}

    @cached_property
    def public(self) -> frozenset[str]:
        """The options that rows and reports may show: all except those marked ``no_log``."""
        return frozenset(name for name, option in self.argument_spec.items() if not _options.is_private(option))


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file. Raises AnsibleError."""
    try:
        # Loader is yaml.SafeLoader, or the same in C, which is seven times as fast.
        return _row_cache.parsed(path.read_text(encoding="utf-8"), partial(yaml.load, Loader=Loader))
    except OSError as exc:
        raise AnsibleError("%s: %s" % (path, exc.strerror)) from exc
    except yaml.YAMLError as exc:
        raise AnsibleError("%s: %s" % (path, exc)) from exc


def _trusted(value: Any) -> Any:
    """Mark the strings of a role's own file as templates, which Ansible then resolves as it does those of a play."""
    if isinstance(value, dict):
        return {key: _trusted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_trusted(inner) for inner in value]
    return trust_as_template(value) if isinstance(value, str) and "{" in value else value


@cache
def own_roles() -> list[Area]:
    """Return all roles of this collection, also those that diagnose no area."""
    roles = _own_path() / "roles"
    return [Area("%s.%s" % (COLLECTION, path.name), path) for path in sorted(roles.iterdir())]


def own_role(name: str) -> Area:
    """Return the role of this collection with this name."""
    return next(role for role in own_roles() if role.name == name)


def find(names: Sequence[str] | None = None, playbook_dir: str = ".") -> list[Area]:
    """Return the areas of these role names; without names, all area roles of this collection. Raises AnsibleError."""
    if not names:
        names = [role.name for role in own_roles() if role.is_area]
    return [_find_one(name, Path(playbook_dir)) for name in names]


def _find_one(name: str, playbook_dir: Path) -> Area:
    own = {role.role: role for role in own_roles()}
    for role, path in _candidates(name, playbook_dir):
        # The files of a role of this collection are read once in a process.
        area = own.get(role) or Area(role, path)
        if area.is_area:
            return area
    raise AnsibleError(
        "areas: no role %r with a diagnosis/checks.yml was found in %s, in its collection or in the roles path"
        % (name, COLLECTION)
    )


def _candidates(name: str, playbook_dir: Path) -> Iterator[tuple[str, Path]]:
    if name.count(".") == 2:
        collection, _dot, role = name.rpartition(".")
        path = _collection_path(collection)
        if path:
            yield name, path / "roles" / role
        return
    yield "%s.%s" % (COLLECTION, name), _own_path() / "roles" / name
    for folder in [playbook_dir / "roles"] + [
        Path(os.path.expanduser(folder)) for folder in C.DEFAULT_ROLES_PATH or []
    ]:
        yield name, folder / name


def _own_path() -> Path:
    return Path(importlib.import_module("ansible_collections." + COLLECTION).__path__[0])


def _collection_path(collection: str) -> Path | None:
    try:
        package = importlib.import_module("ansible_collections." + collection)
    except ImportError:
        return None
    return Path(package.__path__[0])


def playbook(name: str) -> str:
    """Return how ``ansible-playbook`` calls a playbook of this collection: by its name, or by its file.

    Ansible does not find a clone that is not installed by its name.
    """
    root = _own_path()
    if any(root.is_relative_to(os.path.abspath(os.path.expanduser(path))) for path in C.COLLECTIONS_PATHS):
        return "%s.%s" % (COLLECTION, name)
    path = os.path.realpath(root / "playbooks" / ("%s.yml" % name))
    return min(path, os.path.relpath(path), key=len)


def version() -> str:
    """Return the version of this collection, from its galaxy.yml or, once installed, its MANIFEST.json."""
    root = _own_path()
    if root.joinpath("MANIFEST.json").exists():
        return read_yaml(root / "MANIFEST.json")["collection_info"]["version"]
    return read_yaml(root / "galaxy.yml")["version"]
