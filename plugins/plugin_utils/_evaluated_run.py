# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The measurements of all visits of this run, evaluated. Private to this collection."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _causes, _report, _shared, _visit
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Chart, Finding, HostReport, Values, Visit


@dataclass
class EvaluatedRun:
    """``hosts`` and ``findings`` for the report, the start of the first visit, and the compiled checks of all areas.

    ``probe_hosts`` maps host and area to the host that the area is measured from, ``journals`` such a host to what it
    sent about its lock and audit log, if that was read (``_journals.from_result``). ``extra_causes`` are the cause rows
    of the user, ``stacks`` the names of the stacks of the hosts that belong to one.
    """

    hosts: list[HostReport]
    findings: list[Finding]
    probe_hosts: dict[tuple[str, str], str]
    journals: dict[str, Values]
    started: float
    checks: _report.CompiledChecks
    extra_causes: list[Any]
    stacks: dict[str, str]
    charts: list[Chart]


def evaluate(task_vars: Mapping[str, Any]) -> EvaluatedRun:
    """Evaluate the visits of this run. Raises AnsibleActionFail if no host was visited."""
    visits = _visits(task_vars["hostvars"])
    if not visits:
        raise AnsibleActionFail(
            "No host was visited: the inventory, --limit and tracktion_hosts together match none. "
            "ansible-inventory --graph shows the hosts of the inventory."
        )
    roles = sorted({outcome["role"] for own in visits.values() for visit in own for outcome in visit["areas"].values()})
    checks = _report.CompiledChecks(_areas.find(roles, task_vars.get("playbook_dir", ".")) if roles else [])
    inventories = task_vars.get("ansible_inventory_sources") or []
    hosts: list[HostReport] = []
    findings: list[Finding] = []
    probe_hosts: dict[tuple[str, str], str] = {}
    journals: dict[str, Values] = {}
    claims: dict[tuple[str, str], tuple[str, str]] = {}
    charts: list[Chart] = []
    for name, own in visits.items():
        host, found = _report.host_report(name, own, checks, inventories, charts)
        hosts.append(host)
        findings.extend(found)
        for visit in own:
            journal = visit.get("journal")
            if journal is not None:
                journals[visit["probe_host"]] = journal
            for area, outcome in visit["areas"].items():
                probe_hosts[name, area] = visit["probe_host"]
                claim = outcome.get("claim")
                if claim:
                    claims[name, area] = (visit["probe_host"], claim)
    _shared.name_measurements(hosts, claims)
    started = min(visit.get("started") or time.time() for own in visits.values() for visit in own)
    extra_causes = _extra_causes(visit for own in visits.values() for visit in own)
    stacks = {name: visit.get("stack") or "" for name, own in visits.items() for visit in own}
    merged = _shared.merge(findings, hosts)
    return EvaluatedRun(hosts, merged, probe_hosts, journals, started, checks, extra_causes, stacks, charts)


def _extra_causes(visits: Iterable[Visit]) -> list[Any]:
    """Return the user's cause rows of the first host that has some: an incident can span hosts."""
    found = [visit["extra_causes"] for visit in visits if visit.get("extra_causes")]
    if any(rows != found[0] for rows in found):
        Display().warning("%s differs between hosts: that of the first host is used for all" % _causes.EXTRA)
    return found[0] if found else []


def _visits(hostvars: Any) -> dict[str, list[Visit]]:
    """Return the results of the visits of each host."""
    visits = {}
    for name in hostvars:
        results = _visit.results(hostvars.raw_get(name).get("tracktion_visit"))
        if results:
            visits[name] = results
    return visits
