# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings of a service that several hosts share are merged, counted once, and have one action."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _fleet, _plan, _remediation, _shared
from tests.unit.plugins.plugin_utils import fleet

SCHEMA = json.loads((Path(__file__).resolve().parents[4] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
SAME = "postgresql:7301"
HOSTS = ["web1", "web2", "web3"]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    return fleet.Fleet(tmp_path_factory.mktemp("areas"), areas=("cache", "database")).report


def database(*tables, identity=SAME):
    return {"database": fleet.things(*tables, identity=identity)}


def test_findings_of_one_service_are_one(make):
    report = make(fleet.shared_database(HOSTS, 13, SAME))
    jsonschema.validate(report, SCHEMA)
    assert len(report["findings"]) == 13
    assert {(finding["host"], tuple(finding["hosts"])) for finding in report["findings"]} == {("web1", tuple(HOSTS))}
    assert report["counts"]["warning"] == 13
    assert [host["status"] for host in report["hosts"]] == ["warning"] * 3


def test_findings_of_services_without_an_identity_are_not_merged(make):
    for identity in (None, "", 7):
        assert len(make(fleet.shared_database(HOSTS, 13, identity))["findings"]) == 39
    other = database(("a", 50), identity="postgresql:7302")
    assert len(make({"web1": database(("a", 50)), "web2": other})["findings"]) == 2


def test_findings_of_only_one_host_are_counted(make):
    hosts = {
        "web1": database(("a", 50), ("b", 1)),
        "web2": database(("a", 50), ("b", 50)),
        "web3": database(("a", 500)),
    }
    report = make(hosts)
    found = {(finding["object"], finding["status"]): finding["hosts"] for finding in report["findings"]}
    assert found == {("a", "critical"): ["web3"], ("a", "warning"): ["web1", "web2"], ("b", "warning"): ["web2"]}
    # The cache of each host, the database of the first, and findings of the others.
    assert report["counts"]["items"] == 3 * 2 + 2 + 2
    assert (report["counts"]["warning"], report["counts"]["critical"], report["counts"]["ok"]) == (2, 1, 3 * 2 + 1)
    assert report["counts"]["checks"] == 3 * 3 + 3


def test_unmeasured_services_are_not_merged(make):
    refused = {
        "reachable": None,
        "error": {"kind": "refused", "message": "connection refused", "hint": None},
        "unknown": [],
    }
    report = make({name: {"database": refused} for name in HOSTS})
    assert len(report["findings"]) == 9


def test_a_claimed_measurement_without_an_identity_is_one_service():
    areas = [{"name": "cache", "identity": None}, {"name": "database", "identity": SAME}]
    hosts = [{"name": name, "areas": [dict(area) for area in areas]} for name in HOSTS]
    claims = {(name, "cache"): ("probe", "one") for name in HOSTS[:2]} | {("web1", "database"): ("probe", "two")}
    _shared.name_measurements(hosts, claims | {("web3", "cache"): ("probe", "other")})
    found = [[area["identity"] for area in host["areas"]] for host in hosts]
    assert found == [["probe_host:probe", SAME], ["probe_host:probe", SAME], ["probe_host:probe 2", SAME]]


def test_merging_twice_changes_nothing(make):
    report = make(fleet.shared_database(HOSTS, 3, SAME))
    assert _shared.merge(report["findings"], report["hosts"]) == report["findings"]


def test_a_shared_service_is_acted_on_once(make):
    report = make({name: database(("a", 50)) for name in HOSTS})
    probe_hosts = {(name, "database"): name for name in HOSTS}
    journal = {"lock": None, "done": [], "error": None}
    for finding in report["findings"]:
        finding["remedy"].update(problem=None, denied=False, cap=5, cooldown=0, largest=False, settle=0)
        finding["remedy"].update(position=0, role="r", tasks="t", result=[], undo=None)
    made = _plan.actions(report["findings"], _plan.Limits(), probe_hosts, dict.fromkeys(HOSTS, journal), 0.0)
    assert [(action["host"], action["status"]) for action in made] == [("web1", "planned")]
    assert _shared.sharing(["web1"], report["findings"]) == HOSTS


def test_a_shared_finding_is_the_same_if_other_hosts_were_visited_again(make):
    before = make({name: database(("a", 50)) for name in HOSTS})["findings"]
    after = make({"web2": database(("a", 50)), "web3": {}})["findings"]
    (change,) = _remediation.changes(before, after, {"web2", "web3"})
    assert (change["change"], change["fingerprint"]) == ("still there", before[0]["fingerprint"])
    (change,) = _remediation.changes(before, [], {"web2"})
    assert change["change"] == "fixed"


def test_the_terminal_shows_one_service(make):
    text = _fleet.render(make(fleet.shared_database(HOSTS, 1, SAME)))
    assert "WARNING  database.full [table_00]  one service of 3 hosts (web1, web2, web3)" in text
    assert "--limit web1" in text


def test_300_hosts_with_one_database_fit_on_two_screens(make):
    report = make(fleet.shared_database(fleet.names(300), 13, SAME))
    assert len(report["findings"]) < 30
    assert len(_fleet.render(report).splitlines()) <= _fleet.LINES
