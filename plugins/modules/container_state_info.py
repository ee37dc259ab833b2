#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_state_info
short_description: Measure containers, their resource use, and the engine
version_added: 0.2.0
description:
  - Measures every container of a compose project, or of the engine. State, health, restarts and exit code come from the engine; memory, CPU time,
    throttling, processes and OOM kills come from the kernel's files, for cgroups version 1 and 2.
  - Compares the containers to their compose files, finds the processes that hold the ports of containers that are down, checks the mounted paths, and
    reads the disk use of the engine, with a separate time limit.
  - A machine without an engine is no error; RV(engine.installed) is false then.
  - Requires only Python's standard library, and PyYAML to read compose files.
  - Run it on the machine of the engine, as root or as a member of the group C(docker). For an engine on another machine, values of the kernel are null.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker
options:
  project:
    description: The compose project. If empty, all containers are measured.
    type: str
    default: ""
  expected_services:
    description: Compose services that must exist.
    type: list
    elements: str
    default: []
  compose_files:
    description:
      - The compose files to compare with. The default is those in the labels of the containers.
      - They are read with PyYAML, if the machine has it. Variables come from the environment files in the labels of the containers, else from the
        C(.env) beside the compose file.
    type: list
    elements: path
    default: []
  sample_seconds:
    description:
      - Seconds between two readings of the kernel's counters.
      - The kernel schedules a container with a CPU limit in periods of 0.1 s. The default covers three of them.
    type: float
    default: 0.3
  disk_seconds:
    description: Seconds to wait for the disk use, which the engine may need minutes to count. It is read in parallel. 0 disables it.
    type: float
    default: 3.0
  max_containers:
    description: Maximum number of containers to inspect.
    type: int
    default: 500
  restarts_window:
    description: Seconds for RV(containers[].recent_restarts).
    type: float
    default: 300.0
  daemon_config:
    description: The configuration file of the engine.
    type: path
    default: /etc/docker/daemon.json
  top:
    description: Maximum number of entries in RV(containers) and RV(paths).
    type: int
    default: 100
  top_volumes:
    description: Maximum number of entries in RV(disk.largest_unused_volumes).
    type: int
    default: 10
  deadline:
    description: Seconds for the whole measurement. Parts that could not be read in time are listed in RV(unknown).
    type: float
    default: 10.0
seealso:
  - module: tracktion.ops.container_restart
  - module: tracktion.ops.docker_prune
"""

EXAMPLES = r"""
- name: Measure the containers of a project
  tracktion.ops.container_state_info:
    project: tracktion
    expected_services: [analysis_service, tracklist_service, file_watcher]
  become: true
  register: state

- name: Fail if a container is down
  ansible.builtin.assert:
    that:
      - state.missing_services | length == 0
      - state.containers | selectattr('expected') | rejectattr('status', 'eq', 'running') | length == 0
"""

RETURN = r"""
reachable: {description: Whether the engine answered. True if there is none., returned: always, type: bool, sample: true}
error: {description: "Why the engine cannot be reached, or null. The values of C(kind) are in the notes.", returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
engine:
  description: The engine.
  returned: always
  type: dict
  contains:
    installed: {description: Whether this machine has an engine., type: bool, returned: always}
    kind: {description: V(docker) or V(podman)., type: str, returned: always}
    rootless: {description: Whether it runs without root; null if unknown., type: bool, returned: always}
    version: {description: Its version., type: str, returned: always}
    major_version: {description: The first number of its version., type: int, returned: always}
    api_version: {description: The newest version of the API that it supports., type: str, returned: always}
    cgroup_version: {description: The version of cgroups., type: int, returned: always}
    cgroup_driver: {description: What creates the control groups., type: str, returned: always}
    storage_driver: {description: The storage driver of images., type: str, returned: always}
    live_restore: {description: Whether containers keep running while it restarts., type: bool, returned: always}
    data_root: {description: Its data directory., type: str, returned: always}
    warnings: {description: Its own warnings., type: list, elements: str, returned: always}
    daemon_configuration:
      description: Its configuration file, as C(path), C(exists), C(valid) (null if it does not exist or cannot be read) and C(error).
      type: dict
      returned: always
  sample: {installed: true, kind: docker, version: 28.2.2, major_version: 28, live_restore: false}
containers:
  description: The containers, those that are down or unhealthy first.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Its id., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
    project: {description: 'Its compose project, or null.', type: str, returned: always}
    service: {description: 'Its compose service, or null.', type: str, returned: always}
    expected: {description: 'Whether its service is one of O(expected_services), in which C(-) and C(_) are the same.', type: bool, returned: always}
    protected: {description: Whether it has the label C(tracktion.ops.protected=true)., type: bool, returned: always}
    created_by_compose: {description: Whether compose created it., type: bool, returned: always}
    compose_options:
      description: The options of C(docker compose) that name its project and files, by its labels; empty without such labels.
      type: list
      elements: str
      returned: always
    image: {description: Its image., type: str, returned: always}
    status: {description: "V(running), V(created), V(restarting), V(paused), V(exited), V(removing) or V(dead).", type: str, returned: always}
    error_message: {description: 'Why the engine could not start it, or null.', type: str, returned: always}
    exit_code: {description: 'Its exit code if it is not running, else null.', type: int, returned: always}
    exit_meaning: {description: 'The meaning of the exit code, or null.', type: str, returned: always}
    oom_killed: {description: Whether the kernel ended it because memory ran out., type: bool, returned: always}
    oom_killed_before:
      description:
        - Whether the kernel killed one of its processes in its previous run because memory ran out, as the engine noted. The count of the kernel
          starts at 0 with every run. Newer engines note kills of the current run, too.
      type: bool
      returned: always
    created_seconds: {description: Seconds since it was created., type: float, returned: always}
    has_namesake: {description: 'Whether another project, of those that are measured, has a service of this name.', type: bool, returned: always}
    awaits_start:
      description:
        - Whether it was created, and nothing but a service that it depends on keeps it from being started. So it is during C(compose up), and after one that
          was interrupted.
      type: bool
      returned: always
    started_at: {description: Its last start., type: float, returned: always}
    uptime_seconds: {description: 'Seconds since its start if it is running, else null.', type: float, returned: always}
    finished_at: {description: 'When it ended if it is not running, else null.', type: float, returned: always}
    down_seconds: {description: 'Seconds since it ended if it is not running, else null.', type: float, returned: always}
    restarts: {description: Restarts by its restart policy., type: int, returned: always}
    restart_policy: {description: 'V(no), V(on-failure), V(always) or V(unless-stopped).', type: str, returned: always}
    recent_restarts:
      description:
        - Those that certainly took place within O(restarts_window), by the events that the engine remembers and by how long it waited between the last
          runs. Null for a container that works.
      type: int
      returned: always
    last_exit_code:
      description: Exit code of its last run that ended, also while it is restarted; null if unknown, or for a container that works.
      type: int
      returned: always
    last_exit_meaning: {description: 'The meaning of that exit code, or null.', type: str, returned: always}
    log_tail:
      description:
        - The last lines of its log, without secrets; null for a container that works or that the engine could not start, and if the log cannot be read.
      type: list
      elements: str
      returned: always
    health_output: {description: 'What its last failed health check has written, without secrets, or null.', type: str, returned: always}
    obstacle:
      description:
        - For a container that does not work, the cause that a restart does not remove, as C(kind), C(reason) and C(hint); else null.
        - RV(ignore:kind) is V(shared), V(network), V(mount), V(device), V(port), V(dependency), V(healthcheck), V(command), V(image), V(driver),
          V(user), V(runtime), V(limit), V(memory), V(cgroup), V(log_driver), V(space), V(read_only), V(finished), or V(engine) for another error of the engine.
        - By the last lines of its log, it is V(import), V(syntax), V(library), V(program), V(permission), V(architecture), V(setting) or V(login).
      type: dict
      returned: always
    network_owner:
      description: The container whose network it shares; null if it has its own, and if that container was removed.
      type: str
      returned: always
    network_owner_running: {description: 'Whether that container is running; null if it has its own network.', type: bool, returned: always}
    network_disconnected:
      description: Whether it still has the network of an earlier run of that container, which is disconnected; null if it has its own.
      type: bool
      returned: always
    gave_up: {description: Whether it ended with an error after all restarts that C(on-failure) allows., type: bool, returned: always}
    has_healthcheck: {description: Whether it has a health check., type: bool, returned: always}
    health: {description: 'V(starting), V(healthy), V(unhealthy), or null.', type: str, returned: always}
    failing_streak: {description: Consecutive failures of its health check., type: int, returned: always}
    ports:
      description: Published ports of the host; of a container that is down, those that it needs. Each as C(address), C(port) and C(protocol).
      type: list
      elements: dict
      returned: always
    ended_meanwhile: {description: Whether it ended during the measurement; its resource use is null then., type: bool, returned: always}
    memory_limit_set: {description: 'Its configured memory limit, 0 for none.', type: int, returned: always}
    memory_bytes: {description: 'Memory in use, without reclaimable cache of files.', type: int, returned: always}
    memory_limit_bytes: {description: 'The limit in the kernel, or null.', type: int, returned: always}
    memory_peak_bytes: {description: 'Maximum use, cache included.', type: int, returned: always}
    memory_ratio: {description: 'Used part of the limit, 0 without a limit.', type: float, returned: always}
    oom_kills: {description: Processes that the kernel killed since its start because memory ran out., type: int, returned: always}
    new_oom_kills: {description: Those within the sample., type: int, returned: always}
    cpu_seconds: {description: CPU time since its start., type: float, returned: always}
    cpu_ratio: {description: 'CPU time within the sample, as a part of one core.', type: float, returned: always}
    periods: {description: Periods in which it was runnable under a CPU limit., type: int, returned: always}
    throttled_periods: {description: Those in which it was throttled., type: int, returned: always}
    throttled_seconds: {description: Time for which it was throttled., type: float, returned: always}
    throttled_ratio: {description: Part of the periods of the sample in which it was throttled., type: float, returned: always}
    sampled_periods: {description: Periods within the sample., type: int, returned: always}
    pids: {description: Processes and threads., type: int, returned: always}
    pids_limit: {description: 'Their limit, or null.', type: int, returned: always}
    pids_ratio: {description: 'Used part of the limit, 0 without a limit.', type: float, returned: always}
    has_init: {description: 'Whether the engine runs an init process in it, or null.', type: bool, returned: always}
    zombies: {description: Processes that have ended and that their parent has not waited for in both readings., type: int, returned: always}
    open_files: {description: Open files of its process that is nearest to its limit., type: int, returned: always}
    open_files_limit: {description: 'The limit of that process, or null for none.', type: int, returned: always}
    open_files_ratio: {description: 'Used part of that limit, 0 without a limit.', type: float, returned: always}
    open_files_command: {description: The program of that process., type: str, returned: always}
containers_total: {description: Number of containers., type: int, returned: always, sample: 6}
without_memory_limit:
  description: The running containers of compose services without a memory limit.
  returned: always
  type: dict
  contains:
    total: {description: Their number., type: int, returned: always}
    memory_bytes: {description: 'Memory that they use together, or null.', type: int, returned: always}
    largest: {description: 'Those that use most, as C(name) and C(memory_bytes).', type: list, elements: dict, returned: always}
  sample: {total: 0, memory_bytes: null, largest: []}
missing_services:
  description: O(expected_services) without a container, each as C(project) (null for any, unless one compose file has the service),
    C(service), C(protected) (false), C(compose_options) and C(unconfirmed), as in RV(compose.missing).
  returned: always
  type: list
  elements: dict
ports_taken:
  description:
    - Ports of the host that a container which is down needs and another process holds, as C(container), C(service), C(address), C(port),
      C(protocol), C(held_by_container), C(held_by_pid), C(held_by_command). Null for an engine on another machine.
  returned: always
  type: list
  elements: dict
compose:
  description: Differences between compose files and containers. Null for an engine on another machine.
  returned: always
  type: dict
  contains:
    files: {description: 'The files, as C(project), C(files), C(error).', type: list, elements: dict, returned: always}
    missing:
      description:
        - Services of the files without a container, as C(project), C(service), C(expected) (whether it is one of O(expected_services)), C(protected)
          (false), C(compose_options) and C(unconfirmed); null if no file could be read.
        - RV(ignore:unconfirmed) are the variables that the shell of the deployment may have set to another value than the one that compose would use
          here, as no container confirms it.
      type: list
      elements: dict
      returned: always
    drift:
      description:
        - Certain differences, as C(project), C(service), C(container), C(id), C(started_at), C(protected), C(compose_options), C(unconfirmed),
          C(what), C(names), C(file), C(running); null if no file could be read.
        - RV(ignore:what) is V(image) or V(memory_limit_bytes), and for containers that compose has created with Docker also V(environment),
          V(command), V(entrypoint), V(ports), V(mounts) or V(networks). RV(ignore:names) are the variables, ports, targets or networks.
        - RV(ignore:file) and RV(ignore:running) are null if there is none. For the environment they hold names only, as values may be secrets.
        - What a variable of the file decides is compared only in its fixed parts.
      type: list
      elements: dict
      returned: always
    orphans:
      description: Containers of the projects whose service the files no longer have, as C(project), C(service), C(container), C(status) and
        C(compose_options); null if no file could be read.
      type: list
      elements: dict
      returned: always
  sample: {files: [], missing: [], drift: [], orphans: []}
paths:
  description:
    - Paths of the host and volumes that are mounted, those with a problem first, as C(path), C(used_by), C(volume) (null for another path), C(exists),
      C(uid), C(gid), C(mode), and the lists below. Null if unknown. Null for an engine on another machine.
    - RV(ignore:denied) are the containers whose user cannot read the path by its mode and access control list, RV(ignore:not_writable) those that mount it
      writable and cannot write to it, as C(container), C(target), C(running), C(uid), C(gids). Names of users are resolved in the files of the container.
    - RV(ignore:missing_file), RV(ignore:empty_read_only) and RV(ignore:made_empty) are containers for which the path is an empty directory, as
      C(container), C(target), C(running). The target has the name of a file; or it is mounted read-only; or the engine created the directory with the
      container, as it was missing.
  returned: always
  type: list
  elements: dict
filesystems:
  description:
    - File systems that containers write to, each once, the fullest first. Those on the device of the data directory of the engine are one entry. Null for
      an engine on another machine.
  returned: always
  type: list
  elements: dict
  contains:
    path: {description: 'Where it is mounted, in the container or for the engine on the host.', type: str, returned: always}
    kind:
      description: V(engine) for the data directory of the engine, V(shm) for C(/dev/shm), V(tmpfs), V(volume) or V(bind).
      type: str
      returned: always
    device: {description: Its device number., type: int, returned: always}
    containers: {description: The containers; none for the engine., type: list, elements: str, returned: always}
    bytes: {description: Its size., type: int, returned: always}
    available_bytes: {description: 'Free space, without that reserved for root.', type: int, returned: always}
    used_ratio: {description: Used part of its space., type: float, returned: always}
    inodes_ratio: {description: 'Used part of its inodes, 0 without a limit.', type: float, returned: always}
unrotated_logs:
  description: Logs that the engine writes to files without a maximum size.
  returned: always
  type: dict
  contains:
    total: {description: Number of containers with such a log., type: int, returned: always}
    bytes: {description: 'Their size, or null.', type: int, returned: always}
    largest: {description: 'The largest, as C(name) and C(bytes).', type: list, elements: dict, returned: always}
  sample: {total: 0, bytes: 0, largest: []}
disk:
  description: Disk use of the engine; null if it did not count it in time.
  returned: always
  type: dict
  contains:
    layers_bytes: {description: Size of the layers of all images., type: int, returned: always}
    images: {description: Number of images., type: int, returned: always}
    unused_images: {description: Images that no container uses., type: int, returned: always}
    unused_images_bytes: {description: Their size without layers of other images., type: int, returned: always}
    dangling_images: {description: Unused images without a name., type: int, returned: always}
    dangling_images_bytes: {description: Their size without layers of other images., type: int, returned: always}
    build_cache_bytes: {description: Size of build cache that neither a build nor an image uses., type: int, returned: always}
    stopped_containers: {description: Number of stopped containers., type: int, returned: always}
    stopped_containers_bytes: {description: Size of the files that they have written., type: int, returned: always}
    volumes: {description: Number of volumes., type: int, returned: always}
    unused_volumes: {description: 'Volumes that no container uses, running or stopped.', type: int, returned: always}
    unused_volumes_bytes: {description: 'Their size, as far as the engine knows.', type: int, returned: always}
    largest_unused_volumes:
      description:
        - The largest unused volumes, as C(name), C(driver), C(bytes) (null if unknown), C(created_at) and C(age_seconds) (engines up to 20.10 return
          the last change of its top directory), C(project) and C(volume), which are compose's names or null, and C(protected).
      type: list
      elements: dict
      returned: always
    reclaimable_bytes: {description: Size of dangling images and build cache., type: int, returned: always}
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
