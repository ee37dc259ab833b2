# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command that starts a remediation like this run. Private to this collection.

It repeats the inventories, the options and the extra variables of the run, without their secrets. A job of AWX has no
command line: there it names the limit and the extra variables of a job template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.splitter import parse_kv
from ansible_collections.tracktion.ops.plugins.module_utils import _redact
from ansible_collections.tracktion.ops.plugins.module_utils._journal_entries import plain
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _runs

# Set anew by every command, or of no use to one.
NOT_REPEATED = re.compile(
    r"tracktion_(?:only|skip|confirm|remediate_risk|plan(?:_\w+)?|fail_\w+|report_format)|(?:awx|tower)_\w+"
)
# Paths inside the container of a job, which is gone with it.
OF_CONTAINER = ("tracktion_report_dir", "tracktion_audit_file")
PRIVATE = re.compile(r"passw|passphrase|secret|token|credential|_key$|vault", re.IGNORECASE)
# A value that name=value passes on as it is.
PLAIN = re.compile(r"[\w./@%+,-]+")
NAME = re.compile(r"[A-Za-z_]\w*")
# What a host pattern takes for an operator.
PATTERN = re.compile(r"[^A-Za-z0-9_.\-]")
# Longer values of a job template are those of its own variables.
LONGEST = 500


@dataclass(frozen=True)
class Launch:
    """How this run was started. ``options``: words of the command line; ``variables``: extra variables by name.

    ``files``: arguments of -e that name files. ``private``: names of extra variables whose values must not be shown.
    """

    inventories: tuple = ()
    options: tuple = ()
    files: tuple = ()
    variables: dict = field(default_factory=dict)
    private: tuple = ()
    awx: bool = False

    def command(self, host: str, variables: Mapping) -> str:
        """Return how a remediation of ``host`` with these extra variables is looked at, before it is carried out."""
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
        # The shell fills in what is exported under the name of the variable.
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


def _pattern_escape(match: re.Match) -> str:
    # Not re.escape(): Ansible splits a pattern at white space, commas and colons, escaped or not.
    code = ord(match.group())
    return "\\x%02x" % code if code < 0x100 else "\\U%08x" % code


def of_run(task_vars: Mapping, loader, specs: Iterable[Mapping]) -> Launch:
    """Return the Launch of this run. ``specs`` are the argument_specs of the roles that it visited hosts with."""
    options = {name: option for spec in specs for name, option in spec.items()}
    private = {name for name, option in options.items() if option.get("no_log")}
    arguments = [(argument, _variables(argument, loader)) for argument in context.CLIARGS.get("extra_vars") or ()]
    inventories = task_vars.get("ansible_inventory_sources") or ()
    return launch(context.CLIARGS, arguments, inventories, private, _runs.in_awx(task_vars), set(options))


def _variables(argument: str, loader) -> Mapping:
    """Return what one argument of -e sets; nothing where it cannot be read any more."""
    try:
        if argument.startswith("@"):
            found = loader.load_from_file(argument[1:])
        else:
            found = loader.load(argument) if argument.startswith(("{", "[")) else parse_kv(argument)
    except AnsibleError:
        return {}
    return found if isinstance(found, Mapping) else {}


def launch(
    cli: Mapping, arguments: Iterable, inventories: Iterable, private: Iterable, awx: bool, known: Iterable
) -> Launch:
    """Return the Launch of a run with these options of the command line. Pure.

    ``arguments``: for each -e, its argument and the variables it sets. ``private``: names of role variables that are
    secret. ``known``: those of all role variables; in AWX only these and the variables ``tracktion_*`` are repeated,
    as everything else is the job template's own.
    """
    files, variables, secret = [], {}, []
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
    """Return whether a value holds what looks like a secret, or is one of Ansible's encrypted values."""
    if plain(value) != value:
        return True
    text = json.dumps(value, ensure_ascii=False)
    return _redact.redact(text) != text


# Options of ansible-playbook that decide whether and as whom a host is reached, with their defaults.
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


def _options(cli: Mapping) -> tuple:
    """Return the words of the options that this run was given and that are not the configured defaults."""
    words = [option for name, (option, default) in FLAGS.items() if cli.get(name) and not default]
    for name, (option, default) in VALUES.items():
        values = cli.get(name)
        if values and values != default:
            for value in (values,) if isinstance(values, str) else values:
                words += [option, str(value)]
    return tuple(words)
