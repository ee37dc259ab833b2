# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('FATAL:  sorry, too many clients already', "too_many_clients"),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", "too_many_clients"),
        ('FATAL:  too many connections for role "tracktion_user"', "too_many_clients"),
        ("FATAL:  the database system is starting up", "starting_up"),
        ("FATAL:  the database system is shutting down", "starting_up"),
        ("FATAL:  the database system is in recovery mode", "starting_up"),
        ("FATAL:  the database system is not yet accepting connections", "starting_up"),
        ('FATAL:  database "nowhere" does not exist', "no_database"),
        ('FATAL:  permission denied for database "tracktion"', "no_database"),
        ('FATAL:  role "nobody" does not exist', "authentication"),
        ('FATAL:  role "tracktion_user" is not permitted to log in', "authentication"),
        ("fe_sendauth: no password supplied", "authentication"),
        ('connection to server on socket "/run/.s.PGSQL.5432" failed: FATAL:  Peer authentication failed for user "x"',
         "authentication"),
        ('connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory', "refused"),
        ("server does not support SSL, but SSL was required", "tls"),
        ("SSL error: certificate verify failed", "tls"),
        ('root certificate file "/nowhere.pem" does not exist', "tls"),
        ('could not translate host name "nowhere" to address: Name or service not known', "name"),
        ("connection failed: No route to host", "no_route"),
        ("received invalid response to SSL negotiation: H", "protocol"),
        ("server closed the connection unexpectedly", "closed"),
        ("FATAL:  something nobody has seen before", "failed"),
    ],
)  # fmt: skip
def test_a_message_is_told_apart(message, kind):
    assert _postgresql.classify(message)[0] == kind


def test_the_first_failure_counts_where_the_library_has_tried_twice():
    """With ssl_mode=prefer it goes on without TLS after a wrong password, and reports what that gave as well."""
    message = (
        'connection to server at "db", port 5432 failed: FATAL:  password authentication failed for user "x"\n'
        'connection to server at "db", port 5432 failed: FATAL:  no pg_hba.conf entry for host "h", no encryption'
    )
    assert _postgresql.classify(message)[0] == "authentication"
    assert _postgresql.classify(message.split("\n")[1])[0] == "no_hba_entry"


def test_every_cure_names_an_option_or_a_next_step():
    for kind, _pattern, hint in _postgresql.CAUSES:
        assert hint.endswith("."), kind
