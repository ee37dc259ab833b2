# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about a service that several hosts share: merged, and counted once. Pure. Private to this collection.

A service is the same if the probes of an area returned the same ``identity``, or if it was measured once for several
hosts (``_claims.py``). A service that could not be measured has no identity, so findings that depend on the probe host
stay separate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.tracktion.ops.plugins.plugin_utils import _evaluation
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Counts, Finding, HostReport

IDENTITY_LENGTH = 256
# The identity of an area without one that was measured from another host.
PROBE_HOST = "probe_host:"
# Identity, area, check, object and status.
Key = tuple[str, str, str, str | None, str]


def identity(measurement: Mapping[str, Any]) -> str | None:
    """Return the identity of an area's service from the area's measurement, ``{probe: result}``."""
    for probe in measurement.values():
        found = probe.get("identity") if isinstance(probe, dict) else None
        if isinstance(found, str) and found:
            return found[:IDENTITY_LENGTH]
    return None


def name_measurements(hosts: Iterable[HostReport], claims: Mapping[tuple[str, str], tuple[str, str]]) -> None:
    """Set the identity of areas without one that were measured once for several hosts.

    ``claims`` maps host and area to the probe host and the name of the claim. That name is a hash of passwords and not
    stable, so the report shows the probe host, with a number if it made several measurements.
    """
    names: dict[tuple[str, str, str], str] = {}
    numbers: dict[tuple[str, str], int] = {}
    for host in hosts:
        for area in host["areas"]:
            claim = claims.get((host["name"], area["name"]))
            if area["identity"] or not claim:
                continue
            key = (area["name"], *claim)
            if key not in names:
                counted = (area["name"], claim[0])
                numbers[counted] = numbers.get(counted, 0) + 1
                names[key] = PROBE_HOST + claim[0] + (" %d" % numbers[counted] if numbers[counted] > 1 else "")
            area["identity"] = names[key]


def merge(findings: Iterable[Finding], hosts: Iterable[HostReport]) -> list[Finding]:
    """Return the findings with those of one shared service merged; each gets ``hosts``, the names of all its hosts.

    Findings are merged if they have the same check, object and status. The merged one is that of the first host, in the
    order of ``findings``. Findings that are already merged stay unchanged.
    """
    identities = _identities(hosts)
    merged: list[Finding] = []
    shared: dict[Key, Finding] = {}
    for finding in findings:
        key = _key(finding, identities)
        first = shared.get(key) if key else None
        names = finding.get("hosts") or [finding["host"]]
        if first and not set(first["hosts"]).intersection(names):
            first["hosts"] += names
            continue
        made: Finding = {**finding, "hosts": list(names)}
        merged.append(made)
        if key and not first:
            shared[key] = made
    return merged


def counts(hosts: Iterable[HostReport], findings: Iterable[Finding]) -> Counts:
    """Return the sums of the areas' counts over all hosts, a shared service counted once.

    It counts as on the first of its hosts; the other hosts add the findings that only they have.
    """
    findings = list(findings)
    total = _evaluation.no_counts()
    own: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        own.setdefault((finding["host"], finding["area"]), []).append(finding)
    # The hosts that shared findings are listed under come first.
    first_hosts = dict.fromkeys(finding["host"] for finding in findings if len(finding["hosts"]) > 1)
    order = {host: number for number, host in enumerate(first_hosts)}
    seen: set[tuple[str, str | None]] = set()
    for host in sorted(hosts, key=lambda host: order.get(host["name"], len(order))):
        for area in host["areas"]:
            key = (area["name"], area.get("identity"))
            if area.get("identity") and key in seen:
                for finding in own.get((host["name"], area["name"]), ()):
                    total["items"] += 1
                    total[finding["status"]] += 1
                continue
            seen.add(key)
            for name in total:
                total[name] += area["counts"][name]  # type: ignore[literal-required]  # the keys of Counts
    return total


def sharing(hosts: Sequence[str], findings: Iterable[Finding]) -> list[str]:
    """Return these hosts, and all hosts that have a finding in common with one of them."""
    wanted = set(hosts)
    more = [host for finding in findings if wanted.intersection(finding["hosts"]) for host in finding["hosts"]]
    return list(dict.fromkeys([*hosts, *more]))


def _identities(hosts: Iterable[HostReport]) -> dict[tuple[str, str], str]:
    found = {}
    for host in hosts:
        for area in host["areas"]:
            service = area.get("identity")
            if service:
                found[host["name"], area["name"]] = service
    return found


def _key(finding: Finding, identities: Mapping[tuple[str, str], str]) -> Key | None:
    found = identities.get((finding["host"], finding["area"]))
    return (found, finding["area"], finding["id"], finding["object"], finding["status"]) if found else None
