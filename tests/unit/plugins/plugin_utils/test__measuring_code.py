# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.module_utils import _measures
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _measuring_code

MODULES = sorted(
    {
        probe["module"]
        for area in _areas.find()
        for probe in yaml.safe_load(area.probes_file.read_text())["probes"].values()
    }
)
# A host has nothing of the collection but what Ansible packs with the module measure, and what is sent.
ON_A_HOST = """
import importlib, json, sys, types
package = "ansible_collections.tracktion.ops.plugins.module_utils"
for depth in range(1, 6):
    name = ".".join(package.split(".")[:depth])
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
base, code, wanted = json.load(sys.stdin)
for name, source in base.items():
    module = types.ModuleType(package + "." + name)
    sys.modules[package + "." + name] = module
    module.__path__ = []
    setattr(sys.modules[package], name, module)
    exec(source, module.__dict__)
measures = sys.modules[package + "._measures"]
measures.receive(code)
loaded = [measures.load(name) for name in wanted]
print(len([module.measure for module in loaded]), len(loaded[0].__loader__.get_source(loaded[0].__name__)) > 1000)
"""


@pytest.mark.parametrize(
    ("name", "compiled"), [*((name, False) for name in MODULES), ("pg_activity", True), ("audio_probe_info", True)]
)
def test_the_code_is_complete_for_each_measuring_module(name, compiled):
    base = {
        "_measurement": (_measuring_code.FOLDER / "_measurement.py").read_text(),
        "_measures": (_measuring_code.FOLDER / "_measures" / "__init__.py").read_text(),
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_A_HOST],
        input=json.dumps([base, _measuring_code.packed([[_measuring_code.MEASURING + name]] * 2, compiled), [name]]),
        capture_output=True,
        text=True,
        check=False,
    )
    # The source is there as well: the area audio_processing sends it to containers.
    assert done.stdout.strip() == "1 True", done.stderr


def test_only_the_needed_code_is_sent():
    sent = _measuring_code.sources(["_measures._pg_activity"])
    assert "_measures._pg_activity" in sent
    assert not [name for name in sent if "redis" in name or "rabbitmq" in name]


def test_imports_are_found_at_any_level():
    source = "def f():\n    from %s import _a, _b\nfrom %s._c import d\nimport os\n" % ((_measures.PACKAGE,) * 2)
    assert sorted(_measuring_code.imported(source)) == ["", "_a", "_b", "_c", "_c.d"]


def test_imports_within_functions_are_not_executed_at_import():
    source = "from %s import _a\ndef f():\n    from %s import _b\n" % ((_measures.PACKAGE,) * 2)
    assert sorted(_measuring_code.imported(source, at_import=True)) == ["", "_a"]


def test_no_measuring_code_is_imported_in_another_way():
    """Imports that imported() does not find are missing on the host."""
    for path in _measuring_code.FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.startswith("ansible_collections")], path
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path


def test_a_module_that_does_not_exist_is_reported_by_the_host():
    assert _measuring_code.sources(["_measures._nonesuch"]) == {}
