# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the collection's playbooks as a user does, and reads their reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.integration import firings

ROOT = Path(__file__).resolve().parents[2]
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


@dataclass
class Run:
    """The result of one run of ansible-playbook."""

    code: int
    output: str
    report: dict | None

    def findings(self, check_id=None, **fields):
        """Return the findings of the report with this id and these fields."""
        fields.update({"id": check_id} if check_id else {})
        return [
            finding
            for finding in self.report["findings"]
            if all(finding[name] == value for name, value in fields.items())
        ]


def inventory(path, hosts, **variables):
    """Write an inventory of ``hosts`` (name -> variables) and return its path."""
    # The tests themselves keep this machine busy.
    variables = {"tracktion_starved_slowdown": 1e9, **variables}
    path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables}}))
    return path


def playbook_command(name, inventory_path, reports, *arguments, extra=None):
    """Return the command that runs ``playbooks/<name>.yml`` from the root of the checkout."""
    variables = json.dumps({"tracktion_report_dir": str(reports), **(extra or {})})
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    return [ansible, "playbooks/%s.yml" % name, "-i", str(inventory_path), "-e", variables, *arguments]


def run_playbook(name, inventory_path, reports, *arguments, extra=None, environment=None, timeout=120, within=()):
    """Run ``playbooks/<name>.yml`` from the root of the checkout, with the command ``within`` before it."""
    command = [*within, *playbook_command(name, inventory_path, reports, *arguments, extra=extra)]
    done = _run(command, environment, timeout)
    path = Path(reports) / "report.json"
    report = json.loads(path.read_text()) if path.exists() else None
    if report:
        firings.record(report["findings"])
    return Run(done.returncode, done.stdout, report)


def run_remedy(role, tasks, inventory_path, evidence, *arguments, extra=None):
    """Run a task file of a role with ansible, as the README of the role shows; return its output."""
    variables = json.dumps({"tracktion_remedy": evidence, **(extra or {})})
    what = "name=tracktion.ops.%s tasks_from=%s" % (role, tasks)
    ansible = [str(Path(sys.executable).with_name("ansible")), "all", "-i", str(inventory_path)]
    include = ["-m", "ansible.builtin.include_role", "-a", what, "-e", variables]
    done = _run([*ansible, *include, *arguments], {}, 120)
    assert done.returncode == 0, done.stdout
    return done.stdout


def play(text, hosts, folder, *arguments, fails=False):
    """Run a play from the root of the checkout, which succeeds or ``fails``; return its output."""
    path = folder / "play.yml"
    path.write_text(text)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(path), "-i", str(hosts), *arguments]
    done = _run(command, {}, 60)
    assert (done.returncode != 0) is fails, done.stdout
    return done.stdout


def _run(command, environment, timeout):
    return subprocess.run(
        command,
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks" / "collections"),
            "NO_COLOR": "1",
            "ANSIBLE_NOCOLOR": "1",
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
