# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _endpoint_info


def endpoint(name, service, *failing, **more):
    report = {"healthy": False, "failing": [{"path": path} for path in failing]} if failing else None
    return {"name": name, "service": service, "report": report, "foreign": False, "proxy": None, **more}


def test_all_endpoints_of_a_service_have_what_one_of_them_names():
    measured = [
        endpoint("health", "api", "checks.database", "checks.cache"),
        endpoint("match", "api"),
        endpoint("other", "watcher"),
        endpoint("alone", None, "checks.broker"),
        # The answer of another program says nothing about the service.
        endpoint("taken", "watcher", "checks.disk", foreign=True),
    ]
    _endpoint_info.add_named(measured)
    named = {entry["name"]: entry["named"] for entry in measured}
    both = ["checks.cache", "checks.database"]
    assert named == {"health": both, "match": both, "other": [], "alone": ["checks.broker"], "taken": []}


def test_a_report_without_its_content_names_nothing():
    measured = [endpoint("health", "api", report={"healthy": False, "reduced": False})]
    _endpoint_info.add_named(measured)
    assert measured[0]["named"] == []
