#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: inotify_limits
short_description: Measure the inotify limits and their use, and raise them
version_added: 0.2.0
description:
  - Measures how many inotify watches and instances each user holds, which processes and containers hold them, the limits now and
    after the next boot, and the file that sets each limit.
  - A limit applies to each user of the whole machine, including all containers. A user namespace may have lower limits. Measure on the host,
    as root.
    If processes of a user cannot be read, the user's numbers are null, and the fields that end in C(_at_least) hold what was counted.
  - Raises the limits to floors, now and for the next boot. It never lowers a limit.
  - An instance that several processes share after a fork is counted once. Like in the kernel, it is charged to the effective user of
    the process that holds it or, in a user namespace, to the owner of the namespace.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
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
      - V(raised) raises each limit to at least its floor, in the running kernel and for the next boot. In a container where the limits
        are read-only, nothing is changed, and RV(raised.skipped_reason) gives the reason.
    type: str
    choices: [measured, raised]
    default: measured
  max_user_watches:
    description:
      - Floor for C(fs.inotify.max_user_watches), the watches per user. A watcher needs one for each directory.
      - A number, or V(auto) for the greatest of the watches that fit into O(memory_share) (at 1800 bytes per watch, between 8192 and
        1048576, like the default of Linux since 5.11), the highest use of one user times O(headroom), and the current value.
      - V(auto) needs root, because only root can count the use of all users. A limit that has to grow is raised to a power of two, so
        that growing use does not raise the floor in every run.
    type: str
  max_user_instances:
    description:
      - Floor for C(fs.inotify.max_user_instances), the inotify instances per user.
      - A number, or V(auto) for the greatest of the kernel's default of 128, the highest use of one user times O(headroom), and the
        current value.
    type: str
  max_queued_events:
    description:
      - Floor for C(fs.inotify.max_queued_events), the unread events per instance. The kernel drops further events.
      - A number, or V(auto) for the greater of the kernel's default of 16384 and the current value. The use at one moment does not
        predict the use at the next.
    type: str
  memory_share:
    description: Ratio of memory for the watches of one user, for O(max_user_watches=auto).
    type: float
    default: 0.01
  headroom:
    description: Factor of the highest use of one user, for V(auto).
    type: float
    default: 2.0
  path:
    description:
      - The drop-in that sets the floors at boot. Only the lines of the three limits are changed.
      - A limit that another file or the kernel's default brings to at least its floor at boot is not written. A written value is never
        below the current value.
      - The file has mode 0644. It is rejected if another user could replace it or a directory on its path.
    type: path
    default: /etc/sysctl.d/60-tracktion-inotify.conf
  hidden_processes_accepted:
    description:
      - Number of processes with unreadable descriptors that is accepted before the use of their users is unknown. Watches of these
        processes are not counted.
      - A sandbox may hide its own pid 1 even from root.
    type: int
    default: 0
  sysctl_root:
    description:
      - The root directory of the sysctl files, including O(path).
      - For a maintenance container that mounts the root file system of its host, for example at C(/host).
    type: path
    default: /
  docker_root:
    description:
      - The data directory of the Docker engine, which holds the names of containers and compose services.
      - By default the one in C(/etc/docker/daemon.json), else C(/var/lib/docker).
    type: path
  top:
    description: Maximum number of users, processes and broken lines in the result.
    type: int
    default: 20
  timeout:
    description: Seconds for one read. It has no effect yet, because no read of this module can block.
    type: float
    default: 3.0
  deadline:
    description: Seconds for the whole measurement. Afterwards, numbers that were not counted are null.
    type: float
    default: 10.0
seealso:
  - module: tracktion.ops.file_events_info
  - module: tracktion.ops.sysctl_floors
  - name: inotify(7)
    description: Meaning of the limits.
    link: https://man7.org/linux/man-pages/man7/inotify.7.html
  - name: sysctl.d(5)
    description: Precedence of the files.
    link: https://www.freedesktop.org/software/systemd/man/latest/sysctl.d.html
"""

EXAMPLES = r"""
- name: Measure the use of inotify watches
  tracktion.ops.inotify_limits:
  become: true
  register: inotify

- name: Show the user with the highest use
  ansible.builtin.debug:
    msg: "{{ inotify.users[0].name }} has {{ inotify.users[0].watches_left }} watches left"

- name: Raise the limits, now and for the next boot
  tracktion.ops.inotify_limits:
    state: raised
    max_user_watches: 524288
    max_user_instances: 1024
    max_queued_events: 65536
  become: true

- name: Raise the limits according to memory and use
  tracktion.ops.inotify_limits:
    state: raised
    max_user_watches: auto
    max_user_instances: auto
  become: true

- name: Raise the limits of the host from a maintenance container
  tracktion.ops.inotify_limits:
    state: raised
    max_user_watches: 524288
    sysctl_root: /host
"""

RETURN = r"""
reachable: {description: Whether this machine has inotify., returned: always, type: bool, sample: true}
error: {description: "Why nothing was measured (C(kind) is V(no_inotify)), or null.", returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
limits:
  description: V(max_user_watches), V(max_user_instances) and V(max_queued_events).
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The limit., type: str, returned: always}
    key: {description: Its sysctl key., type: str, returned: always}
    runtime: {description: Current value., type: int, returned: always}
    floor: {description: 'The requested floor, V(auto) as a number; else null.', type: int, returned: always}
    persisted: {description: The value that the file sets at boot; null if no file sets it., type: int, returned: always}
    file: {description: 'The file that takes precedence, else null.', type: str, returned: always}
    line: {description: The line in this file., type: int, returned: always}
    by_pattern: {description: 'Whether this line sets a pattern, such as C(fs.inotify.*).', type: bool, returned: always}
    lowers:
      description: The highest earlier setting in C(/etc) that this line lowers, as C(file), C(line), C(value); else null.
      type: dict
      returned: always
    file_to_correct: {description: 'The file, if the line can be corrected there: it is in C(/etc) and no pattern; else null.', type: str, returned: always}
    file_to_add: {description: The drop-in that takes precedence over the file; null without a file., type: str, returned: always}
    later:
      description: The setting that takes precedence over the drop-in O(path), as C(file), C(line), C(value); else null.
      type: dict
      returned: always
    unread:
      description:
        - Settings in C(/etc) that no boot reads, as C(file), C(line), C(value). C(/etc/sysctl.conf), if RV(boot_reader) is
          V(systemd-sysctl), and files without the suffix C(.conf).
      type: list
      elements: dict
      returned: always
    highest_persisted:
      description: The highest value in any file. It is above RV(limits[].persisted) if a later file overrides an earlier one.
      type: int
      returned: always
    at_boot:
      description:
        - The value after the next boot. If no file sets it, the default of the kernel. That of V(max_user_watches) depends on memory
          and kernel; RV(limits[].runtime) is used if it can be the default.
        - Null if a file could not be read.
      type: int
      returned: always
    settings:
      description: All lines that set the limit by name, in the order of reading at boot, as C(file), C(line), C(value).
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
      by_pattern: false
      lowers: null
      file_to_correct: /etc/sysctl.d/60-tracktion-inotify.conf
      file_to_add: /etc/sysctl.d/60-tracktion-inotify_local.conf
      later: null
      unread: []
      highest_persisted: 524288
      at_boot: 524288
      settings: [{file: /etc/sysctl.d/60-tracktion-inotify.conf, line: 2, value: 524288}]
boot_reader:
  description: Program that reads the files at boot, V(systemd-sysctl) or V(sysctl --system). Only the latter reads C(/etc/sysctl.conf) by itself.
  returned: always
  type: str
  sample: systemd-sysctl
broken_lines:
  description: Invalid lines of sysctl files, as C(file), C(line), C(text), C(reason); at most O(top).
  returned: always
  type: list
  elements: dict
broken_lines_total: {description: Number of invalid lines., type: int, returned: always, sample: 0}
namespace:
  description:
    - The user namespace of this module, as C(initial) (whether it is that of the machine), C(max_inotify_watches) and
      C(max_inotify_instances) (its own limits, null on kernels without them).
  returned: always
  type: dict
  sample: {initial: true, max_inotify_watches: 524288, max_inotify_instances: 1024}
users:
  description:
    - Use by user, the highest share of a limit first; at most O(top). Users without any readable process are one entry with a null
      C(uid).
    - A user of a user namespace has an entry of its own, with a C(namespace), if the namespace has a limit below that of the machine.
      Its watches count for the owner of the namespace, too.
  returned: always
  type: list
  elements: dict
  contains:
    uid: {description: The uid that the watches are charged to., type: int, returned: always}
    name: {description: 'Name in C(/etc/passwd), with the user namespace if it has one.', type: str, returned: always}
    namespace:
      description: The user namespace with a limit of its own, as C(pid) (a process in it) and C(inode); null for users of the machine.
      type: dict
      returned: always
    watches: {description: Number of watches; null if processes of the user could not be read., type: int, returned: always}
    watches_at_least: {description: Number of watches that were counted., type: int, returned: always}
    watches_ratio: {description: Ratio of the limit in use., type: float, returned: always}
    watches_ratio_at_least: {description: Lower bound of the ratio., type: float, returned: always}
    watches_limit: {description: The limit., type: int, returned: always}
    watches_left: {description: Watches left before C(ENOSPC)., type: int, returned: always}
    watches_left_at_most: {description: Upper bound of the watches left., type: int, returned: always}
    instances: {description: Number of instances; null if processes of the user could not be read., type: int, returned: always}
    instances_at_least: {description: Number of instances that were counted., type: int, returned: always}
    instances_ratio: {description: Ratio of the limit in use., type: float, returned: always}
    instances_ratio_at_least: {description: Lower bound of the ratio., type: float, returned: always}
    instances_limit: {description: The limit., type: int, returned: always}
    instances_left: {description: Instances left before C(EMFILE)., type: int, returned: always}
    instances_left_at_most: {description: Upper bound of the instances left., type: int, returned: always}
    processes: {description: Processes that hold an instance., type: int, returned: always}
    unreadable_processes: {description: Processes of the user that could not be read., type: int, returned: always}
    hidden: {description: Why not everything could be counted; else null., type: str, returned: always}
    memory_bytes: {description: Estimated bytes of kernel memory of the watches., type: int, returned: always}
    holders:
      description:
        - The programs that hold the watches and instances, the five with the most of each, as C(name) (compose service, container,
          systemd unit or command), C(command), C(container), C(service), C(project), C(unit), C(pid) (the oldest process), C(processes),
          C(watches), C(instances).
      type: list
      elements: dict
      returned: always
    holders_total: {description: Number of such programs., type: int, returned: always}
  sample:
    - uid: 1000
      name: tracktion
      namespace: null
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
      instances_left_at_most: 125
      processes: 2
      unreadable_processes: 0
      hidden: null
      memory_bytes: 239730000
      holders:
        - name: file_watcher
          command: python3 -m file_watcher
          container: tracktion-file-watcher
          service: file_watcher
          project: tracktion
          unit: null
          pid: 4711
          processes: 1
          watches: 182990
          instances: 1
      holders_total: 2
users_total: {description: Number of users., type: int, returned: always, sample: 1}
processes:
  description: The processes with the most watches; at most O(top).
  returned: always
  type: list
  elements: dict
  contains:
    pid: {description: Process id., type: int, returned: always}
    uid: {description: The uid that the watches are charged to., type: int, returned: always}
    user: {description: Name of the user., type: str, returned: always}
    command: {description: 'The program, with the script or module that it runs, without arguments.', type: str, returned: always}
    watches: {description: Number of watches., type: int, returned: always}
    instances: {description: Number of instances., type: int, returned: always}
    shared_with: {description: Processes that share an instance with it after a fork; at most 20., type: list, elements: int, returned: always}
    container_id: {description: 'Id of its container, else null.', type: str, returned: always}
    container: {description: Name of the container., type: str, returned: always}
    service: {description: Compose service., type: str, returned: always}
    project: {description: Compose project., type: str, returned: always}
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
processes_total: {description: Number of processes that hold an instance., type: int, returned: always, sample: 2}
scan:
  description:
    - The pass over C(/proc). C(reason) and C(hint) are set if it is not C(complete). C(vanished_processes) ended during the pass.
      C(instances) and C(watches) were counted through C(descriptors).
  returned: always
  type: dict
  sample:
    complete: true
    reason: null
    hint: null
    processes: 212
    unreadable_processes: 0
    vanished_processes: 1
    instances: 3
    watches: 183000
    descriptors: 4
    seconds: 0.11
memory:
  description:
    - Kernel memory of the watches, estimated with the kernel's own C(bytes_per_watch). C(bytes) is the current use,
      C(bytes_at_limit) the use of one user at the limit, C(total_bytes) the memory of the machine.
  returned: always
  type: dict
  sample: {bytes_per_watch: 1310, bytes: 239730000, bytes_at_limit: 252222160, total_bytes: 25276502016}
raised:
  description: The changes, in check mode the planned changes.
  returned: when O(state=raised)
  type: dict
  contains:
    path: {description: The drop-in., type: str, returned: always}
    before: {description: 'Value before, by limit.', type: dict, returned: always}
    after: {description: 'Value after, by limit.', type: dict, returned: always}
    persisted_before: {description: 'Value that a file set at boot before, by limit; null for none.', type: dict, returned: always}
    persisted_after: {description: 'Value that a file sets at the next boot, by limit.', type: dict, returned: always}
    files: {description: 'File that takes precedence at the next boot, by limit; null for none.', type: dict, returned: always}
    overridden: {description: 'Files that would undo a floor at the next boot, with a hint for each. The task fails then.',
      type: list, elements: str, returned: always}
    skipped_reason: {description: Why nothing was changed; else null., type: str, returned: always}
    automatic:
      description:
        - For each limit with a floor of V(auto), the C(floor), the values that it comes from, C(by_memory) and C(by_use), and the
          C(user) with the highest use, C(used_at_least).
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
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

ARGUMENT_SPEC = dict(
    _inotify_limits.ARGUMENT_SPEC,
    state={"type": "str", "choices": ["measured", "raised"], "default": "measured"},
)


def act(module: AnsibleModule) -> Part:
    """Raise the limits if requested, then measure, so that the result has the values after the change."""
    result: Part = {}
    if module.params["state"] == "raised":
        plan, automatic = _inotify_floors.plan(module.params)
        result = _sysctl_floors.enforce(module, plan, _inotify_floors.name_of)
        result["raised"]["automatic"] = automatic
    return dict(result, **_inotify_limits.measure(module.params))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(act, module))


if __name__ == "__main__":
    main()
