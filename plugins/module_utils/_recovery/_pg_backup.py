# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes a backup of a PostgreSQL database. Private to this collection."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import CONNECTION_SPEC
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote, sql_identifier, sql_literal
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _artefacts,
    _encryption,
    _operations,
    _pg_clients,
    _pg_snapshot,
    _run,
    _space,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_clients import Clients
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_snapshot import About
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress, bytes_below
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Artefact
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import SourceServer
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

KIND = "postgresql"
DUMP = "dump"
GLOBALS = "globals.sql"
JOBS_MOST = 64
DAY = 86400.0
# The files of pg_dump: one for each table in the directory format, and those of the backup itself.
INODES_LEFT = 1000
LOCKED = re.compile(r"(lock|statement) timeout.*LOCK TABLE|could not obtain lock", re.DOTALL)
HOLDERS = (
    "SELECT pid, usename, state, xact_start, left(query, 80) FROM pg_stat_activity WHERE datname = %s AND pid IN "
    "(SELECT pid FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted)"
)
FULL = re.compile(r"No space left on device|Disk quota exceeded")

# Options of all modules that write backups.
WRITING_SPEC: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "keep": {"type": "int", "default": 7},
    "max_age_days": {"type": "float", "default": 0.0},
    "encryption_recipients": {"type": "list", "elements": "str", "default": []},
    "deadline": {"type": "float", "default": 14400.0},
    "progress": {"type": "path"},
}
ARGUMENT_SPEC: dict[str, Any] = {
    **CONNECTION_SPEC,
    **_pg_clients.SPEC,
    **WRITING_SPEC,
    **_operations.SPEC,
    "database": {"type": "str"},
    "format": {"type": "str", "choices": ["directory", "custom"], "default": "directory"},
    "jobs": {"type": "int", "default": 2},
    "globals": {"type": "bool", "default": True},
    "globals_passwords": {"type": "bool", "default": False},
    "row_hashes": {"type": "bool", "default": False},
    "lock_timeout": {"type": "float", "default": 60.0},
}


class InRecovery(Failure):
    """The server is a standby, whose queries are cancelled by what it replays."""

    kind = "in_recovery"


class Backup:
    """One backup. ``run()`` makes it, ``planned()`` returns what it would do; both return the module's result."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.database: str = options["database"] or options["login_db"]
        self.deadline = Deadline(options["deadline"])
        self.store = _artefacts.Store(options["directory"])
        self.folder = self.store.folder(KIND, self.database)
        self.encryption = _encryption.program_for(options["encryption_recipients"])
        self.progress = Progress(options["progress"])
        if not 1 <= options["jobs"] <= JOBS_MOST:
            raise BadOption("jobs: %d is not a number from 1 to %d" % (options["jobs"], JOBS_MOST))
        if options["keep"] < 0 or options["max_age_days"] < 0:
            raise BadOption("keep and max_age_days must not be negative")

    def result(self, check_mode: bool) -> dict[str, Any]:
        """Make the backup, or describe it in check mode. Raises Failure."""
        options, target = self.options, "%s:%s" % (KIND, self.database)
        client = _pg_snapshot.connect(options, self.database, self.deadline)
        try:
            server = _pg_snapshot.about(client, self.deadline)
            if server.in_recovery:
                raise InRecovery(
                    "the server is in recovery: a standby ends queries that conflict with what it replays",
                    hint="Set `login_host` and `login_port` to those of its primary.",
                )
            before = self.store.list(KIND, self.database)
            needed = self.needed(before, server)
            space = _space.check(self.folder, needed, INODES_LEFT)
            with _pg_clients.find(self.options, server.version_num, self.folder, self.deadline) as clients:
                about = {
                    "database": self.database,
                    "server_version": server.version,
                    "tool": clients.version,
                    "tool_source": clients.source,
                    "source_bytes": server.bytes,
                    "estimated_bytes": needed,
                    "free_bytes": space.bytes,
                    "encryption": self.encryption,
                }
                if check_mode:
                    _operations.check(options["state_dir"], "backup", target, options["operation"], options["broken"])
                    return {**about, **self.planned(before)}
                held = options["run"], options["operation"], options["broken"]
                with _operations.begin(options["state_dir"], "backup", target, *held):
                    made, removed, seconds = self.make(client, server, clients, needed)
        finally:
            self.progress.end()
            client.connection.close()
        return {
            **about,
            "changed": True,
            "result": "done",
            "path": made.path,
            "stamp": made.stamp,
            "bytes": made.bytes,
            "files": len(made.manifest["files"]) if made.manifest else 0,
            "seconds": seconds,
            "removed": [each.path for each in removed],
        }

    def needed(self, before: list[Artefact], server: About) -> int:
        """Return the bytes that the backup is expected to take, by the last one with the same kind of files."""
        for artefact in before:
            manifest = artefact.manifest
            if manifest and manifest["encryption"] == self.encryption:
                found = _space.needed(server.bytes, artefact.bytes, manifest["source_bytes"])
                return self.while_encrypting(found or 0)
        return self.while_encrypting(_space.needed(server.bytes) or 0)

    def while_encrypting(self, needed: int) -> int:
        """Return the bytes with those of the file that exists twice: the only one, in the custom format."""
        return needed * 2 if self.encryption else needed

    def planned(self, before: list[Artefact]) -> dict[str, Any]:
        """Return the result of check mode."""
        now = time.time()
        stamp = self.store.next_stamp(KIND, self.database)
        path = os.path.join(self.folder, stamp)
        new = Artefact(KIND, self.database, stamp, path, now, None, None, None, None, None)
        age = self.options["max_age_days"] * DAY
        removed = _artefacts.rotation([new, *before], self.options["keep"], age, now)
        return {
            "changed": True,
            "result": "planned",
            "path": path,
            "stamp": None,
            "bytes": None,
            "files": None,
            "seconds": None,
            "removed": [each.path for each in removed],
        }

    def make(self, client: Any, server: About, clients: Clients, needed: int) -> tuple[Artefact, list[Artefact], float]:
        """Write, verify and complete the backup, then remove old ones. Return it, those, and the seconds."""
        begun = time.monotonic()
        with self.store.create(KIND, self.database) as pending:
            started = server.now
            contents = self.dump(client, clients, pending.path, needed)
            self.progress.step("verify")
            target = os.path.join(pending.path, DUMP)
            listed = clients.run("pg_restore", ["--list", target], self.deadline, most=1 << 16)
            if "dbname:" not in listed:
                raise _artefacts.CannotStore("the dump has no table of contents that pg_restore can read")
            if self.encryption:
                self.progress.step("encrypt", bytes_below(pending.path))
                recipients = self.options["encryption_recipients"]
                _encryption.encrypt_below(pending.path, self.encryption, recipients, self.deadline)
            files = pending.files(self.deadline)
            source: SourceServer = {
                "version": server.version,
                "version_num": server.version_num,
                "identity": server.identity,
                "address": address(self.options),
                "container": clients.container,
            }
            manifest = pending.manifest(
                started, source, clients.version, server.bytes, files, contents, self.encryption
            )
            made = pending.finish(manifest, self.deadline)
            age = self.options["max_age_days"] * DAY
            try:
                removed = self.store.rotate(KIND, self.database, self.options["keep"], age, protect=made.stamp)
            except Failure as exc:
                message = "%s is complete, but old backups were not removed: %s" % (shell_quote(made.path), exc)
                raise _artefacts.CannotStore(message, exc.hint)
        return made, removed, time.monotonic() - begun

    def dump(self, client: Any, clients: Clients, path: str, needed: int) -> dict[str, Any]:
        """Write the dump and the globals below ``path``, and return the contents at the same moment."""
        options = self.options
        self.progress.step("dump", needed)

        arguments = ["--format=%s" % options["format"], "--file=%s" % os.path.join(path, DUMP)]
        arguments += ["--jobs=%d" % options["jobs"]] if options["format"] == "directory" else []
        arguments += ["--lock-wait-timeout=%d" % max(1, options["lock_timeout"] * 1000)]
        with _pg_snapshot.exported(client, self.deadline) as snapshot:
            collector = _pg_snapshot.Collector(options, self.database, snapshot, options["row_hashes"], self.deadline)

            def watch() -> None:
                if collector.failed:
                    # Without its contents, the dump is of no use.
                    collector.result()
                self.progress.update(bytes_below(path))

            try:
                arguments.append("--snapshot=%s" % snapshot)
                self.run(clients, "pg_dump", arguments, watch=watch)
                contents = collector.result()
            finally:
                collector.stop()
        if options["globals"]:
            words = ["--globals-only", *([] if options["globals_passwords"] else ["--no-role-passwords"])]
            self.run(clients, "pg_dumpall", words, output=os.path.join(path, GLOBALS))
        return dict(contents)

    def run(self, clients: Clients, program: str, arguments: list[str], **how: Any) -> None:
        """Run a program that reads the database. Raises ProgramFailed with a hint, OutOfTime."""
        words = [*arguments, "--database=%s" % self.database] if program == "pg_dumpall" else arguments
        try:
            clients.run(program, words, self.deadline, self.database, **how)
        except _run.ProgramFailed as exc:
            exc.hint = exc.hint or hint_of(str(exc), self.options, self.database)
            raise


def backup(options: Options, check_mode: bool) -> dict[str, Any]:
    """Return the result of the module ``pg_backup``. Raises Failure."""
    return Backup(options).result(check_mode)


def hint_of(message: str, options: Options, database: str) -> str | None:
    """Return the next step for a failure of pg_dump, or null."""
    if LOCKED.search(message):
        where = options["login_unix_socket"] or options["login_host"]
        words = (where, options["login_port"], options["login_user"], database, HOLDERS % sql_literal(database))
        command = "psql -h %s -p %s -U %s -d %s -c %s" % tuple(map(shell_quote, words))
        return "Wait for the session that locks the table, or raise `lock_timeout`. Show it: `%s`." % command
    if FULL.search(message):
        return "Free space, or use another `directory`: `df -h -- %s`." % shell_quote(options["directory"])
    if "permission denied" in message:
        grant = "GRANT pg_read_all_data TO %s" % sql_identifier(options["login_user"])
        return "Grant the role the right to read all objects: `%s`, or log in as the owner (`login_user`)." % grant
    return None


def address(options: Options) -> str:
    """Return where the server was reached: ``127.0.0.1:5432``."""
    return "%s:%d" % (options["login_unix_socket"] or options["login_host"], options["login_port"])
