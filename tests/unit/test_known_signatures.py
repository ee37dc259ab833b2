# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The known messages of the role logs: every row matches real messages, and names an existing check."""

# ruff: noqa: E501 (messages as they are written)

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_known, _log_levels
from ansible_collections.tracktion.ops.plugins.plugin_utils import _rows

ROOT = Path(__file__).resolve().parents[2]
PROBES = yaml.safe_load((ROOT / "roles/logs/diagnosis/probes.yml").read_text(encoding="utf-8"))
KNOWN = PROBES["probes"]["errors"]["options"]["known"]
# As servers and programs write them: PostgreSQL 15 and 17, Redis 7.0 and 8.0, RabbitMQ 3.10 and 4.0, Python 3.11 and 3.13.
BROKER = "2026-11-29 06:16:16.688535+00:00 [error] <0.702.0> "
CLOSING = BROKER + "closing AMQP connection <0.702.0> (172.20.0.1:34060 -> 172.20.0.2:5672"
CHANNEL = (
    BROKER
    + "Channel error on connection <0.778.0> (172.20.0.1:55646 -> 172.20.0.2:5672, vhost: '/', user: 'app'), channel 1:\n"
)
FATAL = "2026-11-29 06:23:51.813 UTC [115] FATAL:  "
ERROR = "2026-11-29 06:23:52.689 UTC [122] ERROR:  "
REDIS = "7:M 29 Nov 2026 06:24:34.676 # "
MATCHED = (
    '\n\tConnection matched file "/var/lib/postgresql/data/pg_hba.conf" line 127: "host all all all scram-sha-256"'
)
MESSAGES = {
    "monitor_of_redis": [
        REDIS + "Possible SECURITY ATTACK detected. [...] This is likely due to an "
        "attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. Connection from 172.20.0.1:57386 aborted.",
    ],
    "monitor_of_redis_tls": [
        REDIS
        + "Error accepting a client connection: error:0A00009C:SSL routines::http request (addr=172.20.0.1:57792 laddr=172.20.0.2:6379)",
        REDIS + "Error accepting a client connection: Connection reset by peer (addr= laddr=172.20.0.2:6379)",
    ],
    "monitor_of_amqp": [
        CLOSING + ", duration: '0ms'):\n{bad_header,<<\"GET / HT\">>}",
        CLOSING + "):\n{bad_header,<<22,3,1,2,0,1,0,1>>}",
    ],
    "monitor_without_login": [
        "2026-11-29 06:16:33.519141+00:00 [warning] <0.1026.0> closing AMQP connection <0.1026.0> (172.20.0.1:51594 -> 172.20.0.2:5672, duration: "
        "'297ms'):\nclient unexpectedly closed TCP connection",
    ],
    "inotify_watches": ["OSError: [Errno 28] inotify watch limit reached"],
    "inotify_instances": ["OSError: [Errno 24] inotify instance limit reached"],
    "shared_memory_full": [
        ERROR
        + 'could not resize shared memory segment "/PostgreSQL.1017951992" to 1048576 bytes: No space left on device',
        ERROR + "could not map dynamic shared memory segment",
    ],
    "database_disk_full": [
        ERROR + 'could not extend file "base/5/16385" with FileFallocate(): No space left on device',
        "2026-11-29 16:32:40.103 UTC [57] FATAL:  could not write init file",
    ],
    "disk_full": [
        "OSError: [Errno 28] No space left on device: '/tmp/x'",
        "dd: error writing '/t/x': No space left on device",
    ],
    "too_many_open_files": ["OSError: [Errno 24] Too many open files: '/etc/hostname'"],
    "process_limit": ["RuntimeError: can't start new thread", "sh: 0: Cannot fork"],
    "out_of_memory": ["MemoryError", "OSError: [Errno 12] Cannot allocate memory"],
    "read_only_file_system": ["OSError: [Errno 30] Read-only file system: '/data'"],
    "port_in_use": [
        "OSError: [Errno 98] Address already in use",
        REDIS + "Warning: Could not create server TCP listening socket *:6379: bind: Address already in use",
        '2026-11-29 06:24:24.140 UTC [211] LOG:  could not bind IPv4 address "127.0.0.1": Address already in use',
        BROKER + "ERROR: could not bind to distribution port 25672, it is in use by another node: rabbit@localhost",
    ],
    "import_error": [
        "ModuleNotFoundError: No module named 'nosuchmodule'",
        "ImportError: cannot import name 'nosuchname' from 'os' (/usr/lib/python3.13/os.py)",
        "/usr/bin/python3: Error while finding module specification for 'nosuch.module' (ModuleNotFoundError: No module named 'nosuch')",
    ],
    "syntax_error": [
        "SyntaxError: invalid syntax",
        "IndentationError: expected an indented block after function definition on line 1",
    ],
    "shared_library": [
        "ls: error while loading shared libraries: libselinux.so.1: cannot open shared object file: No such file or directory",
        "ImportError: libpq.so.5: cannot open shared object file: No such file or directory",
    ],
    "program_missing": ["python3: can't open file '/app/main.py': [Errno 2] No such file or directory"],
    "permission_denied": ["PermissionError: [Errno 13] Permission denied: '/etc/shadow'"],
    "pooler_wait": [
        "2026-09-03 08:00:22.000 UTC [1396084] WARNING C-0x55d1c0a2b3e0: shop/app@10.1.2.3:53412 pooler error: query_wait_timeout",
        "psycopg.errors.ProtocolViolation: query_wait_timeout",
    ],
    "pooler_clients": ["psycopg2.OperationalError: FATAL: no more connections allowed (max_client_conn)"],
    "pooler_server": [
        "FATAL: server login has been failing, cached error: password authentication failed (server_login_retry)"
    ],
    "proxy_without_server": [
        "[ALERT]    (8) : backend 'redis_backend' has no server available!",
        '[WARNING]  (8) : Server mysqlrw-back/mysql1 is DOWN, reason: Layer4 connection problem, info: "Connection refused", check duration: 0ms.',
    ],
    "proxy_has_server": [
        "[WARNING]  (8) : Server pg_cluster_back/srv_pgbouncer is UP, reason: Layer4 check passed, check duration: 3ms."
    ],
    "database_password_expired": [
        FATAL
        + 'password authentication failed for user "exp"\n2026-11-29 06:23:51.813 UTC [115] DETAIL:  User "exp" has an expired password.'
        + MATCHED,
    ],
    "database_role": [
        FATAL + 'role "root" does not exist',
        FATAL
        + 'password authentication failed for user "root"\n2026-11-29 06:23:51.740 UTC [113] DETAIL:  Role "root" does not exist.'
        + MATCHED,
    ],
    "database_missing": [FATAL + 'database "nope" does not exist'],
    "database_login_denied": [
        FATAL + 'role "nologin" is not permitted to log in',
        FATAL + 'database "closed" is not currently accepting connections',
    ],
    "database_hba": [FATAL + 'no pg_hba.conf entry for host "172.18.0.5", user "a", database "b", no encryption'],
    "database_password": [FATAL + 'password authentication failed for user "app"' + MATCHED],
    "database_connection_limit": [
        FATAL + 'too many connections for role "lim"',
        FATAL + 'too many connections for database "tracktion"',
    ],
    "database_connections": [
        FATAL + "sorry, too many clients already",
        FATAL + "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        FATAL + "remaining connection slots are reserved for non-replication superuser connections",
    ],
    "database_pool": [
        "sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out"
    ],
    "database_crash": [
        "2026-11-29 06:24:18.708 UTC [8] LOG:  server process (PID 112) was terminated by signal 9: Killed\n"
        "2026-11-29 06:24:18.708 UTC [8] DETAIL:  Failed process was running: select pg_backend_pid()",
    ],
    "database_starting": [
        FATAL + "the database system is starting up",
        FATAL + "the database system is in recovery mode",
    ],
    "database_read_only": [ERROR + "cannot execute INSERT in a read-only transaction"],
    "database_schema": [ERROR + 'relation "nope" does not exist at character 15'],
    "database_privilege": [ERROR + "permission denied for table t"],
    "database_deadlock": [ERROR + "deadlock detected"],
    "database_statement_timeout": [
        ERROR + "canceling statement due to statement timeout",
        ERROR + "canceling statement due to lock timeout",
    ],
    "database_idle_timeout": [FATAL + "terminating connection due to idle-in-transaction timeout"],
    "database_standby_conflict": [ERROR + "canceling statement due to conflict with recovery"],
    "database_archive": ["2026-11-29 06:23:52.689 UTC [122] LOG:  archive command failed with exit code 1"],
    "database_version": [FATAL + "database files are incompatible with server"],
    "database_data_directory": [FATAL + 'data directory "/tmp/d2" has invalid permissions'],
    "database_locked": [FATAL + 'lock file "postmaster.pid" already exists'],
    "database_wraparound": ['WARNING:  database "a" must be vacuumed within 39985967 transactions'],
    "cache_misconf": [
        "redis.exceptions.ResponseError: MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    ],
    "cache_save_failed": [
        REDIS
        + "Failed opening the temp RDB file temp-30.rdb (in server root dir /proc) for saving: No such file or directory",
        REDIS + "Background saving error",
    ],
    "cache_memory": [
        "redis.exceptions.OutOfMemoryError: command not allowed when used memory > 'maxmemory'.",
        "ReplyError: OOM command not allowed when used memory > 'maxmemory'.",
    ],
    "cache_password": [
        "redis.exceptions.AuthenticationError: invalid username-password pair or user is disabled.",
        "redis.exceptions.AuthenticationError: HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH",
        "ERROR NOAUTH Authentication required.",
    ],
    "cache_privilege": [
        "redis.exceptions.NoPermissionError: this user has no permissions to run the 'set' command",
        "ERROR ReplyError: NOPERM User app has no permissions to run the 'set' command",
    ],
    "cache_replica": ["redis.exceptions.ReadOnlyError: You can't write against a read only replica."],
    "cache_master_down": [
        "redis.exceptions.MasterDownError: Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        REDIS + "Error condition on socket for SYNC: Connection refused",
    ],
    "cache_loading": ["redis.exceptions.BusyLoadingError: Redis is loading the dataset in memory"],
    "cache_busy": [
        "redis.exceptions.ResponseError: BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    ],
    "cache_cross_slot": ["redis.exceptions.ClusterCrossSlotError: Keys in request don't hash to the same slot"],
    "cache_cluster_down": ["redis.exceptions.ClusterDownError: Hash slot not served"],
    "cache_clients": ["redis.exceptions.ConnectionError: max number of clients reached"],
    "cache_damaged": [
        REDIS + "Short read or OOM loading DB. Unrecoverable error, aborting now.",
        REDIS + "Internal error in RDB reading offset 0, function at rdb.c:3732 -> Unexpected EOF reading RDB file",
    ],
    "queue_ack_timeout": [
        CHANNEL
        + "operation none caused a channel exception precondition_failed: delivery acknowledgement on channel 1 timed out. Timeout value "
        "used: 60000 ms.",
        "pika.exceptions.ChannelClosedByBroker: (406, 'PRECONDITION_FAILED - delivery acknowledgement on channel 1')",
    ],
    "queue_limit": [
        BROKER + "access to vhost '/' refused for user 'tracktion': connection limit (1) is reached",
        "pika.exceptions.ChannelClosedByBroker: (406, \"PRECONDITION_FAILED - cannot declare queue 'another': queue limit in vhost '/' (1) is reached\")",
    ],
    "queue_declared_otherwise": [
        "pika.exceptions.ChannelClosedByBroker: (406, \"PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/'\")",
    ],
    "queue_delivery_tag": [
        CHANNEL + "operation basic.ack caused a channel exception precondition_failed: unknown delivery tag 77"
    ],
    "queue_message_size": [
        CHANNEL
        + "operation basic.publish caused a channel exception precondition_failed: message size 20971520 is larger than configured max size "
        "16777216",
    ],
    "queue_vhost": [
        BROKER + "vhost nope not found",
        "pika.exceptions.ProbableAccessDeniedError: ConnectionClosedByBroker: (530) 'NOT_ALLOWED - vhost nope not found'",
    ],
    "queue_permission": [
        "ERROR lost the broker: ChannelClosedByBroker: (403, \"ACCESS_REFUSED - access to exchange 'files' in vhost '/' refused for user 'app'\")",
        CHANNEL
        + "operation queue.declare caused a channel exception access_refused: configure access to queue 'y' in vhost '/' refused for user 'app'",
        "pika.exceptions.ProbableAccessDeniedError: ConnectionClosedByBroker: (530) \"NOT_ALLOWED - access to vhost '/' refused for user 'app'\"",
    ],
    "queue_password": [
        "pika.exceptions.ProbableAuthenticationError: ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused using authentication "
        "mechanism PLAIN. For details see the broker logfile.'",
        BROKER + "PLAIN login refused: user 'tracktion' - invalid credentials",
    ],
    "queue_missing": [
        "pika.exceptions.ChannelClosedByBroker: (404, \"NOT_FOUND - no queue 'zz' in vhost '/'\")",
        CHANNEL + "operation basic.publish caused a channel exception not_found: no exchange 'nope' in vhost '/'",
    ],
    "queue_locked": [
        CHANNEL
        + "operation queue.declare caused a channel exception resource_locked: cannot obtain exclusive access to locked queue 'ex'"
    ],
    "queue_memory_alarm": [
        "2026-11-29 06:16:37.552197+00:00 [warning] <0.281.0> memory resource limit alarm set on node rabbit@localhost."
    ],
    "queue_memory_alarm_cleared": [
        "2026-11-29 06:16:42.822167+00:00 [warning] <0.281.0> memory resource limit alarm cleared on node rabbit@localhost",
    ],
    "queue_disk_alarm": [
        "2026-11-29 06:16:44.443492+00:00 [warning] <0.281.0> disk resource limit alarm set on node rabbit@localhost."
    ],
    "queue_disk_alarm_cleared": [
        "2026-11-29 06:16:57.602067+00:00 [warning] <0.281.0> disk resource limit alarm cleared on node rabbit@localhost",
    ],
    "queue_blocked": ["pika.exceptions.ConnectionBlockedTimeout: Blocked connection timeout expired."],
    "queue_missed_heartbeats": [CLOSING + ", duration: '6s'):\nmissed heartbeats from client, timeout: 2s"],
    "queue_cookie": [
        BROKER
        + "** Connection attempt from node 'rabbitmqcli-464-rabbit@localhost' rejected. Invalid challenge reply. **"
    ],
    "name_resolution": [
        "socket.gaierror: [Errno -2] Name or service not known",
        'psycopg2.OperationalError: could not translate host name "nosuch.invalid" to address: Name or service not known',
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "Error: getaddrinfo ENOTFOUND redis",
        "Error: getaddrinfo EAI_AGAIN redis redis:6379",
        "dial tcp: lookup postgres on 127.0.0.11:53: no such host, an error",
        "java.net.UnknownHostException: rabbitmq",
    ],
    "clock": [
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid (_ssl.c:1006)",
    ],
    "certificate_expired": [
        "requests.exceptions.SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired",
    ],
    "certificate": [
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)",
    ],
    "tls_mismatch": ["ssl.SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"],
}
# What looks like a known message and is none of it.
OTHERS = {
    # A client that has logged in and ends without closing its connection is no monitor.
    "2026-11-29 06:16:42.822809+00:00 [warning] <0.1040.0> closing AMQP connection <0.1040.0> (172.20.0.1:58386 -> 172.20.0.2:5672, vhost: '/', user: "
    "'tracktion', duration: '3s'):\nclient unexpectedly closed TCP connection": None,
    "psycopg2.OperationalError: server closed the connection unexpectedly": None,
    # The broker quotes what a client can do in its reports about errors.
    '                          {<<"connection.blocked">>,bool,true},': None,
    CHANNEL
    + "operation basic.consume caused a channel exception not_found: no queue 'a' in vhost 'failed'": "queue_missing",
}


def test_every_row_has_a_message():
    assert sorted(row["id"] for row in KNOWN) == sorted(MESSAGES)


ALL = _log_known.Messages([row["pattern"] for row in KNOWN])


def known(text):
    """Return the id of the first row that matches; the same with and without the search for needed texts."""
    number = ALL.first_match(text)
    found = next((row["id"] for row in KNOWN if re.search(row["pattern"], text, re.IGNORECASE)), None)
    assert found == (None if number is None else KNOWN[number]["id"])
    return found


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in MESSAGES.items() for line in lines])
def test_row_matches_its_message_and_the_message_counts(name, line):
    assert known(line) == name
    assert _log_levels.read(line)[0] in _log_levels.COUNTED
    candidates = re.compile("|".join(_log_levels.CANDIDATES))
    assert candidates.search(line.partition("\n")[0].lower())


# What a message calls the names that its hint needs.
NAMES = {
    "database_password_expired": {"role": "exp"},
    "database_role": {"role": "root"},
    "database_missing": {"database": "nope"},
    "database_password": {"role": "app"},
    "cache_privilege": {"user": "app"},
    "queue_permission": {"vhost": "/", "user": "app"},
    "queue_password": {"user": "tracktion"},
}


def needed(row):
    """Return what the hint of a row needs of its message."""
    return {word.lower() for word in _rows.PLACEHOLDER.findall(row.get("hint", ""))} - {"service"}


@pytest.mark.parametrize("name", NAMES)
def test_a_message_names_what_its_hint_needs(name):
    (row,) = [row for row in KNOWN if row["id"] == name]
    groups = [re.search(row["pattern"], line, re.IGNORECASE).groupdict() for line in MESSAGES[name]]
    assert NAMES[name] in groups, groups
    assert needed(row) <= set(NAMES[name])


def test_only_names_of_the_message_are_in_a_hint():
    for row in KNOWN:
        assert needed(row) <= set(re.compile(row["pattern"]).groupindex), row["id"]
        assert not needed(row) or row["id"] in NAMES


@pytest.mark.parametrize(("line", "name"), OTHERS.items())
def test_other_messages_are_not_taken_for_it(line, name):
    assert known(line) == name


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row["id"])
def test_row_names_an_existing_check(row):
    if "clears" in row:
        assert set(row) == {"id", "pattern", "clears"}
        assert row["clears"] in MESSAGES
        return
    if row.get("probe"):
        assert set(row) == {"id", "pattern", "meaning", "probe", "hint"}
        return
    assert set(row) - {"transient", "login"} == {"id", "pattern", "meaning", "area", "check", "hint"}
    area, _dot, _name = row["check"].partition(".")
    assert not row["check"] or area == row["area"]
    if row["check"]:
        checks = yaml.safe_load((ROOT / "roles" / area / "diagnosis/checks.yml").read_text(encoding="utf-8"))
        assert row["check"] in {check["id"] for check in checks}
