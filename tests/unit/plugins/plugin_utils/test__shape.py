# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import random

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _side_by_side
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks, _evaluation, _report, _shape, _visit

MODULE = "container_state_info"
VALUES = {"int": 7, "str": "abc", "bool": True, "float": 0.5, "list": [], "dict": {}}


def example(contains):
    """Return a value for each documented field; two items for lists of mappings."""
    found = {}
    for name, field in contains.items():
        inner = field.get("contains")
        value = VALUES.get(field.get("type"), "x")
        if inner and field["type"] == "list":
            value = [example(inner), example(inner)]
        elif inner:
            value = example(inner)
        found[name] = copy.deepcopy(value)
    return found


def measurement():
    return {**example(_shape.documented(MODULE)), "reachable": True, "error": None, "unknown": []}


def check(text):
    document = _shape.Document(text)
    return _shape.checked(document.value, MODULE, document.is_plain)


def test_a_documented_value_is_valid():
    text = json.dumps(measurement())
    assert _shape.Document(text).is_plain
    assert check(text) == measurement()


def test_null_is_valid_except_as_an_item():
    found = measurement()
    found["containers"][0] = dict.fromkeys(found["containers"][0])
    found["engine"] = None
    assert check(json.dumps(found)) == found
    found["containers"][0] = None
    with pytest.raises(_shape.Malformed, match=r"^containers must hold only a mapping, not null$"):
        check(json.dumps(found))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("unknown",), ["x"], "unknown must hold only a mapping, not text"),
        (("unknown",), [{"part": "a"}], "unknown.reason is missing"),
        (("error",), "down", "error must be a mapping, not text"),
        (("containers",), {}, "containers must be a list, not a mapping"),
        (("containers", 0, "name"), 5, "containers.name must be text, not a whole number"),
        (("containers", 0, "expected"), 1, "containers.expected must be true or false, not a whole number"),
        (("containers", 0, "restarts"), True, "containers.restarts must be a whole number, not true or false"),
        (("containers", 0, "memory_bytes"), float("inf"), "memory_bytes must be a whole number, not a number"),
        (("containers", 0, "cpu_ratio"), float("inf"), "containers.cpu_ratio is not a number within limits"),
        (("containers", 0, "cpu_ratio"), float("nan"), "containers.cpu_ratio is not a number within limits"),
        (("containers", 0, "memory_bytes"), 10**40, "containers.memory_bytes is not a number within limits"),
        (("containers", 0, "something_else"), 10**40, "containers.something_else is not a number within limits"),
        (("engine", "warnings"), [float("-inf")], "engine.warnings must hold only text, not a number"),
    ],
)
def test_a_malformed_value_is_named(path, value, reason):
    found = measurement()
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(_shape.Malformed, match=reason.replace(".", r"\.")):
        check(json.dumps(found))


def test_a_missing_key_is_malformed():
    found = measurement()
    del found["containers"][1]["status"]
    with pytest.raises(_shape.Malformed, match=r"containers\.status is missing"):
        check(json.dumps(found))


def test_text_becomes_valid_and_invalid_bytes_stay_visible():
    found = measurement()
    found["containers"][0]["name"] = b"Mot\xf6.log".decode("utf-8", "surrogateescape")
    found["containers"][1]["name"] = "lone \ud800 here, and a pair: \U0001f600"
    found["bytes \udcff as a key"] = ["in a list \udcfe"]
    got = check(json.dumps(found))
    assert got["containers"][0]["name"] == "Mot\\xf6.log"
    assert got["containers"][1]["name"] == "lone \\ud800 here, and a pair: \U0001f600"
    assert got["bytes \\xff as a key"] == ["in a list \\xfe"]
    json.dumps(got, ensure_ascii=False).encode()


def test_a_long_text_is_cut():
    found = measurement()
    found["containers"][0]["name"] = "x" * 3_000_000
    assert len(check(json.dumps(found))["containers"][0]["name"]) == _shape.MAX_TEXT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "is nested too deep"),
        ("{", "is not valid JSON"),
        ("", "is not valid JSON"),
        ('{"a": 1} x', "is not valid JSON"),
    ],
)
def test_a_text_that_is_no_document(text, reason):
    with pytest.raises(_shape.Malformed, match=reason):
        _shape.Document(text)


def test_a_number_with_too_many_digits_is_malformed():
    text = json.dumps({"good": measurement(), "bad": measurement()})
    head, tail = text.rsplit('"containers_total": 7', 1)
    document = _shape.Document(head + '"containers_total": ' + "9" * 5000 + tail)
    assert _visit.checked(document.value["good"], MODULE, document.is_plain) == measurement()
    assert _visit.checked(document.value["bad"], MODULE, document.is_plain)["error"]["kind"] == "malformed"


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ('{"id": "redis:7e645bf0", "n": 1.5e-300, "m": 2e17}', True),
        ("1e999", False),
        ("[0.5,-1.5E+308]", False),
        ('{"a":\n1e100}', False),
        ('{"a": %s}' % ("9" * 31), False),
    ],
)
def test_only_unusual_numbers_make_a_document_not_plain(text, is_plain):
    assert _shape.Document(text).is_plain is is_plain


def test_a_number_that_overflows_is_malformed():
    text = json.dumps(measurement()).replace('"cpu_ratio": 0.5', '"cpu_ratio": 1e999', 1)
    with pytest.raises(_shape.Malformed, match="cpu_ratio"):
        check(text)


def test_deep_nesting_is_malformed():
    value = 1
    for _level in range(200):
        value = {"items": [value]}
    with pytest.raises(_shape.Malformed, match="nested too deep"):
        check(json.dumps({**measurement(), "extra": value}))


def test_an_unreachable_service_needs_only_the_common_fields():
    down = {"reachable": False, "error": {"kind": "refused", "message": "no", "hint": None}, "unknown": []}
    assert _shape.checked(down, MODULE) == down
    with pytest.raises(_shape.Malformed):
        _shape.checked({**down, "error": None}, MODULE)


def test_a_module_of_another_collection_needs_only_the_common_fields():
    known = {"reachable": True, "error": None, "unknown": [], "anything": {"at": ["all"]}}
    assert _shape.checked(dict(known), "community.general.x_info") == known
    with pytest.raises(_shape.Malformed):
        _shape.checked({**known, "unknown": ["x"]}, "community.general.x_info")


def test_undocumented_keys_are_named():
    found = measurement()
    found["containers"][0]["new"] = 1
    found["other"] = {}
    assert _shape.undeclared(found, MODULE) == ["containers.new", "other"]


# Values that a host may send instead of any other.
ODD = (
    None, True, False, 0, -1, 10**30, 10**400, 0.5, float("inf"), float("-inf"), float("nan"), "", "x", "\udcf6",
    "\ud800", "{{ 7 * 7 }}", "\x1b[31m\x9b", "x" * 20000, [], [None], ["x"],
    [[]], [{}], {}, {"keys": 1, "items": [], "get": {}},
    {"part": 1, "reason": None}, {"kind": [], "message": {}, "hint": 1},
)  # fmt: skip


def mutated(rng, value):
    """Return ``value`` with one change in it."""
    places = []

    def walk(container):
        for key in list(container if isinstance(container, dict) else range(len(container))):
            places.append((container, key))
            if isinstance(container[key], (dict, list)):
                walk(container[key])

    walk(value)
    if not places:
        # The mutations before have left nothing.
        return
    container, key = rng.choice(places)
    way = rng.randrange(4)
    if way == 0 and isinstance(container, dict):
        del container[key]
    elif way == 1 and isinstance(container, dict):
        container[rng.choice(("items", "keys", "get", "\udcf6", "", "x" * 300))] = copy.deepcopy(rng.choice(ODD))
    else:
        container[key] = copy.deepcopy(rng.choice(ODD))


@pytest.mark.parametrize(
    "name", ["containers", "database", "cache", "message_queue", "logs", "network", "service_health"]
)
def test_any_result_of_a_host_is_evaluated(name):
    """Random mutations of a measurement: each gives findings, and a report that is valid JSON and Unicode."""
    rng = random.Random("tracktion " + name)
    (area,) = _areas.find([name])
    probes = {probe: row["module"] for probe, row in area.probes().items()}
    checks = _checks.load(area)
    settings = {key: value for key, value in area.defaults.items() if not (isinstance(value, str) and "{" in value)}
    good = {
        probe: {**example(_shape.documented(module)), "reachable": True, "error": None, "unknown": []}
        for probe, module in probes.items()
    }
    for _round in range(40):
        sent = copy.deepcopy(good)
        for _change in range(rng.randrange(1, 5)):
            mutated(rng, sent)
        visited = {"measurement": {}, "error": None, "seconds": 0.0}
        error, seconds = rng.choice((None, None, *ODD)), rng.choice(ODD)
        outcome = {name: {"measurement": sent, "error": error, "seconds": seconds}}
        document = _shape.Document(json.dumps(outcome))
        _visit.take(visited, document, name, {probe: {"module": module} for probe, module in probes.items()})
        findings, counts = _evaluation.evaluate(name, checks, "web", visited, settings)
        assert counts["checks"] == len(checks)
        for finding in findings:
            assert "not supported between" not in finding["summary"], finding
            assert "has no attribute" not in finding["summary"], finding
        hosts = [{"name": "web", "reachable": True, "status": "ok", "areas": []}]
        report = _report.build(hosts, findings, "1", 0.0, 1.0, [])
        json.dumps(report, allow_nan=False, ensure_ascii=False).encode()


def test_a_probe_whose_measurement_is_no_json_is_an_error_of_that_probe():
    deep = []
    for _level in range(100_000):
        deep = [deep]
    probes = {"deep": lambda: {"x": deep}, "infinite": lambda: {"x": float("inf")}, "fine": lambda: {"x": "\udcf6"}}
    measured = _side_by_side.run({"odd": (10, probes)})["odd"]
    assert measured["error"] is None
    assert measured["measurement"]["deep"]["error"]["kind"] == "malformed"
    assert measured["measurement"]["infinite"]["error"]["kind"] == "malformed"
    assert measured["measurement"]["fine"] == {"x": "\udcf6"}
