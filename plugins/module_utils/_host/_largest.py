# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The largest files and directories below a directory, in limited time. Private to this collection.

Two processes read the directories, so that a call that hangs costs only the budget. Other file systems are not entered,
links are not followed, and a file with several names counts once, as with ``du -x``.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import select
import signal
import struct
import time
from typing import Any, Collection, Iterable, List, NamedTuple, NoReturn, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._linux._statvfs import close_all_but
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

WORKERS = 2
# Batches of directories between which the work of a process is divided, and jobs that wait for a process.
BATCHES = 8
WAITING_LEAST = 4
SECTOR = 512
SIZE = struct.Struct("=I")
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Share of a directory below which a subdirectory is left out of the tree. A directory is reported by its subdirectories
# of at least the NOTABLE share of the root, if these hold the EXPLAINED share of it.
LEAST_SHARE = 0.02
NOTABLE = 0.05
EXPLAINED = 0.8
PATH_LENGTH = 300
NAMED = 5
# Time for the results of the processes after the budget.
GRACE = 0.2

# [bytes, files, {name: node}] of a directory with all that is below it.
Node = List[Any]
Found = Tuple[int, str, float]


class Job(NamedTuple):
    """Directories to read: with all below them, or (``split``) their own entries only."""

    paths: list[str]
    split: bool


class Limits(NamedTuple):
    """Where a walk ends: at its file system, at the directories ``beside``, and at a moment of the monotonic clock."""

    device: int
    beside: frozenset[str]
    until: float
    top: int


def walk(root: str, beside: Collection[str], seconds: float, top: int, label: str | None = None) -> Part:
    """Return the largest files and directories below ``root``. Raises OSError if it cannot be opened.

    ``beside`` are directories that are not entered: mount points and what is measured by itself. ``label`` is the path
    that is reported instead of ``root``.
    """
    started = time.monotonic()
    descriptor = os.open(root, FLAGS)
    device = os.fstat(descriptor).st_dev
    os.close(descriptor)
    limits = Limits(device, frozenset(beside) - {root}, started + seconds, top)
    total = _Total(root, top, root if label is None else label)
    workers = [_Worker(limits) for _number in range(min(WORKERS, os.cpu_count() or 1))]
    try:
        _hand_out(root, workers, total, limits)
    finally:
        for worker in workers:
            worker.end()
    return total.described(time.monotonic() - started)


def _hand_out(root: str, workers: list[_Worker], total: _Total, limits: Limits) -> None:
    """Give jobs to idle workers until everything is read, or the time is over."""
    jobs = [Job([root], True)]
    end = limits.until + GRACE
    while jobs or any(worker.job for worker in workers):
        idle = [worker for worker in workers if not worker.job]
        while jobs and idle:
            job = jobs.pop()
            # Divide the work only while others might have none.
            idle.pop().begin(Job(job.paths, job.split or len(jobs) < WAITING_LEAST))
        poll = select.poll()
        busy = {worker.results: worker for worker in workers if worker.job}
        for pipe in busy:
            poll.register(pipe, select.POLLIN)
        ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
        if not ready:
            break
        for pipe, _event in ready:
            worker = busy[pipe]
            result = worker.receive()
            if result is None:
                continue
            found = total.add(result)
            size = -(-len(found) // BATCHES)
            jobs += [Job(found[start : start + size], False) for start in range(0, len(found), max(1, size))]
    for worker in workers:
        if worker.job:
            total.left_out += worker.job.paths
    for job in jobs:
        total.left_out += job.paths


class _Total:
    """What the workers have found, together."""

    def __init__(self, root: str, top: int, label: str) -> None:
        self.root = root
        self.label = label
        self.top = top
        self.tree: Node = [0, 0, {}]
        self.files: list[Found] = []
        self.linked: set[int] = set()
        self.elsewhere: list[str] = []
        self.left_out: list[str] = []
        self.unreadable = 0

    def add(self, result: Part) -> list[str]:
        """Add the result of a job. Return the directories that are still to be read."""
        for path, node in result["nodes"]:
            self._graft(path, node)
        for path, inode, size in result["linked"]:
            # Another job has counted it too.
            if inode in self.linked:
                self._graft(path, [-size, -1, {}])
            self.linked.add(inode)
        self.files = heapq.nlargest(self.top, self.files + [tuple(each) for each in result["files"]])
        self.elsewhere += result["elsewhere"]
        self.left_out += result["left_out"]
        self.unreadable += result["unreadable"]
        return result["directories"]

    def _graft(self, path: str, node: Node) -> None:
        """Add a node to the tree, and its numbers to all directories above it."""
        above = self.tree
        above[0] += node[0]
        above[1] += node[1]
        inner = path[len(self.root.rstrip("/")) :].strip("/")
        for name in inner.split("/") if inner else ():
            above = above[2].setdefault(name, [0, 0, {}])
            above[0] += node[0]
            above[1] += node[1]
        above[2].update(node[2])

    def described(self, seconds: float) -> Part:
        """Return the part of the measurement about one root."""
        names = sorted(set(self.left_out))
        return {
            "root": text(self.label),
            "bytes": self.tree[0],
            "files": self.tree[1],
            "complete": not names,
            "directories": [
                {"path": text(path), "bytes": size, "files": files}
                for path, size, files in explain(self.label, self.tree)[: self.top]
            ],
            "largest_files": [
                {"path": self._named(path), "bytes": size, "modified": modified}
                for size, path, modified in sorted(self.files, reverse=True)
            ],
            "other_file_systems": [self._named(path) for path in sorted(set(self.elsewhere))[:NAMED]],
            "left_out": [self._named(path) for path in names[:NAMED]],
            "left_out_total": len(names),
            "unreadable": self.unreadable,
            "seconds": round(seconds, 3),
        }

    def _named(self, path: str) -> str:
        """Return a path as it is reported."""
        return text(self.label.rstrip("/") + path[len(self.root.rstrip("/")) :] or "/")


def text(path: str) -> str:
    """Return a path as text of limited length."""
    return cut(shown(path), PATH_LENGTH)


def explain(root: str, tree: Node) -> list[tuple[str, int, int]]:
    """Return ``(path, bytes, files)`` of the directories that hold most, none of them within another, largest first.

    A directory is replaced by its subdirectories if few of them hold most of it.
    """
    least = tree[0] * NOTABLE
    found = []
    waiting = [(root, tree)]
    while waiting:
        path, (size, files, children) = waiting.pop()
        notable = [(name, node) for name, node in children.items() if node[0] >= least and node[0] > 0]
        if notable and sum(node[0] for _name, node in notable) >= size * EXPLAINED:
            waiting += [(path.rstrip("/") + "/" + name, node) for name, node in notable]
        elif size > 0:
            found.append((path, size, files))
    return sorted(found, key=lambda each: (-each[1], each[0]))


class _Worker:
    """A process that reads directories. Jobs and results are lengths and JSON in two pipes."""

    def __init__(self, limits: Limits) -> None:
        self.job: Job | None = None
        self.received = b""
        jobs, self.jobs = os.pipe()
        self.results, results = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _work(jobs, results, limits)
        os.close(jobs)
        os.close(results)

    def begin(self, job: Job) -> None:
        """Give the process a job."""
        self.job = job
        # A process that has died is noticed by its missing result.
        with contextlib.suppress(BrokenPipeError):
            _send(self.jobs, tuple(job))

    def receive(self) -> Part | None:
        """Return the result of the job once it is complete. Raises OSError if the process has died."""
        chunk = os.read(self.results, 1 << 16)
        if not chunk:
            raise OSError("the process that reads directories has ended")
        self.received += chunk
        if len(self.received) < SIZE.size or len(self.received) < SIZE.size + SIZE.unpack_from(self.received)[0]:
            return None
        result = json.loads(self.received[SIZE.size :])
        self.job, self.received = None, b""
        return result

    def end(self) -> None:
        """End the process; one that hangs in the kernel is left behind."""
        os.close(self.jobs)
        os.close(self.results)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        for _attempt in range(20):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                    time.sleep(0.001)
                    continue
            return


def _send(pipe: int, value: object) -> None:
    data = json.dumps(value).encode("ascii")
    data = SIZE.pack(len(data)) + data
    while data:
        data = data[os.write(pipe, data) :]


def _work(jobs: int, results: int, limits: Limits) -> NoReturn:
    """Carry out jobs until there are no more, and end the process."""
    try:
        close_all_but(jobs, results)
        seen: set[int] = set()
        while True:
            size = os.read(jobs, SIZE.size)
            if not size:
                break
            data, left = b"", SIZE.unpack(size)[0]
            while len(data) < left:
                data += os.read(jobs, left - len(data))
            paths, split = json.loads(data)
            _send(results, _Reading(limits, seen).read(paths, split))
    finally:
        os._exit(0)


class _Reading:
    """One job: reads directories."""

    def __init__(self, limits: Limits, seen: set[int]) -> None:
        self.limits = limits
        # Inodes of files with several names that this process has counted.
        self.seen = seen
        self.linked: list[tuple[str, int, int]] = []
        self.files: list[Found] = []
        self.least = 0
        self.elsewhere: list[str] = []
        self.left_out: list[str] = []
        self.unreadable = 0

    def read(self, paths: Iterable[str], split: bool) -> Part:
        """Return what the parent adds up: plain data only."""
        nodes, directories = [], []
        for path in paths:
            if split:
                node = [0, 0, {}]
                directories += self.entries(path, node, path)
            else:
                node = self.tree(path)
            nodes.append((path, node))
        return {
            "nodes": nodes,
            "directories": directories,
            "linked": self.linked,
            "files": self.files,
            "elsewhere": self.elsewhere[: NAMED * 10],
            "left_out": self.left_out,
            "unreadable": self.unreadable,
        }

    def tree(self, top: str) -> Node:
        """Return the node of a directory with all below it. Small subdirectories are not in it by themselves."""
        nodes: list[tuple[str, Node, int]] = [(top, [0, 0, {}], -1)]
        waiting = [0]
        while waiting:
            number = waiting.pop()
            path, node, _above = nodes[number]
            for inner in self.entries(path, node, top):
                waiting.append(len(nodes))
                nodes.append((inner, [0, 0, {}], number))
        # Children come after their parents.
        for path, node, above in reversed(nodes[1:]):
            parent = nodes[above][1]
            parent[0] += node[0]
            parent[1] += node[1]
            parent[2][path[path.rindex("/") + 1 :]] = node
        whole = nodes[0][1]
        _prune(whole, whole[0] * LEAST_SHARE)
        return whole

    def entries(self, path: str, node: Node, job: str) -> list[str]:
        """Add the files of a directory to its node. Return its subdirectories."""
        if time.monotonic() > self.limits.until:
            self.left_out.append(path)
            return []
        try:
            descriptor = _open(path)
        except OSError:
            self.unreadable += 1
            return []
        try:
            if os.fstat(descriptor).st_dev != self.limits.device:
                self.elsewhere.append(path)
                return []
            return self._read(descriptor, path, node, job)
        except OSError:
            self.unreadable += 1
            return []
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, path: str, node: Node, job: str) -> list[str]:
        found: list[str] = []
        blocks = files = 0
        prefix, beside = path.rstrip("/") + "/", self.limits.beside
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner = prefix + entry.name
                    # Not even asked for its state: the file system of another mount may hang.
                    (self.elsewhere if inner in beside else found).append(inner)
                    continue
                try:
                    info = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                own = info.st_blocks
                if info.st_nlink > 1:
                    if info.st_ino in self.seen:
                        continue
                    self.seen.add(info.st_ino)
                    self.linked.append((job, info.st_ino, own * SECTOR))
                blocks += own
                files += 1
                if own > self.least:
                    self._note(own, prefix + entry.name, info.st_mtime)
        node[0] += blocks * SECTOR
        node[1] += files
        return found

    def _note(self, blocks: int, path: str, modified: float) -> None:
        """Keep a file among the largest."""
        heapq.heappush(self.files, (blocks * SECTOR, path, round(modified, 3)))
        if len(self.files) > self.limits.top:
            heapq.heappop(self.files)
            self.least = self.files[0][0] // SECTOR


def _open(path: str) -> int:
    """Open a directory without a change of its access time, if that is permitted."""
    try:
        return os.open(path, FLAGS | os.O_NOATIME)
    except PermissionError:
        return os.open(path, FLAGS)


def _prune(node: Node, least: float) -> None:
    """Remove the subdirectories that hold less than ``least`` bytes."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        each[2] = {name: child for name, child in each[2].items() if child[0] >= least and child[0] > 0}
        waiting += each[2].values()
