# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import multiprocessing

import pytest

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.plugin_utils import _claims, _visit

PROBES = {"probes": {"memory": {"module": "redis_memory", "options": {"login_host": "a"}}}, "deadline": 15}
OUTCOME = {"measurement": {"memory": {"reachable": True}}, "error": None, "seconds": 0.5}
REFERRING = {"role": "r", "settings": {"cache_limit": 2}, "measurement": {}, "error": None, "seconds": 0.0}


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """The run's own temporary directory."""
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path


@pytest.fixture
def name():
    return _claims.key("task", "probe", "tracktion.ops.cache", PROBES)


def visit(name):
    document = {
        "areas": {"cache": {**REFERRING, "shared": True, "claim": name}},
        "extra_checks": [],
        "host": None,
        "limits": {},
    }
    return {"probe_host": "probe", "visited": _visit.put(document), "failure": None}


def test_only_one_of_many_workers_gets_a_claim(name):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        assert sum(pool.map(_claims.take, [name] * 64)) == 1


@pytest.mark.parametrize(
    "other",
    [
        ("later task", "probe", "tracktion.ops.cache", PROBES),
        ("task", "other", "tracktion.ops.cache", PROBES),
        ("task", "probe", "tracktion.ops.database", PROBES),
        ("task", "probe", "tracktion.ops.cache", {**PROBES, "deadline": 5}),
    ],
)
def test_another_task_host_role_or_option_is_another_measurement(name, other):
    assert _claims.take(name)
    assert _claims.take(_claims.key(*other))
    assert not _claims.take(_claims.key("task", "probe", "tracktion.ops.cache", dict(reversed(PROBES.items()))))


def test_a_shared_measurement_has_the_settings_of_each_host(name, directory):
    registered = visit(name)
    _claims.publish(name, {"outcome": OUTCOME, "host": {"cores": 2}, "failure": None})
    (found,) = _visit.results(registered)
    assert found["areas"]["cache"] == {**REFERRING, **OUTCOME, "shared": False, "claim": name}
    assert found["host"] == {"cores": 2}
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o600}


def test_a_failed_measurement_fails_all_hosts_that_refer_to_it(name):
    _claims.publish(name, {"failure": {"msg": "Connection refused", "unreachable": True}})
    (found,) = _visit.results(visit(name))
    assert (found["areas"], found["failure"]["msg"]) == ({}, "Connection refused")


def test_a_failed_visit_publishes_its_failure(name):
    claimed = _claims.take_all({"cache": name}, {"cache": {}})
    _claims.publish_all(claimed, {}, None, {"msg": "Timed out"})
    assert _visit.results(visit(name))[0]["failure"]["msg"] == "Timed out"


def test_an_area_that_is_measured_on_its_own_host_is_not_claimed(directory):
    visited = {"cache": {}}
    assert _claims.take_all({"cache": None}, visited) == {}
    assert (visited, list(directory.iterdir())) == ({"cache": {"claim": None, "shared": False}}, [])


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_an_unfinished_measurement_is_a_failure(name, content, directory):
    if content is not None:
        (directory / (_claims.MEASURED + name)).write_bytes(content)
    (found,) = _visit.results(visit(name))
    assert (found["areas"], found["failure"]["msg"]) == ({}, _claims.UNFINISHED)


def test_a_later_role_keeps_the_reference_until_it_is_read(name):
    areas = _visit.areas_measured_at("probe", visit(name))
    assert (areas["cache"]["shared"], areas["cache"]["claim"]) == (True, name)


def test_without_a_directory_for_claims_each_host_measures(name, monkeypatch):
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", "/nonexistent")
    assert _claims.take(name)
    assert _claims.take(name)
    _claims.publish(name, {"failure": None})
