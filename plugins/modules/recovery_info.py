#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_info
short_description: Measure the backups of a host
version_added: 0.4.0
description:
  - Reads the manifests and proofs of the backups in a directory, compares the sizes of the files of the newest ones with them, and measures the
    free space.
  - Checksums are not computed. Proving a backup does that.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._measurement
options:
  directory:
    description: Directory of the backups.
    type: path
    required: true
  databases:
    description: Names of the databases of PostgreSQL of which there should be a backup.
    type: list
    elements: str
    default: []
  data_directories:
    description: Directories of data that are compared with the file system of the backups. Those that do not exist are left out.
    type: list
    elements: path
    default: [/var/lib/docker/volumes, /var/lib/containers/storage/volumes, /var/lib/postgresql, /var/lib/pgsql, /var/lib/redis, /var/lib/rabbitmq]
  top:
    description: Maximum number of databases and servers to return.
    type: int
    default: 50
  timeout:
    description: Seconds for the first access to the directory, after which its file system counts as dead.
    type: float
    default: 3.0
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
seealso:
  - module: tracktion.ops.pg_backup
"""

EXAMPLES = r"""
- name: Measure the backups
  tracktion.ops.recovery_info:
    directory: /var/backups/tracktion
  become: true
  register: backups
"""

RETURN = r"""
reachable:
  description: Whether the directory could be read; true if it does not exist. Null without the time or the right to it.
  returned: always
  type: bool
  sample: true
error: {description: "Why not, as described in docs/measurement.md. Null otherwise.", returned: always, type: dict}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
exists: {description: Whether the directory exists and holds more than adopted archives and backups of remedies., returned: always, type: bool, sample: true}
directory:
  description: The directory of the backups.
  returned: always
  type: dict
  contains:
    path: {description: Its path., type: str, returned: always}
    free_bytes: {description: Free space of its file system., type: int, returned: always}
    total_bytes: {description: Size of its file system., type: int, returned: always}
    device: {description: The device number of its file system., type: int, returned: always}
    shares_with: {description: "The first of O(data_directories) on the same file system, or null.", type: str, returned: always}
  sample: {path: /var/backups/tracktion, free_bytes: 107374182400, total_bytes: 214748364800, device: 64769, shares_with: null}
targets:
  description: The databases and servers that are backed up, those of O(databases) first.
  returned: always
  type: list
  elements: dict
  contains:
    kind: {description: "V(postgresql), V(redis) or V(rabbitmq).", type: str, returned: always}
    name: {description: "The database, or the name of the server.", type: str, returned: always}
    path: {description: Directory of its backups., type: str, returned: always}
    wanted: {description: Whether it is one of O(databases)., type: bool, returned: always}
    total: {description: Number of complete backups with a valid manifest., type: int, returned: always}
    bytes: {description: Size of these., type: int, returned: always}
    newest:
      description: The newest of them. Null if there is none.
      type: dict
      returned: always
      contains:
        stamp: {description: Its name., type: str, returned: always}
        path: {description: Its directory., type: str, returned: always}
        age: {description: Seconds since it was finished., type: float, returned: always}
        bytes: {description: Size of its files., type: int, returned: always}
        files: {description: Number of its files., type: int, returned: always}
        seconds: {description: How long it took., type: float, returned: always}
        server_version: {description: Version of the server., type: str, returned: always}
        encryption: {description: "V(age), V(gpg) or null.", type: str, returned: always}
    oldest_age: {description: Seconds since the oldest one was finished. Null if there is none., type: float, returned: always}
    unreadable:
      description: The first complete backups whose manifest is invalid.
      type: list
      elements: dict
      returned: always
      contains:
        path: {description: Its directory., type: str, returned: always}
        problem: {description: The reason., type: str, returned: always}
    unreadable_total: {description: Number of these., type: int, returned: always}
    damage: {description: "How the files of the newest backup differ from its manifest in names and sizes.", type: list, elements: str, returned: always}
    exposed: {description: "The first file of the newest backup that users other than its owner can read, or null.", type: str, returned: always}
    leftovers:
      description: The first incomplete backups.
      type: list
      elements: dict
      returned: always
      contains:
        path: {description: Its directory., type: str, returned: always}
        active: {description: Whether a run works on it. Null if that is not known., type: bool, returned: always}
    leftovers_total: {description: Number of those on which no run works., type: int, returned: always}
    running: {description: Whether a backup is running. Null if that is not known., type: bool, returned: always}
    proven_age: {description: Seconds since a backup was last proven. Null for never., type: float, returned: always}
    last_proof:
      description: The last proof of any of the backups. Null if there is none.
      type: dict
      returned: always
      contains:
        stamp: {description: The backup., type: str, returned: always}
        path: {description: Its directory., type: str, returned: always}
        result: {description: "V(proven), V(different) or V(failed).", type: str, returned: always}
        age: {description: Seconds since its end., type: float, returned: always}
        differences_total: {description: Number of differences., type: int, returned: always}
        reason: {description: Why it failed. Null otherwise., type: str, returned: always}
    needed_bytes: {description: "Space that the next backup is expected to take, by the last one. Null without one.", type: int, returned: always}
    fits: {description: Whether that is free. Null without a backup., type: bool, returned: always}
  sample: []
targets_total: {description: Number of databases and servers., returned: always, type: int, sample: 1}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _recovery_info as recovery_info


def main() -> None:
    module = AnsibleModule(argument_spec=recovery_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(recovery_info.measure, module.params))


if __name__ == "__main__":
    main()
