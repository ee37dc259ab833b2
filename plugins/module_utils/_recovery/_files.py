# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a backup: lists, hashes and flushes them. Private to this collection."""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Iterable

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import (
    MANIFEST,
    PROOF,
    BackupFile,
    Manifest,
)
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import READ, Directory, Unsafe

File = BackupFile
BLOCK = 1 << 20
NEW_PROOF = "." + PROOF + ".new"
# The items of 100,000 tables have about 50 MB.
MANIFEST_BYTES = 256 << 20
PROBLEMS_MOST = 20
# pg_dump writes no directories below its own; a save of Redis has one.
DEPTH_MOST = 4


def files_below(path: str, private: bool = False) -> dict[str, int]:
    """Return the files below a directory: path relative to it -> size.

    ``private``: set the modes to 0600, and those of directories to 0700. Raises Unsafe for links, devices, and what
    belongs to another user, and OSError.
    """
    found: dict[str, int] = {}
    _list(path, "", found, private, 0)
    return found


def _list(top: str, below: str, found: dict[str, int], private: bool, depth: int) -> None:
    if depth > DEPTH_MOST:
        raise Unsafe(os.path.join(top, below), "is deeper than the directories of a backup")
    with Directory(os.path.join(top, below)) as directory:
        for name in sorted(os.listdir(directory.descriptor)):
            info = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
            relative = os.path.join(below, name)
            if stat.S_ISDIR(info.st_mode):
                if private:
                    os.chmod(name, 0o700, dir_fd=directory.descriptor)
                _list(top, relative, found, private, depth + 1)
                continue
            directory.check(name)
            if private and stat.S_IMODE(info.st_mode) != 0o600:
                os.chmod(name, 0o600, dir_fd=directory.descriptor)
            found[relative] = info.st_size


def hash_all(
    path: str, names: Iterable[str], deadline: Deadline, threads: int = 2, from_disk: bool = False
) -> list[File]:
    """Return files below ``path`` with sizes and checksums, in the order of ``names``.

    ``from_disk``: drop them from the page cache first, so that the disk is read. Raises OSError, OutOfTime.
    """
    ordered = list(names)
    # hashlib releases the interpreter's lock, so threads use several cores.
    with ThreadPoolExecutor(max(1, threads)) as pool:
        tasks = [pool.submit(_hash, path, name, deadline, from_disk) for name in ordered]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            for task in tasks:
                task.cancel()
            raise


def _hash(path: str, name: str, deadline: Deadline, from_disk: bool) -> File:
    folder, base = os.path.split(os.path.join(path, name))
    with Directory(folder) as directory:
        descriptor = directory.open(base, READ)
    try:
        if from_disk:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        digest, size = hashlib.sha256(), 0
        while True:
            deadline.step()
            block = os.read(descriptor, BLOCK)
            if not block:
                return {"path": name, "bytes": size, "sha256": digest.hexdigest()}
            digest.update(block)
            size += len(block)
    finally:
        os.close(descriptor)


def verify_files(path: str, manifest: Manifest, deadline: Deadline, checksums: bool = True) -> list[str]:
    """Return how the files below ``path`` differ from those of a manifest, at most 20 lines. Raises OutOfTime."""
    expected = {each["path"]: each for each in manifest["files"]}
    try:
        found = files_below(path)
    except OSError as exc:
        return [str(exc.strerror or exc)]
    present = {name: size for name, size in found.items() if name not in (MANIFEST, PROOF, NEW_PROOF)}
    problems = ["%s is missing" % name for name in sorted(set(expected) - set(present))]
    problems += ["%s is not in the manifest" % name for name in sorted(set(present) - set(expected))]
    same = []
    for name in sorted(set(expected) & set(present)):
        if present[name] != expected[name]["bytes"]:
            text = "%s has %d bytes, not %d as in the manifest"
            problems.append(text % (name, present[name], expected[name]["bytes"]))
        else:
            same.append(name)
    if checksums and len(problems) < PROBLEMS_MOST:
        try:
            hashed = hash_all(path, same, deadline, from_disk=True)
        except OSError as exc:
            return problems + [str(exc.strerror or exc)]
        problems += [
            "%s does not have the checksum of the manifest" % each["path"]
            for each in hashed
            if each["sha256"] != expected[each["path"]]["sha256"]
        ]
    return problems[:PROBLEMS_MOST]


def sync_all(path: str, deadline: Deadline) -> None:
    """Flush all files and directories below ``path`` to the disk. Raises OSError, OutOfTime."""
    folders = {""}
    for name in files_below(path):
        deadline.step()
        folder, base = os.path.split(name)
        folders.update(_ancestors(folder))
        with Directory(os.path.join(path, folder)) as directory:
            descriptor = directory.open(base, READ)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    # The deepest first: the top directory is the last.
    for folder in sorted(folders, key=len, reverse=True):
        with Directory(os.path.join(path, folder)) as directory:
            directory.sync()


def _ancestors(folder: str) -> list[str]:
    found = []
    while folder:
        found.append(folder)
        folder = os.path.dirname(folder)
    return found
