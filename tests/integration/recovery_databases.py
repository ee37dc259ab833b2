# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases to dump and to restore."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql

RICH = Path(__file__).with_name("rich_database.sql")


def options(pg, database, **more):
    """Return the connection options of a module, as the superuser."""
    others = {"login_unix_socket": "", "ssl_mode": "prefer", "ca_cert": "", "ssl_cert": "", "ssl_key": ""}
    return {**others, "timeout": 10.0, "deadline": 300.0, **pg.login("superuser", login_db=database), **more}


def client(pg, database):
    """Return a client of a database, whose connection the caller closes."""
    return _postgresql.connect_apart(options(pg, database))


@contextlib.contextmanager
def made(pg, name, of="template0"):
    """An empty database."""
    drop(pg, name)
    pg.psql('create database "%s" template "%s"' % (name, of))
    try:
        yield name
    finally:
        drop(pg, name)


def drop(pg, name):
    pg.psql('drop database if exists "%s" with (force)' % name)


@contextlib.contextmanager
def rich(pg, name):
    """A database with one of everything."""
    with made(pg, name):
        pg.psql('alter database "%s" owner to tracktion_user' % name)
        pg.server.exec(
            "psql", "-qXU", "postgres", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", name, stdin=RICH.read_text()
        )
        yield name
