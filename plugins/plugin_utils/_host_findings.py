# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about a visited host itself, in the area ``host``. Pure. Private to this collection."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ansible_collections.tracktion.ops.plugins.plugin_utils import _evaluation, _shape, _units, _visit_failure
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Finding, HostState, Status, Values

# Variables of the role visit: defaults in roles/visit/defaults/main.yml.
LIMITS = ("tracktion_starved_slowdown", "tracktion_starved_pressure", "tracktion_clock_skew_warning")
SLOWDOWN, PRESSURE, CLOCK_SKEW = LIMITS
# The wait for the CPU counts for processes that lived at least this long: in a shorter life, other areas explain it.
WAITED_AT_LEAST = 5.0
WAITED_SHARE = 0.5
GUIDE = "Quick Diagnostic Commands"
# The ids of all findings about a host itself.
IDS = ("host.starved", "host.clock_skew", _visit_failure.UNREACHABLE, _visit_failure.FAILED)
# Findings that explain why everything on the host is slow. A report lists them before all others.
OVERLOAD = frozenset(
    ["host.starved"]
    + [
        "host_resources." + name
        for name in ("cpu_saturated", "memory_pressure", "swapping", "io_pressure", "disk_slow")
    ]
)


def state(measured: object, sent: float, received: float) -> HostState | None:
    """Return the state of the host from the result of a visit, with the skew of its clock; null if it is malformed.

    ``sent`` and ``received`` are times of the controller before and after the visit. The real skew differs from
    ``skew`` by ``skew_uncertainty`` at most: half of the time that the visit spent outside of the host.
    """
    if not isinstance(measured, dict):
        return None
    try:
        found = cast("Values", _shape.of_part("visit", "host")(measured, 0, False))
    except (_shape.Malformed, RecursionError):
        return None
    if None in (found["started"], found["finished"]):
        return None
    round_trip = (received - sent) - (found["finished"] - found["started"])
    skew = ((found["started"] - sent) + (found["finished"] - received)) / 2
    uncertainty = round(max(0.0, round_trip) / 2, 3)
    return cast("HostState", {**found, "skew": round(skew, 3), "skew_uncertainty": uncertainty})


def starved(host: HostState | None, limits: Mapping[str, Any]) -> str | None:
    """Return why durations measured on the host are not reliable; null if it had enough CPU, memory and disk time."""
    if not host:
        return None
    slowdown, waited, lived = host["slowdown"], host["waited_seconds"], host["waited_of_seconds"]
    if slowdown is not None and slowdown >= limits[SLOWDOWN]:
        return "short of CPU: a process took %.3g times its CPU time" % slowdown
    if waited is not None and lived and lived >= WAITED_AT_LEAST and waited >= WAITED_SHARE * lived:
        return "short of CPU: a measuring process waited %s of %s for it" % (
            _units.duration(waited),
            _units.duration(lived),
        )
    for name, what in (("memory_full", "memory"), ("io_full", "disks")):
        share = (host["pressure"] or {}).get(name)
        if share is not None and share >= limits[PRESSURE]:
            return "short of %s: all tasks waited for it in %s of the last 10 s" % (what, _units.percent(share))
    return None


def is_overload(finding: Mapping[str, Any]) -> bool:
    """Return whether a finding says that the host has no capacity left, so that other findings may follow from it."""
    return finding["id"] in OVERLOAD and finding["status"] in ("warning", "critical")


def findings(
    name: str,
    probe_host: str,
    host: HostState | None,
    limits: Mapping[str, Any],
    covered: Sequence[str],
    inventories: Sequence[str],
    explained: Sequence[str] = (),
) -> list[Finding]:
    """Return the findings about the host that was visited.

    ``covered`` are the ids of the checks that are unknown because it was starved, ``explained`` those of the findings
    that name what uses the host.
    """
    found: list[Finding] = []
    if not host:
        return found
    ansible = shlex.join(["ansible", probe_host, *_visit_failure.given(inventories), "-m", "ansible.builtin.raw", "-a"])
    reason = starved(host, limits)
    if reason:
        load = ", load %s on %d cores" % (host["load"][0], host["cores"]) if host["load"] and host["cores"] else ""
        unknown = "; unknown because of it: %s" % ", ".join(covered) if covered else ""
        found.append(
            finding(
                name,
                probe_host,
                "host.starved",
                "Host starved during the measurement",
                "warning",
                "The host was %s%s%s" % (reason, load, unknown),
                "Services on the host are equally slow. Measured durations and timeouts say nothing about them.",
                "Correct the cause (%s), then repeat the diagnosis: `ansible-playbook tracktion.ops.diagnose`"
                % ", ".join(explained)
                if explained
                else "Find what uses the host: `%s 'uptime; ps -eo pcpu,pmem,stat,pid,args --sort=-pcpu | "
                "head -n 15'`, then repeat the diagnosis" % ansible,
                {
                    "slowdown": host["slowdown"],
                    "load": host["load"],
                    "cores": host["cores"],
                    "pressure": host["pressure"],
                    "waited_seconds": host["waited_seconds"],
                    "checks": list(covered),
                },
                {limit: limits[limit] for limit in (SLOWDOWN, PRESSURE)},
            )
        )
    if abs(host["skew"]) - host["skew_uncertainty"] > limits[CLOCK_SKEW]:
        found.append(
            finding(
                name,
                probe_host,
                "host.clock_skew",
                "Clock differs from the controller's",
                "warning",
                "The clock of the host is %s %s the controller's (\u00b1 %s)"
                % (
                    _units.duration(abs(host["skew"])),
                    "ahead of" if host["skew"] > 0 else "behind",
                    _units.duration(host["skew_uncertainty"]),
                ),
                "Times in logs do not match between hosts; certificates, tokens and expiry times fail early or late.",
                "Compare both clocks with a time server: `%s 'date -u; timedatectl; chronyc tracking'`. If all hosts "
                "differ alike, the controller's clock is wrong: `timedatectl`" % ansible,
                {"skew": host["skew"], "skew_uncertainty": host["skew_uncertainty"]},
                {CLOCK_SKEW: limits[CLOCK_SKEW]},
            )
        )
    return found


def not_diagnosed(name: str, probe_host: str, failure: _visit_failure.Failure) -> Finding:
    """Return the finding for a host that was not measured."""
    return finding(
        name,
        probe_host,
        failure.check_id,
        "Host not diagnosed",
        "critical",
        failure.summary,
        "Nothing is known about the services on this host.",
        failure.hint,
        {"cause": failure.kind},
        {},
    )


def finding(
    name: str,
    probe_host: str,
    check_id: str,
    title: str,
    status: Status,
    summary: str,
    why: str,
    hint: str,
    observed: Values,
    threshold: Values,
) -> Finding:
    """Return a finding about the host ``name``. If it is measured from another host, ``probe_host`` is its object."""
    subject = probe_host if probe_host != name else None
    return {
        "id": check_id,
        "area": "host",
        "host": name,
        "object": subject,
        "about": {},
        "title": title,
        "status": status,
        "summary": " ".join(summary.split()),
        "observed": observed,
        "threshold": threshold,
        "why": why,
        "guide": GUIDE,
        "hint": hint,
        "remedy": None,
        "began": None,
        "fingerprint": _evaluation.fingerprint(check_id, name, subject),
    }
