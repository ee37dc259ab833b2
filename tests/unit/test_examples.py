# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each role has an example playbook, whose variables it declares."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _options, _settings

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
by_role = {"ids": [path.name for path in ROLES]}


def plays(role):
    return yaml.safe_load((role / "examples" / "main.yml").read_text(encoding="utf-8"))


def uses(play):
    """The roles of a play with their variables; an imported playbook is used with those of the import."""
    if "import_playbook" in play:
        return [(play["import_playbook"], play.get("vars") or {})]
    return [(each, {}) if isinstance(each, str) else (each["role"], each.get("vars") or {}) for each in play["roles"]]


@pytest.mark.parametrize("role", ROLES, **by_role)
def test_an_example_uses_its_role_and_valid_variables(role):
    found = [use for play in plays(role) for use in uses(play)]
    assert "tracktion.ops." + role.name in [name for name, _variables in found]
    for name, value in ((name, value) for _role, variables in found for name, value in variables.items()):
        declared = _settings.declared_by(name, None)
        assert declared, name
        if "{{" not in str(value):
            _options.checked(name, value, declared.argument_spec[name])


def test_the_examples_are_playbooks(tmp_path):
    """(A playbook that is imported by the collection's name has nothing else to check.)"""
    command = ["ansible-playbook", "--syntax-check", "--inventory", "localhost,"]
    command += [str(role / "examples" / "main.yml") for role in ROLES]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


def test_an_example_is_for_each_role():
    assert {path.name for path in ROLES} == {role.name for role in _areas.own_roles()}
