#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_fetch
short_description: Copy a backup from a host to the controller
version_added: 0.4.0
description:
  - Copies the files of a complete backup in parts of 16 MiB to C(<into>/<host>/<kind>/<name>/<stamp>) on the controller, verifies their
    checksums there, and makes the copy complete by one rename. Then it removes old copies.
  - A copy that exists is not copied again.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.action
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  path:
    description: Directory of the backup on the host, from RV(tracktion.ops.pg_backup#module:path).
    type: str
    required: true
  into:
    description: Directory on the controller. It is created if it is missing.
    type: path
    required: true
  keep:
    description: Number of copies to keep. V(0) is no limit.
    type: int
    default: 7
  max_age_days:
    description: Age in days at which copies are removed. V(0) is no limit.
    type: float
    default: 0.0
seealso:
  - module: tracktion.ops.pg_backup
"""

EXAMPLES = r"""
- name: Copy the new backup
  tracktion.ops.recovery_fetch:
    path: "{{ made.path }}"
    into: /srv/backups
  become: true
"""

RETURN = r"""
path:
  description: Directory of the copy on the controller.
  returned: always
  type: str
  sample: /srv/backups/music/postgresql/tracktion/20261129T125200Z
bytes:
  description: Size of the files that were copied. Null if the copy exists, and in check mode.
  returned: always
  type: int
  sample: 52428800
removed:
  description: Paths of the old copies that were removed.
  returned: if a copy was made
  type: list
  elements: str
  sample: []
"""
