# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports with everything that outputs show: incidents, charts, history, a remediation, hostile names."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from ansible_collections.tracktion.ops.plugins.plugin_utils import _evaluation

FINISHED = "2026-11-23T02:13:20Z"
AREAS = (
    "audio_processing", "cache", "containers", "database", "file_watching", "host_resources", "logs", "message_queue",
    "network", "service_health",
)  # fmt: skip
# Names that hosts may send: markup, an escape sequence, a right-to-left override, bytes that are not UTF-8, a newline.
HOSTILE = (
    '<script>alert("x")</script>',
    "'><img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b[0m",
    "abc\u202egpj.exe",
    "caf\\xe9",
    "two\nlines\r\n# HELP x y",
    "</title></style><b>",
    "{{ 7 * 7 }}{% raw %}",
    "]]>&amp;&lt;",
    "`rm -rf /` @everyone [x](javascript:alert(1))",
    'quote"back\\slash',
)


def finding(host: str, check: str, name: str | None, status: str, summary: str, **more) -> dict:
    return {
        "id": check,
        "area": check.partition(".")[0],
        "host": host,
        "hosts": [host],
        "object": name,
        "about": {},
        "title": check.partition(".")[2].replace("_", " ").capitalize(),
        "status": status,
        "summary": summary,
        "observed": {"value": 500, "rate": 3.14159265, "text": "some text"},
        "threshold": {"limit": 100},
        "why": "The service answers later than its clients wait for it, and they try again.",
        "guide": "Quick Diagnostic Commands",
        "hint": "Look at the log (`docker logs --tail 100 tracktion-%s-1`), and then restart the consumer." % host,
        "remedy": None,
        "began": None,
        "first_seen": FINISHED,
        "fingerprint": _evaluation.fingerprint(check, host, name),
        **more,
    }


def incident(cause: dict, *effects: dict, **more) -> dict:
    """Return an incident in which each finding of ``effects`` follows from the one before."""
    chain = [cause, *effects]
    return {
        "fingerprint": hashlib.sha256(cause["fingerprint"].encode()).hexdigest()[:16],
        "host": cause["host"],
        "hosts": cause["hosts"],
        "status": "critical",
        "cause": cause["fingerprint"],
        "effects": [
            {
                "finding": each["fingerprint"],
                "by": chain[number]["fingerprint"],
                "edge": "%s.some_edge" % each["area"],
                "mechanism": "The %s cannot go on while the cause lasts." % each["area"].replace("_", " "),
                "depth": number + 1,
                "also": [],
            }
            for number, each in enumerate(effects)
        ],
        "possible": [],
        "began": None,
        "first_step": {"hint": cause["hint"], "command": "docker logs --tail 100 tracktion-%s-1" % cause["host"]},
        **more,
    }


def chart(host: str, name: str, labels=("one", "two", "three"), unit="bytes", limit=None, earlier=8, **more) -> dict:
    runs = [(datetime(2026, 11, 22, tzinfo=UTC) + timedelta(hours=number)) for number in range(earlier)]
    return {
        "id": name,
        "area": name.partition(".")[0],
        "host": host,
        "title": name.partition(".")[2].replace("_", " ").capitalize(),
        "kind": "bars",
        "unit": unit,
        "columns": [{"title": "Keys", "unit": None}],
        "items": [
            {"label": label, "value": 1000 * (number + 1), "of": limit, "columns": [number], "depth": 0}
            for number, label in enumerate(labels)
        ],
        "left_out": 2,
        "trend": True,
        "earlier": [
            {
                "time": run.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "values": {label: 900 * (at + 1) + 100 * number for at, label in enumerate(labels)},
            }
            for number, run in enumerate(runs)
        ],
        **more,
    }


def blocking(host: str) -> dict:
    labels = [(0, "4711 · tracktion_user · tracklist_service · idle in transaction"),
              (1, "4712 · tracktion_user · analysis_service · active"),
              (2, "4713 · tracktion_user · analysis_service · active"),
              (1, "4714 · tracktion_user · file_watcher · active")]  # fmt: skip
    items = [
        {"label": label, "value": 90.5, "of": None, "columns": ["transactionid", "public.tracks"], "depth": depth}
        for depth, label in labels
    ]
    made = chart(
        host, "database.blocking", unit="seconds", kind="tree", items=items, left_out=0, trend=False, earlier=0
    )
    return {**made, "columns": [{"title": "Lock", "unit": None}, {"title": "Relation", "unit": None}]}


def host(name: str, found: list[dict], reachable: bool = True) -> dict:
    areas = []
    for area in AREAS:
        own = [each for each in found if each["area"] == area]
        counts = {**_evaluation.no_counts(), "checks": 20, "items": 40 + len(own), "ok": 40}
        for each in own:
            counts[each["status"]] += 1
        areas.append(
            {
                "name": area,
                "status": _evaluation.worst(each["status"] for each in own),
                "identity": None,
                "counts": counts,
                "not_here": [],
                "seconds": 0.25,
                "error": None,
            }
        )
    status = _evaluation.worst(each["status"] for each in found)
    return {"name": name, "reachable": reachable, "status": status, "areas": areas}


def report(findings: dict[str, list[dict]], incidents=(), charts=(), **more) -> dict:
    """Return a report. ``findings`` are by host."""
    everything = [each for found in findings.values() for each in found]
    counts = {**_evaluation.no_counts(), "checks": 200, "items": 400 * len(findings), "ok": 390 * len(findings)}
    for each in everything:
        counts[each["status"]] += 1
    return {
        "schema": "tracktion.ops/report",
        "schema_version": 4,
        "collection_version": "0.4.0",
        "started": "2026-11-23T02:13:10Z",
        "finished": FINISHED,
        "status": _evaluation.worst(each["status"] for each in everything),
        "counts": counts,
        "hosts": [host(name, found) for name, found in findings.items()],
        "findings": everything,
        "incidents": list(incidents),
        "history": None,
        "fixed": [],
        "charts": list(charts),
        "remediation": None,
        **more,
    }


def of_one_host(name: str = "music-1") -> dict:
    """Return a report about one host with two incidents, charts, a history and a remediation."""
    disk = finding(
        name, "host_resources.space", "/var/lib/docker", "critical", "/var/lib/docker is 98 % full (limit 95 %)"
    )
    alarm = finding(
        name, "message_queue.disk_alarm", "rabbit@mq", "critical", "rabbit@mq: 12 MiB free, alarm at 50 MiB"
    )
    blocked = finding(name, "message_queue.blocked", "file_watcher", "warning", "file_watcher: 1 connection is blocked")
    idle = finding(name, "message_queue.idle", "audio.analysis.requests", "warning",
                   "audio.analysis.requests: nothing was published for 10 min")  # fmt: skip
    slow = finding(
        name, "service_health.slow", "tracklist_service", "warning", "tracklist_service: p95 is 1.5 s (limit 1 s)"
    )
    info = finding(name, "database.bloat", "public.tracks", "info", "public.tracks: 31 % of the rows are dead")
    unknown = [
        finding(name, check, None, "unknown", "permission denied for function pg_ls_waldir", observed={}, threshold={},
                hint="Grant the right: `GRANT pg_monitor TO tracktion_monitor`")
        for check in ("database.wal", "database.slots")
    ]  # fmt: skip
    remedy = {
        "id": "host_resources.delete_logs", "title": "Delete old logs", "risk": "destructive", "data_loss": "files",
        "does": "deletes 3 files (1.2 GiB)", "target": "/var/log", "vars": {}, "evidence": "0" * 16,
        "command": "ansible-playbook tracktion.ops.remediate --limit %s --check -e tracktion_only=x" % name,
    }  # fmt: skip
    disk["remedy"] = remedy
    findings = [disk, alarm, blocked, idle, slow, *unknown, info]
    seen = {each["fingerprint"]: {"state": "new", "since": FINISHED, "runs": "01"} for each in findings}
    seen[slow["fingerprint"]] = {"state": "still", "since": "2026-11-20T02:13:20Z", "runs": "1111"}
    incidents = [incident(disk, alarm, blocked, idle, began="2026-11-23T01:50:00Z"), incident(slow, status="warning")]
    incidents[1]["possible"] = [
        {
            "check": "database.slots",
            "edge": "service_health.x",
            "mechanism": "Queries wait.",
            "reason": "permission denied",
        }
    ]
    history = {
        "problem": None,
        "previous": "2026-11-22T02:13:20Z",
        "counts": [
            {"time": "2026-11-%02dT02:13:20Z" % day, "critical": day % 3, "warning": day % 4, "unknown": 1, "info": 2}
            for day in range(10, 23)
        ],
        "findings": seen,
        "incidents": {each["fingerprint"]: seen[each["cause"]] for each in incidents},
        "fixed_total": 1,
    }
    fixed = [
        {
            "fingerprint": "f" * 16,
            "id": "cache.full",
            "area": "cache",
            "host": name,
            "object": None,
            "title": "Memory near maxmemory",
            "status": "critical",
            "summary": "Redis uses 99 % of maxmemory",
            "since": "2026-11-21T02:13:20Z",
        }
    ]
    charts = [
        chart(name, "host_resources.file_systems", ("/", "/var/lib/docker", "/srv/music"), limit=5000),
        chart(name, "database.sessions", ("idle", "active", "idle in transaction"), unit="sessions"),
        blocking(name),
        chart(name, "service_health.latency", ("tracklist_service",), unit="seconds", earlier=0),
    ]
    action = {
        **dict.fromkeys(("reason", "message", "undo")),
        **{key: remedy[key] for key in ("title", "risk", "data_loss", "target", "does", "vars", "evidence")},
        "action": "a1",
        "host": name,
        "remedy": remedy["id"],
        "status": "planned",
        "blocked": False,
        "outcome": "changed",
        "changed": True,
        "result": {},
        "findings": [],
    }
    change = {
        **{key: disk[key] for key in ("id", "host", "object", "summary", "fingerprint")},
        "before": "critical",
        "after": "warning",
        "change": "better",
    }
    remediation = {
        "run": "r1",
        "who": "root@controller",
        "check_mode": False,
        "actions": [action],
        "changes": [change],
        "measured_again": [name],
        "not_measured_again": 0,
        "unfinished": [],
    }
    return report({name: findings}, incidents, charts, history=history, fixed=fixed, remediation=remediation)


def of_fleet(hosts: int = 500, findings: int = 20) -> dict:
    """Return a report about many hosts, with a different set of findings on each."""
    found, incidents, charts = {}, [], []
    for number in range(hosts):
        name = "music-%03d" % number
        own = [
            finding(
                name,
                "%s.check_%d" % (AREAS[(number + each) % len(AREAS)], (number * 7 + each) % 40),
                "object-%d-%d" % (number, each),
                ("critical", "warning", "info", "unknown")[each % 4],
                "object-%d-%d: %d messages ready, 0 consumers (limit 100)" % (number, each, 100 + each),
            )
            for each in range(findings)
        ]
        found[name] = own
        fired = [each for each in own if each["status"] != "unknown"]
        incidents += [incident(*fired[at : at + 3]) for at in range(0, len(fired), 3)]
        charts += [chart(name, "host_resources.file_systems", limit=5000), chart(name, "message_queue.depth")]
    return report(found, incidents, charts[:400])


def hostile() -> dict:
    """Return a report in which each name that hosts can choose is one of HOSTILE."""
    found = [
        finding(
            "music-1",
            "message_queue.check_%s" % "abcdefghijklmn"[number],
            name,
            "critical",
            "%s: 500 messages" % name,
            hint="Look at `%s` and %s" % (name.replace("`", ""), name),
            observed={name: name},
        )
        for number, name in enumerate(HOSTILE)
    ]
    made = report(
        {"music-1": found}, [incident(*found)], [chart("music-1", "message_queue.depth", HOSTILE, "messages")]
    )
    made["hosts"][0]["areas"][0]["not_here"] = list(HOSTILE)
    made["hosts"][0]["areas"][0]["counts"]["not_here"] = len(HOSTILE)
    return made
