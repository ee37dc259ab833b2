# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a client from connecting to PostgreSQL, with the hint for each. Private to this collection."""

from __future__ import annotations

import re

from ansible_collections.tracktion.ops.plugins.module_utils import _failures
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote, sql_identifier, sql_literal
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

# Kind of a failure to connect, and how the client library or the server words it.
MESSAGES = tuple(
    (kind, re.compile(pattern, re.I))
    for kind, pattern in (
        (
            "too_many_connections",
            r"too many clients|connection slots are reserved|too many connections for|no more connections allowed",
        ),
        (
            "pooler",
            r"query_wait_timeout|query_timeout|client_login_timeout|client_idle_timeout|idle_transaction_timeout"
            r"|server login has been failing|server_login_retry|server conn crashed|pgbouncer cannot connect"
            r"|bouncer config error|unsupported startup parameter|database \".*\" is disabled",
        ),
        (
            "starting_up",
            r"database system is (starting up|shutting down|in recovery mode|not accepting)"
            r"|not yet accepting connections",
        ),
        ("disk_full", r"could not write init file|no space left on device|could not extend file"),
        ("no_hba_entry", r"no pg_hba\.conf entry|pg_hba\.conf rejects"),
        (
            "no_database",
            r'database ".*" does not exist|no such database|is not currently accepting connections|invalid database'
            r"|permission denied for database",
        ),
        (
            "authentication",
            r"authentication failed|no password supplied|role \".*\" does not exist|is not permitted to log in"
            r"|no such user|password is empty|authentication method|channel binding",
        ),
        ("certificate", r"SSL error: certificate verify failed|server certificate for .* does not match"),
        ("tls", r"\bSSL\b|\bTLS\b|certificate|private key file"),
        ("refused", r"connection refused|no such file or directory"),
        ("name_resolution", r"could not translate host name|name or service not known|name resolution"),
        ("no_route", r"no route to host|network is unreachable|host is down"),
        ("protocol", r"invalid response|expected authentication request|unsupported frontend protocol"),
        ("timeout", r"timeout expired|timed out"),
        ("closed", r"closed the connection|connection reset|broken pipe|terminating connection|EOF detected"),
    )
)

# Hints of PostgreSQL's own. Four kinds are not in _failures.KINDS: no_hba_entry (pg_hba.conf does not allow this
# connection), no_database (the database does not exist, or the role may not connect to it), disk_full (the server
# cannot write the files that a new session needs) and pooler (PgBouncer rejected or ended the connection, for the
# reason in the message).
HINTS = {
    "pooler": (
        "A pooler answers at `login_host` and `login_port`, and gave this client no server connection. Read its log, "
        "and cl_waiting and maxwait of `SHOW POOLS;` in its database pgbouncer: clients wait if all connections of a "
        "pool are in use, often by sessions that are idle in transaction, or if the server cannot be reached. "
        "To measure the server itself, set `login_host` and `login_port` to its address."
    ),
    "too_many_connections": (
        "End sessions that are not needed, reduce the connection pools of the services below max_connections, "
        "or set `login_user` to a role that may use the reserved connections. List the sessions as a superuser: "
        "`SELECT pid, usename, application_name, state FROM pg_stat_activity`."
    ),
    "starting_up": (
        "Wait for recovery to end and read the server's log: {reading}. Do not restart it: recovery would start again."
    ),
    "disk_full": (
        "Free space or inodes in the file system of the server's data directory, on the server's machine or in its "
        "container: `df -h; df -i`. Do not delete files of PostgreSQL by hand, in particular not those in pg_wal."
    ),
    "no_hba_entry": (
        "Add a line for this user, database and client address{line} to the file of `SHOW hba_file;`, and reload: "
        "`SELECT pg_reload_conf();`. Or set `ssl_mode` to what the existing line requires. Show the lines, on the "
        "server's machine: `SELECT * FROM pg_hba_file_rules;`."
    ),
    "no_database": (
        "Set `login_db` to an existing database that `login_user` may connect to. List the databases: "
        "`SELECT datname, datallowconn, datacl FROM pg_database`."
    ),
    "failed": "Read the message, then check `login_host`, `login_port`, `login_user` and `login_db`. Test: {testing}.",
}

# Appended to the common hint of a kind.
MORE = {
    "authentication": (
        "Test: {testing}. If the password is right, it may have expired, or the role may not exist. Show it as a "
        "superuser: `SELECT rolcanlogin, rolvaliduntil FROM pg_roles WHERE rolname = {role_text};`. Extend it: "
        "`ALTER ROLE {role} VALID UNTIL 'infinity';`."
    ),
    "no_answer": "Check that no other program listens on `login_port`: {listening}.",
    "closed": (
        "If the server has restarted, look for a crash or an out-of-memory kill: `dmesg | grep -i -e oom -e killed`. "
        "If not, look for a timeout of a pooler, proxy or firewall on the way."
    ),
}


# Hints for one message of a kind: what keeps this role out although the server is well. {role} and {database} are
# quoted names, {role_text} is a string constant. The role is the one of the message: a pooler may use another.
OF_MESSAGES = tuple(
    (re.compile(pattern, re.I), hint)
    for pattern, hint in (
        (
            r"use SHOW HELP",
            "Set `login_db` to a database of the server: pgbouncer is the console of the pooler at `login_host` and "
            "`login_port`. To measure the server itself, set these to its address.",
        ),
        (
            r"unsupported startup parameter",
            "Add the parameter of the message to ignore_startup_parameters in pgbouncer.ini, or remove it from the "
            "client. Then reload, in the database pgbouncer: `RELOAD;`. A pooler answers at `login_host` and "
            "`login_port`.",
        ),
        (
            r"server login has been failing|cannot connect to server|server_login_retry",
            "Read the log of the pooler: `docker logs --tail 50 CONTAINER` or "
            "`tail -n 50 /var/log/postgresql/pgbouncer.log`. It accepts clients, and cannot log in at the server: "
            "correct the server's address, user or password in pgbouncer.ini and auth_file, or its pg_hba.conf.",
        ),
        (
            r"query_wait_timeout",
            "Find what holds the connections of the pool, in the database pgbouncer of the pooler: `SHOW POOLS;` "
            "(cl_waiting, maxwait, sv_active). This client got no server connection in time. Sessions that are idle in "
            "transaction keep theirs. If it has no connection at all, read the log of the pooler for why it cannot log "
            "in at the server. A larger pool_size needs connections of the server.",
        ),
        (
            r"no such database",
            "Add the database to the section [databases] of pgbouncer.ini, and reload, in the database pgbouncer: "
            "`RELOAD;`. Or correct `login_db`: a pooler answers at `login_host` and `login_port`.",
        ),
        (
            r"database \".*\" is disabled",
            "Open it as one of the admin_users, in the database pgbouncer of the pooler: `ENABLE {database};`.",
        ),
        (
            r"no such user|\(by the pooler\)",
            "Add the user and its password to the auth_file of PgBouncer and reload, in the database pgbouncer: "
            "`RELOAD;`. Or correct the user and password of the client: the pooler rejects them itself.",
        ),
        (r"is not permitted to log in", "Run as a superuser: `ALTER ROLE {role} LOGIN;`."),
        (
            r"too many connections for role",
            "End sessions of the role that are not needed, or remove its own connection limit as a superuser: "
            "`ALTER ROLE {role} CONNECTION LIMIT -1;`. List them: "
            "`SELECT pid, application_name, state, state_change FROM pg_stat_activity WHERE usename = {role_text};`.",
        ),
        (
            r"too many connections for database",
            "End sessions in the database that are not needed, or remove its own connection limit as a superuser: "
            "`ALTER DATABASE {database} CONNECTION LIMIT -1;`. List them: "
            "`SELECT pid, usename, application_name, state FROM pg_stat_activity WHERE datname = {database_text};`.",
        ),
        (
            r"is not currently accepting connections",
            "Run as a superuser, in another database: `ALTER DATABASE {database} ALLOW_CONNECTIONS true;`.",
        ),
        (
            r"cannot connect to invalid database",
            "Drop the database in another one, and restore it from a backup: `DROP DATABASE {database};`. An earlier "
            "DROP DATABASE was interrupted, and nothing repairs it.",
        ),
        (
            r"permission denied for database",
            "Run as the owner of the database or a superuser: `GRANT CONNECT ON DATABASE {database} TO {role};`.",
        ),
        (
            r"pg_hba\.conf rejects",
            "Find the line with the method reject that matches this connection, on the server's machine: "
            "`SELECT line_number, type, database, user_name, address, auth_method FROM pg_hba_file_rules;`. Remove or "
            "narrow it in the file of `SHOW hba_file;`, and reload: `SELECT pg_reload_conf();`.",
        ),
    )
)

# How the console of PgBouncer rejects SQL.
CONSOLE = re.compile(r"use SHOW HELP", re.I)

# The options of a pooler in the place of those of the server.
OF_POOLER = {
    "login_host": "host",
    "login_port": "port",
    "login_user": "{}user",
    "login_password": "{}password",
    "login_db": "database",
}

# The role in a message.
ROLE = re.compile(r'(?:for user|role) "([^"]+)"')

# What the server reports of a connection without a line in pg_hba.conf.
NO_ENTRY = re.compile(r'for host "(?P<host>[^"]*)", user "(?P<user>[^"]*)", database "(?P<database>[^"]*)"')


def classify(message: str) -> str:
    """Return the kind of a failure to connect, by the earliest cause in its message.

    After some failures the client library tries again without TLS, and appends the second failure to the first.
    """
    found = [(match.start(), kind) for kind, pattern in MESSAGES for match in [pattern.search(message)] if match]
    return min(found, key=lambda each: each[0])[1] if found else "failed"


def hint_of(kind: str, options: Options, message: str = "") -> str:
    """Return the hint for a kind of failure to connect with ``options``, or for the ``message`` of the server.

    ``options`` of a pooler have ``pooler``: how the names of its user and password begin.
    """
    hint = _hint_of(kind, options, message)
    if options.get("pooler") is None:
        return hint
    for name, other in OF_POOLER.items():
        hint = hint.replace("`%s`" % name, "`poolers[].%s`" % other.format(options["pooler"]))
    return hint


def _hint_of(kind: str, options: Options, message: str) -> str:
    host = options["login_host"]
    address = "login_unix_socket" if options["login_unix_socket"] else "login_host"
    service = _failures.Service(
        name="PostgreSQL",
        address="`%s` and `login_port`" % address,
        credentials="`login_user` and `login_password`",
        tls="`ssl_mode`, `ca_cert`, `ssl_cert` and `ssl_key`",
        host="" if options["login_unix_socket"] or host.startswith("/") else host,
        port=options["login_port"],
        start="systemctl start postgresql",
        log="tail -n 50 /var/log/postgresql/*.log",
        processes="-C postgres",
        starttls="-starttls postgres ",
    )
    if options.get("pooler") is not None:
        service = service._replace(name="PgBouncer", start="systemctl start pgbouncer", processes="-C pgbouncer")
    named = ROLE.search(message)
    role = named.group(1) if named else options["login_user"]
    values = {
        "testing": "`%s`" % _psql(options),
        "role": sql_identifier(role),
        "role_text": sql_literal(role),
        "database": sql_identifier(options["login_db"]),
        "database_text": sql_literal(options["login_db"]),
        "line": hba_line(message),
    }
    for pattern, hint in OF_MESSAGES:
        if pattern.search(message):
            return _failures.filled_in(hint, service, **values)
    if kind in HINTS:
        return _failures.filled_in(HINTS[kind], service, **values)
    more = _failures.filled_in(MORE.get(kind, ""), service, **values)
    return " ".join(filter(None, (_failures.hint(kind, service), more)))


def hba_line(message: str) -> str:
    """Return the line of pg_hba.conf that the server misses, as a part of a hint; empty if its message names none."""
    found = NO_ENTRY.search(message)
    if not found:
        return ""
    database, user = ('"%s"' % found.group(name) for name in ("database", "user"))
    address = found.group("host")
    where = "%s/%d" % (address, 128 if ":" in address else 32)
    kind = "local" if address == "[local]" else "host"
    words = [kind, database, user, "" if kind == "local" else where, "scram-sha-256"]
    return ", `%s`," % " ".join(filter(None, words))


def _psql(options: Options) -> str:
    """Return the psql command that connects with ``options``. It asks for the password."""
    connection = {
        "host": options["login_unix_socket"] or options["login_host"],
        "port": options["login_port"],
        "username": options["login_user"],
        "dbname": options["login_db"],
    }
    return "psql %s --command='SELECT 1'" % " ".join(
        "--%s=%s" % (name, shell_quote(value)) for name, value in connection.items() if value != ""
    )


def failure(kind: str, message: str, options: Options) -> CannotConnect:
    """Return the failure to connect with ``options``."""
    return CannotConnect(kind, message, hint_of(kind, options, message))
