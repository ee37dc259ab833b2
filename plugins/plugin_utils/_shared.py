# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings about a service that several hosts share: one finding each, counted once. Pure. Private to this collection.

A service is the same where the probes of an area returned the same ``identity``, or where it was measured once for
several hosts (``_claims.py``). A service that could not be measured has no identity: what depends on where it is
measured from stays with its host.
"""

from __future__ import annotations

IDENTITY_LENGTH = 256
# The identity of an area that was measured from another host, which is all that is known of the service.
PROBE_HOST = "probe_host:"


def identity(measurement: dict) -> str | None:
    """Return what the service of an area calls itself, from the area's measurement: ``{probe: result}``."""
    for probe in measurement.values():
        found = probe.get("identity") if isinstance(probe, dict) else None
        if isinstance(found, str) and found:
            return found[:IDENTITY_LENGTH]
    return None


def name_measurements(hosts: list[dict], claims: dict[tuple[str, str], tuple[str, str]]) -> None:
    """Give an identity to areas without one that were measured once for several hosts, in place.

    ``claims`` maps host and area to the host it was measured from and the name of the claim. That name is a hash of
    passwords and useless after the run: in the report, different measurements from one host are numbered.
    """
    names: dict[tuple, str] = {}
    numbers: dict[tuple, int] = {}
    for host in hosts:
        for area in host["areas"]:
            claim = claims.get((host["name"], area["name"]))
            if area["identity"] or not claim:
                continue
            key = (area["name"], *claim)
            if key not in names:
                probe_host = (area["name"], claim[0])
                numbers[probe_host] = numbers.get(probe_host, 0) + 1
                names[key] = PROBE_HOST + claim[0] + (" %d" % numbers[probe_host] if numbers[probe_host] > 1 else "")
            area["identity"] = names[key]


def merge(findings: list[dict], hosts: list[dict]) -> list[dict]:
    """Return the findings with those of one shared service merged; each gets ``hosts``, the names of all its hosts.

    Findings are merged that have the same check, object and status. The merged one is that of the first host, in the
    order of ``findings``. ``hosts``: as in the report. Findings that are merged already stay as they are.
    """
    identities = _identities(hosts)
    merged: list[dict] = []
    shared: dict[tuple, dict] = {}
    for finding in findings:
        key = _key(finding, identities)
        first = shared.get(key) if key else None
        names = finding.get("hosts") or [finding["host"]]
        if first and not set(first["hosts"]).intersection(names):
            first["hosts"] += names
            continue
        merged.append({**finding, "hosts": list(names)})
        if key and not first:
            shared[key] = merged[-1]
    return merged


def counts(hosts: list[dict], findings: list[dict], names: tuple) -> dict[str, int]:
    """Return the sums of the areas' counts over all hosts, a shared service counted once.

    It counts as on the first of its hosts; the other hosts add the findings that only they have.
    """
    total = dict.fromkeys(names, 0)
    own: dict[tuple, list[dict]] = {}
    for finding in findings:
        own.setdefault((finding["host"], finding["area"]), []).append(finding)
    order = {host: number for number, host in enumerate(_first_hosts(findings))}
    seen = set()
    for host in sorted(hosts, key=lambda host: order.get(host["name"], len(order))):
        for area in host["areas"]:
            key = (area["name"], area.get("identity"))
            if area.get("identity") and key in seen:
                for finding in own.get((host["name"], area["name"]), ()):
                    total["items"] += 1
                    total[finding["status"]] += 1
                continue
            seen.add(key)
            for name in names:
                total[name] += area["counts"][name]
    return total


def sharing(hosts: list[str], findings: list[dict]) -> list[str]:
    """Return these hosts, and all that have a finding in common with one of them."""
    wanted = set(hosts)
    more = [host for finding in findings if wanted.intersection(finding["hosts"]) for host in finding["hosts"]]
    return list(dict.fromkeys([*hosts, *more]))


def _identities(hosts: list[dict]) -> dict[tuple[str, str], str]:
    return {
        (host["name"], area["name"]): area["identity"]
        for host in hosts
        for area in host["areas"]
        if area.get("identity")
    }


def _key(finding: dict, identities: dict) -> tuple | None:
    found = identities.get((finding["host"], finding["area"]))
    return (found, finding["area"], finding["id"], finding["object"], finding["status"]) if found else None


def _first_hosts(findings: list[dict]) -> list[str]:
    """The hosts that shared findings are listed under; the service is counted as they see it."""
    return list(dict.fromkeys(finding["host"] for finding in findings if len(finding["hosts"]) > 1))
