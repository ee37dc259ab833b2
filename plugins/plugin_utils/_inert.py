# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cleans the errors and messages of actions, which Ansible itself prints. Private to this collection."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean_lines

# Fields of a result with output of a host or a program. Ansible prints them unchanged.
TEXTS = ("msg", "reason", "module_stdout", "module_stderr", "failure")


Run = Callable[..., dict[str, Any]]


def inert(run: Run) -> Run:
    """Decorate an action's ``run``: clean the message of an error that it raises, and the texts of its result."""

    @functools.wraps(run)
    def wrapped(self: Any, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            result = run(self, tmp, task_vars)
        except AnsibleError as exc:
            # The text includes the causes. Without this, Ansible appends them again, not cleaned.
            exc.message, exc.__cause__ = clean_lines(str(exc)), None
            raise
        result.update({name: _clean(result[name]) for name in TEXTS if result.get(name)})
        return result

    return wrapped


def _clean(value: object) -> object:
    """Clean all texts of a value; lines, as of a traceback, are kept."""
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()}
    return clean_lines(value) if isinstance(value, str) else value
