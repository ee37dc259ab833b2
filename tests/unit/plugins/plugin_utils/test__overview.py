# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first screen of a report shows what is wrong, since when and what to do first."""

from __future__ import annotations

import copy
import re

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _fleet, _overview
from tests.unit.plugins.plugin_utils import sample_report

RUN = "2026-11-20T02:13:20Z"


def with_incidents(number, effects=3, hosts=("music-1",), history=True):
    """Return a report with so many incidents, each with effects; every other one has a measured beginning."""
    findings, incidents = {host: [] for host in hosts}, []
    for at in range(number):
        host = hosts[at % len(hosts)]
        chain = [
            sample_report.finding(
                host, "cache.cause_%d" % at if not each else "logs.effect_%d_%d" % (at, each), "object-%d" % at,
                "critical" if at < 2 else "warning", "object-%d is out of order for the %dth time" % (at, each),
                hint="Look at its log first. Then restart it: `docker restart service-%d` and wait for a minute." % at,
            )
            for each in range(effects + 1)
        ]  # fmt: skip
        findings[host] += chain
        status = chain[0]["status"]
        began = None if at % 2 else "2026-11-23T01:50:00Z"
        incidents.append(sample_report.incident(*chain, status=status, began=began))
    made = sample_report.report(findings, incidents)
    if history:
        seen = {"state": "still", "since": RUN, "runs": "11"}
        made["history"] = {
            "problem": None, "previous": RUN, "counts": [], "fixed_total": 0,
            "findings": {each["fingerprint"]: seen for own in findings.values() for each in own},
            "incidents": {each["fingerprint"]: seen for each in incidents},
        }  # fmt: skip
    return made


def screen(report):
    return _fleet.render(report, path="/reports/report.json").splitlines()[: _overview.SCREEN]


@pytest.mark.parametrize("hosts", [("music-1",), ("music-1", "music-2", "music-3")])
@pytest.mark.parametrize(("number", "in_full"), [(1, 1), (3, 3), (20, 3)])
def test_the_first_screen(number, in_full, hosts):
    # An effect takes a line or two, so that one incident with twelve of them is longer than a screen.
    lines = screen(with_incidents(number, effects=12 if number == 1 else 3, hosts=hosts))
    text = "\n".join(lines)
    assert "%d incident%s, the causes:" % (number, "" if number == 1 else "s") in lines
    for at in range(in_full):
        (line,) = [line for line in lines if re.match("(CRITICAL|WARNING ) +cache.cause_%d:" % at, line)]
        assert "object-%d is out of order" % at in line
        assert "Do: Look at its log first. Then restart it: `docker restart service-%d`" % at in text
    assert text.count("Since: ") >= in_full
    assert "Since: 2026-11-23T01:50:00Z (23 min 20 s)." in text
    assert in_full == 1 or "Since: the run of %s (3 d) or earlier." % RUN in text
    assert "follow" in text
    if number > in_full:
        listed = sum(re.match(r"(CRITICAL|WARNING ) +cache\.cause_", line) is not None for line in lines)
        assert listed > in_full
        assert "... and %d more" % (number - listed) in text


def test_a_report_that_fits_on_a_screen_has_no_overview():
    text = _fleet.render(with_incidents(1, effects=1))
    assert len(text.splitlines()) < _overview.SCREEN
    assert "incident" not in text
    assert "      Since:   2026-11-23T01:50:00Z (23 min 20 s)" in text


def test_without_a_history_only_measured_times_are_shown():
    text = _fleet.render(with_incidents(3, history=False))
    assert text.count("Since: ") == 2 * 2


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("new", "this run, it is new"),
        ("flapping", "the run of %s (3 d), it comes and goes" % RUN),
        ("still", "the run of %s (3 d) or earlier" % RUN),
        (None, None),
    ],
)
def test_what_earlier_runs_say(state, expected):
    made = copy.deepcopy(with_incidents(2))
    for seen in made["history"]["incidents"].values():
        seen["state"] = state
    text = _fleet.render(made)
    found = re.findall("Since: +(.*)", text)
    assert found[-1] == (expected or "2026-11-23T01:50:00Z (23 min 20 s)")


def test_long_hints_keep_their_first_command():
    made = with_incidents(3)
    for finding in made["findings"]:
        finding["hint"] = "It %s. Read its log: `docker logs --tail 50 x`" % ("was stopped by a user " * 12)
    assert "Do: Read its log: `docker logs --tail 50 x`" in "\n".join(screen(made))


@pytest.mark.parametrize("hosts", [("music-1",), tuple("music-%d" % number for number in range(30))])
@pytest.mark.parametrize("number", [1, 3, 20, 200])
def test_lines_have_at_most_100_columns(number, hosts):
    for line in _fleet.render(with_incidents(number, hosts=hosts)).splitlines():
        assert len(line) <= 100, line


def test_hostile_names_stay_in_their_lines():
    lines = _fleet.render(sample_report.hostile()).splitlines()
    assert not [line for line in lines if re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]", line)]
    assert "1 incident, the causes:" in lines


def test_fixed_findings_are_named():
    text = _fleet.render(sample_report.of_one_host())
    assert "  FIXED     since the run before: cache.full" in text
