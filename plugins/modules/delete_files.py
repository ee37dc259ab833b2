#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: delete_files
short_description: Delete old log files and temporary files
version_added: 0.3.0
description:
  - Deletes regular files below named directories, by the pattern of their names and by their age, the oldest first.
  - A file is kept if a process has it open, also in a container or another mount namespace. The kernel is asked at the last moment, by a
    write lease on the file; where the file system has no leases, the open files of all processes are read, and a file is kept if processes
    are hidden from the account.
  - Links are never followed, and directories on other mounts are never entered. A file with several names is kept, because its space would
    not be freed. A directory with the data of a database is left out.
  - Right before a file is deleted, it is compared with what was found. A file that was changed or replaced meanwhile is kept.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  roots:
    description:
      - Directories to delete files below. Those that do not exist are left out.
      - Directories of the system (such as V(/), V(/etc), V(/home), V(/usr)) and of databases and engines (such as V(/var/lib/postgresql),
        V(/var/lib/docker)) are rejected, and paths that lead through a symbolic link.
    type: list
    elements: path
    required: true
  patterns:
    description: Patterns of file names, such as V(*.log.gz). Patterns that match almost every name are rejected.
    type: list
    elements: str
    required: true
  older_than:
    description: Minimum seconds since a file was changed.
    type: float
    default: 604800.0
  deny:
    description: Files and directories to keep, with all below them.
    type: list
    elements: path
    default: []
  max_files:
    description: Maximum number of files to delete.
    type: int
    default: 1000
  max_bytes:
    description: Maximum disk space of the files to delete, in bytes.
    type: int
  deadline:
    description: Seconds for the whole run. What is not deleted by then is kept.
    type: float
    default: 60.0
seealso:
  - module: tracktion.ops.host_resources_info
"""

EXAMPLES = r"""
- name: Show which rotated logs would be deleted
  tracktion.ops.delete_files:
    roots: [/var/log]
    patterns: ["*.gz", "*.[0-9]"]
    older_than: 2592000
  become: true
  check_mode: true
  diff: true

- name: Delete what an analysis has left behind
  tracktion.ops.delete_files:
    roots: [/var/tmp/analysis]
    patterns: ["decoded-*.wav"]
    older_than: 86400
    max_bytes: 10737418240
  become: true
"""

RETURN = r"""
before:
  description:
    - Files that can be deleted, as C(count) and C(bytes) (disk space), without those that are kept for another reason than the maximum of
      a run.
  returned: always
  type: dict
  sample: {count: 3, bytes: 1073741824}
after:
  description: The same afterwards; the expected values in check mode.
  returned: always
  type: dict
  sample: {count: 0, bytes: 0}
deleted:
  description:
    - The first 100 files that were deleted, or would be in check mode, the oldest first, as C(path), C(bytes), C(modified) (epoch seconds),
      C(result) (V(deleted), or V(planned) in check mode).
    - Bytes of a path that are not UTF-8 are shown as C(\xf6).
  returned: always
  type: list
  elements: dict
  sample: [{path: /var/log/nginx/access.log.2.gz, bytes: 4096, modified: 1795593039.0, result: deleted}]
deleted_total:
  description: Number of all files that were deleted, or would be in check mode.
  returned: always
  type: int
  sample: 1
kept:
  description:
    - The first 100 files and directories that were kept although their names match, as C(path) and C(reason). Files that are too young are
      not listed.
    - C(reason) is V(open), V(maybe_open) (processes are hidden from the account), V(hard_linked), V(not_regular), V(mount_point),
      V(database), V(denied), V(unreadable), V(changed) (changed or replaced meanwhile) or V(over_cap) (a maximum or the deadline was reached).
  returned: always
  type: list
  elements: dict
  sample: [{path: /var/log/nginx/access.log.1, reason: open}]
kept_total:
  description: Number of all files and directories that were kept, by reason.
  returned: always
  type: dict
  sample: {open: 1}
complete:
  description: Whether all directories were searched before the deadline.
  returned: always
  type: bool
  sample: true
kind:
  description: Kind of the failure, V(bad_option).
  returned: on failure before anything was deleted
  type: str
  sample: bad_option
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._host import _delete_files


def main() -> None:
    module = AnsibleModule(argument_spec=_delete_files.SPEC, supports_check_mode=True)
    exit_module(module, partial(_delete_files.delete, module.params, module.check_mode))


if __name__ == "__main__":
    main()
