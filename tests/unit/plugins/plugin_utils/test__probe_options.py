# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _host_visit, _measures
from ansible_collections.tracktion.ops.plugins.plugin_utils import _probe_options
from tests.unit.plugins.plugin_utils.test__measuring_code import MODULES


def validated(module, **options):
    return _probe_options.validated({"a": {"module": module, "options": options}})["a"]


def test_options_are_converted_and_completed():
    probe = validated("inotify_limits", path="~/limits.conf", top="7")
    assert probe["options"]["path"] == "~/limits.conf"
    assert probe["options"]["sysctl_root"] == "/"
    assert probe["options"]["top"] == 7
    assert "invalid" not in probe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": "many"}, "'top' is of type str and we were unable to convert to int"),
        ({"nonesuch": 1}, "nonesuch. Supported parameters include"),
    ],
)
def test_an_invalid_option_is_named_with_its_probe(options, message):
    invalid = validated("inotify_limits", **options)["invalid"]
    assert invalid.startswith("probe a (inotify_limits): ")
    assert message in invalid


def test_the_host_reports_an_invalid_probe_and_measures_the_others():
    probes = _probe_options.validated(
        {
            "wrong": {"module": "inotify_limits", "options": {"top": "many"}},
            "right": {"module": "inotify_limits", "options": {}},
        }
    )
    measure = _host_visit.probes_of({"deadline": 30, "probes": probes})
    with pytest.raises(_host_visit.BadOption, match=r"probe wrong \(inotify_limits\): .*top"):
        measure["wrong"]()
    assert measure["right"]()["reachable"]


def test_a_module_that_does_not_exist_is_left_to_the_host():
    probe = {"module": "nonesuch", "options": {"x": 1}}
    assert _probe_options.validated({"a": probe}) == {"a": probe}


def test_the_time_of_a_probe_is_its_share_unless_a_row_sets_it():
    assert "deadline" not in validated("inotify_limits")["options"]
    assert validated("inotify_limits", deadline="3")["options"]["deadline"] == 3.0


@pytest.mark.parametrize("name", MODULES)
def test_the_specs_of_all_modules_are_known(name):
    assert set(_probe_options._specs("")[name]) == set(_measures.load(name).ARGUMENT_SPEC)


def test_paths_are_those_of_the_host(monkeypatch):
    monkeypatch.setenv("HOME", "/home/measuring")
    monkeypatch.setenv("PLACE", "/srv")
    spec = {
        "path": {"type": "path"},
        "text": {"type": "str"},
        "paths": {"type": "list", "elements": "path"},
        "one": {"type": "dict", "options": {"path": {"type": "path"}}},
        "many": {"type": "list", "elements": "dict", "options": {"path": {"type": "path"}, "text": {"type": "str"}}},
    }
    options = {
        "path": "~/a",
        "text": "~/a",
        "paths": ["$PLACE/a", "/b"],
        "one": {"path": "~"},
        "many": [{"path": "${PLACE}", "text": "$PLACE"}, {"path": None}],
        "deadline": 3.0,
    }
    assert _host_visit.with_paths(spec, options) == {
        "path": "/home/measuring/a",
        "text": "~/a",
        "paths": ["/srv/a", "/b"],
        "one": {"path": "/home/measuring"},
        "many": [{"path": "/srv", "text": "$PLACE"}, {"path": None}],
        "deadline": 3.0,
    }
