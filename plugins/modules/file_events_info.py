#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_events_info
short_description: Measure whether file events reach the watcher, and the watcher its broker
version_added: 0.2.0
description:
  - For each watched directory, measures whether it exists, whether the watcher can read it, whether its file system gives events,
    whether an event arrives, which processes watch it, and whether enough watches are left for all directories below it.
  - For the watcher, measures whether it runs, since when, how many events are queued, and whether it is connected to the broker.
  - Measures the inode use of all file systems.
  - To verify that events arrive, it uses one inotify instance and one watch for a moment, never a recursive one, of the user that
    measures.
  - Measure on the host, as root. A part that cannot be read is null, and RV(unknown) gives the reason.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
options:
  directories:
    description: The watched directories, as absolute paths.
    type: list
    elements: path
    default: []
  directory_settings:
    description:
      - Environment variables of the watcher that may name the watched directory. Without O(directories), the first variable that is
        set gives the directory, as a path inside the watcher's container. If the container is down, its configuration is read.
    type: list
    elements: str
    default: []
  seen_by:
    description:
      - Where the paths in O(directories) are valid. With V(watcher), they are paths inside the watcher's container.
    type: str
    choices: [host, watcher]
    default: host
  watcher_service:
    description:
      - The compose service (or container name) of the watcher, as in the files of the Docker engine.
        On a machine without an engine, no service is expected.
    type: str
    default: ""
  watcher_project:
    description: The compose project of O(watcher_service), if the machine runs several.
    type: str
    default: ""
  watcher_command:
    description:
      - A regular expression to search in the command lines of all processes, for a watcher outside of containers.
        If O(watcher_service) is set too, the processes of both are used.
    type: str
    default: ""
  watcher_settings:
    description: Environment variables of the watcher to return, for example its extensions and ignore patterns.
    type: list
    elements: str
    default: []
  broker_port:
    description: The TCP port of the broker that the watcher connects to.
    type: int
    default: 5672
  sample_seconds:
    description:
      - Seconds between two samples of the connections to the broker. A connection counts only if it is in both samples, because a
        broker that rejects the login closes it at once. Directories are counted in the meantime.
    type: float
    default: 1.0
  prove:
    description:
      - Verify the arrival of events with a new file instead of by opening the directory. The file is empty, its name starts with
        C(.tracktion-ops-probe-) and ends in C(.tmp), and it is removed at once. A watcher may report it.
    type: bool
    default: false
  max_directories:
    description: Maximum number of directories to count below each of O(directories).
    type: int
    default: 1000000
  docker_root:
    description:
      - The data directory of the Docker engine.
      - By default the one in C(/etc/docker/daemon.json), else C(/var/lib/docker).
    type: path
  top:
    description: Maximum number of entries of each list in the result.
    type: int
    default: 20
  timeout:
    description: Seconds for reading one directory or file system. If it does not answer, the server of its mount is unreachable.
    type: float
    default: 3.0
  deadline:
    description: Seconds for the whole measurement. Directories are counted last, in the remaining time.
    type: float
    default: 10.0
seealso:
  - module: tracktion.ops.inotify_limits
"""

EXAMPLES = r"""
- name: Measure a directory that a compose service watches
  tracktion.ops.file_events_info:
    directories: [/srv/music]
    watcher_service: file_watcher
    watcher_settings: [WATCH_EXTENSIONS, IGNORE_PATTERNS]
  become: true
  register: events

- name: Fail if the watcher would not detect new files
  ansible.builtin.assert:
    that: events.directories[0].watched

- name: Measure the same for a systemd service, and verify events with a new file
  tracktion.ops.file_events_info:
    directories: [/srv/music]
    watcher_command: python3 .*file_watcher
    prove: true
  become: true
"""

RETURN = r"""
reachable: {description: Whether this machine has inotify., returned: always, type: bool, sample: true}
error: {description: "Why nothing was measured (C(kind) is V(no_inotify)), or null.", returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
watcher:
  description: The watcher.
  returned: always
  type: dict
  contains:
    configured: {description: Whether a watcher is expected on this machine., type: bool, returned: always}
    name: {description: The O(watcher_service) or O(watcher_command)., type: str, returned: always}
    running: {description: Whether a process of it runs; null if that is not known., type: bool, returned: always}
    processes:
      description: Its processes, as C(pid), C(uid), C(user), C(command) (without arguments), C(started).
      type: list
      elements: dict
      returned: always
    processes_total: {description: Number of its processes., type: int, returned: always}
    container: {description: 'Its container, the running one if there are several; else null.', type: str, returned: always}
    containers:
      description: All containers of its service, as C(id), C(name), C(project), C(state), C(exit_code), C(restarts), C(started).
      type: list
      elements: dict
      returned: always
    state: {description: 'State of its container: V(running), V(restarting), V(paused), V(exited), V(dead).', type: str, returned: always}
    exit_code: {description: Exit code of a stopped container., type: int, returned: always}
    restarts: {description: Restarts of the container by its restart policy., type: int, returned: always}
    started: {description: 'Time of the last start, in epoch seconds.', type: float, returned: always}
    uptime_seconds: {description: Seconds since the start., type: float, returned: always}
    watches: {description: Number of its watches., type: int, returned: always}
    instances: {description: Number of its inotify instances., type: int, returned: always}
    queues:
      description:
        - Its inotify instances, as C(pid), C(watches), C(queued_bytes) (unread), C(queued_events) (at most, at 32 bytes per event),
          C(max_queued_events), C(queued_ratio).
      type: list
      elements: dict
      returned: always
    broker:
      description:
        - TCP connections to the broker's port, as C(port), C(connected), C(connections), C(connecting) (being established, or closed
          between the samples), C(addresses). Null if no watcher runs.
      type: dict
      returned: always
    unmounted:
      description:
        - Directories that no mount of its container covers, as C(path) and C(inside) (whether the path is one in the container). A path
          in the container is listed if the container is down, or has no files there. Null if the container is not known.
      type: list
      elements: dict
      returned: always
    mounts: {description: 'The mounts of its container, as C(/srv/music on /music).', type: list, elements: str, returned: always}
    polling:
      description:
        - C(polls) is whether it polls instead of using inotify, C(declared) the setting, option or program by which it does, C(observed)
          whether it was seen to list the directory (null if that was not measured), C(fell_back) whether it polls because of RV(watcher.cause).
          All are null if its processes cannot be read.
      type: dict
      returned: always
      contains:
        declared: {description: 'The setting, such as C(CHOKIDAR_USEPOLLING=1); else null.', type: str, returned: always}
        observed: {description: Whether it lists the directory., type: bool, returned: always}
        polls: {description: Whether it polls on purpose., type: bool, returned: always}
        fell_back: {description: Whether it polls because a limit was reached., type: bool, returned: always}
    cause:
      description:
        - The limit that keeps it from inotify, by its log and the present use; else null. The C(kind) is V(instances), V(watches),
          V(open_files), or V(past) for a limit that its log names and that is not reached now.
      type: dict
      returned: always
      contains:
        kind: {description: The limit., type: str, returned: always}
        message: {description: The use and the limit., type: str, returned: always}
        hint: {description: The next step., type: str, returned: always}
        line: {description: 'The line of its log, redacted; null without one.', type: str, returned: always}
    overflow:
      description:
        - The last line of its log about lost events, as C(line) and C(seconds_ago). Null without one, or for another log driver than
          C(json-file).
      type: dict
      returned: always
    settings: {description: 'The variables of O(watcher_settings), by name.', type: dict, returned: always}
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
    unmounted: []
    mounts: [/srv/music on /music]
    polling: {declared: null, observed: null, polls: false, fell_back: false}
    cause: null
    overflow: null
    settings: {WATCH_EXTENSIONS: '.mp3,.flac,.wav'}
file_systems:
  description: File systems with a fixed number of inodes, the fullest first; at most O(top).
  returned: always
  type: list
  elements: dict
  contains:
    mount_point: {description: Mount point., type: str, returned: always}
    source: {description: Device or server., type: str, returned: always}
    type: {description: Type of the file system., type: str, returned: always}
    inodes: {description: Number of inodes., type: int, returned: always}
    inodes_used: {description: Inodes in use., type: int, returned: always}
    inodes_free: {description: Free inodes., type: int, returned: always}
    inodes_ratio: {description: Ratio of used inodes., type: float, returned: always}
  sample: [{mount_point: /, source: /dev/sda1, type: ext4, inodes: 6553600, inodes_used: 517601, inodes_free: 6035999, inodes_ratio: 0.079}]
directories:
  description: One entry for each of O(directories), in their order.
  returned: always
  type: list
  elements: dict
  contains:
    path: {description: 'The path. C(\\xf6) is a byte that is not UTF-8.', type: str, returned: always}
    path_hex: {description: 'The bytes of the path in hexadecimal if it is not UTF-8; else null.', type: str, returned: always}
    answers:
      description: Whether it can be read; false with an RV(directories[].error), null without the time or the rights to find out.
      type: bool
      returned: always
    error:
      description: Why it was not measured, as C(kind) (V(no_answer) or V(failed)), C(message), C(hint); else null.
      type: dict
      returned: always
    host_path: {description: 'Where the host has it, by the mounts of the container; else null.', type: str, returned: always}
    container: {description: 'The container of the watcher that mounts it; else null.', type: str, returned: always}
    mounted: {description: Whether a mount of the container of the watcher covers it. Null without a container., type: bool, returned: always}
    replaced:
      description: Whether the host has another directory there than the container, which was started before. Null if that is not known.
      type: bool
      returned: always
    hidden_mounts:
      description: Mounts of the host below it that the container lacks, because it was started before them. Null if that is not known.
      type: list
      elements: str
      returned: always
    similar:
      description: A directory beside it whose name differs in a letter or two and that is not empty, if it is empty itself; else null.
      type: str
      returned: always
    exists: {description: Whether it exists., type: bool, returned: always}
    is_directory: {description: Whether it is a directory., type: bool, returned: always}
    mode: {description: 'Mode, in octal.', type: str, returned: always}
    uid: {description: Owner., type: int, returned: always}
    gid: {description: Group., type: int, returned: always}
    readable: {description: Whether this account can list it., type: bool, returned: always}
    watcher_readable:
      description:
        - Whether the watcher can list it, by modes, access control lists and capabilities, as its container sees it. For a container that
          is down, by the user in its configuration. Null if these do not decide it, or no watcher is known.
      type: bool
      returned: always
    denied:
      description:
        - What denies it to the watcher, as C(uid) (on the host), C(path) (the first directory of the host that denies it) and
          C(is_watched) (whether that is the directory itself). Null if nothing does, or if it is a directory of the container.
      type: dict
      returned: always
    file_system:
      description:
        - Its file system, as C(type), C(mount_point), C(source), C(events) and C(reason). C(events) is V(all), V(partial) if some
          changes give no events (C(reason) says which), or V(none).
      type: dict
      returned: always
    event:
      description:
        - The test event, as C(trigger) (V(open) or V(create)), C(arrived), C(seconds), C(error). C(arrived) is null if there was no test;
          C(error.kind) is then V(instance_limit), V(watch_limit), V(open_files), V(permission), V(read_only) or V(failed).
          C(error.of_watcher) is whether the watcher runs as the same user, whose limit it is.
      type: dict
      returned: always
    watched:
      description: Whether the watcher has a watch on it, or any process if no watcher is configured. Null if that is not known.
      type: bool
      returned: always
    instances: {description: Inotify instances with a watch on it; null if some processes are hidden., type: int, returned: always}
    instances_at_least: {description: Inotify instances that were counted., type: int, returned: always}
    watcher_instances: {description: Inotify instances of the watcher., type: int, returned: always}
    watchers:
      description: Processes that hold them, as C(pid), C(user), C(command), C(container), C(service), C(is_watcher).
      type: list
      elements: dict
      returned: always
    tree:
      description:
        - The tree below it. C(directories) including itself, C(entries) in them, C(unreadable) directories, C(complete) (false if the
          count was cut short), C(not_watched) directories without a watch of the watcher (null if the directory itself has none),
          C(not_watched_examples), C(links_not_watched) (symbolic links to directories without a watch of the watcher, of the first 50
          links; null if one does not answer), and the C(fullest) directories as C(path) and C(entries).
      type: dict
      returned: always
  sample:
    - path: /srv/music
      path_hex: null
      host_path: /srv/music
      container: tracktion-file-watcher
      mounted: true
      replaced: false
      hidden_mounts: []
      similar: null
      answers: true
      error: null
      exists: true
      is_directory: true
      mode: "0755"
      uid: 1000
      gid: 1000
      readable: true
      watcher_readable: true
      denied: null
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
        links_not_watched: []
        fullest: [{path: /srv/music/incoming, entries: 900}]
forecast:
  description:
    - Whether the watches left for the user of the watcher are enough. One entry, or none if no watcher runs or no directory could
      be counted; null if the processes of the watcher are hidden.
  returned: always
  type: list
  elements: dict
  contains:
    uid: {description: The uid that the watches are charged to., type: int, returned: always}
    user: {description: Name of the user., type: str, returned: always}
    namespace:
      description: The user namespace whose limit is the lowest, as C(pid) and C(inode); null for the limit of the machine.
      type: dict
      returned: always
    directories: {description: Directories below all O(directories)., type: int, returned: always}
    complete: {description: Whether all directories were counted., type: bool, returned: always}
    watches_limit: {description: Limit of watches per user., type: int, returned: always}
    watches_held: {description: Watches of the user; null if some of its processes could not be read., type: int, returned: always}
    watches_left: {description: Watches left., type: int, returned: always}
    watches_left_at_most: {description: Upper bound of the watches left., type: int, returned: always}
    watches_needed: {description: Directories without a watch., type: int, returned: always}
    directories_left: {description: 'New directories until C(ENOSPC), after all present ones are watched.', type: int, returned: always}
    directories_left_at_most: {description: Upper bound of the directories left., type: int, returned: always}
    fits: {description: Whether the watches are enough; null if that is not certain., type: bool, returned: always}
  sample:
    - uid: 1000
      user: tracktion
      namespace: null
      directories: 1200
      complete: true
      watches_limit: 192536
      watches_held: 1200
      watches_left: 191336
      watches_left_at_most: 191336
      watches_needed: 0
      directories_left: 191336
      directories_left_at_most: 191336
      fits: true
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _file_events_info


def main() -> None:
    module = AnsibleModule(argument_spec=_file_events_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(_file_events_info.measure, module.params))


if __name__ == "__main__":
    main()
