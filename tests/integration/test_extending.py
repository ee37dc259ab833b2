# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples of docs/extending.md, unchanged."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from tests.integration.playbooks import LOCAL, ROOT, inventory, run_playbook

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
# `path`: and the block of YAML that follows it.
FILES = dict(re.findall(r"^`([\w/.]+\.yml)`:\n\n```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SETTINGS = {"tracktion_remediate_risk": "disruptive"}


@pytest.fixture
def site(tmp_path):
    """A directory with the files of the page, a spool with an old job in it, and an inventory."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "old").write_text("job")
    os.utime(spool / "old", (1, 1))
    (spool / "new").write_text("job")
    variables = {"spool_directory": str(spool), "tracktion_state_dir": str(tmp_path / "state")}
    inventory(tmp_path / "hosts.yml", {"web": LOCAL}, **variables)
    return tmp_path


def run(site, name, *arguments, areas=("spool",), **environment):
    environment = {"ANSIBLE_ROLES_PATH": str(site / "roles"), **environment}
    extra = {"tracktion_areas": list(areas), **SETTINGS}
    return run_playbook(name, site / "hosts.yml", site / "reports", *arguments, extra=extra, environment=environment)


def test_the_page_has_its_examples():
    assert sorted(FILES) == [
        "group_vars/all.yml",
        "roles/spool/defaults/main.yml",
        "roles/spool/diagnosis/checks.yml",
        "roles/spool/diagnosis/probes.yml",
        "roles/spool/diagnosis/remedies.yml",
        "roles/spool/meta/argument_specs.yml",
        "roles/spool/tasks/remediate/set_aside.yml",
    ]


def test_an_own_check(site):
    found = run(site, "diagnose", areas=["file_watching"]).findings("file_watching.few_instances")
    assert [finding["status"] for finding in found] == ["info"]
    assert found[0]["summary"].startswith("fs.inotify.max_user_instances is ")


def test_an_own_area(site):
    (finding,) = run(site, "diagnose").findings("spool.job_waits")
    assert finding["object"] == str(site / "spool" / "old")
    assert finding["summary"].endswith("(3 B) has been waiting for more than 10 min")


def test_an_own_remedy(site):
    job, aside = site / "spool" / "old", site / "spool.aside" / "old"
    checked = run(site, "remediate", "--check")
    assert "WOULD DO  spool.set_aside" in checked.output
    assert job.exists()
    done = run(site, "remediate")
    assert aside.read_text() == "job"
    assert not job.exists()
    (action,) = done.report["remediation"]["actions"]
    assert action["undo"] == "mv %s %s" % (aside, job)
    assert [change["change"] for change in done.report["remediation"]["changes"]] == ["fixed"]
    assert run(site, "remediate").report["remediation"]["actions"] == []


def test_an_area_in_another_collection(site):
    collection = site / "collections" / "ansible_collections" / "acme" / "jobs"
    shutil.copytree(site / "roles", collection / "roles")
    shutil.rmtree(site / "roles")
    paths = os.pathsep.join([str(site / "collections"), str(ROOT / "playbooks" / "collections")])
    (finding,) = run(site, "diagnose", areas=["acme.jobs.spool"], ANSIBLE_COLLECTIONS_PATH=paths).findings(
        "spool.job_waits"
    )
    assert finding["object"] == str(site / "spool" / "old")
