# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _failures
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_failures


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('FATAL:  sorry, too many clients already', "too_many_connections"),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
         "too_many_connections"),
        ('FATAL:  too many connections for role "tracktion_user"', "too_many_connections"),
        ("FATAL:  the database system is starting up", "starting_up"),
        ("FATAL:  could not write init file", "disk_full"),
        ("FATAL:  the database system is shutting down", "starting_up"),
        ("FATAL:  the database system is in recovery mode", "starting_up"),
        ("FATAL:  the database system is not yet accepting connections", "starting_up"),
        ('FATAL:  database "nowhere" does not exist', "no_database"),
        ('FATAL:  permission denied for database "tracktion"', "no_database"),
        ('FATAL:  cannot connect to invalid database "tracktion"', "no_database"),
        ('FATAL:  role "nobody" does not exist', "authentication"),
        ('FATAL:  role "tracktion_user" is not permitted to log in', "authentication"),
        ("fe_sendauth: no password supplied", "authentication"),
        ('connection to server on socket "/run/.s.PGSQL.5432" failed: FATAL:  Peer authentication failed for user "x"',
         "authentication"),
        ('connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory', "refused"),
        ("server does not support SSL, but SSL was required", "tls"),
        ("SSL error: certificate verify failed", "certificate"),
        ('server certificate for "db" (and 1 other name) does not match host name "other"', "certificate"),
        ('root certificate file "/nowhere.pem" does not exist', "tls"),
        ('could not translate host name "nowhere" to address: Name or service not known', "name_resolution"),
        ("connection failed: No route to host", "no_route"),
        ("received invalid response to SSL negotiation: H", "protocol"),
        ("server closed the connection unexpectedly", "closed"),
        # PgBouncer
        ("FATAL:  query_wait_timeout\nserver closed the connection unexpectedly", "pooler"),
        ("FATAL:  client_login_timeout\nserver closed the connection unexpectedly", "pooler"),
        ("FATAL:  server login has been failing, cached error: connect failed (server_login_retry)", "pooler"),
        ("FATAL:  no more connections allowed (max_client_conn)", "too_many_connections"),
        ("FATAL:  no such database: nowhere", "no_database"),
        ("FATAL:  no such user: nobody", "authentication"),
        ("FATAL:  unsupported startup parameter in options: statement_timeout", "pooler"),
        ("FATAL:  password authentication failed", "authentication"),
        ('FATAL:  database "tracktion" is disabled', "pooler"),
        ("FATAL:  pgbouncer cannot connect to server", "pooler"),
        ('connection to server at "pgbouncer" (172.18.0.5), port 6432 failed: Connection refused', "refused"),
        ('connection to server at "pgbouncer" (172.18.0.5), port 6432 failed: No route to host', "no_route"),
        ("FATAL:  an unknown message", "failed"),
    ],
)  # fmt: skip
def test_kind_of_a_message(message, kind):
    assert _pg_failures.classify(message) == kind


def test_the_first_of_two_failures_counts():
    """With ssl_mode=prefer the library tries again without TLS, and appends the second failure."""
    message = (
        'connection to server at "db", port 5432 failed: FATAL:  password authentication failed for user "x"\n'
        'connection to server at "db", port 5432 failed: FATAL:  no pg_hba.conf entry for host "h", no encryption'
    )
    assert _pg_failures.classify(message) == "authentication"
    assert _pg_failures.classify(message.split("\n")[1]) == "no_hba_entry"


@pytest.mark.parametrize("socket", ["", "/run/postgresql"])
def test_every_kind_has_a_hint(socket):
    options = {"login_host": "h", "login_port": 1, "login_user": "u", "login_db": "d", "login_unix_socket": socket}
    for kind in [kind for kind, _pattern in _pg_failures.MESSAGES] + ["no_answer", "failed"]:
        assert _pg_failures.hint_of(kind, options).endswith("."), kind
    assert ("login_unix_socket" in _pg_failures.hint_of("refused", options)) is bool(socket)


def test_the_command_that_tests_the_login_is_quoted():
    options = {"login_host": "h", "login_port": 1, "login_user": "a b", "login_db": "$(x)", "login_unix_socket": ""}
    expected = "`psql --host=h --port=1 --username='a b' --dbname='$(x)' --command='SELECT 1'`"
    assert expected in _pg_failures.hint_of("authentication", options)
    assert "`openssl s_client -starttls postgres -connect h:1 </dev/null`" in _pg_failures.hint_of("tls", options)


def test_some_kinds_are_special_to_postgresql():
    kinds = {kind for kind, _pattern in _pg_failures.MESSAGES}
    assert kinds - set(_failures.KINDS) == {"no_hba_entry", "no_database", "pooler", "disk_full"}


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("172.18.0.5", ', `host "music" "app" 172.18.0.5/32 scram-sha-256`,'),
        ("fd00::5", ', `host "music" "app" fd00::5/128 scram-sha-256`,'),
        ("[local]", ', `local "music" "app" scram-sha-256`,'),
    ],
)
def test_the_line_that_pg_hba_conf_lacks(host, line):
    message = 'FATAL:  no pg_hba.conf entry for host "%s", user "app", database "music", no encryption' % host
    assert _pg_failures.hba_line(message) == line
    assert line in _pg_failures.hint_of(
        "no_hba_entry",
        {"login_host": "h", "login_port": 1, "login_user": "u", "login_db": "d", "login_unix_socket": ""},
        message,
    )


@pytest.mark.parametrize(
    ("kind", "message", "command"),
    [
        ("authentication", 'role "a" is not permitted to log in', '`ALTER ROLE "a" LOGIN;`'),
        ("authentication", 'password authentication failed for user "a"', "VALID UNTIL 'infinity';`"),
        ("too_many_connections", 'too many connections for role "a"', '`ALTER ROLE "a" CONNECTION LIMIT -1;`'),
        ("too_many_connections", 'too many connections for database "d"', '`ALTER DATABASE "d" CONNECTION LIMIT -1;`'),
        ("no_database", 'database "d" is not currently accepting connections', "ALLOW_CONNECTIONS true;`"),
        ("no_database", 'permission denied for database "d"', '`GRANT CONNECT ON DATABASE "d" TO "o""k";`'),
        ("no_hba_entry", 'pg_hba.conf rejects connection for host "h"', "method reject"),
        ("pooler", "FATAL:  no such database: d", "[databases]"),
    ],
)
def test_the_hint_of_a_message(kind, message, command):
    options = {"login_host": "h", "login_port": 1, "login_user": 'o"k', "login_db": "d", "login_unix_socket": ""}
    assert command in _pg_failures.hint_of(kind, options, message)
