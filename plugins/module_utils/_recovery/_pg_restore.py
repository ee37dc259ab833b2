# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restores a backup of PostgreSQL into a new database, and swaps it with the current one. Private to this collection.

The name of the database is that of the old one until one transaction gives it to the new one, which was compared with
the manifest before. A run that is killed leaves the new database: the next run of the same backup uses it if it was
verified, and removes it otherwise.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Iterator, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import QueryFailed
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _chosen,
    _confirmed,
    _operations,
    _pg_archive,
    _pg_clients,
    _pg_databases,
    _pg_restore_checks,
    _pg_restoring,
    _scratch_directory,
    _space,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Artefact, Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_contents import literal
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_databases import Session, identifier
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

SPEC: dict[str, Any] = dict(
    _pg_restoring.SPEC,
    state={"type": "str", "required": True, "choices": ["prepared", "swapped", "undone", "dropped", "begun", "ended"]},
    new={"type": "str", "default": ""},
    old={"type": "str", "default": ""},
    confirm={"type": "list", "elements": "str", "default": []},
    keep_operation={"type": "bool", "default": False},
)
# A restored copy sorts by the collations of its own server, and subscriptions are not restored.
IGNORED = ("collation_versions", "subscriptions")
# Seconds that hold the operation until the next module of the playbook begins. If the controller ends there, a later
# run has to wait for so long.
LEASE_SECONDS = 120.0
# A verified database that waits for its swap is not removed by a run of another host for this long.
WAITING_SECONDS = 3600.0
SWAP_SECONDS = 60.0


class Different(Failure):
    """The restored copy differs from the manifest. It was removed; the current database was not touched."""

    kind = "different"


class NoDatabase(Failure):
    """The database that the options name does not exist, or is not one that a restore made."""

    kind = "no_database"


def restore(options: Options, check_mode: bool) -> dict[str, Any]:
    """Return the result of the module. Raises Failure; the name of the database is then that of the old one."""
    if options["state"] == "ended":
        return _end(options, check_mode)
    try:
        if not check_mode and options["state"] != "dropped":
            does = "replaces the database %s" % options["database"]
            _confirmed.require_confirmation(options, options["database"], does)
        with Session(options, Deadline(options["deadline"])) as session:
            return STATES[options["state"]](options, session, check_mode)
    except Failure as exc:
        if not options["operation"]:
            exc.hint = " ".join(filter(None, (exc.hint, _still_stopped(options))))
        raise


def _still_stopped(options: Options) -> str | None:
    """Return how to start what an earlier restore of the database has stopped, if this one cannot do it; or null."""
    try:
        running, interrupted = _operations.read(options["state_dir"])
    except _operations.CannotKeep:
        return None
    mine = "restore", "postgresql:%s" % options["database"]
    # One that a lease holds may go on, and then starts them itself.
    records = [each for each in running if each["until"] is not None] + interrupted
    records = [each for each in records if (each["kind"], each["target"]) == mine and each["stopped"]]
    if not records:
        return None
    names = [each["name"] for each in records[0]["stopped"]]
    text = "An earlier run (%s) has stopped %s. If it does not run any more, start them: `docker start %s`."
    return text % (_operations.described(records[0]), ", ".join(names), " ".join(map(shell_quote, names)))


@contextlib.contextmanager
def _operation(options: Options, keep: bool = False) -> Iterator[_operations.Operation]:
    """Hold the restore on this host, which excludes backups, proofs and restarts."""
    target = "postgresql:%s" % options["database"]
    how = {"join": options["operation"], "broken": options["broken"]}
    with _operations.begin(options["state_dir"], "restore", target, options["run"], **how) as operation:
        _scratch_directory.sweep_if_possible(options["directory"])
        yield operation
        if keep:
            operation.keep(LEASE_SECONDS)
        elif operation.record["stopped"]:
            # They could not be started: the next run does it.
            operation.leave_unfinished()


def _hold(session: Session, database: str) -> None:
    """Hold the restore of a database on its server, whatever host it runs on."""
    if not session.hold(database, _pg_databases.KILLED_SECONDS):
        hint = "Wait until it has ended: `SELECT * FROM pg_stat_activity WHERE application_name = 'tracktion.ops'`."
        raise _pg_databases.NotSwapped("another restore of %s is running on this server" % database, hint)


# Load and verify


def _prepare(options: Options, session: Session, check_mode: bool) -> dict[str, Any]:
    store = Store(options["directory"])
    artefact, unreadable = _pg_restoring.chosen(store, options)
    manifest: Any = artefact.manifest
    database = options["database"]
    with store.in_use(artefact):
        found = _pg_restore_checks.facts(session, database)
        _pg_restore_checks.require(
            [
                *_pg_restore_checks.of_server(found),
                *_pg_restore_checks.of_backup(found, manifest, artefact.path, options),
                *_pg_restore_checks.of_database(found, database),
            ],
            "the backup %s cannot be restored into %s" % (artefact.stamp, database),
        )
        _chosen.require_intact(store, artefact, session.deadline)
        waiting = _waiting(session, artefact, database)
        path = _pg_restore_checks.data_path(found, options, session.deadline)
        wanted = 0 if waiting else _pg_restore_checks.needed(manifest, found.max_wal_bytes)
        result = {
            "changed": True,
            "result": "planned",
            "database": database,
            "stamp": artefact.stamp,
            "path": artefact.path,
            "backup_time": manifest["started"],
            "unreadable": unreadable,
            "space": _pg_restore_checks.require_space(path, wanted),
            "new": waiting,
            "old": None,
            "estimated_bytes": wanted or None,
            "replaces_bytes": found.live["bytes"] if found.live else None,
            "seconds": None,
            "accepted": [],
            "operation": None,
            "undo": None,
            "resumed": [],
        }
        with _clients(options, manifest, artefact, found, session.deadline) as clients:
            if check_mode:
                text = (
                    "would restore the backup %s of %s into a new database, compare it with its manifest, %s name it %s"
                )
                size = found.live["bytes"] if found.live else None
                then = "put the current database (%s) aside, and" % _space.shown(size) if size is not None else "and"
                return dict(result, msg=text % (artefact.stamp, manifest["name"], then, database))
            with _operation(options, keep=True) as operation, _pg_restoring.progressing(options) as progress:
                done = _finished_before(operation, found, artefact)
                result["resumed"] = [each["name"] for each in operation.record["stopped"]]
                if done:
                    return dict(result, **done, operation=operation.id)
                _hold(session, database)
                began = time.monotonic()
                _remove_leftovers(session, database, waiting)
                if not waiting:
                    waiting, result["accepted"] = _loaded(session, artefact, clients, options, progress)
                text = "the backup %s of %s is restored into %s, which is equal to its manifest"
                return dict(
                    result,
                    result="prepared",
                    new=waiting,
                    operation=operation.id,
                    seconds=round(time.monotonic() - began, 3),
                    msg=text % (artefact.stamp, manifest["name"], waiting),
                )


def _finished_before(
    operation: _operations.Operation, found: _pg_restore_checks.Facts, artefact: Artefact
) -> dict[str, Any] | None:
    """Return the result of an interrupted run that had renamed the databases, or null.

    The containers that it had stopped become those of this operation, which starts them at its end.
    """
    result = None
    for record in operation.interrupted_before():
        data = record["data"]
        operation.adopt(record)
        if found.live and data.get("new_oid") == found.live["oid"] and data.get("manifest") == artefact.manifest_sha256:
            text = "an interrupted run has replaced the database by the backup %s; the database before it is kept as %s"
            result = {
                "changed": False,
                "result": "restored",
                "old": data.get("old"),
                "undo": _undo_command(str(data.get("database")), data.get("old")),
                "msg": text % (artefact.stamp, data.get("old")),
            }
            # Known until this operation ends, if this run is interrupted, too.
            operation.update(data=data)
        # Otherwise a later restore of the same backup would be taken for this one.
        operation.forget(record)
    return result


@contextlib.contextmanager
def _clients(
    options: Options,
    manifest: Mapping[str, Any],
    artefact: Artefact,
    found: _pg_restore_checks.Facts,
    deadline: Deadline,
) -> Iterator[_pg_clients.Clients]:
    """Yield the clients that may read the archive. Raises NoClient, VulnerableClient."""
    # A decrypted copy is in the same directory.
    folder = options["directory"] if manifest["encryption"] else artefact.path
    with _pg_clients.find(options, found.version_num, folder, deadline) as clients:
        _pg_archive.require_fixed(clients.version_num, clients.source, options["accept_cve"])
        yield clients


def _waiting(session: Session, artefact: Artefact, database: str) -> str | None:
    """Return the database that an earlier run has verified for this backup, or null."""
    for row in _pg_databases.databases(session):
        note = row["note"] or {}
        wanted = {"database": database, "manifest": artefact.manifest_sha256, "state": "verified"}
        if row["name"].startswith(_pg_databases.NEW) and all(note.get(key) == wanted[key] for key in wanted):
            return str(row["name"])
    return None


def _remove_leftovers(session: Session, database: str, keep: str | None) -> list[str]:
    """Drop what killed runs have left, but for databases that wait for the swap of another run."""
    kept = [keep] if keep else []
    for row in _pg_databases.databases(session):
        note = row["note"] or {}
        if note.get("database") != database and note.get("until", 0) > time.time():
            kept.append(row["name"])
    return _pg_databases.remove_leftovers(session, _pg_databases.NEW, kept)


def _loaded(
    session: Session, artefact: Artefact, clients: _pg_clients.Clients, options: Options, progress: Any
) -> tuple[str, list[str]]:
    """Return the name of a new, verified database, and the accepted differences. Drops it after a failure."""
    manifest: Any = artefact.manifest
    fields = {"database": options["database"], "stamp": artefact.stamp, "manifest": artefact.manifest_sha256}
    identity = options["encryption_identity"] or None
    with _pg_archive.opened(artefact.path, manifest, identity, options["directory"], session.deadline) as archive:
        name = _pg_databases.create(session, _pg_databases.NEW, manifest["contents"], dict(fields, state="loading"))
        try:
            progress.step("restore", manifest["source_bytes"])
            words = _pg_archive.arguments(archive, name, options["jobs"])
            watch = _pg_restoring.watching(session, name, progress)
            clients.run("pg_restore", words, session.deadline, database=name, watch=watch)
            _pg_restoring.completed(session, name, manifest, progress)
            progress.step("compare")
            accepted = options["accept_differences"]
            left, total, taken = _pg_restoring.compared(session, name, manifest, IGNORED, accepted)
            if total:
                raise Different(
                    "the restored copy of %s differs from its manifest: %s"
                    % (artefact.stamp, _pg_restoring.shown(left, total)),
                    "Restore another backup, or name differences that do not matter in `accept_differences`.",
                )
            session.run("ALTER DATABASE %s ALLOW_CONNECTIONS false" % identifier(name))
            until = time.time() + WAITING_SECONDS
            session.run(_pg_databases.note(name, "restore", dict(fields, state="verified", until=until)))
        except BaseException:
            session.deadline = Deadline(60)
            with contextlib.suppress(QueryFailed, Failure):
                _pg_databases.drop(session, name)
            raise
    session.release(name)
    return name, taken


# Swap


def _swap(options: Options, session: Session, check_mode: bool) -> dict[str, Any]:
    database, new = options["database"], options["new"]
    store = Store(options["directory"])
    artefact, _unreadable = _pg_restoring.chosen(store, options)
    manifest: Any = artefact.manifest
    result = _empty(options, stamp=artefact.stamp, new=new)
    if check_mode:
        return dict(result, result="planned", msg="would rename the new database to %s" % database)
    with _operation(options, options["keep_operation"]) as operation:
        _hold(session, database)
        rows = {row["name"]: row for row in _pg_databases.databases(session)}
        note = (rows.get(new) or {}).get("note") or {}
        if note.get("state") != "verified" or note.get("database") != database:
            raise NoDatabase(
                "%s is not a verified copy for %s" % (new or "an empty name", database),
                "Begin again: `ansible-playbook tracktion.ops.restore`.",
            )
        found = _pg_restore_checks.facts(session, database)
        problems = _pg_restore_checks.of_server(found) + _pg_restore_checks.of_database(found, database)
        _pg_restore_checks.require(problems, "%s cannot be replaced" % database)
        aside = _pg_databases.dated(database, _pg_databases.BEFORE, list(rows)) if found.live else None
        about = manifest["contents"]["database"]
        finish = [
            "COMMENT ON DATABASE %s IS %s"
            % (identifier(database), literal(about["comment"]) if about["comment"] else "NULL"),
            "ALTER DATABASE %s CONNECTION LIMIT %d" % (identifier(database), about["connection_limit"]),
        ]
        done = {"database": database, "old": aside, "new_oid": rows[new]["oid"], "manifest": artefact.manifest_sha256}
        operation.update(data=done)
        with _audited(options, "replace %s by the backup %s" % (database, artefact.stamp), operation.id) as audit:
            seconds = _pg_databases.swap(session, database, aside, new, finish, _swap_deadline(session))
            audit.update(stamp=artefact.stamp, old=aside)
        text = "%s is now the backup %s" % (database, artefact.stamp)
        undo = _undo_command(database, aside)
        if aside:
            text += "; the database before it is kept as %s. To go back: `%s`" % (aside, undo)
        return dict(
            result,
            result="restored",
            old=aside,
            seconds=round(seconds, 3),
            operation=operation.id,
            path=artefact.path,
            undo=undo,
            msg=text,
        )


def _swap_deadline(session: Session) -> Deadline:
    return Deadline(session.deadline.step(SWAP_SECONDS))


def _undo_command(database: str, old: str | None) -> str | None:
    return None if old is None else _confirmed.command(database, recovery_undo=old)


def _empty(options: Options, **fields: Any) -> dict[str, Any]:
    names = ("stamp", "new", "old", "seconds", "operation", "undo")
    return dict({"changed": True, "database": options["database"]}, **dict(dict.fromkeys(names), **fields))


# Undo


def _undo(options: Options, session: Session, check_mode: bool) -> dict[str, Any]:
    database = options["database"]
    if check_mode:
        rows, old, aside = _to_go_back(options, session)
        return dict(
            _empty(options, new=old, old=aside), result="planned", msg="would rename %s back to %s" % (old, database)
        )
    with _operation(options, options["keep_operation"]) as operation:
        done = _undone_before(operation, options, session)
        if done:
            return done
        _hold(session, database)
        rows, old, aside = _to_go_back(options, session)
        found = _pg_restore_checks.facts(session, database)
        problems = _pg_restore_checks.of_server(found) + _pg_restore_checks.of_database(found, database)
        _pg_restore_checks.require(problems, "%s cannot be replaced" % database)
        operation.update(data={"database": database, "undone_oid": rows[old], "old": aside, "wanted": options["old"]})
        with _audited(options, "replace %s by %s" % (database, old), operation.id) as audit:
            seconds = _pg_databases.swap(session, database, aside, old, [], _swap_deadline(session))
            audit.update(old=aside)
        seconds = round(seconds, 3)
        return dict(_undone(options, aside, operation), new=old, seconds=seconds)


def _to_go_back(options: Options, session: Session) -> tuple[dict[str, int], str, str | None]:
    """Return the oid of each database, the one to go back to, and the name for the current one. Raises NoDatabase."""
    database = options["database"]
    rows = {row["name"]: row["oid"] for row in _pg_databases.databases(session)}
    old = options["old"] or _last(list(rows), database)
    if old not in rows or not _pg_databases.is_dated(old, database):
        raise NoDatabase(
            "%s is not a database that a restore of %s has put aside" % (old, database),
            "List them: `SELECT datname FROM pg_database ORDER BY 1`.",
        )
    aside = _pg_databases.dated(database, _pg_databases.UNDONE, list(rows)) if database in rows else None
    return rows, old, aside


def _undone(options: Options, aside: str | None, operation: _operations.Operation) -> dict[str, Any]:
    database = options["database"]
    text = "%s is again the database before the restore" % database
    text += "; the restored one is kept as %s" % aside if aside else ""
    undo = _undo_command(database, aside)
    return dict(
        _empty(options, old=aside, operation=operation.id, undo=undo),
        result="undone",
        resumed=[each["name"] for each in operation.record["stopped"]],
        msg=text,
    )


def _undone_before(operation: _operations.Operation, options: Options, session: Session) -> dict[str, Any] | None:
    """Return the result of an interrupted run that had gone back already, or null: else this one would go back twice.

    What it had stopped is started by this operation at its end.
    """
    result = None
    live = next((row["oid"] for row in _pg_databases.databases(session) if row["name"] == options["database"]), None)
    for record in operation.interrupted_before():
        data = record["data"]
        operation.adopt(record)
        if live is not None and data.get("undone_oid") == live and data.get("wanted") == options["old"]:
            # Known until this operation ends, if this run is interrupted, too.
            operation.update(data=data)
            result = dict(_undone(options, data.get("old"), operation), changed=False)
        operation.forget(record)
    return result


def _begin(options: Options, session: Session, check_mode: bool) -> dict[str, Any]:
    """Begin an operation for the next steps, unless an interrupted one had gone back already."""
    text = "the undo of a restore of %s has begun" % options["database"]
    result = dict(_empty(options), changed=False, result="begun", resumed=[], msg=text)
    if check_mode:
        _to_go_back(options, session)
        return result
    with _operation(options, keep=True) as operation:
        done = _undone_before(operation, options, session)
        if not done:
            # Otherwise the services would be stopped for nothing.
            _to_go_back(options, session)
        result.update(operation=operation.id, resumed=[each["name"] for each in operation.record["stopped"]])
        return done or result


def _end(options: Options, check_mode: bool) -> dict[str, Any]:
    """End the operation that the steps have kept."""
    identity = None
    if not check_mode and options["operation"]:
        with _operation(options) as operation:
            identity = operation.id
    text = "the restore of %s has ended" % options["database"]
    return dict(_empty(options, operation=identity), changed=False, result="ended", msg=text)


def _last(names: Sequence[str], database: str) -> str:
    """Return the database that the last restore has put aside. Raises NoDatabase. Pure.

    An undo takes it away and puts another one aside, so that a repeated undo of the last restore changes nothing.
    """
    restored, before = _newest(names, database, _pg_databases.BEFORE)
    gone_back, undone = _newest(names, database, _pg_databases.UNDONE)
    if gone_back > restored:
        hint = "Run this to exchange the databases again: `%s`." % _undo_command(database, undone)
        if before:
            hint += " Run this to go back to what an earlier restore has put aside: `%s`." % _undo_command(
                database, before
            )
        raise NoDatabase("an undo has put %s aside since the last restore of %s" % (undone, database), hint)
    if not before:
        raise NoDatabase(
            "no restore has put a database %s aside" % database,
            "Restore an earlier backup instead: `ansible-playbook tracktion.ops.restore --check`.",
        )
    return before


def _newest(names: Sequence[str], database: str, infix: str) -> tuple[str, str]:
    """Return the time at the end of the newest of these dated names, and the name; both are empty if there is none."""
    found = [name for name in names if infix in name and _pg_databases.is_dated(name, database)]
    return max(((name.rpartition(infix)[2], name) for name in found), default=("", ""))


def _drop_old(options: Options, session: Session, check_mode: bool) -> dict[str, Any]:
    database, old = options["database"], options["old"]
    rows = [row["name"] for row in _pg_databases.databases(session)]
    if not old:
        raise BadOption("old: the name of the database to drop is missing")
    result = _empty(options, old=old)
    if not _pg_databases.is_dated(old, database):
        raise BadOption("old: %s is not a database that a restore of %s has put aside" % (old, database))
    if old not in rows:
        return dict(result, changed=False, result="absent", msg="%s does not exist" % old)
    if check_mode:
        return dict(result, result="planned", msg="would drop the database %s" % old)
    with _operation(options) as operation, _audited(options, "drop %s" % old, operation.id):
        # Without FORCE: a person may be reading what the restore has replaced.
        session.run("DROP DATABASE %s" % identifier(old))
    return dict(result, result="dropped", msg="the database %s is dropped" % old)


STATES: dict[str, Callable[[Options, Session, bool], dict[str, Any]]] = {
    "prepared": _prepare,
    "swapped": _swap,
    "undone": _undo,
    "dropped": _drop_old,
    "begun": _begin,
}


def _audited(options: Options, does: str, run: str) -> contextlib.AbstractContextManager[dict[str, Any]]:
    return _confirmed.audited(options, options["database"], options["database"], does, run)
