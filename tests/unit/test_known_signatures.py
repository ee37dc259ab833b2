# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The known messages of the role logs: every row matches real messages, and names an existing check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_levels

ROOT = Path(__file__).resolve().parents[2]
PROBES = yaml.safe_load((ROOT / "roles/logs/diagnosis/probes.yml").read_text(encoding="utf-8"))
KNOWN = PROBES["probes"]["errors"]["options"]["known"]
HTTPS = (
    "requests.exceptions.SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired"
)
MESSAGES = {
    "inotify_limit": [
        "OSError: [Errno 28] inotify watch limit reached",
        "OSError: [Errno 24] inotify instance limit reached",
    ],
    "disk_full": [
        "OSError: [Errno 28] No space left on device: '/tmp/x'",
        '2026-11-25 08:24:08 UTC [29] ERROR:  could not extend file "base/1/2": No space left on device',
    ],
    "too_many_open_files": ["OSError: [Errno 24] Too many open files: '/music/a.mp3'"],
    "database_connections": [
        "2026-11-25 08:24:08 UTC [29] FATAL:  sorry, too many clients already",
        "psycopg2.OperationalError: FATAL:  remaining connection slots are reserved for roles with SUPERUSER",
    ],
    "database_pool": [
        "sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out"
    ],
    "database_deadlock": ["2026-11-25 08:24:08 UTC [29] ERROR:  deadlock detected"],
    "database_password": ['2026-11-25 08:24:08 UTC [29] FATAL:  password authentication failed for user "a"'],
    "database_statement_timeout": ["2026-11-25 08:24:08 UTC [29] ERROR:  canceling statement due to statement timeout"],
    "database_wraparound": ['WARNING:  database "a" must be vacuumed within 39985967 transactions'],
    "cache_misconf": [
        "redis.exceptions.ResponseError: MISCONF Redis is configured to save RDB snapshots, but it is unable to"
    ],
    "cache_memory": ["redis.exceptions.OutOfMemoryError: OOM command not allowed when used memory > 'maxmemory'."],
    "cache_password": [
        "redis.exceptions.AuthenticationError: WRONGPASS invalid username-password pair or user is disabled.",
        "ERROR NOAUTH Authentication required.",
    ],
    "queue_ack_timeout": [
        "pika.exceptions.ChannelClosedByBroker: (406, 'PRECONDITION_FAILED - delivery acknowledgement on channel 1')",
    ],
    "queue_declared_otherwise": [
        "pika.exceptions.ChannelClosedByBroker: (406, \"PRECONDITION_FAILED - inequivalent arg 'durable'\")",
    ],
    "queue_alarm": ["2026-11-25 08:24:08+00:00 [warning] <0.9.0> memory resource limit alarm set on node rabbit@a."],
    "queue_password": [
        "pika.exceptions.ProbableAuthenticationError: ConnectionClosedByBroker: (403) 'ACCESS_REFUSED'",
        "2026-11-25 08:24:08+00:00 [error] <0.9.0> PLAIN login refused: user 'a' - invalid credentials",
    ],
    "queue_missed_heartbeats": [
        "2026-11-25 08:24:08+00:00 [error] <0.9.0> missed heartbeats from client, timeout: 60s"
    ],
    "name_resolution": ["socket.gaierror: [Errno -3] Temporary failure in name resolution"],
    "out_of_memory": ["MemoryError: Unable to allocate 2 GiB", "OSError: [Errno 12] Cannot allocate memory"],
    "read_only_file_system": ["OSError: [Errno 30] Read-only file system: '/music/a'"],
    "certificate": [HTTPS],
}


def test_every_row_has_a_message():
    assert [row["id"] for row in KNOWN] == list(MESSAGES)


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in MESSAGES.items() for line in lines])
def test_row_matches_its_message_and_the_message_counts(name, line):
    assert next(row["id"] for row in KNOWN if re.search(row["pattern"], line, re.I)) == name
    assert _log_levels.read(line)[0] in _log_levels.COUNTED
    candidates = re.compile("|".join(_log_levels.CANDIDATES))
    assert candidates.search(line.lower())


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row["id"])
def test_row_names_an_existing_check(row):
    assert set(row) == {"id", "pattern", "meaning", "area", "check", "hint"}
    area, _dot, _name = row["check"].partition(".")
    assert not row["check"] or area == row["area"]
    if row["check"]:
        checks = yaml.safe_load((ROOT / "roles" / area / "diagnosis/checks.yml").read_text(encoding="utf-8"))
        assert row["check"] in {check["id"] for check in checks}
