# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _report_file
from tests.users import UNPRIVILEGED, as_other_user, shared_directory

REPORT = {"schema_version": 1, "findings": [], "counts": {"ok": 1}}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777], ids=oct)
@pytest.mark.parametrize("before", [None, 0o666])
def test_a_report_is_private_whatever_the_umask_and_its_mode_before(tmp_path, umask, before):
    path = tmp_path / "made" / "report.json"
    if before:
        path.parent.mkdir(mode=0o700)
        path.write_text("{}")
        path.chmod(before)
    old = os.umask(umask)
    try:
        _report_file.write(REPORT, str(path))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


def test_a_report_is_never_written_through_a_file_of_another_user(tmp_path):
    warnings = []

    class Display:
        warning = staticmethod(warnings.append)

    with shared_directory(0o777) as shared:
        as_other_user(lambda: (shared / "reports").symlink_to("/etc"))
        for path in (shared / "report.json", shared / "reports" / "report.json"):
            assert _report_file.keep(REPORT, str(path), Display) is None
        assert [entry.name for entry in shared.iterdir()] == ["reports"]
    assert not os.path.exists("/etc/report.json")
    assert all("directory: the report cannot be written to" in text and "Run `ch" in text for text in warnings)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "report.json").symlink_to(victim)
    os.chown(tmp_path / "report.json", UNPRIVILEGED, UNPRIVILEGED, follow_symlinks=False)
    _report_file.write(REPORT, str(tmp_path / "report.json"))
    assert victim.read_text() == "untouched"
    assert json.loads((tmp_path / "report.json").read_text()) == REPORT


def test_each_finding_is_one_line():
    report = {**REPORT, "findings": [{"id": "a", "observed": {"x": [1, 2]}}, {"id": "b\n"}], "none": None}
    lines = _report_file.as_json(report).splitlines()
    assert json.loads("\n".join(lines)) == report
    assert [json.loads(line.strip().rstrip(",")) for line in lines if '"id"' in line] == report["findings"]
