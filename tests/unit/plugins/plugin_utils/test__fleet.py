# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of 300 hosts fits on two screens of a terminal."""

from __future__ import annotations

import shlex

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _fleet, _groups, _lines, _terminal
from tests.unit.plugins.plugin_utils import fleet

NAMES = fleet.names(300)
REFUSED = "Failed to connect to the host via ssh: ssh: connect to host 10.0.0.%d port 22: Connection refused"
DENIED = {"kind": "permission", "message": "permission denied", "hint": "Add it: `usermod -aG docker x`"}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    return fleet.Fleet(tmp_path_factory.mktemp("areas")).report


@pytest.fixture(scope="module")
def mixed(make):
    """Hosts with one bad database; unreachable hosts; hosts without a right in an area; one with its own findings."""
    hosts = {name: {} for name in NAMES} | fleet.shared_database(NAMES[:104])
    hosts |= {name: {"unreachable": True, "msg": REFUSED % number} for number, name in enumerate(NAMES[200:210])}
    denied = {"reachable": None, "error": DENIED, "unknown": []}
    return make(hosts | {name: {"containers": denied} for name in NAMES[220:228]} | fleet.all_different(NAMES[299:]))


@pytest.fixture(scope="module")
def different(make):
    return make(fleet.all_different(NAMES, 2))


def blocks(text):
    return [block for block in text.split("\n\n") if block.startswith("  ")]


def test_a_healthy_fleet_is_one_line(make):
    lines = _fleet.render(make({name: {} for name in NAMES})).splitlines()
    assert len(lines) == 3
    assert lines[2] == "OK        300 hosts (web001, web002, web003 and 297 more)"


@pytest.mark.parametrize("kind", ["mixed", "different"])
def test_300_hosts_fit_two_screens(request, kind):
    report = request.getfixturevalue(kind)
    text = _fleet.render(report, path="/reports/report.json")
    assert len(text.splitlines()) <= _fleet.LINES
    assert sum(len(line) > 140 for line in text.splitlines()) == 0
    assert len(report["findings"]) > 1000


def test_hosts_with_the_same_failed_areas_share_a_line(mixed):
    lines = _fleet.render(mixed).splitlines()
    assert "CRITICAL  10 hosts (web201, web202, web203 and 7 more): not diagnosed" in lines
    assert "CRITICAL  24 hosts (web081, web082, web083 and 21 more): database critical" in lines
    assert "UNKNOWN   8 hosts (web221, web222, web223 and 5 more): containers unknown" in lines
    assert "OK        177 hosts (web105, web106, web107 and 174 more)" in lines


def test_an_equal_finding_is_shown_once_with_its_worst_host(mixed):
    (block,) = [each for each in blocks(_fleet.render(mixed)) if "CRITICAL  database.full [table_00]" in each]
    assert "on 24 hosts (web081, web082, web083 and 21 more)" in block
    assert "Worst:   web104: table_00: full by 123 requests" in block
    assert "value=123   limit: database_critical=100" in block


def test_each_check_comes_once_before_any_comes_again(mixed):
    first, second = blocks(_fleet.render(mixed))[:2]
    assert "database.full [table_00]" in first
    assert "host.unreachable  on 10 hosts" in second
    assert "Connection refused" in " ".join(second.split())


def test_findings_that_are_not_shown_are_counted(mixed, different):
    for report in (mixed, different):
        text = _fleet.render(report)
        table = blocks(text)[-1].splitlines()
        assert table[0] == "  Also found:"
        counted = sum(int(line.split()[2]) for line in table[1:])
        shown = sum(
            len(group.findings)
            for group in _groups.equal(report["findings"])
            if any(
                "%s [%s]" % (finding["id"], finding["object"]) in block and finding["status"].upper() in block
                for finding in group.findings
                for block in blocks(text)[:-1]
            )
            or group.findings[0]["area"] == "host"
        )
        assert counted + shown == len(report["findings"])


def test_long_texts_are_cut(make):
    hosts = {name: {"cache": fleet.things(("x" * 5000 + str(each), 500))} for each, name in enumerate(NAMES)}
    rows = [1 + len(line) // 120 for line in _fleet.render(make(hosts)).splitlines()]
    assert sum(rows) <= _fleet.LINES


def test_checks_that_could_not_run_for_one_reason_are_shown_once(make):
    denied = {"reachable": None, "error": DENIED, "unknown": []}
    text = _fleet.render(make({name: {"containers": denied} for name in NAMES}))
    assert text.count("permission denied") == 1
    assert "UNKNOWN  containers: 3 checks could not run  on 300 hosts (web001" in text
    assert "`usermod -aG docker x`" in text


def command(text):
    (line,) = [line for line in text.splitlines() if line.startswith("      Try:")]
    return shlex.split(line)[1:]


def test_the_command_of_a_group_is_for_its_hosts(make):
    own = {"cache": fleet.things(("a", 500))}
    words = command(_fleet.render(make({"web1": own, "web2": own, "web 3": {}})))
    assert words[words.index("--limit") + 1] == "web1,web2"
    assert words[words.index("-e") + 1] == "tracktion_only=cache.full"
    assert words[-2:] == ["--check", "--diff"]


def test_the_command_of_a_large_group_has_no_limit(make):
    words = command(_fleet.render(make({name: {"cache": fleet.things(("a", 500))} for name in NAMES})))
    assert "--limit" not in words
    assert "tracktion_only=cache.full" in words


def test_the_command_of_one_host_is_unchanged(make):
    report = make({"web1": {"cache": fleet.things(("a", 500))}, "web2": {}})
    assert " ".join(command(_fleet.render(report))) == report["findings"][0]["remedy"]["command"]


def group_command(*lines):
    findings = [
        {
            "id": "c.full",
            "host": host,
            "fingerprint": mark,
            "observed": {},
            "threshold": {},
            "remedy": {"command": line},
        }
        for host, mark, line in lines
    ]
    return _fleet._command(_groups.Group(findings))


@pytest.mark.parametrize(
    ("line", "hosts", "expected"),
    [
        ("a --limit %s -e tracktion_only=%s --check", ("w1", "w2"), "a --limit w1,w2 -e tracktion_only=c.full --check"),
        (
            "a -i $'it\\'s  here' --limit %s -e 'x=\"a  b\"' -e tracktion_only=%s",
            ("w1", "w2"),
            "a -i $'it\\'s  here' --limit w1,w2 -e 'x=\"a  b\"' -e tracktion_only=c.full",
        ),
        (
            'Launch the job with limit `%s` and extra variables `{"tracktion_only": "%s"}`',
            ("w1", "w2"),
            'Launch the job with limit `w1,w2` and extra variables `{"tracktion_only": "c.full"}`',
        ),
        ("a --limit %s -e tracktion_only=%s", ("w1", "w 2"), None),
        ("a --limit %s -e tracktion_only=%s -e x=%%s", ("w1", "w2"), None),
    ],
)
def test_the_command_keeps_all_other_words(line, hosts, expected):
    lines = [(host, mark, line % (host, mark)) for host, mark in zip(hosts, ("ab12", "cd34"), strict=True)]
    if "%s" in lines[0][2]:
        lines = [(host, mark, text % number) for number, (host, mark, text) in enumerate(lines)]
    assert group_command(*lines) == expected


def test_one_host_is_shown_in_detail(make):
    report = make(fleet.all_different(["web1"]))
    assert _fleet.render(report, colour=True, path="/r") == _terminal.render(report, colour=True, path="/r")


def test_lines_have_each_failure_once(mixed, different):
    lines = _lines.render(mixed).splitlines()
    assert len([line for line in lines if line.startswith("CRITICAL") and " database " in line]) == 13
    (line,) = [line for line in lines if line.startswith("CRITICAL") and "[table_00]" in line]
    assert " ".join(line.split()) == (
        "CRITICAL 24 hosts database full [table_00]: table_00: full by 123 requests "
        "(web081, web082, web083, web084, web085 and 19 more)"
    )
    assert [line for line in lines if line.startswith("OK        289 hosts  logs ")]
    assert len(lines) < 120
    # Findings that are all different have a line each.
    warnings = [line for line in _lines.render(different).splitlines() if line.startswith("WARNING")]
    assert len(warnings) == len(different["findings"]) == 300 * len(fleet.AREAS) * 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("web1: 3 sessions wait, 1.5 KiB", "web2: 14 sessions wait, 300 B", True),
        ("1 message", "500 messages", True),
        ("for 1 h 2 min", "for 3 s", True),
        ("since 2026-01-01T10:00:00Z", "since 2026-11-05T09:08:07Z", True),
        ("refused by web1", "refused by web2", True),
        ("web10 answers", "web2 answers", False),
        ("api-web1 is down", "api-web2 is down", True),
        ("refused by redis", "refused by queue", False),
        ("permission denied", "connection refused", False),
    ],
)
def test_texts_are_compared_without_numbers_and_host(one, other, same):
    assert (_groups.shape(one, "web1") == _groups.shape(other, "web2")) is same


def test_if_low_values_are_bad_the_smallest_is_the_worst():
    def finding(free):
        return {"observed": {"free_ratio": free}, "threshold": {"free_warning": 0.1}}

    group = _groups.Group([finding(0.05), finding(0.01), finding(0.09)])
    assert group.worst["observed"]["free_ratio"] == 0.01
