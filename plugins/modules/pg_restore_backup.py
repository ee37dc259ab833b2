#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_backup
short_description: Restore a backup of PostgreSQL into a new database and swap it with the current one
version_added: 0.4.0
description:
  - With O(state=prepared), verifies the checksums of a backup, restores it into a new database, compares that with the manifest item by item, and
    collects statistics for the planner. The current database stays as it is.
  - With O(state=swapped), ends the sessions on the current database and renames both in one transaction. The current database is kept under a
    dated name. At every moment the name is that of exactly one of them, and accepts connections; new connections wait during the swap.
  - With O(state=undone), swaps back. With O(state=dropped), drops the database that was put aside.
  - With O(state=begun), only begins an operation, so that services can be stopped before O(state=undone). With O(state=ended), ends the operation
    that the other steps have kept. Its record remains while containers that it has stopped were not started.
  - A run that is killed changes nothing, or has swapped the databases; the next run finishes its work, and removes what is left of it.
  - Nothing is changed if the backup is incomplete or damaged, if the server is older than the backup, in recovery or without space for a copy, if
    roles, tablespaces or extensions are missing, or if replication slots, subscriptions or prepared transactions would be lost. The
    message names them all.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._postgresql
  - tracktion.ops._operations
  - tracktion.ops._pg_restoring
  - tracktion.ops._pg_restoring.backup
attributes:
  check_mode:
    support: full
    details:
      - Reads the backup and the server, and changes nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run restores the backup again.
options:
  state:
    description: The step; see the description.
    type: str
    choices: [prepared, swapped, undone, dropped, begun, ended]
    required: true
  database:
    description: The database to replace. It need not exist.
    type: str
    required: true
  source:
    description: The database that the backup is one of, if it is another one than O(database).
    type: str
    default: ""
  new:
    description: With O(state=swapped), the new database, RV(new) of O(state=prepared).
    type: str
    default: ""
  old:
    description:
      - With O(state=begun) and O(state=undone), the database to go back to. By default the one that was put aside last.
      - With O(state=dropped), the database to drop, one that a restore of O(database) has put aside.
    type: str
    default: ""
  confirm:
    description: Confirms the restore by name, V(recovery.restore:DATABASE). Not needed in check mode and with O(state=dropped).
    type: list
    elements: str
    default: []
  keep_operation:
    description: Keep other operations of the host out until the next task, which continues with RV(operation). O(state=prepared) always does.
    type: bool
    default: false
  accept_cve:
    description:
      - C(CVE-2026-116314) permits a C(pg_restore) that runs code which a crafted archive holds. Only for backups of servers that you trust.
    type: list
    elements: str
    default: []
  accept_differences:
    description: Items that may differ, as the message of a failed comparison names them.
    type: list
    elements: str
    default: []
notes:
  - O(login_user) must be a superuser.
  - Subscriptions are not restored, because they would continue where the original has stopped.
  - The audit log of the host (C(audit.jsonl) in O(state_dir)) has an entry before and after each swap.
seealso:
  - module: tracktion.ops.pg_prove_backup
"""

EXAMPLES = r"""
- name: Show what a restore would do
  tracktion.ops.pg_restore_backup:
    login_user: postgres
    login_password: "{{ postgres_password }}"
    database: tracktion
    state: prepared
  check_mode: true

- name: Restore the newest backup into a new database
  tracktion.ops.pg_restore_backup:
    login_user: postgres
    login_password: "{{ postgres_password }}"
    database: tracktion
    state: prepared
    confirm: ["recovery.restore:tracktion"]
  register: prepared

- name: Replace the current database
  tracktion.ops.pg_restore_backup:
    login_user: postgres
    login_password: "{{ postgres_password }}"
    database: tracktion
    state: swapped
    confirm: ["recovery.restore:tracktion"]
    stamp: "{{ prepared.stamp }}"
    new: "{{ prepared.new }}"
    operation: "{{ prepared.operation }}"
"""

RETURN = r"""
result:
  description:
    - V(prepared), V(restored), V(undone), V(dropped) or V(absent), V(begun), V(ended), V(planned) in check mode.
    - V(restored) after O(state=prepared), and V(undone) after O(state=begun), mean that an interrupted run had swapped the databases already.
  returned: success
  type: str
  sample: restored
database: {description: The database., returned: success, type: str}
stamp: {description: The backup. Null if none was used., returned: success, type: str, sample: 20261129T125200Z}
new: {description: The new database before it gets its name., returned: success, type: str}
old: {description: The database that was put aside. Null if there was none., returned: success, type: str, sample: tracktion_before_20261129T130000Z}
seconds: {description: "Duration of the step. Null in check mode.", returned: success, type: float}
operation: {description: The operation that a later task continues., returned: success, type: str}
undo: {description: The undo command. Null if there is nothing to go back to., returned: success, type: str}
resumed:
  description: Names of the containers that an interrupted run had stopped. M(tracktion.ops.stack_service) with RV(operation) starts them.
  returned: with O(state=prepared), O(state=begun) and O(state=undone)
  type: list
  elements: str
  sample: []
path: {description: The directory of the backup., returned: with O(state=prepared) and O(state=swapped), type: str}
backup_time: {description: "When the backup was begun, in seconds since 1970.", returned: with O(state=prepared), type: float}
unreadable: {description: Newer backups that cannot be read., returned: with O(state=prepared), type: list, elements: str}
space:
  description: "C(path), and C(free) and C(needed) in bytes, of the copy. Null is not known."
  returned: with O(state=prepared)
  type: dict
estimated_bytes: {description: Bytes that the copy takes. Null is not known., returned: with O(state=prepared), type: int}
replaces_bytes: {description: Size of the current database. Null if there is none., returned: with O(state=prepared), type: int}
accepted: {description: Differences that O(accept_differences) names., returned: with O(state=prepared), type: list, elements: str}
kind:
  description: Kind of the failure, such as V(busy), V(no_space), V(no_backup), V(damaged) or one of a failed connection.
  returned: on failure
  type: str
  sample: no_space
hint:
  description: The next step, or null.
  returned: on failure
  type: str
holders:
  description: The records of the operations on this host that exclude this one.
  returned: with RV(kind=busy), if it is not another run on the same backups
  type: list
  elements: dict
  sample: []
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_restore as pg_restore
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=pg_restore.SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(pg_restore.restore, module.params, module.check_mode))


if __name__ == "__main__":
    main()
