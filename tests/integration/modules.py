# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a module as Ansible would, in a process of its own, and returns what it says: a tenth of the time of a task."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import ansible
from ansible.module_utils.testing import patch_module_args

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections.tracktion.ops.plugins.modules"


def run_module(name, arguments=None, check=False, diff=False, before=None):
    """The result of a module. ``before`` is called in its process first, to take away privileges, say."""
    module = importlib.import_module("%s.%s" % (PACKAGE, name))
    with tempfile.TemporaryFile("w+") as output:
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(output.fileno(), 1)
                sys.stdout = os.fdopen(1, "w", closefd=False)
                if before:
                    before()
                with patch_module_args({**(arguments or {}), "_ansible_check_mode": check, "_ansible_diff": diff}):
                    module.main()
            except SystemExit:
                sys.stdout.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        _wait(pid)
        output.seek(0)
        return json.loads(output.read().strip().splitlines()[-1])


def killed_after(seconds, work):
    """Call ``work()`` in a group of processes of its own, and kill all of them after ``seconds``."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _wait(pid, seconds=120):
    """Wait for a child. One that another thread's lock stops, as it was held at the fork, is ended with an error."""
    until = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError("the module did not end within %d s" % seconds)
        time.sleep(0.005)


IN_CONTAINER = """
import importlib, json, sys
from ansible.module_utils.testing import patch_module_args
name, arguments = json.loads(sys.argv[1])
with patch_module_args(arguments):
    importlib.import_module("%s." + name).main()
""" % (PACKAGE,)


def run_module_in_container(image, name, arguments=None, options=(), timeout=60):
    """The result of a module inside a throwaway container; ``options`` are those of ``docker run``."""
    done = subprocess.run(
        ["docker", "run", "--rm", *options]
        + ["--volume", "%s:/collection:ro" % ROOT, "--volume", "%s:/python/ansible:ro" % Path(ansible.__file__).parent]
        + ["--env", "PYTHONPATH=/python:/collection/playbooks/collections", "--env", "PYTHONDONTWRITEBYTECODE=1"]
        + [image, "python3", "-c", IN_CONTAINER, json.dumps([name, arguments or {}])],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])
