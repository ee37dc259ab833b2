# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies a complete backup from a host to the controller, in parts, and verifies it there."""

from __future__ import annotations

import base64
import binascii
import os
import shlex
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _manifests
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._files import MANIFEST_BYTES
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._names import quoted, unquoted
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pending import Pending
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import MANIFEST, Manifest
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert

# Bytes of one command. The module fetch reads a whole file to memory if it becomes another user.
PART_BYTES = 16 << 20


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            {
                "path": {"type": "str", "required": True},
                "into": {"type": "path", "required": True},
                "keep": {"type": "int", "default": 7},
                "max_age_days": {"type": "float", "default": 0.0},
            }
        )
        path, host = arguments["path"], task_vars["inventory_hostname"]
        above, stamp = os.path.split(path.rstrip("/"))
        name = unquoted(os.path.basename(above))
        kind = os.path.basename(os.path.dirname(above))
        store = Store(os.path.join(os.path.abspath(arguments["into"]), quoted(host)))
        if self._task.check_mode or name is None:
            return {
                "changed": bool(name),
                "path": name and os.path.join(store.folder(kind, name), stamp),
                "bytes": None,
            }
        try:
            if store.read(kind, name, stamp):
                return {"changed": False, "path": os.path.join(store.folder(kind, name), stamp), "bytes": None}
            with store.create(kind, name, "fetch", stamp=stamp) as pending:
                manifest = self._received(pending, path)
                made = pending.finish(manifest, Deadline(float("inf")))
                removed = store.rotate(kind, name, arguments["keep"], arguments["max_age_days"] * 86400, made.stamp)
        except (Failure, OSError) as exc:
            raise AnsibleActionFail(clean("%s was not fetched: %s" % (path, exc)))
        return {"changed": True, "path": made.path, "bytes": made.bytes, "removed": [each.path for each in removed]}

    def _received(self, pending: Pending, path: str) -> Manifest:
        """Write the files of the host's backup, and return its manifest. Raises AnsibleActionFail, OSError."""
        text = self._part(os.path.join(path, MANIFEST), 0, MANIFEST_BYTES)
        manifest, problem = _manifests.parsed(text, pending.kind, pending.name, pending.stamp)
        if manifest is None:
            raise AnsibleActionFail(clean("%s: %s" % (path, problem)))
        for each in manifest["files"]:
            target = os.path.join(pending.path, each["path"])
            os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                for start in range(0, each["bytes"], PART_BYTES):
                    stream.write(self._part(os.path.join(path, each["path"]), start, PART_BYTES))
        return manifest

    def _part(self, path: str, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes of a file of the host from ``start``, which is a multiple of it."""
        command = "dd if=%s bs=%d skip=%d count=1 iflag=fullblock status=none | base64" % (
            shlex.quote(path),
            size,
            start // size,
        )
        found = self._low_level_execute_command(command)
        if found.get("rc") or not isinstance(found.get("stdout"), str):
            raise AnsibleActionFail(clean("%s cannot be read: %s" % (path, str(found.get("stderr"))[:300])))
        try:
            return base64.b64decode(found["stdout"], validate=False)
        except binascii.Error as exc:
            raise AnsibleActionFail(clean("%s cannot be read: %s" % (path, exc)))
