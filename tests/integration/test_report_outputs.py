# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outputs of a report and the history of runs, on real directories: full, read-only, on another host."""

from __future__ import annotations

import contextlib
import json
import subprocess
import xml.dom.minidom
from pathlib import Path

import jsonschema
import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _outputs
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import cleaned
from tests.integration.playbooks import LOCAL, ROOT, inventory, run_playbook
from tests.lab.promtool import promtool
from tests.unit.plugins.plugin_utils import sample_report

SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
OUTPUTS = {"html": "report.html", "prometheus": "report.prom", "junit": "report.junit.xml", "markdown": "report.md"}
# Fires where there is such a file.
FLAG = "file_watching.flag"
CHECK = {
    "id": FLAG,
    "title": "Flag",
    "each": "limits.limits",
    "when": "item.name == 'max_user_watches' and wanted",
    "warning": "item.runtime > 0",
    "object": "{{ item.name }}",
    "summary": "{{ item.name }} is {{ item.runtime }}",
    "guide": "g",
    "why": "It is a test.",
}


@pytest.fixture
def site(tmp_path):
    """A function that runs a diagnosis of this machine with the flag set or not."""
    inventory(tmp_path / "hosts.yml", {"web": LOCAL}, tracktion_areas=["file_watching"])

    def run(flag, reports=tmp_path / "reports", within=(), **variables):
        extra = {
            "tracktion_extra_checks": [{**CHECK, "vars": {"wanted": flag}}],
            "tracktion_report_outputs": list(OUTPUTS),
            **variables,
        }
        done = run_playbook("diagnose", tmp_path / "hosts.yml", reports, extra=extra, within=within)
        assert done.code == 0, done.output
        jsonschema.validate(done.report, SCHEMA)
        return done

    return run


def states(run):
    history = run.report["history"]
    return [history["findings"][finding["fingerprint"]]["state"] for finding in run.findings(FLAG)]


@contextlib.contextmanager
def small_disk(path, size):
    """Mount a file system of this size in memory."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d,mode=0755" % size, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_all_outputs_and_the_history_of_three_runs(site, tmp_path):
    runs = [site(False), site(True)]
    files = {name: (tmp_path / "reports" / file) for name, file in OUTPUTS.items()}
    assert [states(run) for run in runs] == [[], ["new"]]
    page = files["html"].read_text(encoding="utf-8")
    assert "max_user_watches is" in page
    # One host: at most 150 kB.
    assert len(page) < 150_000
    xml.dom.minidom.parse(str(files["junit"]))
    assert "max_user_watches is" in files["markdown"].read_text(encoding="utf-8")
    checked = subprocess.run(
        [promtool(), "check", "metrics"], input=files["prometheus"].read_bytes(), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    fixed = site(False).report["fixed"]
    assert [each["id"] for each in fixed] == [FLAG]
    assert "Fixed since the run before" in files["html"].read_text(encoding="utf-8")
    assert len(list((tmp_path / "reports" / "history").glob("*.jsonl"))) == 3


@pytest.mark.parametrize(
    "command",
    [("check", "rules", "docs/monitoring/alerts.yml"), ("test", "rules", "tests/integration/alert_rules.yml")],
    ids=" ".join,
)
def test_the_alert_rules(command):
    checked = subprocess.run([promtool(), *command], cwd=ROOT, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("report", [sample_report.hostile(), sample_report.of_fleet(50, 20)], ids=["hostile", "fleet"])
def test_metrics_with_any_names_are_valid(report):
    metrics = _outputs.render(cleaned(report), "prometheus").encode()
    checked = subprocess.run([promtool(), "check", "metrics"], input=metrics, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_full_disk_costs_no_report(site, tmp_path):
    with small_disk(tmp_path / "small", 1 << 20) as small:
        (small / "rest").write_bytes(b"x" * (1 << 20))
        run = site(True, tracktion_history_dir=str(small / "history"))
    assert "No space left on device" in run.report["history"]["problem"]
    assert "No space left on device" in run.output
    assert run.findings(FLAG)


def test_a_read_only_directory_is_still_read(site, tmp_path):
    with small_disk(tmp_path / "small", 1 << 20) as small:
        site(True, tracktion_history_dir=str(small / "history"))
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        run = site(True, tracktion_history_dir=str(small / "history"))
    assert states(run) == ["still"]
    assert "Read-only file system" in run.report["history"]["problem"]


def test_another_host_keeps_the_history(site, tmp_path):
    """The directory of the reports is new in each run, as in a job of AWX."""
    where = {"tracktion_history_host": "web", "tracktion_history_dir": str(tmp_path / "kept")}
    first = site(True, reports=tmp_path / "one", **where)
    second = site(True, reports=tmp_path / "two", **where)
    assert (states(first), states(second)) == ([None], ["still"])
    assert not (tmp_path / "one" / "history").exists()
    assert len(list((tmp_path / "kept").glob("*.jsonl"))) == 2
    # A host that cannot be reached costs the history only.
    gone = {**where, "tracktion_history_host": "gone"}
    text = (
        Path(tmp_path / "hosts.yml")
        .read_text()
        .replace("web:", "gone: {ansible_host: 127.0.0.1, ansible_port: 1}\n    web:", 1)
    )
    (tmp_path / "hosts.yml").write_text(text)
    third = site(True, reports=tmp_path / "three", tracktion_hosts="web", **gone)
    assert "nreachable" in third.report["history"]["problem"] or "connect" in third.report["history"]["problem"]
    assert third.findings(FLAG)
