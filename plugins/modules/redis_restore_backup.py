#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_restore_backup
short_description: Restore a backup of Redis into a running server
version_added: 0.4.0
description:
  - Proves a backup of M(tracktion.ops.redis_backup) as M(tracktion.ops.redis_prove_backup) does. Then it copies the keys from the scratch server
    into empty databases of the server, counts them, and exchanges these databases with the live ones in one transaction (SWAPDB).
  - The server is not stopped. A database is at every moment exactly the old or the new one, also in the append-only file and on replicas.
  - What was replaced stays in the other databases, until O(action=drop), and needs memory. O(action=undo) exchanges them again.
  - A server that cannot start because its files are damaged is started with an empty directory first. Keep the old files.
  - ACL users and settings are not restored. Those that differ are returned.
  - A run that was killed leaves the live data as it was, or as it is after the exchange. The next run removes the unfinished copy and begins anew.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._redis
  - tracktion.ops._broker_backups
  - tracktion.ops._operations
  - tracktion.ops._broker_backups.load
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
attributes:
  check_mode:
    support: full
    details:
      - The backup is not loaded in check mode.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run restores the backup again.
options:
  name:
    description: Name of the server's backups.
    type: str
    default: redis
  action:
    description:
      - V(restore) replaces the live databases by those of the backup. Databases that have keys and are not in the backup are empty afterwards.
      - V(undo) exchanges what the restore O(restore_id) has replaced with what is live now.
      - V(drop) removes what the restore O(restore_id) has replaced.
    type: str
    choices: [restore, undo, drop]
    default: restore
  restore_id:
    description: Id of a restore, for O(action=undo) and O(action=drop). RV(restore_id) returned it. V(last) is the newest one;
      O(action=undo) rejects it if that was undone already.
    type: str
  databases:
    description: Restore only these databases of the backup, and no functions. Empty means all.
    type: list
    elements: int
    default: []
  confirm:
    description: V(recovery.restore:NAME) of O(name) confirms a restore or its undo. It is not needed in check mode.
    type: list
    elements: str
    default: []
  deadline:
    description: Seconds for the whole restore.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: Restore the newest backup of Redis
  tracktion.ops.redis_restore_backup:
    login_password: "{{ redis_password }}"
    confirm: ["recovery.restore:redis"]
  register: restored

- name: Undo that
  tracktion.ops.redis_restore_backup:
    login_password: "{{ redis_password }}"
    confirm: ["recovery.restore:redis"]
    action: undo
    restore_id: "{{ restored.restore_id }}"
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
  description: Directory of the backup.
  returned: with O(action=restore)
  type: str
  sample: /var/backups/tracktion/redis/redis/20261129T125200Z
stamp:
  description: Name of that directory.
  returned: with O(action=restore)
  type: str
  sample: 20261129T125200Z
bytes:
  description: Size of its files.
  returned: with O(action=restore)
  type: int
  sample: 1270043
finished:
  description: When the backup was complete, in seconds since 1970.
  returned: with O(action=restore)
  type: float
  sample: 1795957411.2
server_version:
  description: Version of the server that was backed up.
  returned: with O(action=restore)
  type: str
  sample: 8.0.2
databases:
  description:
    - The databases that are replaced, each with C(database), C(held_in) (where the old one is afterwards), C(keys) (the old ones), and with
      O(action=restore) C(backup_keys) and C(backup_expires).
  returned: always
  type: list
  elements: dict
  sample: [{"database": 0, "held_in": 15, "keys": 12, "backup_keys": 100016, "backup_expires": 1}]
needed_bytes:
  description: Memory that the copy needs.
  returned: with O(action=restore)
  type: int
  sample: 25465792
free_bytes:
  description: Memory of the server below C(maxmemory); null without such a limit.
  returned: with O(action=restore)
  type: int
  sample: 250000000
not_restored:
  description: ACL users and settings that differ from the manifest.
  returned: with O(action=restore)
  type: list
  elements: str
  sample: ["ACL user worker is missing"]
sent_bytes:
  description: Bytes of the values that were copied.
  returned: with O(action=restore), outside of check mode
  type: int
  sample: 1581091
restore_id:
  description: Id for O(action=undo) and O(action=drop); null in check mode.
  returned: always
  type: str
  sample: f76273c8
undo:
  description: The command that undoes the step; null in check mode and with O(action=drop).
  returned: always
  type: str
  sample: ansible-playbook tracktion.ops.restore -e '{"recovery_undo":"f76273c8"}'
msg:
  description: The result for a person.
  returned: always
  type: str
  sample: "database 0: 12 keys replaced by 100016, kept in database 15"
persisted:
  description:
    - How the server keeps the restored data. V(saved) if it was saved, V(aof) if the append-only file has it, V(off) if the server keeps nothing,
      else why it could not be saved.
  returned: outside of check mode, not with O(action=drop)
  type: str
  sample: saved
seconds:
  description: Duration.
  returned: with O(action=restore), outside of check mode
  type: float
  sample: 6.1
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
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _redis_restoring, _sent_file


def main() -> None:
    needed = [("action", "undo", ["restore_id"]), ("action", "drop", ["restore_id"])]
    module = AnsibleModule(argument_spec=_redis_restoring.RESTORE_SPEC, required_if=needed, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(_redis_restoring.restore, module.params, module.check_mode))


if __name__ == "__main__":
    main()
