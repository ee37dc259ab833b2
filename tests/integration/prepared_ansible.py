# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs ansible-playbook in forks of a process that has imported Ansible: the same code, a third less processor time.

The program of this file is that process. It reads requests from a socket: the arguments, and where the output goes.
The runs of one process share the modules that Ansible has packed. Everything else is read anew by each run.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

COMMANDS = {"ansible": "ansible.cli.adhoc", "ansible-playbook": "ansible.cli.playbook"}
# What every run imports. Plugins have the names that Ansible's loader of plugins gives them.
IMPORTED = (
    "ansible.executor.module_common",
    "ansible.executor.playbook_executor",
    "ansible.executor.process.worker",
    "ansible.executor.task_executor",
    "ansible.plugins.action.normal",
    "ansible.plugins.callback.default",
    "ansible.plugins.callback.minimal",
    "ansible.plugins.connection.local",
    "ansible.plugins.inventory.yaml",
    "ansible.plugins.shell.sh",
    "ansible.plugins.strategy.linear",
)
# Variables that Ansible may see change between the runs of one process: it reads none of them at import.
FREE = ("PYTEST_CURRENT_TEST", "TRACKTION_PLAN_KEY")


class Prepared:
    """A process that has imported Ansible with an environment."""

    def __init__(self, environment, folder):
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            # It ends at the end of the socket, also if this process is killed.
            self._process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        atexit.register(self.close)

    def run(self, command, environment, timeout):
        """Run a command with its output merged; return subprocess.CompletedProcess."""
        output, output_end = os.pipe()
        status, status_end = os.pipe()
        with open(output, encoding="utf-8") as output, open(status, "rb") as status:
            request = {
                "command": command,
                "environment": {name: environment.get(name) for name in FREE},
                "umask": _umask(),
            }
            try:
                with self._lock:
                    socket.send_fds(self._socket, [json.dumps(request).encode()], [output_end, status_end])
            finally:
                os.close(output_end)
                os.close(status_end)
            pid = int(status.readline())
            expired = threading.Event()
            timer = threading.Timer(timeout, lambda: (expired.set(), _kill(pid)))
            timer.start()
            try:
                text = output.read()
                code = int(status.readline())
            finally:
                timer.cancel()
        if expired.is_set():
            raise subprocess.TimeoutExpired(command, timeout, text)
        return subprocess.CompletedProcess(command, code, text)

    def close(self):
        self._socket.close()
        self._process.wait()


def run(command, environment, folder, timeout):
    """Run a command as subprocess.run() does, with stderr in stdout and without input.

    From the second run of Ansible with the same environment on, it is a fork. Both ways are used by every test run.
    """
    program = Path(command[0])
    if program.name in COMMANDS and program.parent == Path(sys.executable).parent:
        fixed = tuple(sorted(item for item in environment.items() if item[0] not in FREE))
        if fixed in _seen:
            return _prepared(fixed, folder).run(command, environment, timeout)
        _seen.add(fixed)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


_seen = set()
_processes = {}


def _prepared(fixed, folder):
    """Return the process for an environment. There are at most two."""
    key = (fixed, folder)
    if key not in _processes:
        if len(_processes) == 2:
            _processes.pop(next(iter(_processes))).close()
        _processes[key] = Prepared(dict(fixed), folder)
    return _processes[key]


def _umask():
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _kill(pid):
    """Kill a process and all below it: Ansible's workers have sessions of their own, and hold the output open."""
    with contextlib.suppress(OSError):
        children = Path("/proc/%d/task/%d/children" % (pid, pid)).read_text().split()
        os.kill(pid, signal.SIGKILL)
        for child in children:
            _kill(int(child))


# The program


def serve(requests):
    """Fork for each request. Returns only in the forks, with the command to run."""
    imported = [importlib.import_module(name) for name in (*IMPORTED, *COMMANDS.values())]
    assert imported
    # Not set by benchmarks, which run without pytest.
    if "TRACKTION_TESTS_COMPILED" in os.environ:
        # A tenth of the time of a diagnosis. The module is tests/site/sitecustomize.py.
        finder = importlib.import_module("ansible.utils.collection_loader._collection_finder")
        vars(finder)["compile"] = importlib.import_module("sitecustomize").compile_module
    gc.collect()
    # The collector of the forks does not look at these objects, which would copy their pages.
    gc.freeze()
    # The kernel removes the forks that have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        text, descriptors, _flags, _address = socket.recv_fds(requests, 2**20, 2)
        if not text:
            sys.exit()
        output, status = descriptors
        if os.fork() == 0:
            requests.close()
            return attend(json.loads(text), output, status)
        os.close(output)
        os.close(status)


def attend(request, output, status):
    """Fork once more and write the process id and the exit status of the fork. Returns only in that fork."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        os.umask(request["umask"])
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        for name, value in request["environment"].items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        return request["command"]
    os.close(output)
    os.write(status, b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(status, b"%d\n" % code)
    os._exit(0)


def own_temporary_directory():
    """Give this run a temporary directory, as Ansible removes it at the end; the packed modules stay."""
    from ansible import constants
    from ansible.utils.path import cleanup_tmp_file

    shared = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
    shared.mkdir(exist_ok=True)
    atexit.unregister(cleanup_tmp_file)
    own = tempfile.mkdtemp(prefix="ansible-local-%d" % os.getpid(), dir=shared.parents[1])
    atexit.register(cleanup_tmp_file, own, warn=True)
    (Path(own) / shared.name).symlink_to(shared)
    constants.DEFAULT_LOCAL_TMP = own


if __name__ == "__main__":
    sys.argv = serve(socket.socket(fileno=int(sys.argv[1])))
    own_temporary_directory()
    sys.exit(importlib.import_module(COMMANDS[Path(sys.argv[0]).name]).main())
