# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports the result of tune_inotify.yml. Runs once, on the controller."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.color import ANSIBLE_COLOR
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _report_file, _runs, _tuning
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import cleaned

FILE = "tune_inotify.json"
WRONG = ("failed", "unreachable")


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "hosts": {"type": "list", "elements": "str", "default": []},
                "only_if_failed": {"type": "bool", "default": False},
            }
        )
        hostvars = task_vars["hostvars"]
        result: dict[str, Any] = {"changed": False, "path": None, "summary": None}
        if arguments["only_if_failed"] and not any(
            host["status"] in WRONG for host in _tuned(hostvars, task_vars["ansible_play_batch"])
        ):
            return result
        tuned = _tuned(hostvars, hostvars)
        if not tuned:
            raise AnsibleActionFail(
                "No host was tuned: the inventory, --limit and tracktion_hosts together match no host, or no floor is "
                "set. Show the inventory: `ansible-inventory --graph`"
            )
        missed = sorted(set(arguments["hosts"]) - {host["name"] for host in tuned})
        report = _tuning.build(
            tuned + [_tuning.not_visited(name) for name in missed],
            self._task.check_mode,
            _areas.version(),
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        path = _report_file.keep(report, os.path.abspath(os.path.join(arguments["directory"], FILE)), self._display)
        # AWX removes the file at the end of the job.
        shown = None if _runs.in_awx(task_vars) else path
        self._display.display("\n" + _tuning.render(report, colour=bool(ANSIBLE_COLOR), path=shown))
        result.update(path=path, summary=cleaned(_tuning.summary(report)))
        result["ansible_stats"] = _report_file.stats("tracktion_tuned", result["summary"])
        return result


def _tuned(hostvars: Any, names: Iterable[str]) -> list[_tuning.Host]:
    """Return the results of those of the hosts that were visited."""
    found = [_tuning.host(name, hostvars.raw_get(name)) for name in names]
    return [host for host in found if host]
