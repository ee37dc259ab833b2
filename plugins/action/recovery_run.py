# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a long module on a host in the background, and shows its progress meanwhile."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.playbook.task import Task
from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operation_records
from ansible_collections.tracktion.ops.plugins.plugin_utils import _progress_line, _runs
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert

COLLECTION = "tracktion.ops."
# Seconds between two looks: short at the beginning, because most runs are short.
FIRST_SECONDS = 0.5
PROGRESS_BYTES = 4096
# Failures of async_status in a row that end the task.
FAILURES_MOST = 5
# Looks in a row that find no process of the job.
LOOKS_MOST = 3
SEPARATOR = "\n--\n"
# The progress, the id of the boot, and the number of processes of the job.
LOOK = (
    "head -c %d -- %s 2>/dev/null; printf '\\n--\\n'; cat /proc/sys/kernel/random/boot_id;"
    " grep -qs . /proc/self/cmdline && grep -ls -e %s /proc/[0-9]*/cmdline 2>/dev/null | wc -l"
)
ENDED = "the job %s ended without a result: %s. Fix: Run the playbook again: it completes or undoes what was begun"
REBOOTED = "the host was started again meanwhile"
KILLED = "its process was killed (out of memory: `dmesg --level=err`)"


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    _longest_seconds = 5.0
    # The module ends itself at its deadline; the host ends it this much later.
    _slack_seconds = 60.0
    # The number of the last note that was shown.
    _noted = 0

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            {
                "module": {"type": "str", "required": True},
                "options": {"type": "dict", "required": True},
                "title": {"type": "str"},
            }
        )
        name = arguments["module"]
        if not name.startswith(COLLECTION):
            raise AnsibleActionFail("module: %s is not one of this collection" % clean(name))
        options = dict(arguments["options"])
        if "state_dir" in options:
            # For the record of the operation and the audit log of the host.
            options.setdefault("run", {**_runs.start(task_vars), "host": task_vars["inventory_hostname"]})
        title = "%s: %s" % (task_vars["inventory_hostname"], arguments["title"] or name[len(COLLECTION) :])
        return self._carry_out_held(name, options, title, task_vars)

    def _carry_out_held(
        self, name: str, options: dict[str, Any], title: str, task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """Carry out a module that begins an operation. What a controller that is dead has held does not stop it."""
        result = self._carry_out(name, options, title, task_vars)
        holders = map(_operation_records.record, _plain(result.get("holders")))
        dead = [each["id"] for each in holders if each and _is_dead(each)]
        return self._carry_out(name, {**options, "broken": dead}, title, task_vars) if dead else result

    def _carry_out(self, name: str, options: dict[str, Any], title: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a module, and show its progress meanwhile. In check mode it runs in the foreground."""
        if self._task.check_mode:
            return self._execute_module(module_name=name, module_args=options, task_vars=task_vars)
        # The same name in each run: a run that is killed leaves one file, which the next one replaces.
        mark = hashlib.sha256(title.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        options["progress"] = "%s/.progress-%s" % (options.get("directory") or options["state_dir"], mark)
        seconds = float(options.get("deadline") or 3600) + self._slack_seconds
        before, self._task.async_val = self._task.async_val, int(seconds)
        try:
            started = self._execute_module(module_name=name, module_args=options, task_vars=task_vars, wrap_async=True)
        finally:
            self._task.async_val = before
        if started.get("failed") or "ansible_job_id" not in started:
            return started
        return self._follow(started["ansible_job_id"], options["progress"], title, seconds, task_vars)

    def _follow(self, job: str, progress: str, title: str, seconds: float, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the result of the job. A connection that breaks is tried again until the job has to be over."""
        end, pause, shown, failures = time.monotonic() + seconds, FIRST_SECONDS, "", 0
        boot, gone = "", 0
        while time.monotonic() < end:
            time.sleep(pause)
            pause = min(self._longest_seconds, pause * 1.5)
            try:
                status = self._job("status", job, task_vars)
                if status.get("finished"):
                    self._job("cleanup", job, task_vars)
                    return _result(status)
                # The file of the job is not written in one step: one failure proves nothing.
                failures = failures + 1 if status.get("failed") else 0
                if failures == FAILURES_MOST:
                    return status
                found, boot_now, is_alive = self._look(progress, job)
                boot = boot or boot_now
                # A job that has just ended has a result at the next look.
                gone = 0 if is_alive else gone + 1
                if gone == LOOKS_MOST:
                    return {"failed": True, "msg": ENDED % (job, REBOOTED if boot_now != boot else KILLED)}
                for number, text in _progress_line.notes(found, self._noted):
                    self._display.display(clean("%s: %s" % (title, text)))
                    self._noted = number
                line = _progress_line.line(found)
            except AnsibleConnectionFailure as exc:
                line = "connection lost, trying again: %s" % exc
            if line and line != shown:
                self._display.display(clean("%s: %s" % (title, line)))
                shown = line
        return {"failed": True, "msg": "the job %s on the host did not end within %d s" % (job, seconds)}

    def _job(self, mode: str, job: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        task = Task.load({"action": "ansible.legacy.async_status", "args": {"jid": job, "mode": mode}})
        handler = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.async_status",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        return handler.run(task_vars=task_vars)

    def _look(self, path: str, job: str) -> tuple[Mapping[str, Any], str, bool]:
        """Return the progress, the id of the host's boot, and whether a process of the job is alive.

        The progress is empty if there is none. Unless both can be read, the job counts as alive.
        """
        # The first part of the id is an argument of the job's process. Brackets: this command does not match itself.
        pattern = "[%s]%s" % (job[:1], job[1:].partition(".")[0])
        found = self._low_level_execute_command(LOOK % (PROGRESS_BYTES, shlex.quote(path), shlex.quote(pattern)))
        content, _line, rest = str(found.get("stdout") or "").partition(SEPARATOR)
        words = rest.split()
        is_alive = len(words) != 2 or words[1] != "0"
        return _parsed(content), words[0] if words else "", is_alive


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _plain(value: object) -> list[Any]:
    # Ansible returns mappings of its own types.
    return [dict(each) if isinstance(each, Mapping) else each for each in value] if isinstance(value, list) else []


def _is_dead(record: Mapping[str, Any]) -> bool:
    """Return whether a lease holds an operation whose ansible-playbook was started here and has ended."""
    if record["until"] is None:
        return False
    names = {"pid": "controller_pid", "pid_start": "controller_start", "controller": "controller"}
    return _runs.is_dead({name: record[field] for name, field in names.items()})


def _result(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of the module, without what async_status adds."""
    added = ("ansible_job_id", "finished", "started", "results_file", "stdout_lines", "stderr_lines")
    return {key: value for key, value in status.items() if key not in added}
