# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of the Docker engine: its file and its flags. Private to this collection."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Settings of the network: our name -> name in the file.
SETTINGS = {
    "iptables": "iptables",
    "ip_forward": "ip-forward",
    "userland_proxy": "userland-proxy",
    "bridge": "bridge",
    "dns": "dns",
    "address_pools": "default-address-pools",
    "firewall_backend": "firewall-backend",
}
# Flags with another name in the file.
IN_FILE = {
    "host": "hosts",
    "label": "labels",
    "log-opt": "log-opts",
    "storage-opt": "storage-opts",
    "exec-opt": "exec-opts",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "insecure-registry": "insecure-registries",
    "registry-mirror": "registry-mirrors",
    "default-address-pool": "default-address-pools",
    "authorization-plugin": "authorization-plugins",
    "node-generic-resource": "node-generic-resources",
    "cdi-spec-dir": "cdi-spec-dirs",
    "H": "hosts",
    "D": "debug",
    "G": "group",
    "b": "bridge",
    "l": "log-level",
    "p": "pidfile",
    "s": "storage-driver",
}
FLAG = re.compile(r"--([a-z0-9-]+)(?:=(.*))?$|-([A-Za-z])")
UNIT = ["systemctl", "show", "--property=ExecStart", "docker.service"]
UNITS_COMMAND = re.compile(r"argv\[\]=(.*?) ;")
# From this version on, the engine accepts an empty file.
TAKES_EMPTY = 23
MAX_BYTES = 1 << 20


def flags(seconds: float) -> dict[str, str | None]:
    """Return ``{name in the file: value, null for none}`` of the flags of the engine of this machine.

    Those of the process in the same network namespace, else those of the unit; empty if there is neither.
    """
    for pid in _processes.pids():
        words = _processes.arguments(pid)
        if words and os.path.basename(words[0]) == "dockerd" and not _processes.networks_differ(os.getpid(), pid):
            return parsed(words)
    try:
        command = UNITS_COMMAND.search(_programs.output(UNIT, seconds))
    except _programs.Failed:
        return {}
    return parsed(command.group(1).split()) if command else {}


def parsed(words: Sequence[str]) -> dict[str, str | None]:
    """Return the flags in a command line."""
    found: dict[str, str | None] = {}
    for word in words[1:]:
        flag = FLAG.match(word)
        if flag:
            name = flag.group(1) or flag.group(3)
            found[IN_FILE.get(name, name)] = flag.group(2)
    return found


def describe(path: str, given: Mapping[str, str | None], version: int | None = None) -> Part:
    """Return ``path, exists, valid, problem, conflicts`` and the ``SETTINGS``, null if not set.

    ``given`` are the flags of the engine, ``version`` its major version, null if unknown. Raises PermissionError.
    """
    described: Part = {name: _value(given.get(key)) for name, key in SETTINGS.items()}
    described.update(path=path, exists=True, valid=True, problem=None, conflicts=[])
    try:
        with open(path, "rb") as stream:
            text = stream.read(MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        described.update(exists=False)
        return described
    try:
        data = {} if not text.strip() and (version or 0) >= TAKES_EMPTY else settings(text)
    except ValueError as exc:
        # The message of the parser has the position, and quotes nothing.
        described.update(valid=False, problem=str(exc))
        return described
    for name, key in SETTINGS.items():
        described[name] = data.get(key, described[name])
    # An engine with another file does not read this one.
    if given.get("config-file") in (None, path):
        described["conflicts"] = sorted(set(data).intersection(given))
    if described["conflicts"]:
        names = ", ".join(described["conflicts"])
        described.update(valid=False, problem="dockerd rejects settings that are also flags: %s" % names)
    return described


def settings(text: str) -> dict[str, Any]:
    """Return the settings in the text of the file. Raises ValueError with the reason if it is invalid."""
    if not text.strip():
        raise ValueError("it is empty, which engines before %d.0 reject: write {} into it" % TAKES_EMPTY)
    data = json.loads(text)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError("it is not an object")
    return data


def _value(text: str | None) -> str | bool | None:
    """Return the value of a flag as it would be in the file."""
    return text == "true" if text in ("true", "false") else text
