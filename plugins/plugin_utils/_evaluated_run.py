# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything the visits of this run brought home, judged. Private to this collection."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ansible.errors import AnsibleActionFail
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _report, _shared, _visit


@dataclass
class EvaluatedRun:
    """``hosts`` and ``findings`` as the report takes them, when the first visit began, and the areas' compiled.

    ``probe_hosts`` maps host and area to the host that the area is measured from.
    """

    hosts: list
    findings: list
    probe_hosts: dict
    started: float
    compiled: _report.CompiledChecks


def judge(task_vars):
    """The evaluated on the hosts of this run. Raises AnsibleActionFail where none was visited."""
    visits = _visits(task_vars["hostvars"])
    if not visits:
        raise AnsibleActionFail(
            "No host was visited: the inventory, --limit and tracktion_hosts together match none. "
            "ansible-inventory --graph shows what the inventory holds."
        )
    results = [result for results in visits.values() for result in results]
    roles = sorted({outcome["role"] for result in results for outcome in result["areas"].values()})
    compiled = _report.CompiledChecks(_areas.find(roles, task_vars.get("playbook_dir", ".")) if roles else [])
    inventories = task_vars.get("ansible_inventory_sources") or []
    hosts, findings, probe_hosts = [], [], {}
    for name, own in visits.items():
        host, found = _report.host_report(name, own, compiled, inventories)
        hosts.append(host)
        findings.extend(found)
        probe_hosts.update({(name, area): visit["probe_host"] for visit in own for area in visit["areas"]})
    claims = {
        (name, area): (visit["probe_host"], outcome["claim"])
        for name, own in visits.items()
        for visit in own
        for area, outcome in visit["areas"].items()
        if outcome.get("claim")
    }
    _shared.name_measurements(hosts, claims)
    findings = _shared.merge(findings, hosts)
    return EvaluatedRun(
        hosts, findings, probe_hosts, min(result.get("started") or time.time() for result in results), compiled
    )


def _visits(hostvars):
    """By host, the results that its visits registered."""
    visits = {}
    for name in hostvars:
        results = _visit.results(hostvars.raw_get(name).get("tracktion_visit"))
        if results:
            visits[name] = results
    return visits
