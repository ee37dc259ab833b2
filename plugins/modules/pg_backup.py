#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup
short_description: Back up a PostgreSQL database
version_added: 0.4.0
description:
  - Runs C(pg_dump) of the server's own major version and, with O(globals), C(pg_dumpall --globals-only). The programs are those of the host,
    or those of the image of the server's container.
  - Dump and manifest show the same moment, an exported snapshot. The manifest has the number of rows of each table, all objects with
    owners and rights, the settings of the database, and the sizes and checksums of the files.
  - The backup is written below a temporary name, verified, flushed to the disk and then renamed. A run that is killed at any point leaves no
    incomplete backup that looks like a complete one. Old backups are removed afterwards, never the newest one nor the newest proven one.
  - Nothing is written if the free space does not suffice for the expected size, if another run backs up the same database, or if the server is
    in recovery.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._postgresql
  - tracktion.ops._operations
attributes:
  check_mode:
    support: full
    details:
      - Connects, checks the version, the programs and the free space, and returns what would be written, where and how large.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run makes a backup.
options:
  database:
    description: The database. The default is O(login_db).
    type: str
  directory:
    description:
      - Directory of all backups, as an absolute path. It is created if it is missing.
      - It and its parent directories must belong to root or to the user of the task and must not be writable by others.
    type: path
    required: true
  format:
    description: Format of C(pg_dump). V(directory) allows several O(jobs), V(custom) is one file.
    type: str
    choices: [directory, custom]
    default: directory
  jobs:
    description: Number of processes of C(pg_dump) in the directory format. Each has a connection to the server.
    type: int
    default: 2
  globals:
    description: Whether to back up roles and tablespaces too, in C(globals.sql).
    type: bool
    default: true
  globals_passwords:
    description: Whether C(globals.sql) has the hashes of passwords. Only a superuser can read them.
    type: bool
    default: false
  row_hashes:
    description: Whether to hash the rows of each table for the manifest. All tables are read once more.
    type: bool
    default: false
  lock_timeout:
    description: Seconds that C(pg_dump) waits for a lock on a table before it fails.
    type: float
    default: 60.0
  keep:
    description: Number of backups of this database to keep, with the new one. V(0) is no limit.
    type: int
    default: 7
  max_age_days:
    description: Age in days at which backups are removed. V(0) is no limit.
    type: float
    default: 0.0
  encryption_recipients:
    description: Recipients of C(age) (V(age1...)) or keys of C(gpg) (fingerprints or mail addresses). Each file is encrypted for all of them.
    type: list
    elements: str
    default: []
  docker_host:
    description: The engine of the server's container.
    type: str
    default: unix:///var/run/docker.sock
  deadline:
    description: Seconds for the whole backup.
    type: float
    default: 14400.0
  progress:
    description: File for the progress, which is removed at the end. Set by M(tracktion.ops.recovery_run).
    type: path
requirements:
  - pg_dump of the server's major version, on the host or in the image of the server's container
seealso:
  - module: tracktion.ops.recovery_run
"""

EXAMPLES = r"""
- name: Show what would be written
  tracktion.ops.pg_backup:
    login_host: 127.0.0.1
    login_user: tracktion_user
    login_password: "{{ database_password }}"
    login_db: tracktion
    directory: /var/backups/tracktion
  become: true
  check_mode: true
"""

RETURN = r"""
result:
  description: V(done), or V(planned) in check mode.
  returned: on success
  type: str
  sample: done
database:
  description: The database.
  returned: on success
  type: str
  sample: tracktion
path:
  description: Directory of the backup.
  returned: on success
  type: str
  sample: /var/backups/tracktion/postgresql/tracktion/20261129T125200Z
stamp:
  description: Its name, the time of its begin. Null in check mode.
  returned: on success
  type: str
  sample: 20261129T125200Z
bytes:
  description: Size of its files. Null in check mode.
  returned: on success
  type: int
  sample: 52428800
files:
  description: Number of its files. Null in check mode.
  returned: on success
  type: int
  sample: 41
seconds:
  description: Duration. Null in check mode.
  returned: on success
  type: float
  sample: 12.5
removed:
  description: Paths of the old backups that were removed, or would be in check mode.
  returned: on success
  type: list
  elements: str
  sample: []
server_version:
  description: Version of the server.
  returned: on success
  type: str
  sample: "15.14"
tool:
  description: Version of C(pg_dump).
  returned: on success
  type: str
  sample: pg_dump (PostgreSQL) 15.14
tool_source:
  description: Where C(pg_dump) is, a directory of the host or the image of a container.
  returned: on success
  type: str
  sample: /usr/lib/postgresql/15/bin
source_bytes:
  description: Size of the database in the server.
  returned: on success
  type: int
  sample: 262144000
estimated_bytes:
  description: Space that the backup was expected to take, by the last backup, or by the size of the database.
  returned: on success
  type: int
  sample: 79691776
free_bytes:
  description: Free space before the backup.
  returned: on success
  type: int
  sample: 107374182400
encryption:
  description: The program that has encrypted the files, V(age) or V(gpg), or null.
  returned: on success
  type: str
  sample: null
holders:
  description: The records of the operations on this host that exclude this one.
  returned: with RV(kind=busy), if it is not another run on the same backups
  type: list
  elements: dict
  sample: []
kind:
  description:
    - Kind of the failure.
    - V(no_space), V(busy) (another run), V(in_recovery), V(no_client) (no programs of the server's version), V(program_failed) (the message has
      its last lines), V(cannot_store) (a right, a full disk, a path that others can change), V(damaged) (the files on the disk differ from what was
      written), V(query_failed), V(deadline), V(bad_option), V(cannot_measure), V(missing_library), or a kind of a failed connection.
  returned: on failure
  type: str
  sample: no_space
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_backup, _sent_file


def main() -> None:
    module = AnsibleModule(argument_spec=_pg_backup.ARGUMENT_SPEC, supports_check_mode=True)
    _sent_file.remove(module)
    exit_module(module, partial(_pg_backup.backup, module.params, module.check_mode))


if __name__ == "__main__":
    main()
