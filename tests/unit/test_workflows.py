# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Workflows, issue forms and pre-commit hooks are well-formed, and run what the Makefile has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
# A call of make in a script. In "apt-get install git make python3-venv" it is the name of a package.
MAKE = re.compile(r"(?:^|&&|\|\||;) *make ([a-z][a-z-]*)", re.MULTILINE)
EXPRESSION = re.compile(r"\$\{\{ *([^}]*?) *\}\}")
# What an expression may use. The title of a pull request or the name of its branch in a script would be run.
CONTEXTS = re.compile(r"matrix\.\w+|secrets\.\w+|github\.(?:workflow|ref)")
by_name = {"ids": lambda path: path.name}


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs(workflow):
    """Yield ``(job, matrix)`` for each combination of the matrix of each job."""
    for job in workflow["jobs"].values():
        for key, values in (job.get("strategy", {}).get("matrix") or {"": [""]}).items():
            for value in values:
                yield job, {key: value}


def scripts(job, matrix):
    """Return the scripts of a job, with the values of its matrix filled in."""
    return [
        EXPRESSION.sub(lambda found: matrix.get(found.group(1).partition("matrix.")[2], found.group()), step["run"])
        for step in job["steps"]
        if "run" in step
    ]


def test_the_files_are_found():
    assert {path.name for path in WORKFLOWS} == {"ci.yml", "release.yml"}
    assert {"lint", "test", "pytest", "molecule"} <= TARGETS


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_a_workflow_is_well_formed(path):
    workflow = read(path)
    assert set(workflow) <= {"name", "on", "permissions", "concurrency", "jobs", "env"}
    assert workflow["on"]
    assert workflow["permissions"] == {"contents": "read"}
    for job, _matrix in jobs(workflow):
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(?:\.\d+)*|[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", "a/b@v1"))


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_an_expression_uses_only_what_no_contributor_controls(path):
    found = EXPRESSION.findall(path.read_text(encoding="utf-8"))
    assert [each for each in found if not CONTEXTS.fullmatch(each)] == []
    keys = {key for _job, matrix in jobs(read(path)) for key in matrix}
    assert {each.partition(".")[2] for each in found if each.startswith("matrix.")} <= keys


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_a_workflow_calls_targets_that_exist(path):
    called = [
        name for job, matrix in jobs(read(path)) for script in scripts(job, matrix) for name in MAKE.findall(script)
    ]
    assert called
    assert set(called) <= TARGETS


def test_the_pull_request_runs_what_make_test_runs():
    recipe = "".join(
        MAKEFILE.partition("\n%s:" % target)[2].partition("\n\n")[0] for target in ("test", "newest-molecule")
    )
    # newest-sanity and newest-pytest are the halves of newest. Each target makes its environment itself.
    needed = {step.partition("-")[0] for step in re.findall(r"timed-([a-z-]+)", recipe)} - {"setup"}
    (test,) = (job for job in read(ROOT / ".github/workflows/ci.yml")["jobs"].values())
    assert set(test["strategy"]["matrix"]["target"]) == needed


def test_pages_name_targets_that_exist():
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / ".github").glob("*.md"),
    ]
    for page in pages:
        named = re.findall(r"`(?:\w+=\w+ )?make ([a-z-]+)", page.read_text(encoding="utf-8"))
        assert set(named) <= TARGETS, page


@pytest.mark.parametrize("path", FORMS, **by_name)
def test_an_issue_form_is_well_formed(path):
    form = read(path)
    if path.name == "config.yml":
        assert set(form) <= {"blank_issues_enabled", "contact_links"}
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    assert {field["type"] for field in form["body"]} <= {"markdown", "input", "textarea", "dropdown", "checkboxes"}


def test_a_hook_runs_a_linter_of_make_lint():
    lint = (ROOT / "tests/tools/lint").read_text(encoding="utf-8")
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    programs = {hook["entry"].split()[0] for hook in repository["hooks"]}
    assert all(program.startswith(".venv/bin/") for program in programs)
    for name in {program.rpartition("/")[2] for program in programs} - {"python"}:
        assert re.search(r"\b%s\b" % name, lint), name
