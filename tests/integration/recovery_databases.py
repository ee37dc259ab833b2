# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases to dump and to restore."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_contents
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store

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
def rich(pg, name, stop="1"):
    """A database with one of everything; without ``stop``, of all that an older version has."""
    with made(pg, name):
        pg.psql('alter database "%s" owner to tracktion_user' % name)
        command = ("psql", "-qXU", "postgres", "-v", "ON_ERROR_STOP=%s" % stop, "-o", "/dev/null", "-d", name)
        pg.server.exec(*command, stdin=RICH.read_text())
        yield name


def backed_up(pg, name, directory, *, row_hashes=True, change=None):
    """Return a backup of a database, made by pg_dump alone. ``change`` gets the manifest before it is written."""
    store = Store(str(directory))
    deadline = Deadline(300)
    with store.create("postgresql", name) as pending:
        one = client(pg, name)
        contents = _pg_contents.collect(one, row_hashes=row_hashes)
        with open(os.path.join(pending.path, "dump"), "wb") as archive:
            command = ["docker", "exec", pg.server.name, "pg_dump", "-U", "postgres", "-Fc", name]
            subprocess.run(command, stdout=archive, check=True, timeout=120)
        _pg_contents.sequences_after(one, contents)
        one.connection.close()
        manifest = {
            "schema_version": 1,
            "kind": "postgresql",
            "name": name,
            "stamp": pending.stamp,
            "host": "test",
            "started": time.time(),
            "finished": time.time(),
            "server": {
                "version": str(contents["version_num"]),
                "version_num": contents["version_num"],
                "identity": None,
                "address": "test",
                "container": None,
            },
            "tool": "pg_dump",
            "collection_version": "0.4.0",
            "source_bytes": contents["bytes"],
            "files": pending.files(deadline),
            "encryption": None,
            "contents": contents,
        }
        if change:
            change(manifest)
        return pending.finish(manifest, deadline)


def contents_of(pg, name):
    """Return the contents of a database, with the checksums of its rows."""
    one = client(pg, name)
    try:
        return _pg_contents.collect(one, row_hashes=True)
    finally:
        one.connection.close()


def differences(expected, found):
    """Return the items in which two contents differ."""
    return [each["item"] for each in _pg_contents.compare(expected, found)[0]]


def module_options(pg, database, directory, **more):
    """Return the options of pg_prove_backup and pg_restore_backup."""
    login = options(pg, "postgres", timeout=10.0, deadline=300.0)
    common = {"database": database, "directory": str(directory), "state_dir": str(Path(directory, "state"))}
    return {**login, **common, "accept_cve": ["CVE-2026-116314"], **more}
