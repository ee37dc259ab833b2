# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only a default expects, with services as they were found on hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _presence
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import BadRow
from tests.unit.plugins.plugin_utils.conftest import CHECK

AREAS = {area.name: area for area in _areas.find()}
REFUSED = {"kind": "refused", "message": "connection refused", "hint": None}


def service(name, project="infrastructure", container=True, ports=(), host_network=False, names=()):
    return {
        "service": name,
        "project": project,
        "container": "tracktion-" + name if container else None,
        "ports": [{"host": host, "container": inner} for host, inner in ports],
        "host_network": host_network,
        "names": list(names),
    }


def found(*services, programs=(), **fields):
    return {
        "known": True,
        "reason": None,
        "hint": None,
        "services": list(services),
        "programs": list(programs),
        **fields,
    }


NOTHING = found()
# The published Tracktion; its analysis service has no port.
REAL = found(
    service("postgres", ports=[(5432, 5432)]),
    service("redis", ports=[(6379, 6379)]),
    service("rabbitmq", ports=[(5672, 5672), (15672, 15672)]),
    service("cataloging_service", ports=[(8001, 8001)]),
    service("analysis_service"),
    service("tracklist_service", ports=[(8002, 8002)]),
    service("file_watcher"),
)
# Another stack, with servers of the same names.
OTHER = found(
    *(
        {**service(name, "shop", ports=ports), "container": "shop-%s-1" % name}
        for name, ports in {"postgres": [(5432, 5432)], "redis": [], "web": [(8001, 80)]}.items()
    )
)
# The containers cannot be seen.
BLIND = found(known=False, reason="no permission", hint="Measure with become.")


def left(area, measurement, services, given=(), **settings):
    """Return what is left of a measurement of an area, and the names of what is not here."""
    known = {**AREAS[area].defaults, "tracktion_compose_project": "", **settings}
    known = {name: value for name, value in known.items() if name in AREAS[area].public or "tracktion" in name}
    outcome = {"measurement": measurement, "error": None, "seconds": 0.1, "settings": known, "given": list(given)}
    result = _presence.apply(_presence.load(AREAS[area]), outcome, services)
    return result.outcome and result.outcome["measurement"], result.absent


def probe(reachable=True, error=None, **parts):
    return {"reachable": reachable, "error": error, "unknown": [], **parts}


def endpoint(name, port, ok=False):
    return {"name": name, "service": name, "url": "http://localhost:%d/health" % port, "ok": ok}


ENDPOINTS = {
    "containers": probe(commands=[]),
    "http": probe(
        endpoints=[
            endpoint("analysis_service", 8001),
            endpoint("tracklist_service", 8002, ok=True),
            endpoint("file_watcher", 8003),
            endpoint("cataloging_service", 8001, ok=True),
        ]
    ),
}


def names(measurement):
    return [entry["name"] for entry in measurement["http"]["endpoints"]]


def test_only_endpoints_whose_service_publishes_the_port_are_left():
    assert names(left("service_health", ENDPOINTS, REAL)[0]) == ["tracklist_service", "cataloging_service"]
    assert left("service_health", ENDPOINTS, REAL)[1] == ["analysis_service", "file_watcher"]
    for services in (NOTHING, OTHER):
        measurement, absent = left("service_health", ENDPOINTS, services)
        assert (names(measurement), len(absent)) == ([], 4)


def test_what_the_user_has_set_is_left_whatever_the_host_has():
    measurement, absent = left("service_health", ENDPOINTS, NOTHING, given=["service_health_endpoints"])
    assert (len(names(measurement)), absent) == (4, [])
    failed = {"activity": probe(False, REFUSED)}
    assert left("database", failed, NOTHING, given=["database_login_host"]) == (failed, [])
    assert left("database", failed, NOTHING, given=["database_login_password"]) == (
        None,
        ["PostgreSQL at localhost:5432"],
    )


def test_without_knowing_the_containers_what_fails_is_unknown():
    measurement, absent = left("service_health", ENDPOINTS, BLIND)
    assert ENDPOINTS["http"]["unknown"] == []
    assert (names(measurement), absent) == (["tracklist_service", "cataloging_service"], [])
    assert measurement["http"]["unknown"] == [
        {"part": "endpoints[...]", "reason": "no permission", "hint": "Measure with become."}
    ]
    measurement, absent = left("cache", {"service": probe(False, REFUSED)}, BLIND)
    assert (measurement["service"]["reachable"], absent) == (None, [])
    assert "it is not known whether the service belongs to this host: no permission" in str(measurement["service"])


def test_a_service_without_a_compose_project_is_found_by_its_name():
    alone = {**service("file_watcher", project=None, ports=[(8003, 8003)]), "service": "file_watcher"}
    measurement, _absent = left("service_health", ENDPOINTS, found({**alone, "container": "file_watcher"}))
    assert names(measurement) == ["file_watcher"]
    hyphens = found(service("file-watcher", ports=[(8003, 80)]))
    assert names(left("service_health", ENDPOINTS, hyphens)[0]) == ["file_watcher"]
    assert names(left("service_health", ENDPOINTS, found(programs=["file_watcher"]))[0]) == ["file_watcher"]
    own_network = found(service("analysis_service", host_network=True))
    assert names(left("service_health", ENDPOINTS, own_network)[0]) == ["analysis_service"]


@pytest.mark.parametrize(
    ("services", "error", "here"),
    [
        (NOTHING, REFUSED, False),
        (OTHER, REFUSED, False),
        (OTHER, {**REFUSED, "kind": "authentication"}, False),
        (REAL, REFUSED, True),
        (REAL, {**REFUSED, "kind": "authentication"}, True),
        (found(service("file_watcher"), service("postgres", container=False, ports=[(5432, 5432)])), REFUSED, True),
        # The name of the service does not matter, its port does.
        (found(service("file_watcher"), service("db", ports=[(5432, 5432)])), REFUSED, True),
        (found(service("file_watcher"), service("postgres", host_network=True)), REFUSED, True),
        # The port is not published, as the database is for the services alone.
        (found(service("file_watcher"), service("postgres")), REFUSED, False),
        # A server outside of containers, with other users than those of Tracktion.
        (found(programs=["postgres"]), REFUSED, True),
        (found(programs=["postgres"]), {**REFUSED, "kind": "authentication"}, False),
        (NOTHING, {**REFUSED, "kind": "missing_library"}, False),
        (found(service("postgres", project="tracktion", ports=[(5432, 5432)])), REFUSED, True),
    ],
)
def test_a_server_that_cannot_be_reached_is_left_if_it_belongs_to_the_host(services, error, here):
    for probes in ({"activity": probe(False, error)}, {"activity": probe(None, error)}):
        measurement, absent = left("database", probes, services)
        assert (measurement is not None, absent == []) == (here, here)


def test_a_server_that_answers_is_left_on_any_host():
    measured = {"activity": probe(pools={"services": [{"service": "analysis_service"}], "ratio": 2.1})}
    measurement, absent = left("database", measured, OTHER)
    assert (measurement["activity"]["pools"]["ratio"], absent) == (0, ["pools of analysis_service"])
    assert left("database", measured, REAL) == (measured, [])


def queues(**exists):
    expected = [{"name": name.replace("__", "."), "vhost": "/", "exists": value} for name, value in exists.items()]
    return {"node": probe(), "queues": probe(expected=expected)}


GUIDE = ["audio.analysis.requests", "file.events"]
PUBLISHED = ["cataloging.file.events", "analysis_queue", "analysis.lifecycle.events", "tracklist_search_queue"]


def missing(existing, services, **settings):
    """Return the queues that are reported as missing if only these exist."""
    wanted = {name.replace(".", "__"): name in existing for name in GUIDE + PUBLISHED}
    measurement, _absent = left("message_queue", queues(**wanted), services, **settings)
    return [entry["name"] for entry in measurement["queues"]["expected"] if not entry["exists"]]


def test_a_queue_is_missing_if_others_of_its_group_exist():
    assert missing(GUIDE, NOTHING) == []
    assert missing(["file.events"], NOTHING) == ["audio.analysis.requests"]
    assert missing(PUBLISHED, REAL) == []
    assert missing(PUBLISHED[1:], REAL) == PUBLISHED[:1]
    # A deployment without one of the services.
    fewer = found(*(each for each in REAL["services"] if each["service"] != "tracklist_service"))
    assert missing(PUBLISHED[:-1], fewer) == []


def test_without_any_queue_the_services_of_the_host_show_which_are_missing():
    assert missing([], NOTHING) == []
    assert missing([], OTHER) == []
    assert missing([], REAL) == PUBLISHED
    guide = found(*(service(name) for name in ("analysis_service", "tracklist_service", "file_watcher")))
    assert missing([], guide) == GUIDE


def test_a_queue_of_which_it_is_not_known_whether_it_exists_is_left():
    measurement, absent = left("message_queue", queues(file__events=None), NOTHING)
    assert (len(measurement["queues"]["expected"]), absent) == (1, [])


def paths(*wanted):
    entries = [
        {"service": source, "to": "x", "host": host, "port": port, "common_network": True}
        for source, host, port in wanted
    ]
    sources = [{"service": source} for source in dict.fromkeys(source for source, _host, _port in wanted)]
    return {"network": probe(paths=entries, sources=sources)}


def test_connections_between_services_of_the_host_are_left():
    wanted = paths(
        ("analysis_service", "postgres", 5432),
        ("analysis_service", "tracklist_service", 8002),
        ("tracklist_service", "analysis_service", 8001),
        ("gone_service", "postgres", 5432),
    )
    measurement, absent = left("network", wanted, REAL)
    assert [(path["service"], path["host"]) for path in measurement["network"]["paths"]] == [
        ("analysis_service", "postgres"),
        ("analysis_service", "tracklist_service"),
        ("gone_service", "postgres"),
    ]
    assert absent == ["connections of gone_service", "tracklist_service -> x"]
    measurement, absent = left("network", {"network": probe(paths=None, sources=None)}, OTHER)
    assert (measurement["network"]["paths"], measurement["network"]["sources"]) == ([], [])
    assert absent == ["connections of analysis_service, tracklist_service, file_watcher"]


def test_no_watcher_is_expected_where_there_is_none():
    watcher = {"events": probe(watcher={"name": "file_watcher", "configured": True, "running": False})}
    measurement, absent = left("file_watching", watcher, OTHER)
    assert measurement["events"]["watcher"] == {"name": "file_watcher", "configured": False, "running": None}
    assert absent == ["file_watcher"]
    removed = found(service("file_watcher", project=None, container=False))
    assert left("file_watching", watcher, removed) == (watcher, [])
    assert left("file_watching", watcher, BLIND) == (watcher, [])


def test_a_service_is_missing_if_a_compose_file_has_it():
    state = {
        "missing_services": [{"service": "redis"}, {"service": "rabbitmq"}],
        "containers": [
            {"service": "postgres", "project": "infrastructure", "expected": True},
            {"service": "postgres", "project": "shop", "expected": True},
        ],
        "compose": {"missing": [{"service": "redis", "project": "shop", "expected": True}]},
    }
    services = found(service("file_watcher"), service("postgres"), service("redis", container=False))
    measurement, absent = left("containers", {"state": probe(**state)}, services)
    kept = measurement["state"]
    assert (kept["missing_services"], absent) == ([{"service": "redis"}], ["rabbitmq"])
    assert [container["expected"] for container in kept["containers"]] == [True, False]
    assert [entry["expected"] for entry in kept["compose"]["missing"]] == [False]
    assert state["containers"][1]["expected"], "the measurement itself is not changed"


def test_a_named_project_is_the_only_one_that_counts():
    everywhere = found(*REAL["services"], *({**each, "project": "other"} for each in REAL["services"][:1]))
    failed = {"service": probe(False, REFUSED)}
    assert left("cache", failed, everywhere, tracktion_compose_project="infrastructure")[0]
    assert left("cache", failed, everywhere, tracktion_compose_project="other")[0] is None
    alone = {**service("redis", project=None, ports=[(6379, 6379)]), "container": "redis"}
    assert left("cache", failed, found(alone), tracktion_compose_project="infrastructure")[0] is None
    # A name without any service may be misspelled.
    state = {"state": probe(missing_services=[{"service": "redis"}], containers=[], compose={"missing": []})}
    assert left("containers", state, everywhere, tracktion_compose_project="nothing") == (state, [])
    assert left("containers", state, everywhere, tracktion_compose_project="other")[1] == ["redis"]


def test_services_without_a_common_network_are_connected_if_the_environment_names_the_other():
    wanted = paths(("analysis_service", "postgres", 5432))
    wanted["network"]["paths"][0]["common_network"] = False
    services = [service("postgres"), service("analysis_service", names=["redis"])]
    assert left("network", wanted, found(*services))[1] == ["analysis_service -> x"]
    services[1]["names"].append("postgres")
    assert left("network", wanted, found(*services)) == (wanted, [])


def test_without_presence_rows_or_known_settings_nothing_is_changed(make_area):
    outcome = {"measurement": {"broker": probe()}, "error": None, "seconds": 0.1, "settings": {}}
    assert _presence.load(make_area()) == []
    assert _presence.apply(_presence.load(AREAS["cache"]), outcome, NOTHING) == (outcome, [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"each": "broker.queues", "at": "broker"}, "exactly one of"),
        ({"at": "broker.queues"}, "instead: is required"),
        ({"at": "broker", "object": None}, "object: "),
        ({"at": "broker", "defaults": ["nothing"]}, "nothing is no variable of its role"),
        ({"at": "broker", "belongs": "here.has(someone)"}, "someone is no variable"),
    ],
)
def test_an_invalid_row_is_rejected(make_area, row, reason):
    area = make_area([CHECK])
    valid = {"id": "queues.server", "defaults": ["queues_names"], "belongs": "here.has('a')", "object": "broker"}
    row = {name: value for name, value in {**valid, **row}.items() if value is not None}
    Path(area.presence_file).write_text(str([row]), encoding="utf-8")
    with pytest.raises(BadRow, match=reason):
        _presence.load(area)
