# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options for backups of the servers of the lab."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_backup, _pg_clients


def options_of(server, spec=None, **options):
    """Return the options of a module for a PostgreSQL server of the lab, with the defaults of its argument spec."""
    wanted = {
        "login_host": server.host,
        "login_port": server.port,
        "login_user": server.user,
        "login_password": server.password,
        "login_db": "tracktion",
        **options,
    }
    spec = spec or {**_postgresql.CONNECTION_SPEC, **_pg_clients.SPEC}
    result = ArgumentSpecValidator(spec).validate(wanted)
    assert not result.error_messages, result.error_messages
    return result.validated_parameters


def backup(server, store, check_mode=False, **options):
    """Make a backup of the database ``tracktion`` of a server and return the result of the module."""
    wanted = options_of(server.server, _pg_backup.ARGUMENT_SPEC, directory=store.directory, **options)
    wanted["state_dir"] = store.directory + ".state"
    return _pg_backup.backup(wanted, check_mode)


def made(database, artefact, table):
    """Return the first column of a table in a backup, by pg_restore of its version."""
    folder = str(Path(artefact.path).parent)
    with _pg_clients.find(options_of(database.server), _number(database), folder, Deadline(60)) as clients:
        arguments = ["--data-only", "--table=%s" % table, "--file=-", str(Path(artefact.path, "dump"))]
        text = clients.run("pg_restore", arguments, Deadline(60), most=1 << 24)
    lines = text.partition("FROM stdin;\n")[2].partition("\n\\.")[0].splitlines()
    return [int(line.split("\t")[0]) for line in lines]


def _number(database):
    return int(database.psql("SHOW server_version_num"))
