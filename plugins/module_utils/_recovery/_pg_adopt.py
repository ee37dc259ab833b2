# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes a backup of this collection from an archive of pg_dump that has no manifest. Private to this collection.

A copy of the archive is restored in a scratch container without a network, where code that it holds reaches nothing.
The contents of that database become the manifest. The backup is kept apart from the others, so that it never counts as
a recent backup of the database; it is restored and compared as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure, cut
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _confirmed,
    _operations,
    _pg_clients,
    _pg_contents,
    _pg_databases,
    _pg_restoring,
    _pg_scratch,
    _run,
    _scratch_container,
    _space,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Artefact, Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_archive import FILE, TABLE_OF_CONTENTS
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_databases import Session, identifier
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import cannot_store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import ADOPTED, BackupFile, SourceServer
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

SPEC: dict[str, Any] = dict(
    _pg_restoring.ARCHIVE_SPEC,
    archive={"type": "path", "required": True},
    confirm={"type": "list", "elements": "str", "default": []},
)
ACTION = "recovery.adopt"
MAGIC = b"PGDMP"
SERVER = """
SELECT current_setting('server_version_num')::int AS version, current_setting('shared_preload_libraries') AS lib
"""
BLOCK = 1 << 20
FILES_MOST = 1000000
MISSING_ROLE = re.compile(r'role "((?:[^"]|"")+)" does not exist')
ROLES_MOST = 1000
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A link could be replaced between two looks, and a pipe would block.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotAdopted(Failure):
    """The path is no archive of pg_dump, or it cannot be restored."""

    kind = "not_adopted"


def adopt(options: Options, check_mode: bool) -> dict[str, Any]:
    """Return the result of the module. Raises Failure; nothing is kept of the archive then."""
    archive, database = options["archive"], options["database"]
    deadline = Deadline(options["deadline"])
    files = archive_files(archive)
    size = sum(files.values())
    store = Store(os.path.join(options["directory"], ADOPTED))
    if not check_mode and "%s:%s" % (ACTION, archive) not in options["confirm"]:
        text = "%s is in no manifest of this collection: code in it runs as the superuser when it is restored"
        hint = "If you trust its source, add to tracktion_confirm: `%s:%s`."
        raise _confirmed.NotConfirmed(text % shell_quote(archive), hint % (ACTION, archive))
    with Session(options, deadline) as session:
        server = session.rows(SERVER)[0]
    container = _container(options, deadline)
    _space.check(store.folder(_pg_restoring.KIND, database), size)
    result = {
        "changed": True,
        "result": "planned",
        "database": database,
        "archive": archive,
        "directory": store.directory,
        "bytes": size,
        "stamp": None,
        "path": None,
        "roles": [],
        "seconds": None,
    }
    if check_mode:
        text = "would restore %s (%s) in a container without a network, and keep it with a manifest in %s"
        words = (shell_quote(archive), _space.shown(size), shell_quote(store.directory))
        return dict(result, msg=text % words)
    target = "postgresql:%s" % database
    how = {"join": options["operation"], "broken": options["broken"]}
    began = time.time()
    with _operations.begin(options["state_dir"], "proof", target, options["run"], **how):
        known = _adopted_before(store, database, archive, files, deadline)
        if known:
            text = "%s was adopted before, as %s"
            found = {"changed": False, "result": "present", "stamp": known.stamp, "path": known.path}
            return dict(result, **found, msg=text % (shell_quote(archive), known.stamp))
        with _pg_restoring.progressing(options) as progress:
            made = _adopted(options, store, container, server, files, progress, deadline)
        store.rotate(_pg_restoring.KIND, database, 1, 0, protect=made.stamp)
    roles = sorted(made.contents["roles"])
    text = "%s can be restored, and is kept as %s. It needs the roles %s"
    return dict(
        result,
        result="adopted",
        stamp=made.stamp,
        path=made.path,
        roles=roles,
        seconds=round(time.time() - began, 3),
        msg=text % (shell_quote(archive), made.stamp, ", ".join(roles)),
    )


# Files


def archive_files(archive: str) -> dict[str, int]:
    """Return the files of an archive of pg_dump: name -> size; a single file has an empty name. Raises NotAdopted."""
    hint = "Name a file of `pg_dump --format=custom`, or a directory of `pg_dump --format=directory`."
    try:
        names = sorted(os.listdir(archive)) if os.path.isdir(archive) else [""]
        if len(names) > FILES_MOST:
            raise NotAdopted("%s has more than %d files" % (shell_quote(archive), FILES_MOST), hint)
        head = _opened(archive, TABLE_OF_CONTENTS if names != [""] else "")
        with os.fdopen(head, "rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                text = "%s is no archive of pg_dump in the custom or directory format"
                raise NotAdopted(text % shell_quote(archive), hint)
        found = {}
        for name in names:
            descriptor = _opened(archive, name)
            found[name] = os.fstat(descriptor).st_size
            os.close(descriptor)
        return found
    except OSError as exc:
        raise NotAdopted("%s cannot be read: %s" % (shell_quote(archive), exc.strerror), hint)


def _opened(archive: str, name: str) -> int:
    """Return a descriptor of a file, which is neither a link nor a device. Raises OSError, NotAdopted."""
    path = os.path.join(archive, name) if name else archive
    descriptor = os.open(path, READ)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAdopted("%s is no regular file" % shell_quote(path))
    return descriptor


def _read(archive: str, name: str, deadline: Deadline, backup: str | None = None) -> BackupFile:
    """Return the size and the checksum of a file of the archive, and copy it into the directory of a backup.

    Raises OSError, NotAdopted, OutOfTime.
    """
    digest, size, place = hashlib.sha256(), 0, _place(name)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(os.fdopen(_opened(archive, name), "rb"))
        copy = os.open(os.path.join(backup, place), NEW, 0o600) if backup else None
        target = stack.enter_context(os.fdopen(copy, "wb")) if copy is not None else None
        while True:
            deadline.step()
            block = source.read(BLOCK)
            if not block:
                return {"path": place, "bytes": size, "sha256": digest.hexdigest()}
            digest.update(block)
            size += len(block)
            if target:
                target.write(block)


def _adopted_before(
    store: Store, database: str, archive: str, files: Mapping[str, int], deadline: Deadline
) -> Artefact | None:
    """Return the backup that was made of exactly these files, or null."""
    for artefact in store.list(_pg_restoring.KIND, database):
        kept = {each["path"]: each for each in artefact.manifest["files"]} if artefact.manifest else {}
        wanted = {_place(name): name for name in files}
        if {path: each["bytes"] for path, each in kept.items()} != {path: files[name] for path, name in wanted.items()}:
            continue
        with contextlib.suppress(OSError):
            if all(_read(archive, name, deadline) == kept[path] for path, name in wanted.items()):
                return artefact
    return None


def _place(name: str) -> str:
    """Return the path of a file of the archive below the backup."""
    return os.path.join(FILE, name) if name else FILE


# Restore


def _container(options: Options, deadline: Deadline) -> _pg_clients.Server:
    """Return the container of the server, whose image runs the scratch server. Raises NoScratch."""
    try:
        found = _pg_clients.server_container(options, deadline)
        reason = "no container of this host serves the address of the server"
    except CannotConnect as exc:
        found, reason = None, str(exc)
    if found is None:
        text = "an archive of unknown contents is restored in a container first, and there is no image for it: %s"
        raise _scratch_container.NoScratch(text % reason, "Run a server of this version in a container: `docker ps`.")
    return found


def _adopted(
    options: Options,
    store: Store,
    container: _pg_clients.Server,
    server: Mapping[str, Any],
    files: Mapping[str, int],
    progress: Progress,
    deadline: Deadline,
) -> Artefact:
    with store.create(_pg_restoring.KIND, options["database"], "adopt") as pending:
        started = time.time()
        progress.step("copy", sum(files.values()))
        try:
            if list(files) != [""]:
                os.mkdir(os.path.join(pending.path, FILE), 0o700)
            copied = [_read(options["archive"], name, deadline, pending.path) for name in files]
        except OSError as exc:
            raise cannot_store(exc, pending.path)
        progress.step("restore")
        contents = _contents(options, container, server, os.path.join(pending.path, FILE), deadline)
        source: SourceServer = {
            "version": str(server["version"]),
            "version_num": server["version"],
            "identity": None,
            "address": options["archive"],
            "container": container.name,
        }
        tool = "archive of pg_dump, without a manifest"
        manifest = pending.manifest(started, source, tool, contents["bytes"], copied, contents)
        return pending.finish(manifest, deadline)


def _contents(
    options: Options, container: _pg_clients.Server, server: Mapping[str, Any], archive: str, deadline: Deadline
) -> dict[str, Any]:
    """Return the contents of the database that the archive creates in a scratch server. Raises NotAdopted."""
    api = _scratch_container.engine(options, deadline)
    about = {"roles": {}, "preload_libraries": server["lib"]}
    major = server["version"] // 10000
    scratch = _pg_scratch.server(api, container.image, major, about, archive, deadline)
    with scratch as running, Session(running.options, deadline) as session:
        try:
            # First without rows, to find out fast which roles it needs.
            _drop(session, _created(session, running, deadline, ["--schema-only"]))
            name = _created(session, running, deadline, ["--jobs", str(options["jobs"])])
        except _run.ProgramFailed as exc:
            if _pg_restoring.OF_THE_SERVER.search(str(exc)):
                raise
            raise NotAdopted("%s cannot be restored: %s" % (shell_quote(options["archive"]), exc))
        client = session.connect(name)
        try:
            contents = _pg_contents.collect(client, None, False, deadline)
            _pg_contents.sequences_after(client, contents, deadline)
        finally:
            client.connection.close()
        return dict(contents)


def _created(session: Session, running: _pg_scratch.ScratchServer, deadline: Deadline, words: list[str]) -> str:
    """Restore the archive into the database that it creates, and return its name. Roles are created as it needs them.

    Raises ProgramFailed, NotAdopted.
    """
    before = {row["name"] for row in _pg_databases.databases(session)}
    for _attempt in range(ROLES_MOST):
        try:
            running.restore("template1", deadline, ["--create", *words])
        except _run.ProgramFailed as exc:
            missing = MISSING_ROLE.search(str(exc))
            if not missing:
                raise
            for name in {row["name"] for row in _pg_databases.databases(session)} - before:
                _drop(session, name)
            session.run("CREATE ROLE %s NOLOGIN" % identifier(missing.group(1).replace('""', '"')))
            continue
        made = sorted({row["name"] for row in _pg_databases.databases(session)} - before)
        if len(made) == 1:
            return made[0]
        raise NotAdopted("the archive creates %d databases: %s" % (len(made), cut(", ".join(made), 200)))
    raise NotAdopted("the archive needs more than %d roles" % ROLES_MOST)


def _drop(session: Session, name: str) -> None:
    session.run("DROP DATABASE %s WITH (FORCE)" % identifier(name))
