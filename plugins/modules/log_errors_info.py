#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: log_errors_info
short_description: Count what the logs of a host complain about
version_added: "0.1.0"
description:
  - Reads the logs of containers, of files and of the journal for the last O(minutes), and for as long before that. It returns lines,
    errors and warnings of each service with their rates, the errors by what they have in common, and what the kernel complains about.
  - The newest part of each log is read first, until O(max_bytes), O(max_total_bytes), O(timeout) or O(deadline) is used up. What was
    left out is said in C(complete), C(covered_seconds) and C(bytes_skipped), and rates are those of the part that was read.
  - A line counts as an error by the level that it says, in JSON, logfmt, or the way of PostgreSQL, RabbitMQ, Redis, nginx or Python's
    logging; by an answer of HTTP with 5xx; and only without any of these by its words. "0 errors" and "error_count=0" are none.
  - A traceback is one event, and its signature is the line that names the exception.
  - Passwords, tokens, keys, e-mail addresses and what is long and looks random are replaced by C(***) in everything that is returned.
  - The logs of containers are read from the files of the engine's driver C(json-file), as root. The engine is asked only for its
    other drivers, or where its files may not be read.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker.socket
options:
  containers:
    description: Whether the logs of containers are read.
    type: bool
    default: true
  services:
    description: Compose services, or names of containers, that are meant. Without any, all are.
    type: list
    elements: str
    default: []
  exclude:
    description: Compose services, or names of containers, that are left out.
    type: list
    elements: str
    default: []
  project:
    description: The compose project whose containers are meant. Without it, all containers of the host are.
    type: str
    default: ""
  files:
    description:
      - Patterns of log files, such as C(/srv/app/logs/*.log). Those a file was rotated to are found by their names. Of a compressed one
        it is said that it was left out.
      - The lines must say their time. One without a zone is taken to be the host's, moved by whole quarters of an hour where the time of
        the file says so.
    type: list
    elements: str
    default: []
  journal_units:
    description: Units of the journal, as the option C(--unit) of C(journalctl) takes them. V(*) is all.
    type: list
    elements: str
    default: []
  journal_directory:
    description: Where the journal's files are, if not where C(journalctl) looks.
    type: path
  kernel_log:
    description: The kernel's log, or a file of the same format. Empty to leave it out.
    type: str
    default: /dev/kmsg
  minutes:
    description: Minutes of the window. The window before it is as long.
    type: float
    default: 15.0
  since:
    description: Epoch seconds further back than which nothing is looked at. The window may become shorter by it.
    type: float
    default: 0.0
  progress:
    description: Regular expressions by service, for the lines that a service writes when it has done a piece of work.
    type: dict
    default: {}
  known:
    description:
      - Messages whose meaning is known. Each needs C(id) and C(pattern), a regular expression that is searched in errors and warnings
        in any case. Whatever else it holds is returned with it. The first that fits counts.
    type: list
    elements: dict
    default: []
  own:
    description: More of the same, which go before O(known).
    type: list
    elements: dict
    default: []
  max_bytes:
    description: Bytes that are read of each log at most.
    type: int
    default: 33554432
  max_total_bytes:
    description: Bytes that are read of all logs at most. Those with little to read come first, the others get equal shares.
    type: int
    default: 134217728
  sample_length:
    description: Characters of a sample at most.
    type: int
    default: 300
  docker_root:
    description:
      - The data directory of the Docker engine.
      - Without it, what C(/etc/docker/daemon.json) says, else C(/var/lib/docker). That is where the engine of the default O(docker_host) has
        it; without this option, another engine is asked for its logs, which takes longer.
    type: path
  top:
    description: How many entries each list of the result has at most.
    type: int
    default: 20
  timeout:
    description: Seconds for opening the logs, and for reading each of them.
    type: float
    default: 5.0
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
"""

EXAMPLES = r"""
- name: Count the errors of a compose project in the last ten minutes
  tracktion.ops.log_errors_info:
    project: tracktion
    minutes: 10
    progress:
      analysis_service: "completed /music/"
  become: true
  register: logs

- name: Show what is said most often
  ansible.builtin.debug:
    msg: "{{ logs.signatures | map(attribute='signature') }}"

- name: Look at the files of a program outside of containers, and at a unit of the journal
  tracktion.ops.log_errors_info:
    containers: false
    files: [/var/log/nginx/error.log]
    journal_units: [docker.service]
    known:
      - id: certificate
        pattern: certificate has expired
        meaning: nginx shows an old certificate
  become: true
"""

RETURN = r"""
reachable:
  description: Always V(true). A log that cannot be read is told in its entry of RV(services).
  returned: always
  type: bool
  sample: true
error:
  description: Always null.
  returned: always
  type: dict
  sample: null
unknown:
  description: Parts that could not be read, as C(part) and C(reason).
  returned: always
  type: list
  elements: dict
  sample:
    - part: services.postgres
      reason: its log driver none keeps nothing
window:
  description: The time that was looked at, in epoch seconds.
  returned: always
  type: dict
  contains:
    begin: {description: When it begins., type: float, returned: always}
    end: {description: When it ends; now., type: float, returned: always}
    seconds: {description: How long it is., type: float, returned: always}
    previous_begin: {description: When the window before it begins., type: float, returned: always}
  sample: {begin: 1795594462.9, end: 1795595362.9, seconds: 900.0, previous_begin: 1795593562.9}
services:
  description: Each log, those that could not be read first, then those with RV(services[].progress), then those with most errors.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: "The compose service, else the name of the container; the path of a file; the unit.", type: str, returned: always}
    source: {description: "V(container), V(file) or V(journal).", type: str, returned: always}
    container: {description: The name of the container., type: str, returned: always}
    project: {description: Its compose project., type: str, returned: always}
    state: {description: "Its state, such as V(running).", type: str, returned: always}
    driver: {description: Its log driver., type: str, returned: always}
    path: {description: 'The file that is read; C(\\xf6) stands for a byte that is not UTF-8.', type: str, returned: always}
    path_hex: {description: 'The bytes of its path, in hexadecimal, where it is not UTF-8; else null.', type: str, returned: always}
    error: {description: Why it could not be read; null where it was. The numbers are null then., type: str, returned: always}
    hint: {description: "How to get the right to read it, where that is missing; else null.", type: str, returned: always}
    lines: {description: Lines in the window., type: int, returned: always}
    errors: {description: Events of the levels error and worse., type: int, returned: always}
    warnings: {description: Events of the level warning., type: int, returned: always}
    lines_per_minute: {description: Lines per minute; null where nothing was read., type: float, returned: always}
    errors_per_minute: {description: Errors per minute., type: float, returned: always}
    warnings_per_minute: {description: Warnings per minute., type: float, returned: always}
    progress: {description: "C(count) and C(per_minute) of the lines that O(progress) names; null where it names none.", type: dict, returned: always}
    complete: {description: Whether all of the window was read., type: bool, returned: always}
    covered_seconds: {description: How much of the window was read; its newest part., type: float, returned: always}
    bytes_read: {description: Bytes that were read., type: int, returned: always}
    bytes_skipped: {description: "Bytes of the window that were not; 0 where their number is not known.", type: int, returned: always}
    previous: {description: The same numbers of the window before., type: dict, returned: always}
    errors_ratio: {description: Errors per minute over those of the window before; null where it had none., type: float, returned: always}
    newest: {description: "When its last line was written, in epoch seconds; one in the future tells of a wrong clock.", type: float, returned: always}
    left_out: {description: Why not all was read; null where it was., type: str, returned: always}
  sample:
    - name: analysis_service
      source: container
      container: tracktion-analysis_service-1
      project: tracktion
      state: running
      driver: json-file
      path: /var/lib/docker/containers/ID/ID-json.log
      path_hex: null
      error: null
      hint: null
      lines: 1200
      errors: 90
      warnings: 2
      lines_per_minute: 80.0
      errors_per_minute: 6.0
      warnings_per_minute: 0.133
      progress: {count: 900, per_minute: 60.0}
      complete: true
      covered_seconds: 900.0
      bytes_read: 190000
      bytes_skipped: 0
      previous: {lines: 1000, errors: 3}
      errors_ratio: 30.0
      newest: 1795595360.2
      left_out: null
services_total:
  description: How many logs there are.
  returned: always
  type: int
  sample: 6
signatures:
  description: The kinds of events of the window, errors before warnings, the most frequent first.
  returned: always
  type: list
  elements: dict
  contains:
    service: {description: Whose it is., type: str, returned: always}
    level: {description: "V(warning), V(error) or V(critical).", type: str, returned: always}
    signature: {description: "The message with times, numbers, addresses and paths masked; of a traceback the exception.", type: str, returned: always}
    count: {description: How many in the window., type: int, returned: always}
    previous_count: {description: How many in the window before; null where none was seen and not all of it was read., type: int, returned: always}
    first: {description: When the first was written., type: float, returned: always}
    last: {description: When the last was written., type: float, returned: always}
    sample: {description: "One of them, without its secrets.", type: str, returned: always}
  sample:
    - service: analysis_service
      level: error
      signature: "analysis_service lost the broker: StreamLostError"
      count: 88
      previous_count: 0
      first: 1795595001.2
      last: 1795595360.2
      sample: "2026-11-25 08:29:20,123 ERROR analysis_service lost the broker: StreamLostError"
signatures_total:
  description: How many kinds there are.
  returned: always
  type: int
  sample: 3
known:
  description: What of O(own) and O(known) was found, without its C(pattern) and with C(service), C(count), C(first), C(last) and C(sample).
  returned: always
  type: list
  elements: dict
  sample:
    - {id: disk_full, service: postgres, count: 3, first: 1795595001.2, last: 1795595002.9, sample: "No space left on device"}
known_total:
  description: How many were found.
  returned: always
  type: int
  sample: 1
kernel:
  description: What the kernel complained about in the window; null where its log may not be read.
  returned: always
  type: dict
  contains:
    complete: {description: Whether its log still holds all of the window., type: bool, returned: always}
    oldest: {description: When the oldest record that it holds was written., type: float, returned: always}
    groups:
      description:
        - Each C(kind) (V(oom_kill), V(io_error), V(read_only_fs), V(hung_task), V(segfault), V(conntrack_full)) of each C(object) (a process
          or a disk), with C(container), C(count), C(first), C(last) and C(sample), the latest first.
      type: list
      elements: dict
      returned: always
    groups_total: {description: How many groups there are., type: int, returned: always}
  sample:
    complete: true
    oldest: 1795590000.1
    groups:
      - kind: oom_kill
        object: python3
        container: tracktion-analysis_service-1
        count: 1
        first: 1795595001.2
        last: 1795595001.2
        sample: "Memory cgroup out of memory: Killed process 4711 (python3)"
    groups_total: 1
totals:
  description: The sums of all logs; C(unreadable) counts those that could not be read.
  returned: always
  type: dict
  sample: {lines: 1300, errors: 90, warnings: 3, bytes_read: 230000, bytes_skipped: 0, unreadable: 0, complete: true}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _log_errors_info


def main():
    module = AnsibleModule(argument_spec=_log_errors_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(_log_errors_info.measure, module.params))


if __name__ == "__main__":
    main()
