# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _history_store
from ansible_collections.tracktion.ops.plugins.plugin_utils import _history, _history_file
from tests.unit.plugins.plugin_utils import sample_report

LIMITS = _history_store.Limits()


def finding(check="queue", name="a", status="critical", host="music-1"):
    return sample_report.finding(host, "message_queue." + check, name, status, "%s: 500 messages" % name)


class Runs:
    """Runs one after the other, a minute apart, over one history."""

    def __init__(self, path):
        self.path = str(path)
        self.warnings = []
        self.number = 0

    def run(self, *findings, hosts=("music-1",), **more):
        self.number += 1
        made = {host: [] for host in hosts}
        for each in findings:
            made.setdefault(each["host"], []).append(copy.deepcopy(each))
        report = sample_report.report(made, **more)
        report["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1795400000 + 60 * self.number))
        for each in report["findings"]:
            each["first_seen"] = report["finished"]
        _history_file.take_part(report, self.path, None, LIMITS, self.warnings.append)
        return report

    def state(self, *findings):
        report = self.run(*findings)
        return [seen["state"] for seen in report["history"]["findings"].values()]


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "history")


def test_without_an_earlier_run_nothing_is_called_new(runs):
    assert runs.state(finding()) == [None]


def test_new_still_and_fixed(runs):
    runs.run()
    assert runs.state(finding()) == ["new"]
    report = runs.run(finding())
    (seen,) = report["history"]["findings"].values()
    assert seen == {"state": "still", "since": "2026-11-23T02:15:20Z", "runs": "011"}
    assert report["findings"][0]["first_seen"] == "2026-11-23T02:15:20Z"
    report = runs.run()
    assert [(each["object"], each["since"]) for each in report["fixed"]] == [("a", "2026-11-23T02:15:20Z")]
    assert report["history"]["fixed_total"] == 1
    assert runs.run()["fixed"] == []
    assert not runs.warnings


def test_what_comes_and_goes_is_flapping_and_keeps_its_first_time(runs):
    states = [runs.state(*each) for each in ([], [finding()], [], [finding()], [finding()])]
    assert states == [[], ["new"], [], ["flapping"], ["flapping"]]
    report = runs.run(finding())
    assert report["findings"][0]["first_seen"] == "2026-11-23T02:15:20Z"
    assert next(iter(report["history"]["findings"].values()))["since"] == "2026-11-23T02:17:20Z"
    for _turn in range(_history.RUNS):
        runs.run(finding())
    assert runs.state(finding()) == ["still"]


def test_what_could_not_be_checked_is_not_fixed(runs):
    runs.run(finding())
    unknown = finding(name=None, status="unknown")
    report = runs.run(unknown)
    assert report["fixed"] == []
    report = runs.run(finding())
    assert next(iter(report["history"]["findings"].values()))["runs"] == "1?1"
    assert runs.run()["fixed"]


def test_what_is_no_longer_listed_is_not_fixed(runs):
    runs.run(finding())
    report = runs.run(finding(name="b"), finding(name="(7 more)"))
    assert report["fixed"] == []
    assert len(report["history"]["findings"]) == 1


def test_hosts_that_a_run_did_not_visit_keep_their_state(runs):
    both = [finding(), finding(host="music-2")]
    runs.run(*both)
    runs.run(finding(), hosts=["music-1"])
    report = runs.run(*both)
    assert [seen["state"] for seen in report["history"]["findings"].values()] == ["still", "still"]
    assert runs.run(hosts=["music-1"])["history"]["fixed_total"] == 1
    # The counts of runs over other hosts are not compared.
    assert len(runs.run(hosts=["music-1"])["history"]["counts"]) == 2


def test_a_finding_about_a_shared_service_may_move_to_another_host(runs):
    first = {**finding(), "hosts": ["music-1", "music-2"]}
    runs.run(first, hosts=["music-1", "music-2"])
    moved = {**finding(host="music-2"), "hosts": ["music-2", "music-1"]}
    report = runs.run(moved, hosts=["music-1", "music-2"])
    assert report["fixed"] == []
    assert [seen["state"] for seen in report["history"]["findings"].values()] == ["still"]


def test_an_incident_has_the_state_of_its_cause(runs):
    cause, effect = finding(), finding("other", "b")
    runs.run()
    incident = sample_report.incident(cause, effect)
    report = runs.run(cause, effect, incidents=[incident])
    assert report["history"]["incidents"][incident["fingerprint"]]["state"] == "new"


def test_charts_have_the_values_of_earlier_runs(runs):
    def chart():
        return sample_report.chart("music-1", "database.sessions", ("idle", "active"), "sessions", earlier=0)

    runs.run(charts=[{**chart(), "items": chart()["items"][:1]}])
    report = runs.run(charts=[chart()])
    assert [run["values"] for run in report["charts"][0]["earlier"]] == [{"idle": 1000}]
    assert runs.run(charts=[{**chart(), "trend": False}])["charts"][0]["earlier"] == []


def test_a_history_that_cannot_be_used_is_a_warning_and_in_the_report(tmp_path):
    (tmp_path / "history").write_text("not a directory")
    runs = Runs(tmp_path / "history")
    report = runs.run(finding())
    assert "Not a directory" in report["history"]["problem"]
    assert "Not a directory" in runs.warnings[0]
    assert [seen["state"] for seen in report["history"]["findings"].values()] == [None]


def test_a_directory_that_others_can_change_is_not_used(tmp_path):
    (tmp_path / "history").mkdir()
    os.chmod(tmp_path / "history", 0o777)
    report = Runs(tmp_path / "history").run(finding())
    assert "can be written by every user" in report["history"]["problem"]
    assert os.listdir(tmp_path / "history") == []


def test_no_history_is_kept_without_runs(tmp_path):
    report = sample_report.report({"music-1": [finding()]})
    limits = _history_store.Limits(runs=0)
    assert _history_file.take_part(report, str(tmp_path / "history"), None, limits, print) is None
    assert report["history"] is None
    assert not (tmp_path / "history").exists()


def test_another_host_may_keep_the_history(tmp_path):
    def over(read):
        report = sample_report.report({"music-1": [finding()]})
        warnings = []
        return _history_file.take_part(report, None, read, LIMITS, warnings.append), report["history"], warnings

    record, history, warnings = over({"history": _history_store.pack(_history_store.empty())})
    assert (history["problem"], warnings) == (None, [])
    with _history_store.opened(str(tmp_path), make=True) as directory:
        _history_store.write(directory, _history_store.unpack(record), LIMITS, 1795400000.0)
        _record, history, _warnings = over({"history": _history_store.pack(_history_store.read(directory))})
    assert [seen["state"] for seen in history["findings"].values()] == ["still"]
    for result in ({"msg": "Permission denied"}, {"history": "x"}, {"unreachable": True, "msg": "no route"}):
        record, history, warnings = over(result)
        assert record is None
        assert history["problem"]
        assert len(warnings) == 1
