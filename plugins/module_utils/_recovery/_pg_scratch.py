# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scratch server of PostgreSQL in a container without a network. Private to this collection.

It runs the server's own image, so with its version, extensions and collations. Its files are in the container: the
proof neither fills the disk nor loads the memory of the server that is backed up.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_exec
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _pg_archive,
    _scratch_container,
    _scratch_directory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_databases import Session, identifier
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._run import ProgramFailed
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

BACKUP, SOCKETS = "/tracktion-backup", "/tracktion-sockets"
# Seconds for initdb and the start, on a loaded machine.
START_SECONDS = 120.0
SHARED_MEMORY = 256 << 20
OUTPUT_BYTES = 65536

# $1: major version, $2: first superuser, $3: libraries to preload.
SERVER = (
    r"""
set -e
for bin in /usr/lib/postgresql/$1/bin /usr/pgsql-$1/bin /usr/local/bin /usr/bin; do
    [ -x $bin/initdb ] && break
done
data=$(mktemp -d)/data
$bin/initdb -D $data -U "$2" -E UTF8 --locale=C --auth=trust --no-sync >/dev/null
exec $bin/postgres -D $data -c listen_addresses= -c unix_socket_directories=%s -c shared_preload_libraries="$3" \
    -c fsync=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 -c autovacuum=off \
    -c max_wal_size=4GB -c maintenance_work_mem=128MB
"""
    % SOCKETS
)
# $1: major version; the other arguments are those of pg_restore.
RESTORE = (
    r"""
major=$1; shift
for bin in /usr/lib/postgresql/$major/bin /usr/pgsql-$major/bin /usr/local/bin /usr/bin; do
    [ -x $bin/pg_restore ] && break
done
exec $bin/pg_restore --host %s "$@"
"""
    % SOCKETS
)


class ScratchServer:
    """A scratch server that runs. ``options`` are the connection options of its superuser."""

    def __init__(self, container: _scratch_container.Scratch, options: Options, major: int, archive: str) -> None:
        self._container = container
        self._major = major
        self._archive = archive
        self.options = options

    def restore(self, database: str, deadline: Deadline, words: Sequence[str]) -> None:
        """Run pg_restore in the container, with these arguments too. Raises ProgramFailed, CannotConnect."""
        archive = _pg_archive.arguments(self._archive, database, tablespaces=False)
        words = ["--username", self.options["login_user"], *words, *archive]
        command = {
            "Cmd": ["sh", "-c", RESTORE, "sh", str(self._major), *words],
            # Not the server's user, which cannot read the files of the backup.
            "User": "%d:%d" % (os.geteuid(), os.getegid()),
        }
        api = self._container.api.another(max(1.0, deadline.remaining(86400)), deadline)
        outcome = _docker_exec.run(api, self._container.identity, command, OUTPUT_BYTES)
        if outcome.exit_code != 0:
            lines = outcome.output.decode("utf-8", "replace").splitlines()
            lines = lines or self._container.log()
            raise ProgramFailed("pg_restore", [cut(line, 300) for line in lines[:5]], outcome.exit_code)


@contextlib.contextmanager
def server(
    api: DockerApi, image: str, major: int, contents: Mapping[str, Any], archive: str, deadline: Deadline
) -> Iterator[ScratchServer]:
    """Yield a scratch server with the roles that ``contents`` name; none of them can log in. Raises NoScratch."""
    superuser = next((name for name, is_super in sorted(contents["roles"].items()) if is_super), "postgres")
    _scratch_container.sweep(api)
    with _scratch_directory.made(tempfile.gettempdir()) as base:
        sockets = os.path.join(base, "s")
        os.mkdir(sockets)
        # The user of the server in the image is another one; only this process reaches the directory above.
        os.chmod(sockets, 0o777)  # noqa: S103
        mounts = {BACKUP: (os.path.dirname(archive), False), SOCKETS: (sockets, True)}
        command = ["sh", "-c", SERVER, "sh", str(major), superuser, contents["preload_libraries"]]
        with _scratch_container.Scratch(
            api, image, command, mounts, user="postgres", shared_memory=SHARED_MEMORY
        ) as container:
            options = _options(sockets, superuser)
            running = ScratchServer(container, options, major, os.path.join(BACKUP, os.path.basename(archive)))
            _wait(container, options, deadline)
            _create_roles(options, contents["roles"], superuser, deadline)
            yield running


def _options(sockets: str, superuser: str) -> dict[str, Any]:
    empty = dict.fromkeys(("login_password", "ca_cert", "ssl_cert", "ssl_key"), "")
    return {
        **empty,
        "login_host": "localhost",
        "login_port": 5432,
        "login_user": superuser,
        "login_db": "postgres",
        "maintenance_db": "postgres",
        "login_unix_socket": sockets,
        "ssl_mode": "disable",
        "timeout": 10.0,
        "deadline": 10.0,
    }


def _wait(container: _scratch_container.Scratch, options: Options, deadline: Deadline) -> None:
    """Wait until the server accepts connections. Raises NoScratch, OutOfTime."""
    limit = Deadline(deadline.step(START_SECONDS))
    while True:
        try:
            with Session(options, limit) as session:
                session.rows("SELECT 1 AS one")
            return
        except CannotConnect as exc:
            ended = container.exit_code()
            if ended is not None or limit.expired():
                why = "; ".join(container.log()[-3:]) or str(exc)
                hint = "Set `scratch: server` to restore into a scratch database of the server instead."
                raise _scratch_container.NoScratch("the scratch server does not start: %s" % cut(why, 500), hint)
        time.sleep(0.1)


def _create_roles(options: Options, roles: Mapping[str, bool], superuser: str, deadline: Deadline) -> None:
    with Session(options, deadline) as session:
        for name, is_super in sorted(roles.items()):
            if name != superuser and not name.startswith("pg_"):
                attributes = "SUPERUSER NOLOGIN" if is_super else "NOLOGIN"
                session.run("CREATE ROLE %s %s" % (identifier(name), attributes))
