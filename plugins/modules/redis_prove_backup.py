#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_prove_backup
short_description: Prove that a backup of Redis can be restored
version_added: 0.4.0
description:
  - Loads a backup of M(tracktion.ops.redis_backup) into a scratch server and compares it with the manifest. The result is written beside the
    manifest, as C(proof.json). The server itself is only asked which image it runs.
  - First the checksums of the files, then C(redis-check-rdb), then the scratch server. That is a container of the server's image without a network
    or, if the server does not run in a container, a process of the program on the host. It listens at a Unix socket and writes nothing.
  - The scratch server does not remove keys whose time to live has ended since, so the numbers of keys are compared exactly.
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
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run loads the backup again.
options:
  name:
    description: Name of the server's backups.
    type: str
    default: redis
  deadline:
    description: Seconds for the whole proof.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: Prove the newest backup of Redis
  tracktion.ops.redis_prove_backup:
    login_password: "{{ redis_password }}"
"""

RETURN = r"""
name:
  description: O(name).
  returned: always
  type: str
  sample: redis
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
scratch:
  description: What ran the scratch server.
  returned: outside of check mode
  type: str
  sample: the image of music-redis-1
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
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _redis_proof, _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=_redis_proof.PROVE_SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(_redis_proof.prove, module.params, module.check_mode))


if __name__ == "__main__":
    main()
