#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: inotify_limits
short_description: Measure the inotify limits and who uses them up, and raise them
version_added: "0.1.0"
description:
  - Tells how many inotify watches and instances each user has of what the kernel allows, which processes and containers hold
    them, what the limits will be after the next boot, and which file says so.
  - The limits are one budget per user for the whole machine, all its containers included. Measure on the host, as root.
    Where processes cannot be read, the numbers of their users are null, and what was seen is in the fields that end in C(_at_least).
  - Raises the limits to floors, now and for the next boot. It never lowers one.
  - An instance that several processes share (after a fork) is counted once. An instance is counted for the effective user
    of the process that holds it, or, in a user namespace, for the owner of that namespace, as the kernel does.
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
  state:
    description:
      - V(measured) only measures.
      - V(raised) makes sure that each limit is at least its floor, in the running kernel and after the next boot. In a container
        where the limits are read-only it changes nothing and says why in RV(raised.skipped_reason).
    type: str
    choices: [measured, raised]
    default: measured
  max_user_watches:
    description:
      - Floor for C(fs.inotify.max_user_watches), the watches that one user may hold. A watcher needs one for each directory.
      - A number, or V(auto) for the greatest of what O(memory_share) pays for (at 1800 bytes for a watch, between 8192 and 1048576, as
        the kernel does it by itself since Linux 5.11), the use of the fullest user times O(headroom), and what holds now.
      - V(auto) needs root, who alone can count the use of all users. Where it raises a limit above what holds now, it does so to a power
        of two, so that use which grows does not move the floor in every run.
    type: str
  max_user_instances:
    description:
      - Floor for C(fs.inotify.max_user_instances), the inotify instances that one user may hold.
      - A number, or V(auto) for the greatest of the kernel's own 128, the use of the fullest user times O(headroom), and what holds now.
    type: str
  max_queued_events:
    description:
      - Floor for C(fs.inotify.max_queued_events), the events that wait in one instance before the kernel drops the next ones.
      - A number, or V(auto) for the greater of the kernel's own 16384 and what holds now. What waits at one moment says nothing about
        the next one.
    type: str
  memory_share:
    description: The share of memory that the watches of one user may take, for O(max_user_watches=auto).
    type: float
    default: 0.01
  headroom:
    description: How many times its present use the fullest user may have, for V(auto).
    type: float
    default: 2.0
  path:
    description:
      - The file that keeps the floors over a reboot. Only the lines of the three limits in it are changed.
      - A limit that another file, or the kernel by itself, brings to its floor or above at boot is not written. What is written is never below the value
        that holds in the running kernel.
      - The file has mode 0644. It is rejected where another user could replace it or a directory on its path.
    type: path
    default: /etc/sysctl.d/60-tracktion-inotify.conf
  hidden_processes_accepted:
    description:
      - How many processes may keep their descriptors from this module, before the use of their users is unknown. What such
        processes hold is not counted.
      - A sandbox may keep its own pid 1 even from root.
    type: int
    default: 0
  sysctl_root:
    description:
      - The directory under which the files of sysctl are looked for, O(path) included.
      - For a maintenance container that has the root file system of its host mounted, for example under C(/host).
    type: path
    default: /
  docker_root:
    description:
      - The data directory of the Docker engine, in whose files the names of containers and compose services are looked up.
      - Without it, what C(/etc/docker/daemon.json) says, else C(/var/lib/docker).
    type: path
  top:
    description: How many users, processes and broken lines are returned at most.
    type: int
    default: 20
  timeout:
    description: Seconds for one read. Nothing that is read here can hang, so it has no effect yet.
    type: float
    default: 3.0
  deadline:
    description: Seconds for the whole measurement. When it is over, what was not counted is null.
    type: float
    default: 10.0
seealso:
  - module: tracktion.ops.file_events_info
  - module: tracktion.ops.sysctl_floors
  - name: inotify(7)
    description: What the limits mean.
    link: https://man7.org/linux/man-pages/man7/inotify.7.html
  - name: sysctl.d(5)
    description: Which file wins.
    link: https://www.freedesktop.org/software/systemd/man/latest/sysctl.d.html
"""

EXAMPLES = r"""
- name: See who uses up the inotify watches
  tracktion.ops.inotify_limits:
  become: true
  register: inotify

- name: Show the fullest user
  ansible.builtin.debug:
    msg: "{{ inotify.users[0].name }} has {{ inotify.users[0].watches_left }} watches left"

- name: Raise the limits, now and for the next boot
  tracktion.ops.inotify_limits:
    state: raised
    max_user_watches: 524288
    max_user_instances: 1024
    max_queued_events: 65536
  become: true

- name: Raise the limits as far as memory and use ask for it
  tracktion.ops.inotify_limits:
    state: raised
    max_user_watches: auto
    max_user_instances: auto
  become: true

- name: Raise the limits of the host from a maintenance container that has it mounted
  tracktion.ops.inotify_limits:
    state: raised
    max_user_watches: 524288
    sysctl_root: /host
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
limits:
  description: V(max_user_watches), V(max_user_instances) and V(max_queued_events).
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The limit., type: str, returned: always}
    key: {description: Its name for sysctl., type: str, returned: always}
    runtime: {description: What holds now., type: int, returned: always}
    floor: {description: 'The floor that was asked for, V(auto) as a number; else null.', type: int, returned: always}
    persisted: {description: What the winning file sets at boot; null where no file sets it., type: int, returned: always}
    file: {description: 'The file that wins, else null.', type: str, returned: always}
    line: {description: The line in this file., type: int, returned: always}
    highest_persisted:
      description: The highest value in any file. Above RV(limits[].persisted) where a later file undoes an earlier one.
      type: int
      returned: always
    at_boot:
      description:
        - What will hold after the next boot. Where no file says so, the default of the kernel; for V(max_user_watches) that
          depends on memory and kernel, and RV(limits[].runtime) is taken for it where it can be.
        - Null where a file could not be read.
      type: int
      returned: always
    settings:
      description: Every line that sets this limit by name, in the order in which they are read at boot, as C(file), C(line), C(value).
      type: list
      elements: dict
      returned: always
  sample:
    - name: max_user_watches
      key: fs.inotify.max_user_watches
      runtime: 524288
      floor: null
      persisted: 524288
      file: /etc/sysctl.d/60-tracktion-inotify.conf
      line: 2
      highest_persisted: 524288
      at_boot: 524288
      settings: [{file: /etc/sysctl.d/60-tracktion-inotify.conf, line: 2, value: 524288}]
boot_reader:
  description: What reads the files at boot, V(systemd-sysctl) or V(sysctl --system). Only the latter reads C(/etc/sysctl.conf) by itself.
  returned: always
  type: str
  sample: systemd-sysctl
broken_lines:
  description: Lines of sysctl files that cannot be used, as C(file), C(line), C(text), C(reason); at most O(top).
  returned: always
  type: list
  elements: dict
  sample: []
broken_lines_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
namespace:
  description:
    - The user namespace that we run in, as C(initial) (whether it is the one of the machine), C(max_inotify_watches) and
      C(max_inotify_instances) (its own limits, null on kernels without them).
  returned: always
  type: dict
  sample: {initial: true, max_inotify_watches: 524288, max_inotify_instances: 1024}
users:
  description: Use by user, the fullest first; at most O(top). Users of whom nothing could be read are one entry with a null C(uid).
  returned: always
  type: list
  elements: dict
  contains:
    uid: {description: The uid that pays., type: int, returned: always}
    name: {description: Its name in C(/etc/passwd)., type: str, returned: always}
    watches: {description: Watches held; null where processes of the user could not be read., type: int, returned: always}
    watches_at_least: {description: Watches that were seen., type: int, returned: always}
    watches_ratio: {description: Share of the limit., type: float, returned: always}
    watches_ratio_at_least: {description: Share of the limit that was seen., type: float, returned: always}
    watches_limit: {description: The limit., type: int, returned: always}
    watches_left: {description: Watches left before C(ENOSPC)., type: int, returned: always}
    watches_left_at_most: {description: The same by what was seen., type: int, returned: always}
    instances: {description: Instances held; null where processes of the user could not be read., type: int, returned: always}
    instances_at_least: {description: Instances that were seen., type: int, returned: always}
    instances_ratio: {description: Share of the limit., type: float, returned: always}
    instances_ratio_at_least: {description: Share of the limit that was seen., type: float, returned: always}
    instances_limit: {description: The limit., type: int, returned: always}
    instances_left: {description: Instances left before C(EMFILE)., type: int, returned: always}
    processes: {description: Processes that hold an instance., type: int, returned: always}
    unreadable_processes: {description: Processes of the user that could not be read., type: int, returned: always}
    memory_bytes: {description: 'Kernel memory of the watches, estimated.', type: int, returned: always}
  sample:
    - uid: 1000
      name: tracktion
      watches: 183000
      watches_at_least: 183000
      watches_ratio: 0.9505
      watches_ratio_at_least: 0.9505
      watches_limit: 192536
      watches_left: 9536
      watches_left_at_most: 9536
      instances: 3
      instances_at_least: 3
      instances_ratio: 0.0234
      instances_ratio_at_least: 0.0234
      instances_limit: 128
      instances_left: 125
      processes: 2
      unreadable_processes: 0
      memory_bytes: 239730000
users_total:
  description: How many users there are.
  returned: always
  type: int
  sample: 1
processes:
  description: The processes with the most watches; at most O(top).
  returned: always
  type: list
  elements: dict
  contains:
    pid: {description: Process id., type: int, returned: always}
    uid: {description: The uid that pays., type: int, returned: always}
    user: {description: Its name., type: str, returned: always}
    command: {description: 'The program, and what it interprets; never its arguments.', type: str, returned: always}
    watches: {description: Watches held., type: int, returned: always}
    instances: {description: Instances held., type: int, returned: always}
    shared_with: {description: Processes that share one of them after a fork; at most 20., type: list, elements: int, returned: always}
    container_id: {description: 'The container it runs in, else null.', type: str, returned: always}
    container: {description: The name of the container., type: str, returned: always}
    service: {description: The compose service., type: str, returned: always}
    project: {description: The compose project., type: str, returned: always}
  sample:
    - pid: 4711
      uid: 1000
      user: tracktion
      command: python3 -m file_watcher
      watches: 182990
      instances: 1
      shared_with: []
      container_id: 8dfafdbc3a40a3d1b3f1c9b8f5f0a2b4b8c5a4d3e2f10918273645546372819a
      container: tracktion-file-watcher
      service: file_watcher
      project: tracktion
processes_total:
  description: How many processes hold an instance.
  returned: always
  type: int
  sample: 2
scan:
  description:
    - How the pass over C(/proc) went. C(reason) says why it is not C(complete). C(vanished_processes) ended while we looked.
      C(instances) and C(watches) are what was seen, through C(descriptors).
  returned: always
  type: dict
  sample:
    complete: true
    reason: null
    processes: 212
    unreadable_processes: 0
    vanished_processes: 1
    instances: 3
    watches: 183000
    descriptors: 4
    seconds: 0.11
memory:
  description:
    - Kernel memory that watches take, estimated at C(bytes_per_watch), with which the kernel itself reckons. C(bytes) now, and
      C(bytes_at_limit) if one user used up its limit; C(total_bytes) is the memory of the machine.
  returned: always
  type: dict
  sample: {bytes_per_watch: 1310, bytes: 239730000, bytes_at_limit: 252222160, total_bytes: 25276502016}
raised:
  description: What was done, or in check mode would be done.
  returned: when O(state=raised)
  type: dict
  contains:
    path: {description: The drop-in., type: str, returned: always}
    before: {description: 'By limit, what held before.', type: dict, returned: always}
    after: {description: 'By limit, what holds now.', type: dict, returned: always}
    persisted_before: {description: 'By limit, what a boot would have set; null for nothing.', type: dict, returned: always}
    persisted_after: {description: 'By limit, what the next boot sets.', type: dict, returned: always}
    files: {description: 'By limit, the file that wins at the next boot; null where none sets it.', type: dict, returned: always}
    overridden: {description: 'Where another file would undo a floor at the next boot, and what to do about it. The task fails then.',
      type: list, elements: str, returned: always}
    skipped_reason: {description: Why nothing was done here; else null., type: str, returned: always}
    automatic:
      description:
        - By limit whose floor was V(auto), the C(floor) and what it comes from, C(by_memory) and C(by_use), with what the fullest
          C(user) holds, C(used_at_least) as far as it could be counted.
      type: dict
      returned: always
  sample:
    path: /etc/sysctl.d/60-tracktion-inotify.conf
    before: {max_user_watches: 192536}
    after: {max_user_watches: 524288}
    persisted_before: {max_user_watches: null}
    persisted_after: {max_user_watches: 524288}
    files: {max_user_watches: /etc/sysctl.d/60-tracktion-inotify.conf}
    overridden: []
    skipped_reason: null
    automatic: {}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify_floors
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sysctl_floors
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _inotify_limits

ARGUMENT_SPEC = dict(
    _inotify_limits.ARGUMENT_SPEC,
    state={"type": "str", "choices": ["measured", "raised"], "default": "measured"},
    path={"type": "path", "default": "/etc/sysctl.d/60-tracktion-inotify.conf"},
)


def act(module):
    """Raise what is to be raised, then measure: what is returned is what the kernel and the files say now."""
    result = {}
    if module.params["state"] == "raised":
        plan, automatic = _inotify_floors.plan(module.params)
        result = _sysctl_floors.enforce(module, plan, _inotify_floors.name_of)
        result["raised"]["automatic"] = automatic
    return dict(result, **_inotify_limits.measure(module.params))


def main():
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(act, module))


if __name__ == "__main__":
    main()
