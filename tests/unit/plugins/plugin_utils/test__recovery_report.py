# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a run that makes backups."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.plugin_utils import _recovery_report

DONE = {
    "result": "done",
    "database": "tracktion",
    "path": "/var/backups/tracktion/postgresql/tracktion/20261129T125200Z",
    "bytes": 52428800,
    "estimated_bytes": 79691776,
    "seconds": 12.5,
    "removed": ["/var/backups/tracktion/postgresql/tracktion/20261122T125200Z"],
}
FAILED = {"failed": True, "item": "other", "msg": "pg_dump failed:\n  lock \x1b[31mtimeout"}


def built(*found, check_mode=False):
    items = [item for host, variables in found for item in _recovery_report.items("backup", host, variables)]
    return _recovery_report.build("backup", items, check_mode, "0.4.0", "2026-11-29T12:52:00Z")


def test_loops_and_single_results_are_read_and_skipped_ones_left_out():
    report = built(
        ("music", {"recovery_backup_postgresql": {"results": [DONE, FAILED, {"skipped": True}]}}),
        ("cache", {"recovery_backup_redis": {**DONE, "database": None, "name": "cache"}}),
        ("none", {"recovery_backup_redis": {"skipped": True}, "recovery_prove_postgresql": DONE, "other": 1}),
        ("gone", {"recovery_backup_postgresql": {"unreachable": True, "msg": "timed out"}}),
    )
    assert [(each["host"], each["name"], each["status"]) for each in report["items"]] == [
        ("gone", "", "unreachable"),
        ("music", "other", "failed"),
        ("cache", "cache", "done"),
        ("music", "tracktion", "done"),
    ]
    assert not report["complete"]
    assert _recovery_report.failed_hosts(report) == ["gone", "music"]


def test_the_table_has_sizes_times_and_reasons_and_no_control_characters():
    text = _recovery_report.render(
        built(("music", {"recovery_backup_postgresql": {"results": [DONE, FAILED]}})), "/reports/backup.json"
    )
    assert "Backups: 1 done, 1 failed" in text
    assert "music  postgresql tracktion  done    50.0 MiB  12 s  /var/backups" in text
    assert "removed /var/backups/tracktion/postgresql/tracktion/20261122T125200Z" in text
    assert "music, postgresql other: pg_dump failed: lock" in text
    assert "\x1b" not in text
    assert text.endswith("Report: /reports/backup.json")


def test_a_plan_has_estimates():
    planned = {**DONE, "result": "planned", "bytes": None, "seconds": None}
    report = built(("music", {"recovery_backup_postgresql": {"results": [planned]}}), check_mode=True)
    text = _recovery_report.render(report)
    assert "planned  at most 76.0 MiB" in text
    assert "would remove" in text
    assert report["complete"]


def test_malformed_results_of_a_host_do_not_fail_the_report():
    strange = {"bytes": "many", "seconds": float("nan"), "removed": 7, "path": 5, "msg": ["a"]}
    for variables in ({"recovery_backup_redis": strange}, {"recovery_backup_redis": {"results": [None, 5, strange]}}):
        (item,) = _recovery_report.items("backup", "music", variables)
        assert (item["bytes"], item["seconds"], item["removed"], item["path"]) == (None, None, [], "5")
    assert _recovery_report.items("backup", "music", {"recovery_backup_redis": "text"}) == []
    assert (
        len(_recovery_report.summary(built(("m", {"recovery_backup_redis": {"results": [DONE] * 500}})))["items"])
        == 200
    )
