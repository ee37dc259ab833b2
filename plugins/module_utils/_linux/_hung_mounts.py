# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps paths on a mount that does not answer from being read. Private to this collection.

A process or thread that reads such a path may stay in state D until the server is back. However many measurements there
are, only the one process of ``_statvfs`` waits for the mount.
"""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import Hung
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _statvfs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline


class HungMounts:
    """The mounts of this mount namespace that wait for a server, each asked once."""

    def __init__(self) -> None:
        table = _mounts.mounts()
        self._remote = _mounts.may_hang(table, _mounts.NO_INODES)
        self._table = table if self._remote else []
        self._hung: dict[int, bool] = {}

    def reject(self, path: str, timeout: float, deadline: Deadline) -> None:
        """Raise Hung if an absolute path is on a mount that does not answer within ``timeout`` seconds."""
        if not self._remote or not _mounts.inside(path, self._remote):
            return
        mount = _mounts.mount_of(path, self._table)
        if mount is None:
            return
        if mount.device not in self._hung:
            target = _statvfs.Target(mount.device, mount.point, True)
            answer = _statvfs.read([target], timeout, deadline).get(0, _statvfs.Answer())
            self._hung[mount.device] = answer.hung_since is not None
        if self._hung[mount.device]:
            raise Hung.after(timeout)
