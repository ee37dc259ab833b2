#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_events_info
short_description: Find out whether file events reach the watcher, and the watcher its broker
version_added: "0.1.0"
description:
  - Looks at each watched directory. Does it exist, can the watcher read it, does its file system give events, does an event arrive,
    who watches it, and are there watches left for all directories below it.
  - Looks at the watcher. Does it run, since when, how many events wait in its queue, and is it connected to the broker.
  - Looks at the inodes of all file systems.
  - To prove that events arrive it takes one inotify instance and one watch for a moment, never a recursive one. They are those of
    the user that measures.
  - Measure on the host, as root. What could not be read is null, and named in RV(unknown).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
options:
  directories:
    description: The directories whose files are watched, as absolute paths.
    type: list
    elements: path
    default: []
  directory_settings:
    description:
      - Variables of the watcher's environment that may name the directory that it watches. Without O(directories), that of the first
        which is set is looked at, as the watcher sees it. A watcher that uses no inotify is not asked.
    type: list
    elements: str
    default: []
  seen_by:
    description:
      - Whose paths O(directories) are. V(watcher) looks at them as the watcher sees them, inside its container.
    type: str
    choices: [host, watcher]
    default: host
  watcher_service:
    description:
      - The compose service (or the name of the container) of the watcher, found in the files of the Docker engine.
        On a machine without an engine no service is expected.
    type: str
    default: ""
  watcher_project:
    description: The compose project of O(watcher_service), where the machine runs several.
    type: str
    default: ""
  watcher_command:
    description:
      - A regular expression that is searched in the command lines of all processes, for a watcher outside of containers.
        With O(watcher_service) as well, both are found.
    type: str
    default: ""
  watcher_settings:
    description: Variables of the watcher's environment that are returned, for example its extensions and ignore patterns.
    type: list
    elements: str
    default: []
  broker_port:
    description: The TCP port of the broker, as the watcher dials it.
    type: int
    default: 5672
  sample_seconds:
    description:
      - Seconds between two looks at the connections to the broker. One that is not there both times, as when the broker refuses
        the login, does not count. The time passes while directories are counted.
    type: float
    default: 1.0
  prove:
    description:
      - Prove the arrival of events by a new file instead of by opening the directory. The file is empty, its name starts with
        C(.tracktion-ops-probe-) and ends in C(.tmp), and it is removed at once. A watcher may tell of it.
    type: bool
    default: false
  max_directories:
    description: How many directories below each of O(directories) are counted at most.
    type: int
    default: 1000000
  docker_root:
    description:
      - The data directory of the Docker engine.
      - Without it, what C(/etc/docker/daemon.json) says, else C(/var/lib/docker).
    type: path
  top:
    description: How many entries each list of the result has at most.
    type: int
    default: 20
  timeout:
    description: Seconds for each look at a directory or a file system. One that does not answer is on a mount whose server is gone.
    type: float
    default: 3.0
  deadline:
    description: Seconds for the whole measurement. What is left of them at the end is for counting directories.
    type: float
    default: 10.0
seealso:
  - module: tracktion.ops.inotify_limits
"""

EXAMPLES = r"""
- name: Look at a directory that a compose service watches
  tracktion.ops.file_events_info:
    directories: [/srv/music]
    watcher_service: file_watcher
    watcher_settings: [WATCH_EXTENSIONS, IGNORE_PATTERNS]
  become: true
  register: events

- name: Fail where new files would not be noticed
  ansible.builtin.assert:
    that: events.directories[0].watched

- name: The same for a watcher that is a systemd service, proven with a new file
  tracktion.ops.file_events_info:
    directories: [/srv/music]
    watcher_command: python3 .*file_watcher
    prove: true
  become: true
"""

RETURN = r"""
reachable:
  description: Whether this machine has inotify. If not, everything but RV(error) is null.
  returned: always
  type: bool
  sample: true
error:
  description: Why there is nothing to measure, as C(kind) (V(no_inotify)), C(message) and C(hint); else null.
  returned: always
  type: dict
  sample: null
unknown:
  description: What could not be read, as a list of C(part) and C(reason).
  returned: always
  type: list
  elements: dict
  sample: []
watcher:
  description: The watcher.
  returned: always
  type: dict
  contains:
    configured: {description: Whether a watcher is expected here., type: bool, returned: always}
    name: {description: What it was looked for by., type: str, returned: always}
    running: {description: Whether a process of it runs; null where that cannot be seen., type: bool, returned: always}
    processes:
      description: Its processes, as C(pid), C(uid), C(user), C(command) (without arguments), C(started).
      type: list
      elements: dict
      returned: always
    processes_total: {description: How many there are., type: int, returned: always}
    container: {description: 'Its container, the running one if there are several; else null.', type: str, returned: always}
    containers:
      description: All containers of its service, as C(id), C(name), C(project), C(state), C(exit_code), C(restarts), C(started).
      type: list
      elements: dict
      returned: always
    state: {description: 'State of its container: V(running), V(restarting), V(paused), V(exited), V(dead).', type: str, returned: always}
    exit_code: {description: Exit code of a container that does not run., type: int, returned: always}
    restarts: {description: How often the engine has restarted the container by its restart policy., type: int, returned: always}
    started: {description: "Since when it runs, or ran, in epoch seconds.", type: float, returned: always}
    uptime_seconds: {description: For how long it has been running., type: float, returned: always}
    watches: {description: Watches that it holds., type: int, returned: always}
    instances: {description: Inotify instances that it holds., type: int, returned: always}
    queues:
      description:
        - Its inotify instances, as C(pid), C(watches), C(queued_bytes) that wait to be read, C(queued_events) (at the most, at 32 bytes
          an event), C(max_queued_events), C(queued_ratio).
      type: list
      elements: dict
      returned: always
    broker:
      description:
        - TCP connections to the broker's port, as C(port), C(connected), C(connections), C(connecting) (dialled, or ended meanwhile),
          C(addresses). Null where no watcher runs.
      type: dict
      returned: always
    settings: {description: 'By name, the variables of O(watcher_settings).', type: dict, returned: always}
  sample:
    configured: true
    name: file_watcher
    running: true
    processes: [{pid: 4711, uid: 1000, user: tracktion, command: python3 -m file_watcher, started: 1795447000.5}]
    processes_total: 1
    container: tracktion-file-watcher
    containers: []
    state: running
    exit_code: null
    restarts: 0
    started: 1795447000.1
    uptime_seconds: 3600.0
    watches: 1200
    instances: 1
    queues: [{pid: 4711, watches: 1200, queued_bytes: 0, queued_events: 0, max_queued_events: 16384, queued_ratio: 0.0}]
    broker: {port: 5672, connected: true, connections: 1, connecting: 0, addresses: [172.20.0.4]}
    settings: {WATCH_EXTENSIONS: '.mp3,.flac,.wav'}
file_systems:
  description: File systems that have a fixed number of inodes, the fullest first; at most O(top).
  returned: always
  type: list
  elements: dict
  contains:
    mount_point: {description: Where it is mounted., type: str, returned: always}
    source: {description: Its device., type: str, returned: always}
    type: {description: Its type., type: str, returned: always}
    inodes: {description: Inodes it has., type: int, returned: always}
    inodes_used: {description: Inodes in use., type: int, returned: always}
    inodes_free: {description: Inodes that are free., type: int, returned: always}
    inodes_ratio: {description: Share in use., type: float, returned: always}
  sample: [{mount_point: /, source: /dev/sda1, type: ext4, inodes: 6553600, inodes_used: 517601, inodes_free: 6035999, inodes_ratio: 0.079}]
directories:
  description: One entry for each of O(directories), in their order.
  returned: always
  type: list
  elements: dict
  contains:
    path: {description: 'The path; C(\\xf6) stands for a byte that is not UTF-8.', type: str, returned: always}
    path_hex: {description: 'Its bytes, in hexadecimal, where it is not UTF-8; else null.', type: str, returned: always}
    answers:
      description: Whether it can be looked at; false with an RV(directories[].error), null where there was no time or no right to find out.
      type: bool
      returned: always
    error:
      description: Why nothing is known of it, as C(kind) (V(hung) or V(failed)), C(message), C(hint); else null.
      type: dict
      returned: always
    exists: {description: Whether it exists., type: bool, returned: always}
    is_directory: {description: Whether it is a directory., type: bool, returned: always}
    mode: {description: 'Its mode, in octal.', type: str, returned: always}
    uid: {description: Its owner., type: int, returned: always}
    gid: {description: Its group., type: int, returned: always}
    readable: {description: Whether we can list it., type: bool, returned: always}
    watcher_readable:
      description: Whether the watcher can, by modes and capabilities. Null where that does not settle it (access lists) or no watcher runs.
      type: bool
      returned: always
    file_system:
      description:
        - What it lies on, as C(type), C(mount_point), C(source), C(events) and C(reason). C(events) is V(all), V(partial) where some
          changes give no events (and C(reason) says which), or V(none).
      type: dict
      returned: always
    event:
      description:
        - The proof, as C(trigger) (V(open) or V(create)), C(arrived), C(seconds), C(error). C(arrived) is null where it could not be
          tried, and C(error.kind) says why. V(instance_limit), V(watch_limit), V(permission), V(read_only), V(failed).
      type: dict
      returned: always
    watched:
      description: Whether the watcher has a watch on it; whether anybody has, where no watcher was named. Null where nobody knows.
      type: bool
      returned: always
    instances: {description: Inotify instances with a watch on it. Null where some processes are hidden., type: int, returned: always}
    instances_at_least: {description: Those that were seen., type: int, returned: always}
    watcher_instances: {description: Those of the watcher., type: int, returned: always}
    watchers:
      description: Who holds them, as C(pid), C(user), C(command), C(container), C(service), C(is_watcher).
      type: list
      elements: dict
      returned: always
    tree:
      description:
        - What is below it. C(directories) with itself, C(entries) in them, C(unreadable) directories, C(complete) (false where the
          count was cut short), C(not_watched) directories without a watch of the watcher (null where the directory itself has none),
          C(not_watched_examples), and the C(fullest) directories as C(path) and C(entries).
      type: dict
      returned: always
  sample:
    - path: /srv/music
      path_hex: null
      answers: true
      error: null
      exists: true
      is_directory: true
      mode: "0755"
      uid: 1000
      gid: 1000
      readable: true
      watcher_readable: true
      file_system: {type: ext4, mount_point: /, source: /dev/sda1, events: all, reason: null}
      event: {trigger: open, arrived: true, seconds: 0.0001, error: null}
      watched: true
      instances: 1
      instances_at_least: 1
      watcher_instances: 1
      watchers: [{pid: 4711, user: tracktion, command: python3 -m file_watcher, container: tracktion-file-watcher,
        service: file_watcher, is_watcher: true}]
      tree:
        directories: 1200
        entries: 15020
        unreadable: 0
        complete: true
        not_watched: 0
        not_watched_examples: []
        fullest: [{path: /srv/music/incoming, entries: 900}]
forecast:
  description:
    - Whether the watches that are left to the watcher's user are enough. One entry, or none where no watcher runs or no
      directory could be counted; null where the processes of the watcher are hidden.
  returned: always
  type: list
  elements: dict
  contains:
    uid: {description: The uid that pays., type: int, returned: always}
    user: {description: Its name., type: str, returned: always}
    directories: {description: Directories below all O(directories)., type: int, returned: always}
    complete: {description: Whether all were counted., type: bool, returned: always}
    watches_limit: {description: Watches that the user may hold., type: int, returned: always}
    watches_held: {description: Watches that the user holds; null where some of its processes could not be read., type: int, returned: always}
    watches_left: {description: Watches that are left., type: int, returned: always}
    watches_left_at_most: {description: The same by what was seen., type: int, returned: always}
    watches_needed: {description: Directories that have no watch yet., type: int, returned: always}
    directories_left: {description: "New directories until C(ENOSPC), once the present ones are all watched.", type: int, returned: always}
    fits: {description: Whether the watches are enough; null where that is not certain., type: bool, returned: always}
  sample:
    - uid: 1000
      user: tracktion
      directories: 1200
      complete: true
      watches_limit: 192536
      watches_held: 1200
      watches_left: 191336
      watches_left_at_most: 191336
      watches_needed: 0
      directories_left: 191336
      fits: true
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _file_events_info


def main():
    module = AnsibleModule(argument_spec=_file_events_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(_file_events_info.measure, module.params))


if __name__ == "__main__":
    main()
