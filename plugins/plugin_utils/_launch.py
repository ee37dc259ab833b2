# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command that starts a remediation with the options of this run. Private to this collection.

It repeats the inventories, the options and the extra variables of the run, without secrets. For a job of AWX it names
the limit and the extra variables of a job template instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.splitter import parse_kv
from ansible_collections.tracktion.ops.plugins.module_utils import _redact
from ansible_collections.tracktion.ops.plugins.module_utils._journal_entries import plain
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _runs
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

# Set by each command itself, or of no use to it.
NOT_REPEATED = re.compile(
    r"tracktion_(?:only|skip|confirm|remediate_risk|plan(?:_\w+)?|fail_\w+|report_format)|(?:awx|tower)_\w+"
)
# Paths inside the container of a job, which are lost at its end.
OF_CONTAINER = ("tracktion_report_dir", "tracktion_audit_file")
PRIVATE = re.compile(r"passw|passphrase|secret|token|credential|_key$|vault", re.IGNORECASE)
# A value that needs no quotes in name=value.
PLAIN = re.compile(r"[\w./@%+,-]+")
NAME = re.compile(r"[A-Za-z_]\w*")
# Characters that a host pattern may take for an operator.
PATTERN = re.compile(r"[^A-Za-z0-9_.\-]")
# Longer extra variables of a job come from its template, not from its launch.
LONGEST = 500


@dataclass(frozen=True)
class Launch:
    """The options of this run. ``options``: words of the command line; ``variables``: extra variables by name.

    ``files``: arguments of -e that name files. ``private``: names of extra variables whose values must not be shown.
    """

    inventories: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    variables: dict[str, Any] = field(default_factory=dict)
    private: tuple[str, ...] = ()
    awx: bool = False

    def command(self, host: str, variables: Mapping[str, Any]) -> str:
        """Return the command that shows a remediation of ``host`` with these extra variables, in check mode."""
        if self.awx:
            extra = json.dumps({**self.variables, **variables}, ensure_ascii=True).replace("`", "\\u0060")
            return "Launch the remediation job template with job type Check, limit `%s` and extra variables `%s`" % (
                limit(host),
                extra,
            )
        words = ["ansible-playbook", _areas.playbook("remediate")]
        for inventory in self.inventories:
            words += ["-i", inventory]
        words += [*self.options, "--limit", limit(host)]
        for file in self.files:
            words += ["-e", file]
        for name, value in {**self.variables, **variables}.items():
            words += ["-e", assignment(name, value)]
        # The shell replaces each by the environment variable of that name.
        secrets = ['-e "%s=$%s"' % (name, name.upper()) for name in self.private]
        return " ".join([*map(shell_quote, words), *secrets, "--check", "--diff"])


def assignment(name: str, value: object) -> str:
    """Return an argument of -e that sets one variable to exactly this value."""
    if isinstance(value, str) and PLAIN.fullmatch(value):
        return "%s=%s" % (name, value)
    return json.dumps({name: value}, ensure_ascii=False)


def limit(host: str) -> str:
    """Return a host pattern that matches this host and no other."""
    if not PATTERN.search(host):
        return host
    return "~^%s$" % PATTERN.sub(_pattern_escape, host)


def _pattern_escape(match: re.Match[str]) -> str:
    # Not re.escape(): Ansible splits a pattern at white space, commas and colons, escaped or not.
    code = ord(match.group())
    return "\\x%02x" % code if code < 0x100 else "\\U%08x" % code


def of_run(task_vars: Mapping[str, Any], loader: DataLoader, specs: Iterable[Mapping[str, Values]]) -> Launch:
    """Return the Launch of this run. ``specs`` are the argument_specs of its area roles."""
    options = {name: option for spec in specs for name, option in spec.items()}
    private = {name for name, option in options.items() if option.get("no_log")}
    arguments = [(argument, _variables(argument, loader)) for argument in context.CLIARGS.get("extra_vars") or ()]
    inventories = task_vars.get("ansible_inventory_sources") or ()
    return launch(context.CLIARGS, arguments, inventories, private, _runs.in_awx(task_vars), set(options))


def _variables(argument: str, loader: DataLoader) -> Mapping[str, Any]:
    """Return the variables that one argument of -e sets; none if it cannot be read any more."""
    try:
        if argument.startswith("@"):
            found = loader.load_from_file(argument[1:])
        else:
            found = loader.load(argument) if argument.startswith(("{", "[")) else parse_kv(argument)
    except AnsibleError:
        return {}
    return found if isinstance(found, Mapping) else {}


def launch(
    cli: Mapping[str, Any],
    arguments: Iterable[tuple[str, Mapping[Any, Any]]],
    inventories: Iterable[str],
    private: Collection[str],
    awx: bool,
    known: Collection[str],
) -> Launch:
    """Return the Launch of a run with these options of the command line. Pure.

    ``arguments``: for each -e, its argument and the variables it sets. ``private``: names of secret role variables.
    ``known``: names of all role variables; in AWX only these and the variables ``tracktion_*`` are repeated, because
    the others come from the job template.
    """
    files: list[str] = []
    variables: dict[str, Any] = {}
    secret: list[str] = []
    for argument, values in arguments:
        if argument.startswith("@") and not awx:
            files.append(argument)
            continue
        for name, value in values.items():
            name = str(name)
            if not NAME.fullmatch(name) or NOT_REPEATED.fullmatch(name):
                continue
            if awx and (name in OF_CONTAINER or not (name in known or name.startswith("tracktion_"))):
                continue
            if name in private or PRIVATE.search(name) or _has_secret(value):
                secret.append(name)
            elif not awx or len(json.dumps(plain(value))) <= LONGEST:
                variables[name] = plain(value)
    if awx:
        return Launch(variables=variables, awx=True)
    return Launch(tuple(inventories), _options(cli), tuple(files), variables, tuple(dict.fromkeys(secret)))


def _has_secret(value: object) -> bool:
    """Return whether a value contains text that looks like a secret, or is an encrypted value of Ansible."""
    if plain(value) != value:
        return True
    text = json.dumps(value, ensure_ascii=False)
    return _redact.redact(text) != text


# Options of ansible-playbook for the connection and the user, with their defaults.
FLAGS = {
    "become": ("-b", C.DEFAULT_BECOME),
    "become_ask_pass": ("-K", C.DEFAULT_BECOME_ASK_PASS),
    "ask_pass": ("-k", C.DEFAULT_ASK_PASS),
    "ask_vault_pass": ("-J", C.DEFAULT_ASK_VAULT_PASS),
}
VALUES = {
    "remote_user": ("-u", C.DEFAULT_REMOTE_USER),
    "connection": ("-c", C.DEFAULT_TRANSPORT),
    "private_key_file": ("--private-key", C.DEFAULT_PRIVATE_KEY_FILE),
    "become_user": ("--become-user", C.DEFAULT_BECOME_USER),
    "become_method": ("--become-method", C.DEFAULT_BECOME_METHOD),
    "vault_ids": ("--vault-id", ()),
    "vault_password_files": ("--vault-password-file", ()),
}


def _options(cli: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words of the options of this run that differ from the configured defaults."""
    words = [option for name, (option, default) in FLAGS.items() if cli.get(name) and not default]
    for name, (option, default) in VALUES.items():
        values = cli.get(name)
        if values and values != default:
            for value in (values,) if isinstance(values, str) else values:
                words += [option, str(value)]
    return tuple(words)
