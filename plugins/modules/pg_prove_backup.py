#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_prove_backup
short_description: Restore a backup of PostgreSQL into a scratch database and compare it with its manifest
version_added: 0.4.0
description:
  - Verifies the checksums of a backup, restores it with the C(pg_restore) of the server's version, and compares the copy with the manifest item by
    item - rows of each table, sequences, large objects, owners, privileges, settings, extensions, constraints, indexes, triggers, comments and
    more.
  - The copy is removed at the end. What a killed run has left is removed by the next one.
  - The result is written beside the manifest, as C(proof.json). The module fails unless it is V(proven).
  - A reason that says nothing about the backup, such as a full disk or a missing role, makes the module fail without a proof.
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
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run restores the backup again.
options:
  database:
    description: The database whose backup is proven.
    type: str
    required: true
  scratch:
    description:
      - Where the copy is restored. V(container) is a container without a network that runs the image of the server's container. It neither fills
        the disk of the server nor uses its memory, and code in the backup can reach nothing.
      - V(server) is a database of the server itself, to which only superusers may connect.
      - V(auto) is a container if the server runs in one on this host, otherwise the server.
    type: str
    choices: [auto, container, server]
    default: auto
  accept_cve:
    description:
      - C(CVE-2026-116314) permits a C(pg_restore) that runs code which a crafted archive holds. Only for backups of servers that you trust.
      - It is not needed for a scratch container.
    type: list
    elements: str
    default: []
  accept_differences:
    description: Items that may differ, as RV(differences[].item) names them.
    type: list
    elements: str
    default: []
notes:
  - In a scratch container the roles are created without login. In a scratch database of the server they must exist, and O(login_user) must be a
    superuser.
  - Subscriptions are not restored, because they would use the replication slots of the original. Tablespaces are replaced by the default one.
seealso:
  - module: tracktion.ops.pg_restore_backup
"""

EXAMPLES = r"""
- name: Prove the newest backup
  tracktion.ops.pg_prove_backup:
    login_host: 127.0.0.1
    login_user: postgres
    login_password: "{{ postgres_password }}"
    database: tracktion
"""

RETURN = r"""
result:
  description:
    - V(proven) if the copy is equal to the manifest, V(different) if it is not, V(failed) if the backup could not be restored.
    - V(planned) in check mode.
  returned: success, or after a comparison
  type: str
  sample: proven
database: {description: The database., returned: with RV(result), type: str}
stamp: {description: The backup., returned: with RV(result), type: str, sample: 20261129T125200Z}
path: {description: Its directory., returned: with RV(result), type: str}
scratch: {description: "Where the copy was restored, for a person.", returned: with RV(result), type: str}
space:
  description: "C(path), and C(free) and C(needed) in bytes, of the copy. Null is not known."
  returned: with RV(result)
  type: dict
unreadable: {description: Newer backups that cannot be read., returned: with RV(result), type: list, elements: str}
differences:
  description: The first 50 differences.
  returned: with RV(result)
  type: list
  elements: dict
  contains:
    item: {description: The item., type: str, returned: always, sample: "rows: public.tracks"}
    expected: {description: Its value in the manifest. Null if it is not there., type: raw, returned: always}
    found: {description: Its value in the copy. Null if it is not there., type: raw, returned: always}
differences_total: {description: Number of all differences., returned: with RV(result), type: int}
reason: {description: Why the backup could not be restored. Null if it could., returned: with RV(result), type: str}
seconds: {description: Duration. Null in check mode., returned: with RV(result), type: float}
removed: {description: Scratch databases of killed runs that were removed., returned: with RV(result), type: list, elements: str}
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
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_prove as pg_prove
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=pg_prove.SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(pg_prove.prove, module.params, module.check_mode))


if __name__ == "__main__":
    main()
