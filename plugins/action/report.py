# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judges what the visits brought home, shows it, and writes it down. Runs once, on the controller."""

from __future__ import annotations

import os
import time

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.utils.color import ANSIBLE_COLOR
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _judge, _lines, _report, _terminal, _visit

NEVER = "never"
FORMATS = {"full": _terminal.render, "lines": _lines.render}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "fail_at": {"type": "str", "choices": [NEVER, *reversed(_judge.STATUSES[1:])], "default": NEVER},
                "format": {"type": "str", "choices": list(FORMATS), "default": "full"},
            }
        )
        visits = _visits(task_vars["hostvars"])
        if not visits:
            raise AnsibleActionFail(
                "No host was visited: the inventory, --limit and tracktion_hosts together match none. "
                "ansible-inventory --graph shows what the inventory holds."
            )
        findings, hosts = [], []
        results = [result for results in visits.values() for result in results]
        roles = sorted({outcome["role"] for result in results for outcome in result["areas"].values()})
        judges = _report.Judges(_areas.find(roles, task_vars.get("playbook_dir", ".")) if roles else [])
        for name, own in visits.items():
            host, found = _report.host_report(name, own, judges, _coerce)
            hosts.append(host)
            findings.extend(found)

        path = os.path.abspath(os.path.join(arguments["directory"], "report.json"))
        started = min(result.get("started") or time.time() for result in results)
        inventories = task_vars.get("ansible_inventory_sources") or []
        report = _report.build(
            hosts, findings, _report.read_previous(path), _areas.version(), started, time.time(), inventories
        )
        result = {"changed": False, "summary": _report.summary(report)}
        try:
            _report.write(report, path)
        except OSError as exc:
            # The person at the terminal must not lose the diagnosis to a full or read-only disk.
            self._display.warning("directory: the report cannot be written to %s: %s" % (path, exc.strerror))
            path = None
        render = FORMATS[arguments["format"]]
        self._display.display("\n" + render(report, colour=bool(ANSIBLE_COLOR), path=path))
        result["path"] = path
        result["ansible_stats"] = {
            "data": {"tracktion_report": result["summary"]},
            "per_host": False,
            "aggregate": True,
        }
        fail_at = arguments["fail_at"]
        result["too_bad"] = fail_at != NEVER and _judge.STATUSES.index(report["status"]) >= _judge.STATUSES.index(
            fail_at
        )
        return result


def _visits(hostvars):
    """By host, the results that its visits registered."""
    visits = {}
    for name in hostvars:
        results = _visit.results(hostvars.raw_get(name).get("tracktion_visit"))
        if results:
            visits[name] = results
    return visits


def _coerce(argument_spec, settings):
    """The settings in the types of the role's argument_specs: -e and surveys hand over text."""
    spec = {name: _option(option) for name, option in argument_spec.items() if name in settings}
    validated = ArgumentSpecValidator(spec).validate(settings)
    if validated.error_messages:
        raise AnsibleActionFail("; ".join(validated.error_messages))
    return validated.validated_parameters


def _option(option):
    return {key: option[key] for key in ("type", "elements", "choices") if key in option}
