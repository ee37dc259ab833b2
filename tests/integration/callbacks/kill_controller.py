# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kills ansible-playbook with SIGKILL at one of its tasks. See tests/integration/controller_kills.py."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kill_controller
type: aggregate
short_description: Kills the controller at a task
description: Kills the controller at a task. For tests.
"""


class CallbackModule(CallbackBase):
    """Notes the title of each task that begins in the file ``LAB_TASKS``.

    ``LAB_KILL`` is the title of a task, and ``LAB_KILL_SECONDS`` how long after its begin the controller is killed.
    """

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kill_controller"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task, is_conditional):
        title = task.get_name().rpartition(" : ")[2]
        with open(os.environ["LAB_TASKS"], "a", encoding="utf-8") as log:
            log.write("%s\n" % title)
        if title == os.environ["LAB_KILL"]:
            seconds = float(os.environ["LAB_KILL_SECONDS"])
            if seconds:
                threading.Thread(target=self._later, args=(seconds,), daemon=True).start()
            else:
                kill(os.getpid())

    def _later(self, seconds):
        time.sleep(seconds)
        kill(os.getpid())


def kill(pid):
    """Kill a process and all below it. Jobs in the background of the host are not below it."""
    children = Path("/proc/%d/task/%d/children" % (pid, pid)).read_text(encoding="ascii").split()
    for child in children:
        kill(int(child))
    os.kill(pid, signal.SIGKILL)
