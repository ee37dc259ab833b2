# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts that are stated twice in the collection agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.module_utils import _failures, _measures
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks
from tests import rights
from tests.lab import faults
from tests.tools import catalogue

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
AREAS = [_areas.Area("tracktion.ops." + path.name, path) for path in ROLES if (path / "diagnosis/checks.yml").exists()]
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))

# The prefix of variables of the collection; a role has its own name as a second one.
COLLECTION_PREFIX = "tracktion_"


by_name = {"ids": lambda path: path.name}
by_area = {"ids": lambda area: area.name}


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def constant(path, name):
    """The value of the string constant ``name`` in a Python file, without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise AssertionError("%s: no %s" % (path, name))


def test_modules_roles_and_areas_are_found():
    assert MODULES
    assert ROLES
    assert AREAS


def numbers(version):
    return [int(part) for part in version.split(".")]


def documentation(path):
    return yaml.safe_load(constant(path, "DOCUMENTATION"))


def test_the_action_group_lists_the_modules_that_say_so():
    group = read(ROOT / "meta/runtime.yml")["action_groups"]["ops"]
    fragment = "tracktion.ops._attributes.actiongroup"
    assert group == [path.stem for path in MODULES if fragment in documentation(path)["extends_documentation_fragment"]]


def test_every_measuring_module_can_be_visited():
    used = {probe["module"] for area in AREAS for probe in area.probes().values() if "." not in probe["module"]}
    assert used
    for name in used:
        assert callable(_measures.load(name).measure)
        assert _measures.load(name).ARGUMENT_SPEC


MEASUREMENTS = (ROOT / "docs/measurement.md").read_text(encoding="utf-8")


def table(heading, number=0):
    """Return the rows of a table of docs/measurement.md, by the first column."""
    section = MEASUREMENTS.partition("## %s\n\n" % heading)[2].partition("\n## ")[0]
    rows = [text for text in section.split("\n\n") if text.startswith("| ")][number].splitlines()[2:]
    return dict(re.split(r" *(?<!\\)\| *", row, maxsplit=2)[1:3] for row in rows)


def names(column):
    return set(re.findall(r"`(\w+)`", " ".join(column)))


def test_the_kinds_of_failures_are_described_once():
    assert table("Kinds of failures") == {"`%s`" % kind: meaning + " |" for kind, meaning in _failures.KINDS.items()}
    own = set(re.findall(r"^\| \w+ \| `(\w+)` \|", MEASUREMENTS, re.MULTILINE))
    returned = {path.stem: constant(path, "RETURN") for path in MODULES}
    for kind in own:
        assert any("V(%s)" % kind in text for text in returned.values()), kind


def test_the_fields_of_sessions_are_described_once():
    returned = yaml.safe_load(constant(ROOT / "plugins/modules/pg_activity.py", "RETURN"))
    assert names(table("Sessions of PostgreSQL")) == set(returned["active_queries"]["contains"])
    health = yaml.safe_load(constant(ROOT / "plugins/modules/pg_health_info.py", "RETURN"))
    for server in (returned["server"], health["server"]):
        assert names(table("Sessions of PostgreSQL", 1)) == set(server["contains"])


def test_a_measuring_module_refers_to_what_all_measurements_have():
    for name in {probe["module"] for area in AREAS for probe in area.probes().values() if "." not in probe["module"]}:
        path = ROOT / "plugins/modules" / (name + ".py")
        assert "tracktion.ops._measurement" in documentation(path)["extends_documentation_fragment"], name
        returned = yaml.safe_load(constant(path, "RETURN"))
        for key in ("reachable", "error", "unknown"):
            assert returned[key]["returned"], (name, key)
            assert "contains" not in returned[key], (name, key)


@pytest.mark.parametrize("path", MODULES, **by_name)
def test_a_module_has_its_version_and_author(path):
    assert documentation(path)["module"] == path.stem
    assert numbers(documentation(path)["version_added"]) <= numbers(read(ROOT / "galaxy.yml")["version"])
    assert documentation(path)["author"] == ["The tracktion.ops maintainers (@tracktion)"]


@pytest.mark.parametrize("path", ROLES, **by_name)
def test_a_role_documents_each_default_and_no_more(path):
    assert (path / "README.md").exists()
    assert (path / "meta/main.yml").exists()
    defaults = read(path / "defaults/main.yml")
    options = read(path / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert sorted(options) == sorted(defaults)
    for name in defaults:
        assert name.startswith((path.name + "_", COLLECTION_PREFIX)), name
        assert options[name].get("description"), name


@pytest.mark.parametrize("path", ROLES, **by_name)
def test_a_role_default_is_the_default_that_is_documented(path):
    defaults = read(path / "defaults/main.yml")
    options = read(path / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    documented = {name: option["default"] for name, option in options.items() if "default" in option}
    assert documented == {name: defaults[name] for name in documented}


@pytest.mark.parametrize("area", AREAS, **by_area)
def test_an_areas_rows_are_well_formed(area):
    assert _checks.load(area)


@pytest.mark.parametrize("area", AREAS, **by_area)
def test_every_remedy_of_an_area_has_its_task_file_and_the_reverse(area):
    declared = {row["id"].rpartition(".")[2] for row in area.rows("remedies")}
    assert declared == {path.stem for path in area.file("tasks", "remediate").glob("*.yml")}


@pytest.mark.parametrize("area", AREAS, **by_area)
def test_a_remedys_task_file_uses_its_evidence_and_registers_its_result(area):
    for row in area.rows("remedies"):
        path = area.file("tasks", "remediate", row["id"].rpartition(".")[2] + ".yml")
        used = set(re.findall(r"\btracktion_remedy\.(\w+)", path.read_text(encoding="utf-8")))
        given = set(row.get("vars") or {})
        assert used <= given, path
        acting = [task for task in read(path) if task.get("register") == "tracktion_remedied"]
        assert len(acting) == 1, path
        assert acting[0].get("delegate_to"), "%s: must run on the probe host" % path


@pytest.mark.parametrize("area", AREAS, **by_area)
def test_a_check_uses_a_probe_of_its_area(area):
    probes = area.probes()
    for row in area.rows("checks"):
        assert (row.get("each") or row["at"]).partition(".")[0] in probes, row["id"]


@pytest.mark.parametrize("area", AREAS, **by_area)
def test_an_areas_variables_are_used(area):
    """Every variable of a role is used."""
    files = [path for path in area.path.rglob("*.yml") if path.parent.name != "meta"]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    # The visit reads these two of every area.
    of_visit = {area.name + "_deadline", area.name + "_probe_host"}
    names = set(read(area.file("defaults/main.yml"))) - of_visit
    assert {name for name in names if not re.search(r"\b%s\b(?!:)" % name, text)} == set()


def test_a_fault_fires_checks_that_exist():
    ids = {row["id"] for area in AREAS for row in area.rows("checks")}
    areas = {area.name for area in AREAS}
    for fault in faults.every().values():
        if fault.area in areas:
            assert set(fault.fires) <= ids, fault.name
            assert fault.fires, fault.name


def test_the_catalogue_of_checks_is_up_to_date():
    assert catalogue.PAGE.read_text(encoding="utf-8") == catalogue.catalogue(), "make docs"
    assert catalogue.RIGHTS_PAGE.read_text(encoding="utf-8") == catalogue.rights_page(), "make docs"


def test_the_readme_names_every_required_right():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", text.partition("## Required privileges")[2], re.MULTILINE))
    ids = {row["id"] for area in AREAS for row in area.rows("checks")}
    for right in rights.every():
        assert right.checks <= ids, right
        # (In a table, a | is escaped.)
        assert "`%s`" % right.name.replace("|", "\\|") in rows[right.area], right


@pytest.mark.parametrize("path", PLAYBOOKS, **by_name)
def test_a_playbook_can_be_called_by_its_collection_name(path):
    assert path.stem.isidentifier()


def test_the_example_is_in_the_readme():
    example = (ROOT / "examples/tracktion.yml").read_text(encoding="utf-8").partition("---\n")[2]
    assert "```yaml\n%s```" % example in (ROOT / "README.md").read_text(encoding="utf-8")


def test_prepare_installs_what_the_modules_import():
    imported = set()
    for path in (ROOT / "plugins" / "module_utils").rglob("*.py"):
        imported |= set(re.findall(r'\brequire\("(\w+)', path.read_text(encoding="utf-8")))
    variables = read(ROOT / "roles/prepare/vars/main.yml")
    assert {library for area in AREAS for library in area.libraries()} == imported
    for packages in variables["prepare_packages_by_family"].values():
        assert set(packages) == imported


# Not in one piece, or this line would be taken for a notice.
NOTICE = "SPDX-License-" + "Identifier: GPL-3.0-or-later"


def test_python_files_name_their_licence():
    for folder in ("plugins", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert NOTICE in path.read_text(encoding="utf-8")[:400], path
