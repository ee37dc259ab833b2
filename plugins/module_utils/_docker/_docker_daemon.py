# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of the Docker engine: its file, and the flags beside it. Private to this collection."""

from __future__ import annotations

import json
import os
import re

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes

# What of it bears on the network, by our names.
SETTINGS = {
    "iptables": "iptables",
    "ip_forward": "ip-forward",
    "userland_proxy": "userland-proxy",
    "bridge": "bridge",
    "dns": "dns",
    "address_pools": "default-address-pools",
    "firewall_backend": "firewall-backend",
}
# Flags whose name in the file is another one.
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
# Since this version the engine takes an empty file for one that sets nothing.
TAKES_EMPTY = 23
MAX_BYTES = 1 << 20


def flags(seconds):
    """``{name in the file: value, null for none}`` of what the engine of this machine is started with.

    Of the one that runs in our network, else of the unit that would start it; empty where there is neither.
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


def parsed(words):
    found = {}
    for word in words[1:]:
        flag = FLAG.match(word)
        if flag:
            name = flag.group(1) or flag.group(3)
            found[IN_FILE.get(name, name)] = flag.group(2)
    return found


def describe(path, given, version=None):
    """``path, exists, valid, problem, conflicts`` and the settings, null where nobody sets them.

    Raises PermissionError. ``given`` are the flags of the engine, ``version`` is the first number of its version, null
    where it does not tell.
    """
    described = {name: _value(given.get(key)) for name, key in SETTINGS.items()}
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
        # The parser's message tells where, and quotes nothing.
        described.update(valid=False, problem=str(exc))
        return described
    for name, key in SETTINGS.items():
        described[name] = data.get(key, described[name])
    # An engine that is told to use another file has nothing to do with this one.
    if given.get("config-file") in (None, path):
        described["conflicts"] = sorted(set(data).intersection(given))
    if described["conflicts"]:
        said = ", ".join(described["conflicts"])
        described.update(valid=False, problem="set here and as flags of dockerd, which it refuses: %s" % said)
    return described


def settings(text):
    """The settings in the text of the file. Raises ValueError with what is wrong with it."""
    if not text.strip():
        raise ValueError("it is empty, which engines before %d.0 refuse: write {} into it" % TAKES_EMPTY)
    data = json.loads(text)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError("it holds no mapping of settings")
    return data


def _value(text):
    """The value of a flag, as the file would have it."""
    return {"true": True, "false": False}.get(text, text)
