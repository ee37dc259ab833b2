#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_prove_backup
short_description: Prove that a backup of RabbitMQ can be restored
version_added: 0.4.0
description:
  - Imports a backup of M(tracktion.ops.rabbitmq_backup) into a scratch broker, or into scratch vhosts of the broker itself (O(scratch)), and
    compares an export of it item by item. The result is written beside the manifest, as C(proof.json).
  - Scratch containers and vhosts are removed, and those that killed runs have left.
  - Each message of the backup is read and counted. Messages are not published into the scratch broker.
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
    support: none
    details:
      - Each run imports the backup again.
options:
  name:
    description: Name of the broker's backups.
    type: str
    default: rabbitmq
  deadline:
    description: Seconds for the whole proof.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: Prove the newest backup of RabbitMQ
  tracktion.ops.rabbitmq_prove_backup:
    container: music-rabbitmq-1
"""

RETURN = r"""
name:
  description: O(name).
  returned: always
  type: str
  sample: rabbitmq
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
scratch:
  description: What ran the scratch server.
  returned: always
  type: str
  sample: the image of music-rabbitmq-1
result:
  description: V(proven), V(different) or V(failed); V(planned) in check mode.
  returned: always
  type: str
  sample: proven
differences:
  description: The first items that differ from the manifest, each with C(item), C(expected) and C(found).
  returned: always
  type: list
  elements: dict
  sample: []
differences_total:
  description: Number of such items.
  returned: always
  type: int
  sample: 0
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
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _rabbitmq_proof, _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=_rabbitmq_proof.PROVE_SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(_rabbitmq_proof.prove, module.params, module.check_mode))


if __name__ == "__main__":
    main()
