#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_backup
short_description: Back up a Redis server
version_added: 0.4.0
description:
  - Takes a snapshot of all databases and functions of a Redis server, as one RDB file with a manifest.
  - An RDB file holds the whole data set, also of a server with an append-only file. What is written after the snapshot is not in the backup.
  - The backup is written under a temporary name, read back, compared with the server, flushed to the disk and renamed. After that, old ones are
    removed. A run that is killed leaves nothing that is listed as complete.
  - ACL users and settings are not in an RDB file. The manifest describes them, without passwords.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._redis
  - tracktion.ops._broker_backups
  - tracktion.ops._operations
  - tracktion.ops._broker_backups.keep
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run takes a backup.
options:
  name:
    description: Name of the server's backups.
    type: str
    default: redis
  method:
    description:
      - With V(save), the server saves (BGSAVE), which is awaited and checked, and its file is copied. This needs the server's process on the host of
        the task, in a container or not, and root. It is not done if the disk of the server has no room for another file, because a server with
        save points rejects writes after a failed save.
      - With V(stream), the server sends the snapshot as to a new replica, and writes nothing to its disk. This needs the right to run SYNC.
      - With V(auto), V(save) where it is possible, else V(stream).
    type: str
    choices: [auto, save, stream]
    default: auto
  deadline:
    description: Seconds for the whole backup.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: Back up Redis
  tracktion.ops.redis_backup:
    login_password: "{{ redis_password }}"
"""

RETURN = r"""
name:
  description: O(name).
  returned: always
  type: str
  sample: redis
result:
  description: V(planned) in check mode, else V(done).
  returned: always
  type: str
  sample: done
path:
  description: Directory of the backup; in check mode, where it would be written.
  returned: always
  type: str
  sample: /var/backups/tracktion/redis/redis/20261129T125200Z
stamp:
  description: Name of that directory.
  returned: if there is a backup
  type: str
  sample: 20261129T125200Z
bytes:
  description: Size of its files; null in check mode.
  returned: always
  type: int
  sample: 1270043
finished:
  description: When the backup was complete, in seconds since 1970.
  returned: if there is a backup
  type: float
  sample: 1795957411.2
server_version:
  description: Version of the server that was backed up.
  returned: if there is a backup
  type: str
  sample: 8.0.2
method:
  description: V(save) or V(stream).
  returned: always
  type: str
  sample: save
method_reason:
  description: Why this method.
  returned: always
  type: str
  sample: the server's directory can be read, and its disk has room
used_memory_bytes:
  description: Memory of the server.
  returned: always
  type: int
  sample: 8688576
estimated_bytes:
  description: Expected need of disk space.
  returned: always
  type: int
  sample: 25465792
free_bytes:
  description: Free bytes in O(directory).
  returned: always
  type: int
  sample: 79126781952
removed:
  description: Backups that were removed, because newer ones exceed O(keep) or because of their age.
  returned: always
  type: list
  elements: str
  sample: []
keys_total:
  description: Keys in the backup.
  returned: outside of check mode
  type: int
  sample: 100017
expires:
  description: Keys in the backup that have a time to live.
  returned: outside of check mode
  type: int
  sample: 1
unknown:
  description: Parts of the manifest that could not be read, with the reason.
  returned: outside of check mode
  type: dict
  sample: {}
seconds:
  description: Duration.
  returned: outside of check mode
  type: float
  sample: 2.4
holders:
  description: The records of the operations on this host that exclude this one.
  returned: with RV(kind=busy), if it is not another run on the same backups
  type: list
  elements: dict
  sample: []
kind:
  description: Kind of the failure, such as V(busy), V(no_space), V(no_backup), V(damaged) or one of a failed connection.
  returned: on failure
  type: str
  sample: no_space
hint:
  description: The next step.
  returned: on failure
  type: str
  sample: "Free space, or use another `directory`: `df -h -- /var/backups/tracktion`."
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _redis_backup, _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=_redis_backup.BACKUP_SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(_redis_backup.backup, module.params, module.check_mode))


if __name__ == "__main__":
    main()
