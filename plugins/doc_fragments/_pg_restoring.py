# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the modules that restore an archive of pg_dump, in a scratch server or for good. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_db:
    description: Not used. The module connects to O(maintenance_db).
    type: str
    default: postgres
  maintenance_db:
    description: The database to connect to. It must not be one that is created, renamed or dropped.
    type: str
    default: postgres
  directory:
    description: Directory of the backups.
    type: path
    default: /var/backups/tracktion
  jobs:
    description: Number of processes of C(pg_restore).
    type: int
    default: 2
  docker_host:
    description: The engine of the server's container.
    type: str
    default: unix:///var/run/docker.sock
  progress:
    description: File for the progress. Empty for none.
    type: path
    default: ""
  deadline:
    description: Seconds for everything.
    type: float
    default: 14400.0
"""

    # For modules that read a backup.
    BACKUP = r"""
options:
  stamp:
    description: The backup, as its directory is called (V(20261129T125200Z\)). By default the newest one that can be read.
    type: str
    default: ""
  encryption_identity:
    description: File with the key of C(age) for an encrypted backup. C(gpg) uses the keyring of the user.
    type: path
    default: ""
"""
