#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_restore_backup
short_description: Restore definitions and messages into a running RabbitMQ broker
version_added: 0.4.0
description:
  - Imports what a broker lacks of a backup of M(tracktion.ops.rabbitmq_backup), then compares an export of the broker item by item. If the backup was
    not proven before, it is proven first, as M(tracktion.ops.rabbitmq_prove_backup) does.
  - Nothing that the broker has is changed or deleted. What it has with other properties, for example a queue with other arguments, is a conflict.
    Conflicts are named, and the task fails before anything is changed, unless O(keep_existing=true).
  - Reading the definitions needs a user with the tag C(administrator).
  - A run that was killed is completed by the next one.
  - What an import creates is recorded in O(state_dir), without hashes of passwords. V(undo) of O(action) deletes it again.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._rabbitmq
  - tracktion.ops._broker_backups
  - tracktion.ops._operations
  - tracktion.ops._broker_backups.load
  - tracktion.ops._broker_backups.rabbitmq_scratch
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - With O(messages=true), messages are published in each run, but only to queues that are empty.
options:
  name:
    description: Name of the broker's backups.
    type: str
    default: rabbitmq
  keep_existing:
    description: Whether to keep items that the broker has with other properties as they are, and restore the rest.
    type: bool
    default: false
  messages:
    description:
      - Whether to publish the messages of the backup to their queues, with publisher confirms. A queue that has messages fails the task before
        anything is changed.
      - A run after one that failed continues after the last message that was recorded as confirmed. After one that was killed, up to 500 messages of
        a queue can be there twice.
    type: bool
    default: false
  action:
    description:
      - V(undo) deletes what the import O(restore_id) has created, if it is still as it was imported. Queues with messages or consumers, exchanges with
        bindings, and vhosts with queues or connections are kept, and named in RV(kept). The undo can be repeated.
    type: str
    choices: [restore, undo]
    default: restore
  restore_id:
    description: The import to undo, as RV(restore_id) names it. By default, or with V(last), the last one.
    type: str
  confirm:
    description: V(recovery.restore:NAME) of O(name) confirms the restore. It is not needed in check mode.
    type: list
    elements: str
    default: []
  deadline:
    description: Seconds for the whole restore.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: Delete what the last restore has created
  tracktion.ops.rabbitmq_restore_backup:
    login_user: tracktion
    login_password: "{{ rabbitmq_password }}"
    action: undo
    confirm: ["recovery.restore:rabbitmq"]

- name: Restore the newest backup of RabbitMQ
  tracktion.ops.rabbitmq_restore_backup:
    login_user: tracktion
    login_password: "{{ rabbitmq_password }}"
    confirm: ["recovery.restore:rabbitmq"]
"""

RETURN = r"""
name:
  description: O(name).
  returned: always
  type: str
  sample: rabbitmq
result:
  description: V(planned) in check mode, else V(done), or V(undone) with O(action=undo).
  returned: always
  type: str
  sample: done
path:
  description: Directory of the backup; in check mode, where it would be written.
  returned: with O(action=restore)
  type: str
  sample: /var/backups/tracktion/rabbitmq/rabbitmq/20261129T125200Z
stamp:
  description: Name of that directory.
  returned: if there is a backup
  type: str
  sample: 20261129T125200Z
bytes:
  description: Size of its files; null in check mode.
  returned: with O(action=restore)
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
  sample: 4.0.5
msg:
  description: The result for a person.
  returned: always
  type: str
  sample: 9 items imported, 300 messages published
created:
  description: The first 50 items that the broker lacked, and that are imported.
  returned: with O(action=restore)
  type: list
  elements: str
  sample: ["queues / audio.analysis.requests"]
created_total:
  description: Number of such items.
  returned: with O(action=restore)
  type: int
  sample: 1
conflicts:
  description: The first 50 items that the broker has with other properties, and that are kept.
  returned: with O(action=restore)
  type: list
  elements: str
  sample: []
conflicts_total:
  description: Number of such items.
  returned: with O(action=restore)
  type: int
  sample: 0
users_without_password:
  description: Users that are created without a password, because the backup has no hashes. They cannot log in by a password until they get one.
  returned: with O(action=restore)
  type: list
  elements: str
  sample: [worker]
messages:
  description: Queues whose messages are published, each with C(vhost), C(queue) and C(messages) (their number).
  returned: with O(action=restore)
  type: list
  elements: dict
  sample: [{"vhost": "/", "queue": "audio.analysis.requests", "messages": 300}]
restore_id:
  description: The import, for O(restore_id). Null if nothing was imported.
  returned: always
  type: str
  sample: restore-20261129T125200Z-0a1b2c3d
undo:
  description: The command that deletes what was imported. Null if there is nothing to undo.
  returned: always
  type: str
deleted:
  description: The first 50 items that O(action=undo) deletes.
  returned: always
  type: list
  elements: str
  sample: []
deleted_total:
  description: Number of such items.
  returned: always
  type: int
  sample: 0
kept:
  description: The first 50 items that O(action=undo) does not delete, each with C(item) and C(reason).
  returned: always
  type: list
  elements: dict
  sample: []
kept_total:
  description: Number of such items.
  returned: always
  type: int
  sample: 0
not_restored:
  description: Plugins that are not enabled as they were, and queues whose messages are not in the backup.
  returned: with O(action=restore)
  type: list
  elements: str
  sample: ["plugin rabbitmq_shovel is not enabled"]
seconds:
  description: Duration.
  returned: outside of check mode
  type: float
  sample: 9.2
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
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _rabbitmq_restore, _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=_rabbitmq_restore.RESTORE_SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(_rabbitmq_restore.restore, module.params, module.check_mode))


if __name__ == "__main__":
    main()
