# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PgBouncer in front of a PostgreSQL server, in the same container."""

from __future__ import annotations

import contextlib

import psycopg2

from tests.lab.shell import wait_until

PORT = 6432
CONFIGURATION = """
[databases]
tracktion = host=127.0.0.1 port=5432
broken = host=127.0.0.1 port=5432 dbname=tracktion user=tracktion_user password=wrong
away = host=127.0.0.1 port=1 dbname=tracktion
[pgbouncer]
listen_addr = *
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = /tmp/pgbouncer.users
admin_users = lab_admin
stats_users = lab_stats
pool_mode = transaction
default_pool_size = 1
query_wait_timeout = {wait}
server_login_retry = 1
server_connect_timeout = 2
logfile = /tmp/pgbouncer.log
pidfile = /tmp/pgbouncer.pid
"""


class Pooler:
    """A running PgBouncer, whose pools have one connection each."""

    def __init__(self, pg):
        self.pg = pg
        self.address = pg.server.address
        self.name = "%s:%d" % (self.address, PORT)

    def connect(self, user="tracktion_user", password=None, **options):
        options = {"dbname": "tracktion", "application_name": "lab pooled", "connect_timeout": 10, **options}
        password = password or self.pg.passwords.get({"tracktion_user": "application"}.get(user), "lab")
        return psycopg2.connect(host=self.address, port=PORT, user=user, password=password, **options)

    def console(self, command):
        """Run a command of an administrator."""
        with contextlib.closing(self.connect("lab_admin", dbname="pgbouncer")) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(command)
            return cursor.fetchall() if cursor.description else []

    def entry(self, **options):
        """Return an item of ``database_poolers``."""
        return {"host": self.address, "port": PORT, "user": "lab_stats", "password": "lab", **options}

    def service(self, database="tracktion", **options):
        """Return an item that tests the login of the application."""
        password = self.pg.passwords["application"]
        return self.entry(database=database, service_user="tracktion_user", service_password=password, **options)


@contextlib.contextmanager
def pooler_of(pg, wait=2):
    """Run PgBouncer in the container of the server; yield a ``Pooler``."""
    run = pg.server.exec
    as_postgres = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")
    users = {"tracktion_user": pg.passwords["application"], "lab_admin": "lab", "lab_stats": "lab"}
    files = {
        "/tmp/pgbouncer.ini": CONFIGURATION.format(port=PORT, wait=wait),
        "/tmp/pgbouncer.users": "".join('"%s" "%s"\n' % item for item in users.items()),
    }
    for path, text in files.items():
        run("sh", "-c", "cat >%s && chown postgres %s" % (path, path), stdin=text)
    run(*as_postgres, "pgbouncer", "-q", "-d", "/tmp/pgbouncer.ini")
    pooler = Pooler(pg)
    try:
        wait_until(lambda: _answers(pooler), "PgBouncer", 20)
        yield pooler
    finally:
        run("sh", "-c", "kill -KILL $(cat /tmp/pgbouncer.pid); rm -f /tmp/pgbouncer.*")


def _answers(pooler):
    with contextlib.suppress(psycopg2.OperationalError):
        pooler.console("SHOW VERSION")
        return True
    return False
