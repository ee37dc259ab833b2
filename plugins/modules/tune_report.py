#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tune_report
short_description: Report which kernel parameters were raised on which hosts
version_added: 0.2.0
description:
  - Collects the results that the role P(tracktion.ops.tune_inotify#role) registered on the hosts of this run.
  - Shows a table of the changes by host, writes C(tune_inotify.json), and passes a summary to C(set_stats) as C(tracktion_tuned).
  - Fails if no host was tuned.
  - Runs on the controller and needs C(run_once).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.action
options:
  directory:
    description:
      - Directory on the controller for C(tune_inotify.json). It is created if it is missing.
      - It and its parent directories must belong to root or to the user of the run and must not be writable by others. Otherwise the
        report is not written, and a warning gives the command that corrects it.
    type: path
    required: true
  hosts:
    description: The hosts to tune. A host without a registered result is reported as not visited.
    type: list
    elements: str
    default: []
  only_if_failed:
    description: Do nothing unless a host of the current batch could not be tuned. For a report before the run stops.
    type: bool
    default: false
seealso:
  - module: tracktion.ops.inotify_limits
  - module: tracktion.ops.sysctl_floors
"""

EXAMPLES = r"""
- name: Show the changes by host
  tracktion.ops.tune_report:
    directory: reports
  run_once: true
"""

RETURN = r"""
path:
  description: Path of the report on the controller; null if it could not be written or there is no report.
  returned: always
  type: str
  sample: /home/operator/reports/tune_inotify.json
summary:
  description:
    - Counts by status, and the hosts that were changed, failed, unreachable, skipped or not visited, as passed to C(set_stats).
    - Null if there is no report.
  returned: always
  type: dict
  sample:
    check_mode: false
    complete: true
    counts: {failed: 0, unreachable: 0, not_visited: 0, changed: 1, skipped: 0, ok: 0}
    changed:
      - host: music-1
        parameters:
          - key: fs.inotify.max_user_watches
            before: 8192
            after: 262144
            persisted_before: null
            persisted_after: 262144
            file: /etc/sysctl.d/60-tracktion-inotify.conf
    not_visited: []
    failed: []
    unreachable: []
    skipped: []
    hosts_left_out: 0
"""
