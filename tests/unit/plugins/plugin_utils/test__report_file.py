# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import random
import time

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _report_file
from tests.mutations import damaged, mutated
from tests.slack import SLACK
from tests.users import UNPRIVILEGED, as_other_user, shared_directory

FINDING = {"fingerprint": "0123456789abcdef", "first_seen": "2026-01-01T00:00:00Z", "id": "queues.backlog"}
REPORT = {"schema_version": 1, "findings": [FINDING, {**FINDING, "fingerprint": "f" * 16}], "counts": {"ok": 1}}


@pytest.fixture
def read(tmp_path):
    """A function that writes an earlier report, and returns what is read of it and the warnings."""

    def reading(content):
        path = tmp_path / "report.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        warnings = []
        return _report_file.previous(str(path), 1, warnings.append), warnings

    return reading


@pytest.mark.parametrize(
    "entry",
    [
        None, [], "x", 5, {}, {"fingerprint": "0123456789abcdef"}, {**FINDING, "fingerprint": None},
        {**FINDING, "fingerprint": ["0123456789abcdef"]}, {**FINDING, "fingerprint": "\x1b[31m0123456789a"},
        {**FINDING, "first_seen": 5}, {**FINDING, "first_seen": "yesterday"}, {**FINDING, "first_seen": {}},
        {**FINDING, "first_seen": "2026-01-01T00:00:00Z\n"},
    ],
)  # fmt: skip
def test_an_entry_that_is_no_finding_is_ignored(read, entry):
    found, warnings = read({**REPORT, "findings": [FINDING, entry]})
    assert found["findings"] == [FINDING]
    assert len(warnings) == 1


@pytest.mark.parametrize(
    "content",
    [
        {**REPORT, "findings": {}}, {**REPORT, "findings": None}, {**REPORT, "findings": "x"}, [], None, 5,
        b"\xff\xfe", b"[" * 100000, b'{"schema_version": 1, "findings": [Infinity]}', b"", b"{",
    ],
)  # fmt: skip
def test_a_file_that_is_no_report_is_ignored_with_a_warning(read, content):
    found, warnings = read(content)
    assert found is None
    assert len(warnings) == 1


def test_no_mutation_of_an_earlier_report_raises(read):
    chance = random.Random(20261128)
    used = 0
    for _turn in range(300):
        found, warnings = read(damaged(json.dumps(mutated(REPORT, chance)).encode(), chance))
        assert len(warnings) <= 1
        for finding in found["findings"] if found else ():
            used += 1
            assert len(finding["fingerprint"]) == 16
            time.strptime(finding["first_seen"], "%Y-%m-%dT%H:%M:%SZ")
    assert used > 50


def test_a_huge_report_and_one_that_blocks_are_ignored(tmp_path):
    path, warnings = tmp_path / "report.json", []
    with open(path, "wb") as stream:
        stream.truncate(500 << 20)
    began = time.monotonic()
    assert _report_file.previous(str(path), 1, warnings.append) is None
    path.unlink()
    os.mkfifo(path)
    assert _report_file.previous(str(path), 1, warnings.append) is None
    assert time.monotonic() - began < 1 * SLACK
    assert "has 524288000 bytes" in warnings[0]
    assert "is a FIFO" in warnings[1]


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
