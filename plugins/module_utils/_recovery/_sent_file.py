# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes the file that Ansible has sent to run a module. Private to this collection.

The file has the options of the task, with their passwords. Ansible removes it when the module ends: after hours, for a
large backup, and never if the module and what watches it are killed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

FILE, FOLDER = "AnsiballZ_", "ansible-tmp-"


def remove(module: AnsibleModule) -> None:
    """Remove the file of this process, which Python has read already. With ANSIBLE_KEEP_REMOTE_FILES it is kept."""
    if module._keep_remote_files:
        return
    with contextlib.suppress(OSError):
        with open("/proc/self/cmdline", "rb") as stream:
            words = [os.fsdecode(word) for word in stream.read().split(b"\0")]
        for path in words:
            folder, name = os.path.split(path)
            if name.startswith(FILE) and os.path.basename(folder).startswith(FOLDER):
                os.unlink(path)
