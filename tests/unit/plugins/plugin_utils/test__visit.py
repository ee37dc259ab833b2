# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.plugin_utils import _visit

DATABASE = {"database": {"measurement": {"activity": {"reachable": True}}}}
CACHE = {"cache": {"measurement": {}}}


def test_what_a_visit_registers_is_read_back():
    (visit,) = _visit.results(_visit.result("web", DATABASE, [{"id": "database.mine"}], 5.0, "/usr/bin/python3"))
    assert visit["areas"] == DATABASE
    assert visit["extra_checks"] == [{"id": "database.mine"}]
    assert (visit["place"], visit["started"], visit["python"]) == ("web", 5.0, "/usr/bin/python3")


def test_a_visit_of_several_places_has_a_result_for_each():
    looped = {"results": [_visit.result(place, DATABASE, [], 5.0, None) for place in ("web", "probe")]}
    assert [visit["place"] for visit in _visit.results(looped)] == ["web", "probe"]


def test_a_visit_that_brought_nothing_home_has_no_areas():
    (visit,) = _visit.results({"unreachable": True, "msg": "gone"})
    assert visit["areas"] == {}
    assert _visit.results(None) == []


def test_visits_of_the_same_place_add_up():
    looped = {"results": [_visit.result("web", DATABASE, [], 5.0, None), _visit.result("probe", CACHE, [], 5.0, None)]}
    assert _visit.areas_measured_at("web", looped) == DATABASE
    assert _visit.areas_measured_at("probe", looped) == CACHE
    assert _visit.areas_measured_at("other", looped) == {}
