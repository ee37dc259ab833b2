# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hints for data that the account has no right to read. Private to this collection."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

COMMAND = "ansible-playbook tracktion.ops.diagnose --become"
BECOME = "Measure with become: `%s`" % COMMAND
ON_THE_HOST = "Measure on the host itself as root, as this root has no %s"
# Numbers of linux/capability.h.
CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYSLOG": 34,
}


def become_user(name: str) -> str:
    """Return the hint for data that only one account may read."""
    return "Measure as its user: `%s --become-user=%s`" % (COMMAND, shell_quote(name))


def hint(missing: str) -> str | None:
    """Return the hint for data that needs root, or for a root that lacks the capability ``missing``, as in a container.

    Null for a root that has the capability: the reason is another one, such as root_squash of an NFS server.
    """
    if os.geteuid():
        return BECOME
    return None if has(missing) else ON_THE_HOST % missing


def has(capability: str) -> bool:
    """Return whether this process has a capability; false for an unknown name."""
    if capability not in CAPABILITIES:
        return False
    with open("/proc/self/status", encoding="utf-8") as stream:
        held = next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff:"))
    return bool(held >> CAPABILITIES[capability] & 1)


def hint_of(exc: OSError) -> str | None:
    """Return the hint for an OSError; null if more rights would not help."""
    return hint("CAP_DAC_READ_SEARCH") if isinstance(exc, PermissionError) else None
