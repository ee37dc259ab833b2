# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the area roles and reads their files. Private to this collection."""

from __future__ import annotations

import importlib
import os
from functools import cache, cached_property, partial
from pathlib import Path

import yaml

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.plugin_utils import _options, _row_cache
from ansible_collections.tracktion.ops.plugins.plugin_utils._core import trust_as_template

COLLECTION = "tracktion.ops"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Area:
    """A role that diagnoses one symptom area.

    ``name`` is the role's name without its collection; it prefixes the role's variables.
    """

    def __init__(self, role, path):
        self.role = role
        self.name = role.rpartition(".")[2]
        self.path = path

    def file(self, *parts):
        return self.path.joinpath(*parts)

    @property
    def probes_file(self):
        return self.file("diagnosis", "probes.yml")

    @property
    def checks_file(self):
        return self.file("diagnosis", "checks.yml")

    @property
    def remedies_file(self):
        return self.file("diagnosis", "remedies.yml")

    @cached_property
    def defaults(self):
        """The role's variables as it ships them, their templates ready for Ansible to fill in."""
        return _trusted(read_yaml(self.file("defaults", "main.yml")) or {})

    def connection(self):
        """Return the options that every probe and every remedy of the role share, as templates for Ansible."""
        return _trusted(self._probes.get("connection") or {})

    def probes(self):
        """Return the role's probes by name, the shared options included, as templates for Ansible."""
        shared = self.connection()
        return {
            name: {**probe, "options": {**shared, **(probe.get("options") or {})}}
            for name, probe in _trusted(self._probes["probes"]).items()
        }

    @cached_property
    def _probes(self):
        data = read_yaml(self.probes_file)
        if not isinstance(data, dict) or not isinstance(data.get("probes"), dict):
            raise AnsibleError("%s: must be a mapping with the key probes" % self.probes_file)
        return data

    def libraries(self):
        """The Python libraries that the role's modules import."""
        path = self.file("diagnosis", "libraries.yml")
        return read_yaml(path) if path.exists() else []

    def rows(self, kind):
        """The rows of ``checks.yml`` or ``remedies.yml``, as plain data: the judge compiles them itself."""
        path = self.checks_file if kind == "checks" else self.remedies_file
        if kind == "remedies" and not path.exists():
            return []
        data = read_yaml(path)
        if not isinstance(data, list):
            raise AnsibleError("%s: must be a list of %s" % (path, kind))
        return data

    @cached_property
    def argument_spec(self):
        """The options of the role's entry point ``main``, as in its ``meta/argument_specs.yml``."""
        main = read_yaml(self.file("meta", "argument_specs.yml"))["argument_specs"]["main"]
        return main.get("options") or {}

    @cached_property
    def public(self) -> frozenset:
        """The options that rows and reports may show: all but those marked ``no_log``."""
        return frozenset(name for name, option in self.argument_spec.items() if not _options.is_private(option))


def read_yaml(path):
    try:
        # Loader is yaml.SafeLoader, or the same in C, seven times as fast.
        return _row_cache.parsed(Path(path).read_text(encoding="utf-8"), partial(yaml.load, Loader=Loader))
    except OSError as exc:
        raise AnsibleError("%s: %s" % (path, exc.strerror)) from exc
    except yaml.YAMLError as exc:
        raise AnsibleError("%s: %s" % (path, exc)) from exc


def _trusted(value):
    """A role's own files are as trusted as a play: their strings may be templates."""
    if isinstance(value, dict):
        return {key: _trusted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_trusted(inner) for inner in value]
    return trust_as_template(value) if isinstance(value, str) and "{" in value else value


@cache
def own_roles() -> list:
    """Every role of this collection, whether it diagnoses an area or not."""
    roles = _collection_path(COLLECTION) / "roles"
    return [Area("%s.%s" % (COLLECTION, path.name), path) for path in sorted(roles.iterdir())]


def own_role(name: str) -> Area:
    """The role of this collection with this name."""
    return next(role for role in own_roles() if role.name == name)


def find(names=None, playbook_dir="."):
    """The areas of these role names; without names, every area role of this collection."""
    if not names:
        roles = _collection_path(COLLECTION) / "roles"
        names = sorted(path.name for path in roles.iterdir() if Area(path.name, path).checks_file.exists())
    return [_find_one(name, Path(playbook_dir)) for name in names]


def _find_one(name, playbook_dir):
    for role, path in _candidates(name, playbook_dir):
        area = Area(role, path)
        if area.checks_file.exists():
            return area
    raise AnsibleError(
        "areas: no role %r with a diagnosis/checks.yml was found in %s, in its collection or in the roles path"
        % (name, COLLECTION)
    )


def _candidates(name, playbook_dir):
    if name.count(".") == 2:
        collection, _dot, role = name.rpartition(".")
        path = _collection_path(collection)
        if path:
            yield name, path / "roles" / role
        return
    yield "%s.%s" % (COLLECTION, name), _collection_path(COLLECTION) / "roles" / name
    for folder in [playbook_dir / "roles"] + [
        Path(os.path.expanduser(folder)) for folder in C.DEFAULT_ROLES_PATH or []
    ]:
        yield name, folder / name


def _collection_path(collection):
    try:
        package = importlib.import_module("ansible_collections." + collection)
    except ImportError:
        return None
    return Path(package.__path__[0])


def playbook(name: str) -> str:
    """What to call a playbook of this collection by: its name, or its file where Ansible only finds that one.

    A clone that is not installed is found from its own playbooks alone.
    """
    root = _collection_path(COLLECTION)
    if any(root.is_relative_to(os.path.abspath(os.path.expanduser(path))) for path in C.COLLECTIONS_PATHS):
        return "%s.%s" % (COLLECTION, name)
    path = os.path.realpath(root / "playbooks" / ("%s.yml" % name))
    return min(path, os.path.relpath(path), key=len)


def version():
    """The version of this collection, as in its galaxy.yml or, once installed, in its MANIFEST.json."""
    root = _collection_path(COLLECTION)
    if root.joinpath("MANIFEST.json").exists():
        return read_yaml(root / "MANIFEST.json")["collection_info"]["version"]
    return read_yaml(root / "galaxy.yml")["version"]
