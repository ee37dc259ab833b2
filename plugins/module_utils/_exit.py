# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends every measuring and every acting module. Private to this collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end
from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean, clean_lines
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def exit_module(module: AnsibleModule, work: Callable[[], Mapping[str, Any]]) -> None:
    """End ``module`` with the mapping that ``work()`` returns, or with the Failure that it raises.

    ``diff`` is returned only in diff mode. ``failed`` makes the task fail with the rest of the result.
    The message of a Failure is one line with the hint in it; ``kind`` and ``hint`` are returned too.
    Ansible prints messages and differences as they are, so they are cleaned here.
    """
    try:
        result: dict[str, Any] = dict({"changed": False}, **work())
    except Failure as exc:
        message = "%s. Fix: %s" % (str(exc).rstrip("."), exc.hint) if exc.hint else str(exc)
        module.fail_json(msg=clean(message), kind=exc.kind, hint=exc.hint and clean(exc.hint), **exc.details)
    finally:
        _at_end.run()
    diff = result.pop("diff", None)
    if module._diff and diff is not None:
        result["diff"] = _clean_diff(diff)
    if isinstance(result.get("msg"), str):
        result["msg"] = clean_lines(result["msg"])
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


def _clean_diff(diff: Any) -> Any:
    """Return a difference with clean text. Ansible prints mappings and lists in it as ASCII JSON."""
    if isinstance(diff, list):
        return [_clean_diff(each) for each in diff]
    return {key: clean_lines(value) if isinstance(value, str) else value for key, value in diff.items()}
