#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_backup
short_description: Back up the definitions and messages of a RabbitMQ broker
version_added: 0.4.0
description:
  - Writes the definitions of a broker (users, vhosts, permissions, policies, parameters, queues, exchanges, bindings) with a manifest, and on request
    the messages of queues.
  - The hashes of passwords are left out unless O(password_hashes=true).
  - The backup is written under a temporary name, read back, flushed to the disk and renamed. After that, old ones are removed. A run that is killed
    leaves nothing that is listed as complete.
  - Reading the definitions needs a user with the tag C(administrator).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._rabbitmq
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
    description: Name of the broker's backups.
    type: str
    default: rabbitmq
  password_hashes:
    description: Whether to include the hashes of passwords. Without them, a user that is restored has no password.
    type: bool
    default: false
  messages_of:
    description:
      - Back up the ready messages of queues whose names match one of these shell patterns. Empty means none, V(*) means all.
      - They are fetched without acknowledgement, and the broker puts them back at their positions. Meanwhile consumers do not get them, and
        afterwards they are marked as redelivered. Messages that consumers hold unacknowledged are not in the backup.
      - Quorum queues are left out, because they count this as a delivery and drop messages after their delivery limit. Streams are left out too.
    type: list
    elements: str
    default: []
  max_messages:
    description: Maximum number of messages of a queue. With more, the backup fails.
    type: int
    default: 100000
  max_bytes:
    description: Maximum size of the file with the messages of a queue. With more, the backup fails.
    type: int
    default: 1073741824
  deadline:
    description: Seconds for the whole backup.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: Back up the definitions of RabbitMQ, and the messages of one queue
  tracktion.ops.rabbitmq_backup:
    login_user: tracktion
    login_password: "{{ rabbitmq_password }}"
    messages_of: [audio.analysis.requests]
"""

RETURN = r"""
name:
  description: O(name).
  returned: always
  type: str
  sample: rabbitmq
result:
  description: V(planned) in check mode, else V(done).
  returned: always
  type: str
  sample: done
path:
  description: Directory of the backup; in check mode, where it would be written.
  returned: always
  type: str
  sample: /var/backups/tracktion/rabbitmq/rabbitmq/20261129T125200Z
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
  sample: 4.0.5
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
counts:
  description: Number of items of each category.
  returned: always
  type: dict
  sample: {"queues": 12, "users": 3}
password_hashes:
  description: Whether the backup has the hashes of passwords.
  returned: always
  type: bool
  sample: false
messages:
  description:
    - Queues whose messages are in the backup, each with C(vhost), C(queue) and C(messages).
    - That is their number. In check mode, it is null if the broker has no statistics yet.
  returned: always
  type: list
  elements: dict
  sample: [{"vhost": "/", "queue": "audio.analysis.requests", "messages": 300}]
left_out:
  description: Queues of O(messages_of) that are left out, each with C(vhost), C(queue) and C(reason).
  returned: always
  type: list
  elements: dict
  sample: []
unknown:
  description: Parts of the manifest that could not be read, with the reason.
  returned: outside of check mode
  type: dict
  sample: {}
seconds:
  description: Duration.
  returned: outside of check mode
  type: float
  sample: 0.2
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
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _rabbitmq_backup, _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=_rabbitmq_backup.BACKUP_SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(_rabbitmq_backup.backup, module.params, module.check_mode))


if __name__ == "__main__":
    main()
