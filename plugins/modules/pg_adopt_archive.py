#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_adopt_archive
short_description: Make a backup of this collection from an archive of pg_dump that has no manifest
version_added: 0.4.0
description:
  - Restores a copy of the archive in a container without a network that runs the image of the server's container. Its contents become the manifest of
    a backup in the directory C(adopted) below O(directory), which M(tracktion.ops.pg_restore_backup) restores and compares like any other.
  - The server itself is not changed. Code in the archive runs in the container only, until the backup is restored.
  - The directory C(adopted) is not diagnosed, so an old archive never counts as a recent backup of the database. It keeps one archive of each database.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._postgresql
  - tracktion.ops._operations
  - tracktion.ops._pg_restoring
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - An archive that was adopted before, with the same files, is not restored again.
options:
  archive:
    description:
      - The archive, a file of C(pg_dump --format=custom) or a directory of C(pg_dump --format=directory), on the host. A script of SQL is rejected.
    type: path
    required: true
  database:
    description: The database that is to be replaced by the archive. The name of the database in the archive does not matter.
    type: str
    required: true
  confirm:
    description: Confirms by name that the source of the archive is trusted, V(recovery.adopt:/path/of/archive). Not needed in check mode.
    type: list
    elements: str
    default: []
seealso:
  - module: tracktion.ops.pg_restore_backup
"""

EXAMPLES = r"""
- name: Find out whether an archive can be restored
  tracktion.ops.pg_adopt_archive:
    login_password: "{{ postgres_password }}"
    database: tracktion
    archive: /srv/old/tracktion.dump
    confirm: ["recovery.adopt:/srv/old/tracktion.dump"]
  register: adopted

- name: Restore it into a new database
  tracktion.ops.pg_restore_backup:
    login_password: "{{ postgres_password }}"
    database: tracktion
    directory: "{{ adopted.directory }}"
    stamp: "{{ adopted.stamp }}"
    state: prepared
    confirm: ["recovery.restore:tracktion"]
"""

RETURN = r"""
result: {description: "V(adopted), V(present) if it was adopted before, V(planned) in check mode.", returned: success, type: str, sample: adopted}
database: {description: The database., returned: success, type: str, sample: tracktion}
archive: {description: The archive., returned: success, type: str, sample: /srv/old/tracktion.dump}
directory: {description: The directory of adopted archives., returned: success, type: str, sample: /var/backups/tracktion/adopted}
bytes: {description: Size of the archive., returned: success, type: int, sample: 1048576}
stamp: {description: The backup. Null in check mode., returned: success, type: str, sample: 20261129T125200Z}
path: {description: The directory of the backup. Null in check mode., returned: success, type: str}
roles: {description: "The roles that the archive needs, which the server must have.", returned: success, type: list, elements: str, sample: [tracktion_user]}
seconds: {description: Duration. Null unless it was adopted., returned: success, type: float, sample: 12.5}
kind:
  description: Kind of the failure, such as V(not_adopted), V(not_confirmed), V(no_scratch_server), V(busy) or one of a failed connection.
  returned: on failure
  type: str
  sample: not_adopted
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
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_adopt as pg_adopt
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=pg_adopt.SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(pg_adopt.adopt, module.params, module.check_mode))


if __name__ == "__main__":
    main()
