# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How every measuring and every acting module ends. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end
from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean, clean_lines
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure


def exit_module(module, work):
    """End ``module`` with the dict that ``work()`` returns, or with the Failure that it raises.

    Of the result, ``diff`` is shown to those who asked for one, and ``failed`` makes the task fail with all the rest.
    A Failure is told in one line, with its hint; ``kind`` and ``hint`` are there for who reads it by program.
    Ansible prints messages and differences as they are: they are cleaned here.
    """
    try:
        result = dict({"changed": False}, **work())
    except Failure as exc:
        told = "%s. Fix: %s" % (str(exc).rstrip("."), exc.hint) if exc.hint else str(exc)
        module.fail_json(msg=clean(told), kind=exc.kind, hint=exc.hint and clean(exc.hint))
    finally:
        _at_end.run()
    diff = result.pop("diff", None)
    if module._diff and diff is not None:
        result["diff"] = _inert(diff)
    if isinstance(result.get("msg"), str):
        result["msg"] = clean_lines(result["msg"])
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


def _inert(diff):
    """Text only: what is a mapping or a list, Ansible shows as JSON in ASCII."""
    if isinstance(diff, list):
        return [_inert(each) for each in diff]
    return {key: clean_lines(value) if isinstance(value, str) else value for key, value in diff.items()}
