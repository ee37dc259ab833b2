# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A PostgreSQL server with the lab's music library, for faults and measurements."""

from __future__ import annotations

import contextlib
import importlib
import secrets

import psycopg2
import yaml

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql
from tests.integration.areas import diagnose, visit
from tests.lab import faults
from tests.lab.faults.database import run_and_wait, wait_for_sessions
from tests.lab.servers import postgres_server
from tests.lab.shell import LabError, wait_until
from tests.lab.stack import DATABASE_ROLES


class Database:
    """A server with the interface of the lab's stack that faults use."""

    def __init__(self, server):
        self.server = server
        self.passwords = {role: secrets.token_hex(8) for role in ("application", "operator", "monitor")}
        environment = ["%s_PASSWORD=%s" % (role.upper(), value) for role, value in self.passwords.items()]
        # Its first statement fails, because the database exists.
        server.exec("env", *environment, "psql", "-XAtq", "-U", "postgres", "-f", "/lab/stack.sql")
        self.passwords["superuser"] = server.password
        self.connection = self.postgres(superuser=True, application_name="lab control")
        self.connection.autocommit = True
        self.psql("alter system set archive_command = 'true'")
        self.psql("select pg_reload_conf()")

    def postgres(self, role="application", *, superuser=False, **options):
        role = "superuser" if superuser else role
        return psycopg2.connect(
            **{
                "host": self.server.host,
                "port": self.server.port,
                "dbname": "tracktion",
                "user": DATABASE_ROLES[role],
                "password": self.passwords[role],
                "connect_timeout": 5,
                "application_name": "lab",
                **options,
            }
        )

    def psql(self, statement):
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
        return "\n".join("|".join(str(value) for value in row) for row in rows)

    def exec(self, _service, *command):
        return self.server.exec(*command)

    def fault(self, name):
        return faults.injected(name, self)

    def login(self, role="operator", **options):
        """Return the connection options of the modules."""
        return {
            "login_host": self.server.host,
            "login_port": self.server.port,
            "login_user": DATABASE_ROLES[role],
            "login_password": self.passwords[role],
            "login_db": "tracktion",
            **options,
        }

    def settings(self, settings=None, role="operator", **login):
        """Return the connection variables of the role ``database``, and ``settings``."""
        return {"database_" + name: value for name, value in self.login(role, **login).items()} | (settings or {})

    def measure(self, settings=None, **login):
        """Return the measurement of the area, by probe."""
        forget()
        _area, outcome, _settings = visit("database", self.settings(settings, **login))
        assert outcome["error"] is None
        return outcome["measurement"]

    def diagnose(self, settings=None, **login):
        """Return the findings of the area."""
        forget()
        found = diagnose("database", self.settings(settings, **login))
        return [finding for findings in found.values() for finding in findings]


def forget():
    """Close and forget the connections of this process, so that a new visit begins."""
    for kept in _postgresql._kept.values():
        if isinstance(kept, _postgresql.Client):
            kept.connection.close()
    _postgresql._kept.clear()


def measure(module, options):
    """Return the measurement of a module with the options of a task."""
    validated = ArgumentSpecValidator(module.ARGUMENT_SPEC).validate(options)
    assert not validated.error_messages
    return module.measure(validated.validated_parameters)


def documentation_of(module):
    """Return RETURN of a module."""
    return yaml.safe_load(importlib.import_module("ansible_collections.tracktion.ops.plugins.modules." + module).RETURN)


@contextlib.contextmanager
def session(pg, *statements, **options):
    """Yield a session that has run ``statements`` in an open transaction."""
    connection = pg.postgres(**options)
    pid = connection.info.backend_pid
    try:
        for statement in statements:
            connection.cursor().execute(statement)
        yield connection
    finally:
        connection.close()
        # The process of the server ends a moment later, and the next test would still see it. The server may be down.
        left = "select count(*) from pg_stat_activity where pid = %d" % pid
        with contextlib.suppress(LabError):
            wait_until(lambda: pg.psql(left).strip() == "0", "the session to end", 10)


@contextlib.contextmanager
def running(pg, statement, name, condition="state = 'active'"):
    """Yield a session that runs a statement, once it fulfils a condition over pg_stat_activity."""
    connection = pg.postgres(application_name=name)
    thread = run_and_wait(connection, statement)
    try:
        wait_for_sessions(pg, "application_name = '%s' and %s" % (name, condition), 1)
        yield connection
    finally:
        # This also ends sessions that ignore a cancel.
        pg.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = '%s'" % name)
        thread.join(10)
        connection.close()


@contextlib.contextmanager
def autovacuuming(pg):
    """Keep an autovacuum worker busy with the table lab_vacuumed."""
    pg.psql("alter system set autovacuum_naptime = 1")
    pg.psql("alter system set autovacuum_vacuum_cost_delay = 100")
    pg.psql("select pg_reload_conf()")
    try:
        pg.psql(
            "create table lab_vacuumed (n int) with (autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1)"
        )
        with contextlib.closing(pg.postgres(superuser=True)) as writer:
            writer.autocommit = True
            writer.cursor().execute("insert into lab_vacuumed select generate_series(1, 200000)")
            writer.cursor().execute("delete from lab_vacuumed")
        wait_for_sessions(pg, "backend_type = 'autovacuum worker' and query like '%lab_vacuumed%'", 1)
        yield
    finally:
        pg.psql("alter system reset autovacuum_naptime")
        pg.psql("alter system reset autovacuum_vacuum_cost_delay")
        pg.psql("select pg_reload_conf()")
        pg.psql("drop table if exists lab_vacuumed")


@contextlib.contextmanager
def standby_of(pg):
    """Run a standby of the server in the same container; yield its connection options."""
    run = pg.server.exec
    as_postgres = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")
    run(*as_postgres, "pg_basebackup", "-D", "/tmp/standby", "-U", "postgres", "-R", "-c", "fast")
    run(*as_postgres, "pg_ctl", "-D", "/tmp/standby", "-w", "-s", "start", "-l", "/tmp/standby.log",
        "-o", "-p 5433 -c listen_addresses=* -c max_prepared_transactions=10")  # fmt: skip
    try:
        yield {"login_host": pg.server.address, "login_port": 5433}
    finally:
        run(*as_postgres, "pg_ctl", "-D", "/tmp/standby", "-m", "immediate", "-s", "stop")
        run("rm", "-rf", "/tmp/standby")


@contextlib.contextmanager
def database(suite, **settings):
    """Yield a ``Database``."""
    with postgres_server(
        suite,
        shared_preload_libraries="pg_stat_statements",
        max_connections=40,
        max_prepared_transactions=10,
        shared_buffers="2MB",
        archive_mode="on",
        wal_level="logical",
        **settings,
    ) as server:
        yield Database(server)
