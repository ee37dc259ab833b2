# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration file of the Docker engine. Private to this collection."""

from __future__ import annotations

import json

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
MAX_BYTES = 1 << 20


def describe(path):
    """``path, exists, valid, problem`` and the settings, null where the file does not say. Raises PermissionError."""
    described = dict.fromkeys(SETTINGS)
    described.update(path=path, exists=True, valid=True, problem=None)
    try:
        with open(path, "rb") as stream:
            text = stream.read(MAX_BYTES)
    except FileNotFoundError:
        described.update(exists=False)
        return described
    try:
        data = json.loads(text.decode("utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it holds no mapping of settings")
    except ValueError as exc:
        # The parser's message tells where, and quotes nothing.
        described.update(valid=False, problem=str(exc))
        return described
    described.update({name: data.get(key) for name, key in SETTINGS.items()})
    return described
