# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps what Ansible itself prints of our actions inert: errors and messages. Private to this collection."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean_lines

# Fields of a result that hold what a host or a program said. Ansible prints text as it is, and JSON beyond ASCII too.
TEXTS = ("msg", "reason", "module_stdout", "module_stderr", "failure")


def inert(run: Callable) -> Callable:
    """Decorate an action's ``run``: clean the message of an error it raises, and the texts of a result it returns."""

    @functools.wraps(run)
    def wrapped(self, tmp=None, task_vars=None):
        try:
            result = run(self, tmp, task_vars)
        except AnsibleError as exc:
            # The text includes the causes, which Ansible would append once more, uncleaned.
            exc.message, exc.__cause__ = clean_lines(str(exc)), None
            raise
        result.update({name: _clean(result[name]) for name in TEXTS if result.get(name)})
        return result

    return wrapped


def _clean(value: object) -> object:
    """Tracebacks and the like keep their lines."""
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()}
    return clean_lines(value) if isinstance(value, str) else value
