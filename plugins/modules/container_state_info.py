#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_state_info
short_description: Measure containers, what they use, and the engine that runs them
version_added: "0.1.0"
description:
  - Looks at every container of a compose project, or of the engine. Its state, health, restarts and exit code come from the engine; memory,
    processor time, throttling, processes and OOM kills from the kernel's own files, of cgroups version 1 and 2.
  - Compares the containers to the compose files that made them, finds out who holds the ports of those that do not run, looks at the paths
    that they mount, and asks the engine for what it takes on the disk, with a time limit of its own.
  - On a machine without an engine there is nothing to measure, and that is no error. RV(engine.installed) is false then.
  - No library is needed, but for compose files, which are read with PyYAML.
  - Measure on the machine of the engine, as root or as a member of the group C(docker). For an engine elsewhere, what the kernel counts is null.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker
options:
  project:
    description: Only the containers of this compose project.
    type: str
    default: ""
  expected_services:
    description: Compose services that have to be there.
    type: list
    elements: str
    default: []
  compose_files:
    description:
      - The compose files to compare with. Without them, those that compose wrote in the labels of its containers.
      - They are read with PyYAML, where this machine has it. Variables are taken from the files that compose noted on its containers, else from
        the C(.env) beside them.
    type: list
    elements: path
    default: []
  sample_seconds:
    description:
      - Seconds between two looks at the kernel's counters.
      - The kernel deals out the time of a container with a CPU limit in periods of 0.1 s, of which the default sees three.
    type: float
    default: 0.3
  disk_seconds:
    description: Seconds for the engine to count what it takes on the disk, at the same time as all else. It may need minutes.
    type: float
    default: 3.0
  max_containers:
    description: How many containers are looked at.
    type: int
    default: 500
  daemon_configuration:
    description: The configuration of the engine.
    type: path
    default: /etc/docker/daemon.json
  top:
    description: How many entries RV(containers) and RV(paths) have at most.
    type: int
    default: 100
  top_volumes:
    description: How many entries RV(disk.largest_unused_volumes) has at most.
    type: int
    default: 10
  deadline:
    description: Seconds within which everything is over. What could not be read by then is named in RV(unknown).
    type: float
    default: 10.0
seealso:
  - module: tracktion.ops.container_restart
  - module: tracktion.ops.docker_prune
"""

EXAMPLES = r"""
- name: Look at the containers of a project
  tracktion.ops.container_state_info:
    project: tracktion
    expected_services: [analysis_service, tracklist_service, file_watcher]
  become: true
  register: state

- name: Fail where one does not run
  ansible.builtin.assert:
    that:
      - state.missing_services | length == 0
      - state.containers | selectattr('expected') | rejectattr('status', 'eq', 'running') | length == 0
"""

RETURN = r"""
reachable:
  description: Whether the engine answered, or there is none. If not, all parts are null.
  returned: always
  type: bool
  sample: true
error:
  description: Why the engine could not be asked, as C(kind) (see the notes), C(message) and C(hint); else null.
  returned: always
  type: dict
  sample: null
unknown:
  description: What could not be read, as a list of C(part) and C(reason).
  returned: always
  type: list
  elements: dict
  sample: []
engine:
  description: The engine.
  returned: always
  type: dict
  contains:
    installed: {description: Whether this machine has one., type: bool, returned: always}
    kind: {description: V(docker) or V(podman)., type: str, returned: always}
    rootless: {description: Whether it runs without root; null where it was not told., type: bool, returned: always}
    version: {description: Its version., type: str, returned: always}
    major_version: {description: The first part of it., type: int, returned: always}
    api_version: {description: The newest version of the API that it speaks., type: str, returned: always}
    cgroup_version: {description: Version of cgroups., type: int, returned: always}
    cgroup_driver: {description: Who makes the control groups., type: str, returned: always}
    storage_driver: {description: How images are stored., type: str, returned: always}
    live_restore: {description: Whether containers survive its restart., type: bool, returned: always}
    data_root: {description: Its data directory., type: str, returned: always}
    warnings: {description: What it says about itself., type: list, elements: str, returned: always}
    daemon_configuration:
      description: Its configuration file, as C(path), C(exists), C(valid) (null where it does not exist or cannot be read) and C(error).
      type: dict
      returned: always
  sample: {installed: true, kind: docker, version: 28.2.2, major_version: 28, live_restore: false}
containers:
  description: The containers, those first that do not run or are not well.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Its id., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
    project: {description: 'Its compose project, or null.', type: str, returned: always}
    service: {description: 'Its compose service, or null.', type: str, returned: always}
    expected: {description: Whether its service is one of O(expected_services)., type: bool, returned: always}
    protected: {description: Whether it has the label C(tracktion.ops.protected=true)., type: bool, returned: always}
    compose_options:
      description: The options of C(docker compose) that name its project and files, as compose noted them on it; empty where it noted none.
      type: list
      elements: str
      returned: always
    image: {description: The image it was made from., type: str, returned: always}
    status:
      description: V(running), V(created), V(restarting), V(paused), V(exited), V(removing) or V(dead).
      type: str
      returned: always
    error_message: {description: 'Why the engine could not start it, or null.', type: str, returned: always}
    exit_code: {description: 'Exit code of one that does not run, else null.', type: int, returned: always}
    exit_meaning: {description: 'What that code means, or null.', type: str, returned: always}
    oom_killed: {description: Whether it ended because of its memory limit., type: bool, returned: always}
    oom_killed_before:
      description:
        - Whether the engine saw the kernel kill one of its processes for want of memory in the run before this one. The kernel's own count
          starts anew with every run. Newer engines tell of this run as well.
      type: bool
      returned: always
    started_at: {description: When it was last started., type: float, returned: always}
    uptime_seconds: {description: 'For how long it has been running, or null.', type: float, returned: always}
    finished_at: {description: 'When it ended, or null.', type: float, returned: always}
    down_seconds: {description: 'For how long it has been down, or null.', type: float, returned: always}
    restarts: {description: How often its restart policy has started it again., type: int, returned: always}
    restart_policy: {description: 'V(no), V(on-failure), V(always) or V(unless-stopped).', type: str, returned: always}
    gave_up: {description: Whether it ended with an error after all the restarts that C(on-failure) allows it., type: bool, returned: always}
    has_healthcheck: {description: Whether it has a health check., type: bool, returned: always}
    health: {description: 'V(starting), V(healthy), V(unhealthy), or null.', type: str, returned: always}
    failing_streak: {description: How often in a row its health check has failed., type: int, returned: always}
    ports:
      description: Ports of the host that it has or, where it does not run, wants, as C(address), C(port) and C(protocol).
      type: list
      elements: dict
      returned: always
    ended_meanwhile: {description: Whether it ended while it was measured; what it uses is null then., type: bool, returned: always}
    memory_limit_set: {description: 'The memory limit it was made with, 0 for none.', type: int, returned: always}
    memory_bytes: {description: 'Memory in use, without cache of files that nobody uses.', type: int, returned: always}
    memory_limit_bytes: {description: 'The limit as the kernel has it, or null.', type: int, returned: always}
    memory_peak_bytes: {description: 'The most that was ever in use, cache included.', type: int, returned: always}
    memory_ratio: {description: 'Part of the limit in use, 0 without a limit.', type: float, returned: always}
    oom_kills: {description: Processes that the kernel killed for want of memory since it was started., type: int, returned: always}
    new_oom_kills: {description: Those of them within the sample., type: int, returned: always}
    cpu_seconds: {description: Processor time since it was started., type: float, returned: always}
    cpu_ratio: {description: 'Processor time within the sample, as a part of one core.', type: float, returned: always}
    periods: {description: Periods in which it wanted the processor under a limit., type: int, returned: always}
    throttled_periods: {description: Those in which it was held back., type: int, returned: always}
    throttled_seconds: {description: How long it was held back., type: float, returned: always}
    throttled_ratio: {description: Part of the periods of the sample in which it was held back., type: float, returned: always}
    sampled_periods: {description: Periods within the sample., type: int, returned: always}
    pids: {description: Processes and threads., type: int, returned: always}
    pids_limit: {description: 'How many there may be, or null.', type: int, returned: always}
    pids_ratio: {description: 'Part of that in use, 0 without a limit.', type: float, returned: always}
  sample: []
containers_total:
  description: How many containers there are.
  returned: always
  type: int
  sample: 6
missing_services:
  description: O(expected_services) that have no container, each as C(project) (null for any), C(service), C(protected) (false) and
    C(compose_options).
  returned: always
  type: list
  elements: dict
  sample: []
ports_taken:
  description:
    - Ports of the host that a container which is down wants and somebody listens on, as C(container), C(service), C(address), C(port), C(protocol),
      C(held_by_container), C(held_by_pid), C(held_by_command). Null for an engine on another machine.
  returned: always
  type: list
  elements: dict
  sample: []
compose:
  description: The compose files against the containers. Null for an engine on another machine.
  returned: always
  type: dict
  contains:
    files: {description: 'Which were looked at, as C(project), C(files), C(error).', type: list, elements: dict, returned: always}
    missing:
      description: Services of the files that have no container, as C(project), C(service), C(protected) (false) and C(compose_options); null where no
        file could be read.
      type: list
      elements: dict
      returned: always
    drift:
      description:
        - What differs, as C(project), C(service), C(container), C(id), C(started_at), C(protected), C(what) (V(image) or
          V(memory_limit_bytes)), C(file), C(running); null where no file could be read.
      type: list
      elements: dict
      returned: always
  sample: {files: [], missing: [], drift: []}
paths:
  description:
    - Paths of the host that are mounted, as C(path), C(used_by), C(exists), C(uid), C(gid), C(mode), and C(denied), the containers whose user (where
      it is a number) the modes and access control lists keep from reading it, as C(container), C(uid), C(gids), null where that is not known. Null
      for an engine on another machine.
  returned: always
  type: list
  elements: dict
  sample: []
disk:
  description: What the engine takes on the disk; null where it did not count it in time.
  returned: always
  type: dict
  contains:
    layers_bytes: {description: All layers of all images., type: int, returned: always}
    images: {description: Images., type: int, returned: always}
    unused_images: {description: Those that no container uses., type: int, returned: always}
    unused_images_bytes: {description: What they hold that no other image shares., type: int, returned: always}
    dangling_images: {description: Unused images without a name., type: int, returned: always}
    dangling_images_bytes: {description: What they hold., type: int, returned: always}
    build_cache_bytes: {description: Build cache that neither a build nor an image uses., type: int, returned: always}
    stopped_containers: {description: Containers that do not run., type: int, returned: always}
    stopped_containers_bytes: {description: What they have written., type: int, returned: always}
    volumes: {description: Volumes., type: int, returned: always}
    unused_volumes: {description: 'Volumes that no container has, running or stopped.', type: int, returned: always}
    unused_volumes_bytes: {description: 'What they hold, as far as the engine knows.', type: int, returned: always}
    largest_unused_volumes:
      description:
        - The largest of them, as C(name), C(driver), C(bytes) (null where the engine does not know), C(created_at) and C(age_seconds) (to engines as old
          as 20.10, a volume is made anew with every change in its top directory), C(project) and C(volume), which are compose's names, or null,
          and C(protected).
      type: list
      elements: dict
      returned: always
    reclaimable_bytes: {description: Dangling images and build cache., type: int, returned: always}
  sample: {images: 2, reclaimable_bytes: 0}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _container_state_info


def main() -> None:
    module = AnsibleModule(argument_spec=_container_state_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(_container_state_info.measure, module.params))


if __name__ == "__main__":
    main()
