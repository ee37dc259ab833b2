# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of AWX applied to a checkout."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas

ROOT = Path(__file__).resolve().parents[2]
# AWX 24.6, awx/main/utils/ansible.py: a file with such a line is a playbook. Other files also use the full names.
PLAYBOOK = re.compile(r"^\s*-?\s*(ansible\.builtin\.)?(hosts|include|import_playbook):")
# Folders that it skips, besides those whose names start with a dot.
HIDDEN = {"roles", "tasks", "group_vars", "host_vars"}


def listed(path):
    """Return whether AWX lists a file of the checkout as a playbook."""
    folders = path.parts[:-1]
    if path.suffix not in (".yml", ".yaml") or HIDDEN & set(folders) or any(name.startswith(".") for name in folders):
        return False
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return lines[:1] != [] and (lines[0].startswith("$ANSIBLE_VAULT;") or any(map(PLAYBOOK.match, lines)))


def tracked():
    """The files of the checkout; AWX follows no links."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\0")
    return [Path(name) for name in names if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


def test_awx_lists_the_playbooks_and_nothing_else():
    """Other files with plays or inventories quote their key `hosts` (or `import_playbook`)."""
    assert sorted(str(path) for path in tracked() if listed(path)) == [
        "playbooks/backup.yml",
        "playbooks/diagnose.yml",
        "playbooks/health_check.yml",
        "playbooks/prepare.yml",
        "playbooks/prove_backup.yml",
        "playbooks/remediate.yml",
        "playbooks/restart.yml",
        "playbooks/restore.yml",
        "playbooks/tune_inotify.yml",
    ]


def blocks(language):
    """The blocks of this language in the page about AWX."""
    page = (ROOT / "docs/awx.md").read_text(encoding="utf-8")
    return re.findall(r"^```%s\n(.*?)^```$" % language, page, re.MULTILINE | re.DOTALL)


def options():
    """Every option of the collection's roles, by name."""
    return {name: option for role in _areas.own_roles() for name, option in role.argument_spec.items()}


def test_the_credential_type_passes_each_password_of_the_roles():
    inputs, injectors = (yaml.safe_load(block) for block in blocks("yaml"))
    fields = {field["id"]: field for field in inputs["fields"]}
    assert all(field["secret"] for field in fields.values())
    templates = [text for values in injectors.values() for text in values.values()]
    assert {name for text in templates for name in re.findall(r"{{ (\w+) }}", text)} == set(fields)
    assert set(injectors["extra_vars"]) == {name for name in options() if name.endswith("_login_password")}


def test_awx_accepts_the_survey():
    """By the rules of its view survey_spec."""
    (text,) = blocks("json")
    survey = json.loads(text)
    assert {"name", "description", "spec"} <= set(survey)
    known = {**options(), "tracktion_hosts": {}, "tracktion_compose_project": {}}
    variables = [question["variable"] for question in survey["spec"]]
    assert sorted(variables) == sorted(set(variables) & set(known))
    for question in survey["spec"]:
        assert question["type"] in ("text", "textarea", "password", "multiplechoice", "multiselect", "integer", "float")
        assert question["question_name"]
        # A schedule must be able to leave it out.
        assert question["required"] is False
        if question["type"].startswith("multi"):
            assert question["default"] in ("", *question["choices"])
            wanted = known[question["variable"]].get("choices") or [area.name for area in _areas.find()]
            assert question["choices"] == wanted


def test_awx_accepts_the_schedules():
    start = r"DTSTART(;TZID=[\w/]+:\d{8}T\d{6}|:\d{8}T\d{6}Z)"
    rule = r"RRULE:FREQ=(MINUTELY|DAILY|WEEKLY);INTERVAL=\d+(;BYDAY=[A-Z]{2})?"
    lines = [line for block in blocks("text") for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch("%s %s" % (start, rule), line), line


def test_the_execution_environment_names_files_that_exist():
    definition = yaml.safe_load((ROOT / "examples/execution-environment.yml").read_text(encoding="utf-8"))
    assert definition["version"] == 3
    for kind in ("python", "system"):
        assert (ROOT / "examples" / definition["dependencies"][kind]).is_file()
    wanted = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    assert wanted.startswith(definition["dependencies"]["ansible_core"]["package_pip"].removeprefix("ansible-core"))


def test_the_page_names_each_playbook():
    page = (ROOT / "docs/awx.md").read_text(encoding="utf-8")
    assert all(path.name in page for path in (ROOT / "playbooks").glob("*.yml"))
