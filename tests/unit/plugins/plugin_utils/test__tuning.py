# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of tune_inotify.yml, from the registered results of its hosts."""

from __future__ import annotations

import json

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _tuning

NOW = "2026-11-20T10:00:00Z"


def result(changed=False, before=4096, after=None, file=None, **fields):
    after = before if after is None else after
    persisted = after if file else None
    return {
        "changed": changed,
        "raised": {
            "before": {"somaxconn": before},
            "after": {"somaxconn": after},
            "persisted_before": {"somaxconn": None},
            "persisted_after": {"somaxconn": persisted},
            "files": {"somaxconn": file},
            "skipped_reason": fields.pop("skipped_reason", None),
        },
        **fields,
    }


def host(name="web", limits=None, sysctls=None):
    registered = {"tune_inotify_limits_raised": limits, "tune_inotify_sysctls_raised": sysctls}
    return _tuning.host(name, {key: value for key, value in registered.items() if value is not None})


CHANGED = result(True, 4096, 5000, "/etc/sysctl.d/60-a.conf")
WHEN_FALSE = {"skipped": True, "changed": False, "skip_reason": "Conditional result was False"}
UNREACHABLE = {"unreachable": True, "changed": False, "msg": "no\nroute"}


def report(*hosts, check_mode=False):
    return _tuning.build(list(hosts), check_mode, "1.2.3", NOW)


@pytest.mark.parametrize(
    ("limits", "sysctls", "status", "reason"),
    [
        (result(), None, "ok", None),
        (result(), WHEN_FALSE, "ok", None),
        (result(), CHANGED, "changed", None),
        (CHANGED, result(failed=True, msg="no"), "failed", "no"),
        (UNREACHABLE, WHEN_FALSE, "unreachable", "no route"),
        (result(skipped_reason="read-only"), result(), "skipped", "read-only"),
    ],
)
def test_a_host_has_the_status_of_its_worst_result(limits, sysctls, status, reason):
    found = host("web", limits, sysctls)
    assert (found["status"], found["reason"]) == (status, reason)


def test_a_host_without_registered_results_was_not_tuned():
    assert host() is None
    assert host("web", WHEN_FALSE, WHEN_FALSE) is None


def test_parameters_have_full_names():
    found = host("web", result(), CHANGED)
    assert [entry["key"] for entry in found["parameters"]] == ["fs.inotify.somaxconn", "somaxconn"]
    assert found["parameters"][1] == {
        "key": "somaxconn",
        "before": 4096,
        "after": 5000,
        "persisted_before": None,
        "persisted_after": 5000,
        "file": "/etc/sysctl.d/60-a.conf",
    }


def test_the_output_has_named_fields_only():
    secret = result(failed=True, msg="no", invocation={"password": "hunter2"}, module_stdout="hunter2")
    made = report(host("web", secret))
    assert "hunter2" not in json.dumps([made, _tuning.summary(made), _tuning.render(made)])


def test_the_worst_hosts_come_first_and_all_are_counted():
    hosts = [
        host("a", result()),
        host("b", CHANGED),
        host("c", result(failed=True, msg="no")),
        _tuning.not_visited("d"),
    ]
    made = report(*hosts)
    assert [each["name"] for each in made["hosts"]] == ["c", "d", "b", "a"]
    assert made["counts"] == {"failed": 1, "unreachable": 0, "not_visited": 1, "changed": 1, "skipped": 0, "ok": 1}
    assert made["complete"] is False
    assert report(hosts[0], hosts[1])["complete"] is True


def test_the_summary_is_bounded_and_counts_the_hosts_left_out():
    hosts = [host("web-%03d" % number, CHANGED) for number in range(60)]
    summary = _tuning.summary(report(*hosts, host("a", result()), _tuning.not_visited("z")), most=50)
    assert (len(summary["changed"]), summary["hosts_left_out"]) == (50, 10)
    assert summary["changed"][0]["host"] == "web-000"
    assert summary["not_visited"] == ["z"]


def test_the_table_shows_changed_parameters_only():
    text = _tuning.render(report(host("web-1", CHANGED, result(before=7)), host("web-2", result())))
    assert text == (
        "2 hosts: 1 changed, 1 ok\n"
        "\n"
        "Changes:\n"
        "  host   parameter             now           next boot        file\n"
        "  web-1  fs.inotify.somaxconn  4096 -> 5000  not set -> 5000  /etc/sysctl.d/60-a.conf\n"
        "\n"
        "  OK  web-2"
    )


def test_check_mode_shows_planned_changes():
    assert "Planned changes:" in _tuning.render(report(host("web", CHANGED), check_mode=True))


def test_hosts_that_share_a_reason_share_a_paragraph():
    skipped = result(skipped_reason="read-only here")
    text = _tuning.render(report(host("a", skipped), host("b", skipped), host("c", result(failed=True, msg="no"))))
    assert "  SKIPPED  a, b\n      read-only here" in text
    assert "  FAILED  c\n      no" in text


def test_a_long_table_is_cut_and_counts_the_rest():
    hosts = [host("web-%03d" % number, result(True, number, 5000)) for number in range(30)]
    text = _tuning.render(report(*hosts), most=20)
    assert "web-019" in text
    assert "web-020" not in text
    assert "... and 10 more in the report" in text


def test_hosts_with_the_same_changes_share_a_line():
    hosts = [host("web-%03d" % number, CHANGED) for number in range(300)]
    skipped = [host("db-%03d" % number, result(skipped_reason="read-only")) for number in range(100)]
    lines = _tuning.render(report(*hosts, *skipped)).splitlines()
    assert len(lines) < 20
    assert any(line.startswith("  web-000, web-001, web-002 and 297 more  fs.inotify.somaxconn") for line in lines)
    assert any("db-019 and 80 more" in line for line in lines)
