#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: log_errors_info
short_description: Count errors and warnings in the logs of a host
version_added: 0.2.0
description:
  - Reads the logs of containers, files and the journal for the last O(minutes) minutes, and for as long before. Returns the lines, errors
    and warnings of each service with their rates, the errors by signature, known messages, and problems in the kernel's log.
  - The newest part of each log is read first, until O(max_bytes), O(max_total_bytes), O(timeout) or O(deadline) is used up. C(complete),
    C(covered_seconds) and C(bytes_skipped) return what was left out, and rates are those of the part that was read.
  - A line is an error by its level, in JSON, logfmt, or the format of PostgreSQL, RabbitMQ, Redis, nginx or Python's logging; by an HTTP
    status 5xx; and only without any of these by its words. "0 errors" and "error_count=0" are not errors.
  - A traceback is one event. Its signature is the line that names the exception.
  - Passwords, tokens, keys, e-mail addresses and long words that look random are replaced by C(***) in everything that is returned.
  - Logs of containers are read from the files of the engine's driver C(json-file), as root. The engine's API is used only for other
    drivers, or if its files cannot be read.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker.socket
options:
  containers:
    description: Whether to read the logs of containers.
    type: bool
    default: true
  services:
    description: Compose services, or names of containers, to read. Empty for all.
    type: list
    elements: str
    default: []
  exclude:
    description: Compose services, or names of containers, to leave out.
    type: list
    elements: str
    default: []
  project:
    description: The compose project whose containers are read. Empty for all containers of the host.
    type: str
    default: ""
  files:
    description:
      - Patterns of log files, such as C(/srv/app/logs/*.log). Their rotated files are found by name. A compressed one is not read, and
        reported as left out.
      - The lines must have a time. A time without a zone is local time, shifted by a multiple of 15 minutes if the modification time of the
        file shows another zone.
    type: list
    elements: str
    default: []
  journal_units:
    description: Units of the journal, as for C(journalctl --unit). V(*) for all.
    type: list
    elements: str
    default: []
  journal_directory:
    description: Directory of the journal's files, if it is not the default of C(journalctl).
    type: path
  kernel_log:
    description: The kernel's log, or a file of the same format. Empty to leave it out.
    type: str
    default: /dev/kmsg
  minutes:
    description: Length of the window in minutes. The previous window is as long.
    type: float
    default: 15.0
  since:
    description: Epoch seconds. Lines before it are not read, which can make the windows shorter.
    type: float
    default: 0.0
  progress:
    description: Regular expressions by service, for lines that a service writes when it has completed a piece of work.
    type: dict
    default: {}
  known:
    description:
      - Known messages. Each needs C(id) and C(pattern), a regular expression that is searched in errors and warnings, ignoring case. Its
        other keys are returned with it. The first that matches an event counts.
      - With C(probe) set to V(true), the events are caused by monitors and health checks, and do not count as errors or warnings.
      - With C(transient) set to V(true), a start of a service writes it, so that it is a fault only if it lasts.
      - With C(clears), it is the message that the state has ended that the known message with this id reports. It is not returned.
    type: list
    elements: dict
    default: []
  own:
    description: More known messages, which are searched before O(known).
    type: list
    elements: dict
    default: []
  max_bytes:
    description: Largest number of bytes to read of each log.
    type: int
    default: 33554432
  max_total_bytes:
    description: Largest number of bytes to read of all logs. Small logs are read whole, the others get equal shares.
    type: int
    default: 134217728
  sample_length:
    description: Largest number of characters of a sample.
    type: int
    default: 300
  over_seconds:
    description:
      - Seconds of silence after which events are over, so that C(ongoing) is false. The silence must also be three times as long as the
        longest time between two events of both windows. It begins with the start of the container if that is after the last event.
      - It counts for events that came for longer than this, if the program writes other lines since, and for a container that was restarted
        since. For others, O(over_once_seconds) counts.
      - Events of a container that does not run are never over.
    type: float
    default: 60.0
  over_once_seconds:
    description: The same for events that came once or for less than O(over_seconds), and for a program that writes nothing since.
    type: float
    default: 300.0
  docker_root:
    description:
      - The data directory of the Docker engine.
      - The default is the C(data-root) of C(/etc/docker/daemon.json), or C(/var/lib/docker), for the engine of the default O(docker_host). For
        another O(docker_host), set this option to read its files; otherwise its API is used, which takes longer.
    type: path
  top:
    description: Largest number of entries in each list of the result.
    type: int
    default: 20
  timeout:
    description: Seconds to open the logs, and to read each of them.
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

- name: Show the most frequent errors
  ansible.builtin.debug:
    msg: "{{ logs.signatures | map(attribute='signature') }}"

- name: Read the log of a program outside of containers, and a unit of the journal
  tracktion.ops.log_errors_info:
    containers: false
    files: [/var/log/nginx/error.log]
    journal_units: [docker.service]
    known:
      - id: certificate
        pattern: certificate has expired
        meaning: nginx serves an expired certificate
  become: true
"""

RETURN = r"""
reachable: {description: Always true. The failure of a log is in its entry of RV(services)., returned: always, type: bool, sample: true}
error: {description: Always null., returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
window:
  description: The windows, in epoch seconds.
  returned: always
  type: dict
  contains:
    begin: {description: Begin of the window., type: float, returned: always}
    end: {description: End of the window; the time of the measurement., type: float, returned: always}
    seconds: {description: Length of the window., type: float, returned: always}
    previous_begin: {description: Begin of the previous window., type: float, returned: always}
  sample: {begin: 1795594462.9, end: 1795595362.9, seconds: 900.0, previous_begin: 1795593562.9}
services:
  description: The logs. First those that could not be read, then those with RV(services[].progress), then by number of errors.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: "The compose service, else the name of the container; the path of a file; the unit.", type: str, returned: always}
    source: {description: "V(container), V(file) or V(journal).", type: str, returned: always}
    container: {description: Name of the container., type: str, returned: always}
    project: {description: Compose project of the container., type: str, returned: always}
    state: {description: "State of the container, such as V(running).", type: str, returned: always}
    driver: {description: Log driver of the container., type: str, returned: always}
    path: {description: 'Path of the file; C(\\xf6) stands for a byte that is not UTF-8.', type: str, returned: always}
    path_hex: {description: 'The path in hexadecimal if it is not UTF-8; else null.', type: str, returned: always}
    error: {description: Why the log could not be read; else null. The numbers are null then., type: str, returned: always}
    hint: {description: "How to get the right to read the log, if it is missing; else null.", type: str, returned: always}
    lines: {description: Lines in the window., type: int, returned: always}
    errors: {description: Events with level error or critical., type: int, returned: always}
    warnings: {description: Events with level warning., type: int, returned: always}
    lines_per_minute: {description: Lines per minute; null if nothing was read., type: float, returned: always}
    errors_per_minute: {description: Errors per minute., type: float, returned: always}
    warnings_per_minute: {description: Warnings per minute., type: float, returned: always}
    errors_in_worst_minute: {description: Largest number of errors within a minute., type: int, returned: always}
    progress: {description: "C(count) and C(per_minute) of the lines that match O(progress); null without a pattern.", type: dict, returned: always}
    complete: {description: Whether all of the window was read., type: bool, returned: always}
    covered_seconds: {description: Seconds of the window that were read; its newest part., type: float, returned: always}
    bytes_read: {description: Bytes that were read., type: int, returned: always}
    bytes_skipped: {description: "Bytes of the window that were not read; 0 if their number is not known.", type: int, returned: always}
    previous: {description: The same numbers for the previous window., type: dict, returned: always}
    errors_ratio: {description: Errors in the worst minute divided by those of the previous window; null if that had none., type: float, returned: always}
    errors_first: {description: Time of the first error., type: float, returned: always}
    errors_last: {description: Time of the last error., type: float, returned: always}
    errors_ongoing: {description: "Whether more errors have to be expected, see O(over_seconds).", type: bool, returned: always}
    burst:
      description:
        - The time in which errors exceeded their mean rate most, with C(count), C(begin), C(end) and C(seconds). Null without 10 errors, and
          if the errors are spread over half of the time that was read, or more.
      type: dict
      returned: always
    newest: {description: "Time of the last line in epoch seconds; one in the future shows a wrong clock.", type: float, returned: always}
    left_out: {description: Why a part was not read; else null., type: str, returned: always}
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
      errors_in_worst_minute: 88
      progress: {count: 900, per_minute: 60.0}
      complete: true
      covered_seconds: 900.0
      bytes_read: 190000
      bytes_skipped: 0
      previous: {lines: 1000, errors: 3}
      errors_ratio: 44.0
      errors_first: 1795595001.2
      errors_last: 1795595360.2
      errors_ongoing: true
      burst: {count: 88, begin: 1795595340.0, end: 1795595361.0, seconds: 21.0}
      newest: 1795595360.2
      left_out: null
services_total: {description: Number of logs., type: int, returned: always, sample: 6}
signatures:
  description: The signatures of the window, errors before warnings, the most frequent first.
  returned: always
  type: list
  elements: dict
  contains:
    service: {description: Name of the log., type: str, returned: always}
    level: {description: "V(warning), V(error) or V(critical).", type: str, returned: always}
    signature: {description: "The message with times, numbers, addresses and paths masked; for a traceback the exception.", type: str, returned: always}
    count: {description: Events in the window., type: int, returned: always}
    previous_count: {description: Events in the previous window; null if none was found and not all of it was read., type: int, returned: always}
    first: {description: Time of the first event., type: float, returned: always}
    last: {description: Time of the last event., type: float, returned: always}
    ongoing: {description: "Whether more events have to be expected, see O(over_seconds).", type: bool, returned: always}
    known: {description: "The C(id) of the known message that matches; null for none.", type: str, returned: always}
    example: {description: "The message of one event, without secrets, time and level.", type: str, returned: always}
    sample: {description: "One event, without secrets.", type: str, returned: always}
  sample:
    - service: analysis_service
      level: error
      signature: "analysis_service lost the broker: StreamLostError"
      count: 88
      previous_count: 0
      first: 1795595001.2
      last: 1795595360.2
      ongoing: true
      known: null
      example: "analysis_service lost the broker: StreamLostError"
      sample: "2026-11-25 08:29:20,123 ERROR analysis_service lost the broker: StreamLostError"
signatures_total: {description: Number of signatures., type: int, returned: always, sample: 3}
known:
  description:
    - The known messages that were found, with C(service), C(container), C(project), C(count), C(previous_count), C(first), C(last), C(ongoing), C(sample)
      and the keys of O(own) or O(known) other than C(pattern).
    - C(names) are what the named groups of the pattern match, up to 10 values of each.
    - C(probe) and C(transient) are those of the entry. C(peers) are the clients that cause messages with C(probe), with C(address) and C(container).
    - C(health_check) is set if the health check of a container explains errors in the log of PostgreSQL, as C(pg_isready) without C(-U) and
      C(-d) causes, with C(container), C(command), C(user) and C(database) that it connects to, C(right_user) and C(right_database) that
      the image creates, C(file) and C(line) of the compose file. The C(id) is V(health_check) then. More errors than the check can
      cause count as errors.
  returned: always
  type: list
  elements: dict
  sample:
    - id: disk_full
      service: postgres
      container: tracktion-postgres-1
      project: tracktion
      count: 3
      previous_count: 0
      first: 1795595001.2
      last: 1795595002.9
      ongoing: false
      sample: "No space left on device"
      names: {}
      probe: false
      transient: false
      peers: []
      health_check: null
known_total: {description: Number of known messages that were found., type: int, returned: always, sample: 1}
kernel:
  description: Problems in the kernel's log in the window; null if it cannot be read.
  returned: always
  type: dict
  contains:
    complete: {description: Whether the log still holds all of the window., type: bool, returned: always}
    oldest: {description: Time of the oldest record., type: float, returned: always}
    groups:
      description:
        - Records by C(kind) (V(oom_kill), V(io_error), V(read_only_fs), V(hung_task), V(segfault), V(conntrack_full)) and C(object) (a process
          or a disk), with C(container), C(count), C(first), C(last) and C(sample), the latest first.
        - C(writable) is whether a file system that became read-only is mounted read-write again; null if it is not mounted.
      type: list
      elements: dict
      returned: always
    groups_total: {description: Number of groups., type: int, returned: always}
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
        writable: null
        sample: "Memory cgroup out of memory: Killed process 4711 (python3)"
    groups_total: 1
totals:
  description: Sums over all logs. C(unreadable) is the number of logs that could not be read.
  returned: always
  type: dict
  sample: {lines: 1300, errors: 90, warnings: 3, bytes_read: 230000, bytes_skipped: 0, unreadable: 0, complete: true}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _log_errors_info


def main() -> None:
    module = AnsibleModule(argument_spec=_log_errors_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(_log_errors_info.measure, module.params))


if __name__ == "__main__":
    main()
