#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audio_leftovers
short_description: Delete old temporary files in the container of an audio service
version_added: 0.3.0
description:
  - Deletes regular files in the temporary directory of a container, by the pattern of their names and by their age, the oldest first. Directories,
    links and files with several names are kept, and no other directory is entered.
  - A file is kept if a process has it open. The kernel is asked at the last moment, by a write lease on the file, so that processes outside of the container
    count too. Where there are no leases, the open files of all processes of the container are read, and a file is kept if one of them is hidden.
  - It runs in the container as the user of the service, with its interpreter, and requires only Python 3.8 with its standard library.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker.socket
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  service:
    description: The compose service, or the name of the container.
    type: str
    required: true
  project:
    description: The compose project of O(service), if the machine runs several.
    type: str
  user:
    description: The user in the container. The default is that of the container.
    type: str
  python:
    description: The interpreter. The default is that of the service if it is a path, else C(python3).
    type: str
    default: ""
  temporary_directory:
    description: The directory. The default is C(TMPDIR) of the service, else C(/tmp).
    type: str
    default: ""
  patterns:
    description: Patterns of file names, such as V(tracktion_*). Patterns that match almost every name are rejected.
    type: list
    elements: str
    required: true
  older_than:
    description: Minimum seconds since a file was changed, at least 60.
    type: float
    default: 86400.0
  max_files:
    description: Maximum number of files to delete.
    type: int
    default: 1000
  timeout:
    description: Timeout of each answer of the engine, in seconds.
    type: float
    default: 5.0
  deadline:
    description: Seconds for the whole run.
    type: float
    default: 60.0
seealso:
  - module: tracktion.ops.audio_probe_info
"""

EXAMPLES = r"""
- name: Show which temporary files would be deleted
  tracktion.ops.audio_leftovers:
    service: analysis_service
    patterns: ["tracktion_*"]
  become: true
  check_mode: true
  diff: true
"""

RETURN = r"""
container: {description: The name of the container., returned: success, type: str, sample: tracktion-analysis_service}
directory: {description: The temporary directory., returned: success, type: str, sample: /tmp}
deleted:
  description:
    - The first 100 files that were deleted, or would be in check mode, the oldest first, as C(path), C(bytes), C(age_seconds), C(reason) (V(deleted), or
      V(planned) in check mode).
  returned: success
  type: list
  elements: dict
  sample: [{path: /tmp/tracktion_x1, bytes: 4096, age_seconds: 172800.0, reason: deleted}]
deleted_total: {description: The number of all of them., returned: success, type: int, sample: 1}
deleted_bytes: {description: Their disk space., returned: success, type: int, sample: 4096}
kept:
  description:
    - The first 100 old files that were kept, with C(reason), V(open), V(maybe_open) (processes are hidden from the user), V(hard_linked), V(changed) or V(gone)
      (since they were found), or V(no_permission).
  returned: success
  type: list
  elements: dict
  sample: []
kept_total: {description: The number of all of them., returned: success, type: int, sample: 0}
left_total: {description: The number of old files beyond O(max_files)., returned: success, type: int, sample: 0}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._audio._clear_leftovers import SPEC, clear
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    exit_module(module, partial(clear, module.params, module.check_mode))


if __name__ == "__main__":
    main()
