# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.module_utils import _received
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _measuring_code, _probe_options

ROOT = Path(__file__).resolve().parents[4]
MODULES = sorted(
    {
        probe["module"]
        for area in _areas.find()
        for probe in yaml.safe_load(area.probes_file.read_text())["probes"].values()
    }
)
# What a host runs, and then the imports of the modules in question.
THEN = (
    """
from %s import _measures
loaded = [_measures.load(name) for name in request["wanted"]]
print(len([module.measure for module in loaded]), len(loaded[0].__loader__.get_source(loaded[0].__name__)) > 1000)
"""
    % _received.PACKAGE
)


def run(code, request, then="", python=sys.executable, **options):
    """Run the program of a visit as a host does, which has neither this collection nor Ansible; return the process."""
    request = {"plan": "{}", "seconds": 5, "journal": None, "presence": None, **request}
    program = 'ARGUMENTS = r"""%s"""\n%s%s' % (json.dumps(request), _measuring_code.PROGRAM % code, then)
    command = [python, "-S", "-"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, input=program, capture_output=True, text=True, check=False, env=environment, **options
    )


def packed(*modules, compiled=False):
    return _measuring_code.packed([[_measuring_code.MEASURING + name] for name in modules], compiled)


@pytest.mark.parametrize(
    ("name", "compiled"), [*((name, False) for name in MODULES), ("pg_activity", True), ("audio_probe_info", True)]
)
def test_the_code_is_complete_for_each_measuring_module(name, compiled):
    done = run(packed(name, name, compiled=compiled), {"wanted": [name]}, THEN)
    # The source is there as well: the area audio_processing sends it to containers.
    assert done.stdout.splitlines()[-1:] == ["1 True"], done.stderr


def pythons():
    """Return the Pythons of this machine that a managed host may have."""
    listed = subprocess.check_output([ROOT / "tests/tools/pythons"], text=True)
    return [line.split()[1] for line in listed.splitlines()]


def test_the_program_measures_a_plan_with_each_python():
    """Text of an option is data, also if it looks like the end of a text of Python."""
    probe = {"module": "inotify_limits", "options": {"path": '"""\\"""', "sysctl_root": "/nonesuch"}}
    settings = _probe_options.validated({"limits": probe})
    plan = json.dumps({"file_watching": {"deadline": 30, "probes": settings}})
    for python, compiled in [(sys.executable, True), *((python, False) for python in pythons())]:
        done = run(packed("inotify_limits", compiled=compiled), {"plan": plan, "seconds": 30}, python=python)
        result = json.loads(done.stdout)
        outcome = json.loads(result["measured"])["file_watching"]
        assert outcome["error"] is None
        assert outcome["measurement"]["limits"]["reachable"]
        assert result["python"] == python
        assert result["host"]["cores"] >= 1


def test_nothing_is_imported_from_the_current_directory(tmp_path):
    for name in ("json", "base64", "zlib", "types", "signal", "ansible_collections"):
        (tmp_path / (name + ".py")).write_text("raise SystemExit('%s of the current directory')" % name)
    assert run(packed(), {}, cwd=tmp_path).stderr == ""


def test_paths_of_the_request_are_those_of_the_host(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    code = _measuring_code.packed([["_journal"]])
    measured = json.loads(json.loads(run(code, {"journal": "~/state"}).stdout)["measured"])
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "audit.jsonl").write_text("damaged\n")
    damaged = json.loads(json.loads(run(code, {"journal": "~/state"}).stdout)["measured"])
    assert measured[".journal"]["measurement"]["journal"] != damaged[".journal"]["measurement"]["journal"]


def test_a_directory_that_is_gone_is_left(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = run(packed(), {}, "\nimport os\nprint(os.getcwd())\n", cwd=gone, preexec_fn=gone.rmdir)
    assert done.stdout.splitlines()[-1:] == ["/"], done.stderr


def test_only_the_needed_code_is_sent():
    sent = _measuring_code.sources(["_measures._pg_activity"])
    assert "_measures._pg_activity" in sent
    assert not [name for name in sent if "redis" in name or "rabbitmq" in name]


def test_imports_are_found_at_any_level():
    source = "def f():\n    from %s import _a, _b\nfrom %s._c import d\nimport os\n" % ((_received.PACKAGE,) * 2)
    assert sorted(_measuring_code.imported(source)) == ["", "_a", "_b", "_c", "_c.d"]


def test_imports_within_functions_are_not_executed_at_import():
    source = "from %s import _a\ndef f():\n    from %s import _b\n" % ((_received.PACKAGE,) * 2)
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
