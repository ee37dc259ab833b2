# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.module_utils import _measures
from ansible_collections.tracktion.ops.plugins.plugin_utils import _shape, _visit

DATABASE = {"database": {"measurement": {"activity": {"reachable": True}}}}
CACHE = {"cache": {"measurement": {}}}
PROBES = {"limits": {"module": "inotify_limits"}}
ERROR = {"kind": "refused", "message": "no", "hint": None}
DOWN = {"reachable": False, "error": ERROR, "unknown": []}


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """The run's own temporary directory."""
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path


def result(probe_host, areas, extra_checks=()):
    document = {"areas": areas, "extra_checks": list(extra_checks), "host": None, "limits": {}}
    return {
        "probe_host": probe_host,
        "started": 5.0,
        "python": "/usr/bin/python3",
        "visited": _visit.put(document),
        "failure": None,
    }


def test_the_result_of_a_visit_is_read_back():
    (visit,) = _visit.results(result("web", DATABASE, [{"id": "database.mine"}]))
    assert visit["areas"] == DATABASE
    assert visit["extra_checks"] == [{"id": "database.mine"}]
    assert (visit["probe_host"], visit["started"], visit["python"]) == ("web", 5.0, "/usr/bin/python3")


def test_the_result_is_small_and_the_measurement_is_private(directory):
    big = {"database": {"measurement": {"activity": {"names": ["x" * 100] * 1000}}}}
    registered = result("web", big)
    assert len(json.dumps(registered)) < 400
    (file,) = directory.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert registered["visited"]["bytes"] == file.stat().st_size


def test_a_missing_file_is_a_failed_visit_of_that_host(directory):
    registered = result("web", DATABASE)
    (file,) = directory.iterdir()
    file.unlink()
    (visit,) = _visit.results(registered)
    assert (visit["areas"], "cannot be read" in visit["failure"]["msg"]) == ({}, True)


def test_a_reference_cannot_name_a_file_in_another_directory(directory):
    (directory / "elsewhere").mkdir()
    (directory / "elsewhere" / "forged").write_text(json.dumps({"areas": {"forged": {}}}))
    registered = {"visited": {"file": "elsewhere/forged"}}
    assert _visit.results(registered)[0]["areas"] == {}


def test_a_visit_of_several_probe_hosts_has_a_result_for_each():
    looped = {"results": [result(probe_host, DATABASE) for probe_host in ("web", "probe")]}
    assert [visit["probe_host"] for visit in _visit.results(looped)] == ["web", "probe"]


def test_a_visit_without_a_measurement_has_no_areas():
    (visit,) = _visit.results({"unreachable": True, "msg": "gone"})
    assert visit["areas"] == {}
    assert _visit.results(None) == []


def test_visits_of_the_same_probe_host_add_up():
    looped = {"results": [result("web", DATABASE), result("probe", CACHE)]}
    assert _visit.areas_measured_at("web", looped) == DATABASE
    assert _visit.areas_measured_at("probe", looped) == CACHE
    assert _visit.areas_measured_at("other", looped) == {}


def taken(measured):
    """The outcome of the area ``files`` after the host sent ``measured``."""
    visited = {"measurement": {}, "error": None, "seconds": 0.0}
    _visit.take(visited, _shape.Document(json.dumps({"files": measured})), "files", PROBES)
    return visited


def test_a_malformed_measurement_is_an_error_of_its_probe():
    outcome = taken({"measurement": {"limits": {**DOWN, "unknown": ["x"]}}, "error": None, "seconds": 0.2})
    assert outcome["measurement"]["limits"]["reachable"] is None
    assert outcome["measurement"]["limits"]["error"]["kind"] == "malformed"
    assert "unknown must hold only a mapping, not text" in outcome["measurement"]["limits"]["error"]["message"]
    assert outcome["seconds"] == 0.2


@pytest.mark.parametrize("measured", [None, [], {}, {"measurement": []}, "x"])
def test_an_area_without_a_measurement_says_so(measured):
    assert taken(measured)["error"]["kind"] == "malformed"


@pytest.mark.parametrize("error", ["x", [], {}, {"kind": 1, "message": "x"}])
def test_a_malformed_error_of_an_area_is_an_error(error):
    outcome = taken({"measurement": {"limits": DOWN}, "error": error, "seconds": float("nan")})
    assert outcome["error"]["kind"] == "malformed"
    assert outcome["measurement"]["limits"] == DOWN
    assert outcome["seconds"] == 0.0


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"measurement": {"journal": {"done": [], "lock": None}}}, {"done": [], "lock": None}),
        ({"measurement": {}, "error": {"message": "not finished after 10 s"}}, {"msg": "not finished after 10 s"}),
        ({"measurement": {"journal": {"error": {"message": "no module"}}}}, {"msg": "no module"}),
        ({"measurement": [], "error": 5}, {"msg": None}),
        ("x", {"msg": "the host sent none"}),
    ],
)
def test_the_journal_of_a_visit_or_why_there_is_none(outcome, expected):
    assert _visit.journal(_shape.Document(json.dumps({_measures.JOURNAL: outcome}))) == expected


FOUND = {"known": True, "reason": None, "hint": None, "services": [], "programs": ["redis"]}
LATE = {"kind": "deadline", "message": "not finished after 15 s", "hint": None}


def presence(measured, error=None):
    measurement = {} if measured is None else {"presence": measured}
    return _visit.presence(
        _shape.Document(json.dumps({".presence": {"measurement": measurement, "error": error, "seconds": 1}}))
    )


def test_services_that_were_not_found_are_not_known_and_the_reason_is_kept():
    assert _visit.presence(_shape.Document("{}")) is None
    assert presence(FOUND) == FOUND
    for sent, reason in (
        ((None, LATE), "not finished after 15 s"),
        (({"reachable": None, "error": {**LATE, "message": "OSError: disk"}, "unknown": []},), "OSError: disk"),
        (({**FOUND, "services": "all"},), "its result services must be a list, not text"),
        ((["list"],), "its result is not a mapping"),
    ):
        found = presence(*sent)
        assert (found["known"], found["reason"].partition(" failed: ")[2]) == (False, reason)
