# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolves variables of Ansible to plain data, without empty extra variables. Private to this collection."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.tracktion.ops.plugins.plugin_utils import _survey_answers

# The start of a template of Jinja: an expression, a statement or a comment.
TEMPLATE = re.compile(r"\{[{%#]")
# Only names are taken from Ansible's messages, which may quote values.
UNDEFINED = re.compile(r"'(\w+)' is undefined")
PLUGIN = re.compile(r"The (lookup|filter|test) plugin '([\w.]+)'")


class Unresolved(Exception):
    """A value cannot be resolved: its template fails, or it cannot be decrypted. The message has no value."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.hint = hint


class Omitted(Exception):
    """A template resolved to ``omit``: no value is set."""


def resolve(templar: Any, value: Any) -> Any:
    """Return a value as plain data, with its templates rendered and its vaults decrypted at any depth.

    The templar needs 0.3 ms for each value on each host, so text without a template is not given to it.
    Raises Unresolved or Omitted.
    """
    if isinstance(value, str):
        return _templated(templar, value) if TEMPLATE.search(value) else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: resolve(templar, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(templar, inner) for inner in value]
    # A value of `!vault`, or another one that Ansible resolves when it is used.
    return _templated(templar, value)


def _templated(templar: Any, value: Any) -> Any:
    try:
        return _plain(templar, templar.template(value))
    except Exception as exc:
        if type(exc).__name__ == "AnsibleValueOmittedError":
            raise Omitted from None
        raise _unresolved(exc) from None


def _plain(templar: Any, value: Any) -> Any:
    """Return the result of a template without Ansible's own containers, which resolve their elements lazily."""
    if isinstance(value, Mapping):
        return {key: _plain(templar, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(templar, inner) for inner in value]
    return templar.template(value) if type(value).__name__ == "EncryptedString" else value


def _unresolved(exc: Exception) -> Unresolved:
    chain: BaseException | None = exc
    text = ""
    while chain is not None:
        text += " %s" % chain
        if "Vault" in type(chain).__name__:
            return Unresolved(
                "is encrypted with ansible-vault and cannot be decrypted",
                "Give the run the vault password: `--vault-password-file FILE`, or a vault credential in AWX.",
            )
        chain = chain.__cause__
    undefined, plugin = UNDEFINED.search(text), PLUGIN.search(text)
    if plugin:
        return Unresolved("its template fails in the %s %s" % plugin.groups())
    if undefined:
        return Unresolved("its template uses the variable %s, which is not defined" % undefined.group(1))
    if "Undefined" in type(exc).__name__:
        return Unresolved("its template uses something that is not defined")
    return Unresolved("its template fails (%s)" % type(exc.__cause__ or exc).__name__)


def without_empty_answers(
    variables: Mapping[str, Any], templar: Any, prefixes: tuple[str, ...], task: Any = None
) -> Mapping[str, Any]:
    """Return ``variables`` as if the extra variables of these prefixes that are empty text were not set.

    A survey passes an optional question that was left empty as an extra variable, which hides the value of the
    inventory. ``task`` is the current task, for the variables of its play and role.
    """
    hostvars: Any = variables.get("hostvars")
    manager: Any = getattr(hostvars, "_variable_manager", None)
    extra = manager.extra_vars if manager else {}
    empty = [name for name, value in extra.items() if name.startswith(prefixes) and _is_empty(templar, value)]
    if not empty:
        return variables
    # Ansible has no public function for this. The copy exists in the process of this task only.
    other = copy.copy(manager)
    other._extra_vars = {name: value for name, value in extra.items() if name not in empty}
    host = hostvars._inventory.get_host(variables["inventory_hostname"])
    below = other.get_vars(play=_play_of(task), host=host, task=task, include_hostvars=False)
    kept = {name: value for name, value in variables.items() if name not in empty}
    # Variables of a play may use those of the inventory: `hostvars[inventory_hostname].name | default(...)`.
    kept["hostvars"] = type(hostvars)(hostvars._inventory, other, hostvars._loader)
    return {**kept, **{name: below[name] for name in empty if name in below}}


def _is_empty(templar: Any, value: Any) -> bool:
    """Return whether a value is empty, also if it is a template of a survey's answer: ``"{{ answer }}"``."""
    if not isinstance(value, str) or "{" not in value:
        return _survey_answers.is_empty(value)
    try:
        return _survey_answers.is_empty(resolve(templar, value))
    except (Unresolved, Omitted):
        return False


def _play_of(task: Any) -> Any:
    parent = getattr(task, "_parent", None)
    return getattr(parent, "_play", None)


def current_task() -> Any:
    """Return the task for which a lookup is evaluated, or None outside of a task."""
    try:
        from ansible._internal._task import TaskContext

        return TaskContext.current().task
    except (ImportError, ReferenceError, AttributeError):
        return None
