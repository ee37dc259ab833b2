# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hints for the failures of pg_dump, by messages of PostgreSQL 15."""

from __future__ import annotations

import shlex

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_backup

OPTIONS = {
    "login_host": "db's",
    "login_unix_socket": "",
    "login_port": 5432,
    "login_user": 'o"p',
    "directory": "/var/backups/a b",
    "login_db": "tracktion",
    "database": None,
    "deadline": 60.0,
    "encryption_recipients": [],
    "progress": None,
    "jobs": 2,
    "keep": 7,
    "max_age_days": 0.0,
}
LOCKED = (
    "pg_dump failed: pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout; "
    "pg_dump: detail: Query was: LOCK TABLE public.tracks IN ACCESS SHARE MODE"
)


def test_a_locked_table_has_a_command_that_shows_the_session():
    hint = _pg_backup.hint_of(LOCKED, OPTIONS, "it's")
    words = shlex.split(hint.split("`")[3])
    assert words[:9] == ["psql", "-h", "db's", "-p", "5432", "-U", 'o"p', "-d", "it's"]
    assert "datname = 'it''s'" in words[10]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("pg_dump: error: could not write to file: No space left on device", "`df -h -- '/var/backups/a b'`"),
        ("pg_dump: error: query failed: ERROR:  permission denied for table tracks", "GRANT pg_read_all_data TO"),
        ("pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout", None),
        ("pg_dump: error: connection failed", None),
    ],
)
def test_other_failures(message, text):
    hint = _pg_backup.hint_of(message, OPTIONS, "tracktion")
    assert text in hint if text else hint is None


@pytest.mark.parametrize("invalid", [{"jobs": 0}, {"jobs": 65}, {"keep": -1}, {"max_age_days": -1.0}])
def test_invalid_numbers_are_rejected_before_a_connection(invalid):
    with pytest.raises(BadOption, match=next(iter(invalid))):
        _pg_backup.Backup({**OPTIONS, **invalid})
