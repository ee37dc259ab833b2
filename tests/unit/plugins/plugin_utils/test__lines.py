# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report in lines: one line for each failure."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.plugin_utils import _lines, _report

COUNTS = {"checks": 9, "items": 12, "not_here": 0, "info": 0, "ok": 12, "unknown": 0, "warning": 0, "critical": 0}


def area(name, status="ok", **counts):
    return {"name": name, "status": status, "counts": {**COUNTS, **counts}}


def finding(host, check_id, status, summary, name=None):
    return {
        "id": check_id,
        "area": check_id.partition(".")[0],
        "host": host,
        "object": name,
        "status": status,
        "summary": summary,
        "observed": {},
        "threshold": {},
        "hint": None,
    }


def render(hosts, findings, **options):
    """The lines about these hosts: name -> areas."""
    return _lines.render(
        {
            "finished": "2026-01-01T00:00:00Z",
            "counts": COUNTS,
            "hosts": [{"name": name, "areas": areas} for name, areas in hosts.items()],
            "findings": findings,
        },
        **options,
    ).splitlines()


def test_each_ok_area_is_a_line():
    lines = render({"web": [area("cache"), area("database", "info", info=1)]}, [])
    assert lines[:2] == [
        "OK        web  cache     9 checks over 12 items",
        "OK        web  database  9 checks over 12 items, 1 info",
    ]
    assert lines[2].startswith("2026-01-01T00:00:00Z  1 host, ")
    assert len(lines) == 3


def test_every_failure_has_a_line_the_worst_first():
    findings = [
        finding("web", "cache.slow", "warning", "slow\n  really"),
        *(finding("web", "cache.full", "critical", "full", "db%d" % number) for number in range(100)),
        finding("web", "cache.odd", "info", "odd"),
    ]
    lines = render({"web": [area("cache", "critical"), area("files")], "other": [area("cache")]}, findings)
    assert lines[0] == "CRITICAL  web    cache  full [db0]: full"
    assert len([line for line in lines if line.startswith("CRITICAL")]) == 100
    assert lines[100:103] == [
        "WARNING   web    cache  slow: slow really",
        "OK        web    files  9 checks over 12 items",
        "OK        other  cache  9 checks over 12 items",
    ]
    assert not any("odd" in line for line in lines)


def test_checks_that_could_not_run_for_one_reason_are_one_line():
    findings = [finding("web", "cache.%s" % name, "unknown", "the server is gone") for name in "abcd"]
    lines = render({"web": [area("cache", "unknown")]}, [*findings, findings[0]])
    assert lines[:-1] == ["UNKNOWN   web  cache  4 checks could not run: the server is gone"]
    lines = render({"web": [area("cache", "unknown")]}, findings[:2])
    assert lines[:-1] == ["UNKNOWN   web  cache  a, b could not run: the server is gone"]


def test_a_host_that_was_not_reached_is_a_failure_too():
    lines = render({"dead": []}, [finding("dead", "host.unreachable", "critical", "x" * 500)])
    assert lines[0].startswith("CRITICAL  dead  host  unreachable: xxx")
    assert len(lines[0]) < 240


def test_colours_and_the_path_are_shown_if_given():
    lines = render({"web": [area("cache")]}, [], colour=True, path="/reports/report.json")
    assert lines[0].startswith("\033[1;32mOK      \033[0m  web")
    assert lines[-1] == "Report: /reports/report.json"


def test_what_is_not_here_is_counted_and_an_area_without_anything_else_is_named():
    lines = render({"a": [area("cache", items=0, not_here=1), area("database", not_here=2)]}, [])
    assert lines[:2] == ["OK        a  cache     not here", "OK        a  database  9 checks over 12 items, 2 not here"]


def test_the_overload_of_a_host_comes_before_worse_findings():
    found = [
        finding("web", "database.unreachable", "critical", "no answer"),
        finding("web", "host_resources.cpu_saturated", "warning", "32 threads wait"),
    ]
    lines = render({"web": [area("cache")]}, found)
    assert [line.split()[0:3] for line in lines[:3]] == [
        ["WARNING", "web", "host_resources"], ["CRITICAL", "web", "database"], ["OK", "web", "cache"],
    ]  # fmt: skip
    assert sorted(found, key=_report.worst_first) == found[::-1]
