# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports of fleets from generated measurements, which are evaluated like those of real hosts."""

from __future__ import annotations

from pathlib import Path

import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _report

AREAS = (
    "audio_processing",
    "cache", "containers", "database", "file_watching", "host_resources", "logs", "message_queue", "network",
    "service_health",
)  # fmt: skip
NOW = 1795400000.0


def things(*values: tuple, check: str = "full", **measurement) -> dict:
    """Return the measurement of an area: ``(name, value)`` for the items of ``check``."""
    items = [{"kind": check, "name": name, "value": value} for name, value in values]
    return {"reachable": True, "error": None, "unknown": [], "things": items, **measurement}


class Fleet:
    """Areas with these ``checks`` in a folder, and reports about them."""

    def __init__(self, folder: Path, checks: tuple = ("full", "slow", "old"), areas: tuple = AREAS):
        self.areas = [_area(folder / name, name, checks) for name in areas]
        self.compiled = _report.CompiledChecks(self.areas)

    def report(self, hosts: dict) -> dict:
        """Return the report about hosts: name -> area -> measurement, or name -> the failed result of a visit."""
        reports, findings = [], []
        for name, own in hosts.items():
            host, found = _report.host_report(name, [self.visit(own)], self.compiled)
            reports.append(host)
            findings += found
        return _report.build(reports, findings, "1.2.3", NOW - 60, NOW, ["/inv/hosts.yml"])

    def visit(self, own: dict) -> dict:
        """Return the result of a visit that measured ``own``; other areas are ok."""
        if "msg" in own:
            return {"areas": {}, **own}
        areas = {}
        for area in self.areas:
            measured = own.get(area.name) or things(("one", 1), ("two", 2))
            settings = {"%s_warning" % area.name: 10, "%s_critical" % area.name: 100}
            outcome = {"measurement": {"main": measured}, "error": None, "seconds": 0.1}
            areas[area.name] = {"role": area.role, "settings": settings, **outcome}
        return {"areas": areas, "extra_checks": []}


def names(number: int) -> list[str]:
    return ["web%03d" % each for each in range(1, number + 1)]


def shared_database(hosts: list[str], findings: int = 13, identity: str | None = None) -> dict:
    """Hosts with the same database, in which so many tables are too large; the last host measures the largest."""
    return {
        host: {"database": things(*(("table_%02d" % each, 20 + number) for each in range(findings)), identity=identity)}
        for number, host in enumerate(hosts)
    }


def all_different(hosts: list[str], findings: int = 5) -> dict:
    """Hosts of which each has other findings in each area."""
    return {
        host: {
            area: things(*(("job_%d" % (first + each), 20 + each) for each in range(findings)), check="slow")
            for area in AREAS
        }
        for host, first in zip(hosts, range(0, findings * len(hosts), findings), strict=True)
    }


def _area(path: Path, name: str, checks: tuple) -> _areas.Area:
    rows = [
        {
            "id": "%s.%s" % (name, check),
            "title": "Too %s" % check,
            "each": "main.things",
            "when": "item.kind == '%s'" % check,
            "object": "{{ item.name }}",
            "warning": "item.value >= %s_warning" % name,
            "critical": "item.value >= %s_critical" % name,
            "summary": "{{ item.name }}: %s by {{ item.value }} requests" % check,
            "hint": "Look at `journalctl --unit %s`, and then: what calls it often?" % name,
            "remedy": "%s.empty" % name,
            "guide": "g",
            "why": "The service answers later than its clients wait for it, and they try again.",
        }
        for check in checks
    ]  # fmt: skip
    remedy = {"id": "%s.empty" % name, "title": "Empty it", "risk": "safe", "data_loss": "none", "does": "empties it"}
    options = {"%s_warning" % name: {"type": "int"}, "%s_critical" % name: {"type": "int"}}
    for file, data in {
        "meta/argument_specs.yml": {"argument_specs": {"main": {"options": options}}},
        "diagnosis/checks.yml": rows,
        "diagnosis/remedies.yml": [remedy],
        "tasks/remediate/empty.yml": [],
    }.items():
        path.joinpath(file).parent.mkdir(parents=True, exist_ok=True)
        path.joinpath(file).write_text(yaml.safe_dump(data), encoding="utf-8")
    return _areas.Area("tracktion.ops.%s" % name, path)
