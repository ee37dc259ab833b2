#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_resources_info
short_description: Measure the resources of a host, and which processes and containers use them
version_added: 0.3.0
description:
  - Measures errors, saturation and use of the processors, the memory, the disks, the network interfaces and the tables of the kernel,
    from two samples of C(/proc) and C(/sys).
  - Names the processes and containers that use most of the CPU and of the memory, the sockets that listen, and the zombies.
  - Measure on the host, as root. A part that cannot be read is null, and RV(unknown) gives the reason.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing, except for the file O(history), which is not written in check mode.
  idempotent:
    support: partial
    details:
      - This module changes nothing, except that each run adds a line to the file O(history).
options:
  sample_seconds:
    description: Seconds between the two samples. Rates, latencies and CPU use are those of this interval.
    type: float
    default: 1.0
  docker_root:
    description:
      - The data directory of the Docker engine, whose files name the containers.
      - By default the one in C(/etc/docker/daemon.json), else C(/var/lib/docker).
    type: path
  top:
    description: Maximum number of entries of each list in the result.
    type: int
    default: 10
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 10.0
  # File systems and files
  mount_timeout:
    description: Seconds after which a mount that does not answer counts as hung.
    type: float
    default: 2.0
  ignored_mounts:
    description: Patterns of mount points that are left out, such as V(/mnt/scratch*).
    type: list
    elements: str
    default: []
  largest_roots:
    description: Directories whose largest files and directories are named, if their file system is nearly full.
    type: list
    elements: path
    default: []
  watched_roots:
    description: More such directories, those of the watched files.
    type: list
    elements: path
    default: []
  largest_above:
    description: Used ratio, of the space or of the inodes, from which on a file system is nearly full. With 0, all directories are walked, above 1 none.
    type: float
    default: 0.85
  largest_seconds:
    description: Seconds for all directories, at most two fifths of the deadline.
    type: float
    default: 2.0
  log_roots:
    description: Directories of log files. On a nearly full file system, those that a remedy could delete are counted.
    type: list
    elements: path
    default: []
  log_patterns:
    description: Patterns of the names of log files that may be deleted.
    type: list
    elements: str
    default: []
  log_age:
    description: Minimum seconds since such a log file was changed.
    type: float
    default: 604800.0
  temporary_roots:
    description: The same for temporary files.
    type: list
    elements: path
    default: []
  temporary_patterns:
    description: The same for temporary files.
    type: list
    elements: str
    default: []
  temporary_age:
    description: The same for temporary files.
    type: float
    default: 604800.0
  deny:
    description: Files and directories that are never deleted, with all below them.
    type: list
    elements: path
    default: []
  # Trends
  history:
    description:
      - File on the host that keeps the memory of processes and containers and the used bytes of file systems of each measurement, to find
        leaks and to predict when something is full. Without it, and with O(samples=1), RV(trends) is empty.
      - This option makes the module write to the host. Each measurement adds one line to the file; it is bounded to 330 lines and 4 MiB.
      - A missing directory is created with mode 0700, the file with mode 0600. Symbolic links of other users are not followed. A file of
        another version is renamed to C(*.old).
      - In check mode, the file is read, and not written.
    type: path
  read_only:
    description: Read the file O(history), and do not write it, as in check mode.
    type: bool
    default: false
  samples:
    description:
      - Number of samples for RV(trends), O(interval) seconds apart, from 1 to 200. Ten samples in five minutes find a fast leak without
        a history.
      - The other parts of the result are those of the first sample.
    type: int
    default: 1
  interval:
    description: Seconds between the samples of O(samples). They are added to O(deadline).
    type: float
    default: 30.0
  warm_up_seconds:
    description: Seconds after the start of a process or container in which its memory does not count, because caches are filled.
    type: float
    default: 600.0
notes:
  - Each mount that may hang (of a network, of FUSE, or of an unknown type) is read in a process of its own. One that the kernel does not end
    is left behind, with a name such as C(statvfs0000002b) (the device), and ends when the mount answers. While it exists, no second one is
    started. No file is written.
  - A mount of autofs is not entered.
seealso:
  - module: tracktion.ops.delete_files
  - module: tracktion.ops.container_state_info
"""

EXAMPLES = r"""
- name: Measure a host over five seconds
  tracktion.ops.host_resources_info:
    sample_seconds: 5
  become: true
  register: host

- name: Show what uses the most CPU
  ansible.builtin.debug:
    msg: "{{ host.processes.consumers | first | default('nothing') }}"

- name: Look for fast leaks in five minutes, without a history
  tracktion.ops.host_resources_info:
    samples: 10
    interval: 30
  become: true
  register: loop

- name: Add a sample to the history, and look for leaks in it
  tracktion.ops.host_resources_info:
    history: /var/lib/tracktion-ops/host_resources.jsonl
  become: true

- name: Show what grows
  ansible.builtin.debug:
    msg: "{{ loop.trends.memory | selectattr('growing') }}"

- name: Fail if less than a tenth of the memory is available
  ansible.builtin.assert:
    that: host.memory.available_ratio > 0.1
"""

RETURN = r"""
reachable: {description: Whether this machine has /proc., returned: always, type: bool, sample: true}
error: {description: "Why nothing was measured (C(kind) is V(cannot_measure)), or null.", returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
sample_seconds: {description: Seconds between the two samples., returned: always, type: float, sample: 1.002}
cpu:
  description: The processors. Ratios are shares of all processors in the interval.
  returned: always
  type: dict
  contains:
    cores: {description: Processors that are online., type: int, returned: always}
    load: {description: 'Load average of C(one), C(five) and C(fifteen) minutes. It includes tasks that wait for a disk.', type: dict, returned: always}
    load_per_core: {description: Load average of one minute divided by the processors., type: float, returned: always}
    load_five_per_core: {description: Load average of five minutes divided by the processors., type: float, returned: always}
    threads: {description: Number of threads., type: int, returned: always}
    runnable: {description: 'Mean number of threads that ran or waited for a processor, of several looks.', type: float, returned: always}
    runnable_per_core:
      description:
        - Mean number of threads per processor that ran or waited for one, without this diagnosis. From the waiting times that the kernel
          sums up (C(/proc/schedstat)), else from RV(cpu.runnable).
      type: float
      returned: always
    blocked: {description: Tasks that wait for a disk or a server., type: int, returned: always}
    busy_ratio: {description: 'All but idle and iowait, with stolen time.', type: float, returned: always}
    own_ratio: {description: The share that this diagnosis used., type: float, returned: always}
    user_ratio: {description: 'Programs, also with a lowered priority.', type: float, returned: always}
    nice_ratio: {description: Programs with a lowered priority., type: float, returned: always}
    system_ratio: {description: The kernel and interrupts., type: float, returned: always}
    softirq_ratio: {description: Soft interrupts., type: float, returned: always}
    iowait_ratio: {description: 'Idle while a task waits for a disk. The kernel counts it roughly.', type: float, returned: always}
    steal_ratio: {description: Time in which the hypervisor ran other guests., type: float, returned: always}
    idle_ratio: {description: Idle., type: float, returned: always}
    most: {description: 'The first of RV(processes.consumers); null if a hidden process may use more.', type: dict, returned: always}
    context_switches_per_second: {description: Context switches., type: float, returned: always}
    forks_per_second: {description: Processes and threads that were created., type: float, returned: always}
  sample:
    cores: 2
    load: {one: 0.4, five: 0.5, fifteen: 0.5}
    load_per_core: 0.2
    load_five_per_core: 0.25
    threads: 474
    runnable: 1.3
    runnable_per_core: 0.15
    blocked: 0
    busy_ratio: 0.12
    own_ratio: 0.03
    user_ratio: 0.08
    nice_ratio: 0.0
    system_ratio: 0.04
    softirq_ratio: 0.0
    iowait_ratio: 0.01
    steal_ratio: 0.0
    idle_ratio: 0.87
    most: {kind: container, name: music-analysis_service-1, service: analysis_service, project: music, cpu_ratio: 0.2,
      cpu_of_host_ratio: 0.1, pid: 4711, user: tracktion, command: python3 -m analysis_service, unit: null, memory_bytes: 90177536,
      runnable: 0.0, demand: 0.2, demand_ratio: 0.66}
    context_switches_per_second: 1250.4
    forks_per_second: 12.0
pressure:
  description: Pressure stall information of the kernel, as shares of time.
  returned: always
  type: dict
  contains:
    available: {description: Whether the kernel counts it., type: bool, returned: always}
    reason: {description: 'Why it is not available; else null.', type: str, returned: always}
    cpu:
      description:
        - C(some) is the time in which at least one task waited, C(full) that in which all did. Each has C(avg10), C(avg60), C(avg300),
          C(interval) (between the samples) and C(total_seconds).
      type: dict
      returned: always
    memory: {description: The same for memory., type: dict, returned: always}
    io: {description: The same for disks., type: dict, returned: always}
  sample:
    available: true
    reason: null
    cpu:
      some: {avg10: 0.01, avg60: 0.02, avg300: 0.01, interval: 0.0, total_seconds: 28.9}
      full: {avg10: 0.0, avg60: 0.0, avg300: 0.0, interval: 0.0, total_seconds: 0.0}
    memory:
      some: {avg10: 0.0, avg60: 0.0, avg300: 0.0, interval: 0.0, total_seconds: 4.4}
      full: {avg10: 0.0, avg60: 0.0, avg300: 0.0, interval: 0.0, total_seconds: 0.4}
    io:
      some: {avg10: 0.0, avg60: 0.01, avg300: 0.02, interval: 0.0, total_seconds: 162.6}
      full: {avg10: 0.0, avg60: 0.0, avg300: 0.01, interval: 0.0, total_seconds: 29.7}
memory:
  description: The memory.
  returned: always
  type: dict
  contains:
    total_bytes: {description: Memory of the host., type: int, returned: always}
    available_bytes:
      description: 'Memory that programs can get without swapping, by the estimate of the kernel: free memory and most of the page cache.'
      type: int
      returned: always
    available_ratio: {description: The same as a ratio., type: float, returned: always}
    free_bytes: {description: Memory that nothing uses., type: int, returned: always}
    buffers_bytes: {description: Buffers of block devices., type: int, returned: always}
    cached_bytes: {description: 'Page cache, with shared memory.', type: int, returned: always}
    shared_bytes: {description: Shared memory and tmpfs., type: int, returned: always}
    reclaimable_slab_bytes: {description: Caches of the kernel that it gives back., type: int, returned: always}
    unreclaimable_slab_bytes: {description: Caches of the kernel that it keeps., type: int, returned: always}
    dirty_bytes: {description: Data that waits to be written., type: int, returned: always}
    committed_bytes: {description: Memory that programs have reserved., type: int, returned: always}
    swap_bytes: {description: Swap space., type: int, returned: always}
    swap_free_bytes: {description: Free swap space., type: int, returned: always}
    swap_used_bytes: {description: Used swap space., type: int, returned: always}
    swap_used_ratio: {description: 'Ratio of used swap space, 0 without any.', type: float, returned: always}
    swap_in_bytes_per_second: {description: Data read from swap., type: float, returned: always}
    swap_out_bytes_per_second: {description: Data written to swap., type: float, returned: always}
    major_faults_per_second: {description: Page faults that needed a disk., type: float, returned: always}
    most: {description: 'What has the most memory, in the same form; null if a hidden process may use more.', type: dict, returned: always}
    oom_kills: {description: 'Processes killed for lack of memory since boot, also those of a container with a limit.', type: int, returned: always}
    new_oom_kills: {description: The same in the interval., type: int, returned: always}
    new_oom_kills_outside: {description: 'The same, without those by the limit of a container that still runs.', type: int, returned: always}
  sample:
    total_bytes: 25276502016
    available_bytes: 23925882880
    available_ratio: 0.9466
    free_bytes: 17864507392
    buffers_bytes: 672313344
    cached_bytes: 5117857792
    shared_bytes: 104980480
    reclaimable_slab_bytes: 787099648
    unreclaimable_slab_bytes: 166793216
    dirty_bytes: 10813440
    committed_bytes: 4656492544
    swap_bytes: 0
    swap_free_bytes: 0
    swap_used_bytes: 0
    swap_used_ratio: 0.0
    swap_in_bytes_per_second: 0.0
    swap_out_bytes_per_second: 0.0
    major_faults_per_second: 0.0
    most: {kind: container, name: music-analysis_service-1, service: analysis_service, project: music, cpu_ratio: 0.2,
      cpu_of_host_ratio: 0.1, pid: 4711, user: tracktion, command: python3 -m analysis_service, unit: null, memory_bytes: 90177536}
    oom_kills: 0
    new_oom_kills: 0
    new_oom_kills_outside: 0
disks:
  description: Whole block devices that were used since boot, the busiest first; at most O(top).
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the device., type: str, returned: always}
    rotational: {description: Whether it is a rotating disk. False for virtual disks., type: bool, returned: always}
    parallel: {description: 'Whether it serves several requests at once, so that its utilisation says little.', type: bool, returned: always}
    stacked: {description: Whether it passes requests on to another device., type: bool, returned: always}
    size_bytes: {description: Its size., type: int, returned: always}
    utilisation_ratio: {description: Share of the interval in which it had a request., type: float, returned: always}
    queue_length: {description: Mean number of requests that waited or were served., type: float, returned: always}
    in_flight: {description: Requests at the second sample., type: int, returned: always}
    requests: {description: Requests that were completed in the interval., type: int, returned: always}
    reads_per_second: {description: Reads., type: float, returned: always}
    writes_per_second: {description: Writes., type: float, returned: always}
    read_bytes_per_second: {description: Bytes read., type: float, returned: always}
    written_bytes_per_second: {description: Bytes written., type: float, returned: always}
    latency_seconds: {description: 'Mean time of a request, with its wait. Null without a request.', type: float, returned: always}
    read_latency_seconds: {description: The same of reads., type: float, returned: always}
    write_latency_seconds: {description: The same of writes., type: float, returned: always}
  sample:
    - name: vda
      rotational: false
      parallel: true
      stacked: false
      size_bytes: 274877906944
      utilisation_ratio: 0.004
      queue_length: 0.001
      in_flight: 0
      requests: 12
      reads_per_second: 0.0
      writes_per_second: 11.97
      read_bytes_per_second: 0.0
      written_bytes_per_second: 40860.9
      latency_seconds: 0.000083
      read_latency_seconds: null
      write_latency_seconds: 0.000083
disks_total: {description: Number of these devices., returned: always, type: int, sample: 1}
interfaces:
  description:
    - Network interfaces of this network namespace, those with new errors or drops and with the most traffic first; at most O(top).
    - The counters are those since boot; C(new_*) are their growth in the interval.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name., type: str, returned: always}
    state: {description: 'Operational state: V(up), V(down), V(unknown).', type: str, returned: always}
    carrier: {description: 'Whether it has a link; null while it is down.', type: bool, returned: always}
    virtual: {description: 'Whether it has no hardware, such as a bridge.', type: bool, returned: always}
    bits_per_second: {description: Its speed. Null for interfaces that have none., type: int, returned: always}
    receive_errors: {description: Packets received with an error., type: int, returned: always}
    receive_drops: {description: 'Packets dropped on receipt, also those of unknown protocols.', type: int, returned: always}
    send_errors: {description: Packets not sent because of an error., type: int, returned: always}
    send_drops: {description: Packets dropped before they were sent., type: int, returned: always}
    carrier_losses: {description: Errors of the carrier., type: int, returned: always}
    carrier_changes: {description: How often the link came or went; null for an interface without hardware., type: int, returned: always}
    new_receive_errors: {description: In the interval., type: int, returned: always}
    new_receive_drops: {description: In the interval., type: int, returned: always}
    new_send_errors: {description: In the interval., type: int, returned: always}
    new_send_drops: {description: In the interval., type: int, returned: always}
    new_carrier_changes: {description: In the interval., type: int, returned: always}
    new_faults: {description: Errors and drops in the interval., type: int, returned: always}
    new_packets: {description: Packets that were received or sent in the interval., type: int, returned: always}
    new_fault_ratio: {description: Ratio of errors and drops to all packets of the interval., type: float, returned: always}
    received_bytes_per_second: {description: Bytes received., type: float, returned: always}
    sent_bytes_per_second: {description: Bytes sent., type: float, returned: always}
    bytes_per_second: {description: Bytes received and sent., type: float, returned: always}
  sample:
    - name: eth0
      state: up
      carrier: true
      virtual: false
      bits_per_second: 1000000000
      receive_errors: 0
      receive_drops: 12
      send_errors: 0
      send_drops: 0
      carrier_losses: 0
      carrier_changes: 2
      new_receive_errors: 0
      new_receive_drops: 0
      new_send_errors: 0
      new_send_drops: 0
      new_carrier_changes: 0
      new_faults: 0
      new_packets: 230
      new_fault_ratio: 0.0
      received_bytes_per_second: 12500.0
      sent_bytes_per_second: 8700.0
      bytes_per_second: 21200.0
interfaces_total: {description: Number of interfaces., returned: always, type: int, sample: 4}
kernel:
  description: Tables of the kernel with a fixed size.
  returned: always
  type: dict
  contains:
    release: {description: Release of the kernel., type: str, returned: always}
    uptime_seconds: {description: Seconds since boot., type: float, returned: always}
    conntrack: {description: Tracked connections. Null without connection tracking., type: int, returned: always}
    conntrack_max: {description: Their limit., type: int, returned: always}
    conntrack_ratio: {description: The used ratio., type: float, returned: always}
    file_handles: {description: Open file handles., type: int, returned: always}
    file_handles_max: {description: Their limit., type: int, returned: always}
    file_handles_ratio: {description: The used ratio., type: float, returned: always}
    threads: {description: 'Threads, each of which has a process id.', type: int, returned: always}
    threads_max: {description: Their limit., type: int, returned: always}
    pid_max: {description: The limit of process ids., type: int, returned: always}
    pids_ratio: {description: The used ratio of the lower limit., type: float, returned: always}
    listen_overflows: {description: Connections that were dropped because the queue of a listening socket was full., type: int, returned: always}
    new_listen_overflows: {description: The same in the interval., type: int, returned: always}
  sample:
    release: 6.1.0-18-amd64
    uptime_seconds: 52491.7
    conntrack: 389
    conntrack_max: 262144
    conntrack_ratio: 0.0015
    file_handles: 1752
    file_handles_max: 2466170
    file_handles_ratio: 0.0007
    threads: 493
    threads_max: 192730
    pid_max: 4194304
    pids_ratio: 0.0026
    listen_overflows: 0
    new_listen_overflows: 0
clock:
  description: The clock, by adjtimex(2).
  returned: always
  type: dict
  contains:
    synchronised: {description: Whether a daemon keeps it synchronised., type: bool, returned: always}
    offset_seconds: {description: The correction that is left to do., type: float, returned: always}
    estimated_error_seconds: {description: Its estimated error., type: float, returned: always}
    maximum_error_seconds: {description: 'Its largest error. It grows while nothing corrects the clock, up to 16 seconds.', type: float, returned: always}
  sample: {synchronised: true, offset_seconds: 0.000012, estimated_error_seconds: 0.0003, maximum_error_seconds: 0.02}
processes:
  description: The processes.
  returned: always
  type: dict
  contains:
    total: {description: Visible processes., type: int, returned: always}
    kernel: {description: Those of the kernel., type: int, returned: always}
    threads: {description: Threads of the visible processes., type: int, returned: always}
    complete: {description: Whether all visible processes were read., type: bool, returned: always}
    hidden: {description: Whether some processes of the host are hidden from this account., type: bool, returned: always}
    running: {description: Processes that run or wait for a processor., type: int, returned: always}
    blocked: {description: Processes that wait for a disk or a server., type: int, returned: always}
    zombies: {description: 'Zombies, also those that their parent collects at once.', type: int, returned: always}
    cpu_ratio: {description: 'CPU use of the processes that live, as a share of one core.', type: float, returned: always}
    by_cpu:
      description:
        - Those that used the most CPU in the interval, as C(pid), C(user), C(command) (without arguments), C(unit) (of systemd),
          C(container), C(service), C(project), C(state), C(threads), C(own) (of this diagnosis), C(cpu_ratio) (1 is one core),
          C(cpu_of_host_ratio), C(cpu_seconds) (since its start), C(resident_bytes), C(proportional_bytes) (with shared pages divided
          among their users; null if that was not read) and C(memory_ratio).
      type: list
      elements: dict
      returned: always
    by_memory: {description: Those with the most resident memory., type: list, elements: dict, returned: always}
    consumers:
      description:
        - What asks for the most CPU time, without this diagnosis. Containers with their busiest process, and processes outside of
          containers, as C(kind) (V(container) or V(process)), C(name), C(service), C(project), C(cpu_ratio), C(cpu_of_host_ratio),
          C(pid), C(user), C(command), C(unit), C(memory_bytes), C(runnable), C(demand) and C(demand_ratio).
        - C(runnable) are its processes that ran or waited for a processor, in the mean of both samples. C(demand) is that or
          C(cpu_ratio), whichever is more. C(demand_ratio) is its share of all runnable threads.
      type: list
      elements: dict
      returned: always
    stuck:
      description: Those that waited for a disk or a server in both samples, and did nothing in between.
      type: list
      elements: dict
      returned: always
  sample:
    total: 158
    kernel: 60
    threads: 414
    complete: true
    hidden: false
    running: 2
    blocked: 0
    zombies: 0
    cpu_ratio: 0.21
    by_cpu:
      - {pid: 4711, user: tracktion, command: python3 -m analysis_service, unit: docker.service, container: music-analysis_service-1,
         service: analysis_service, project: music, state: S, threads: 4, own: false, cpu_ratio: 0.2, cpu_of_host_ratio: 0.1,
         cpu_seconds: 120.4, resident_bytes: 85000192, proportional_bytes: 81000448, memory_ratio: 0.0032}
    by_memory: []
    consumers:
      - {kind: container, name: music-analysis_service-1, service: analysis_service, project: music, cpu_ratio: 0.2,
         cpu_of_host_ratio: 0.1, pid: 4711, user: tracktion, command: python3 -m analysis_service, unit: null, memory_bytes: 90177536,
         runnable: 0.0, demand: 0.2, demand_ratio: 0.66}
    stuck: []
containers:
  description: The containers with the most CPU, those with the most memory, and those in which a process was killed for lack of memory.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Its id., type: str, returned: always}
    container: {description: 'Its name, or the beginning of its id if the files of its engine cannot be read.', type: str, returned: always}
    service: {description: Its compose service., type: str, returned: always}
    project: {description: Its compose project., type: str, returned: always}
    cpu_ratio: {description: CPU use in the interval; 1 is one core., type: float, returned: always}
    cpu_of_host_ratio: {description: The same as a share of all processors., type: float, returned: always}
    memory_bytes: {description: 'Memory, without page cache that the kernel reclaims first.', type: int, returned: always}
    memory_limit_bytes: {description: Its limit; null without one., type: int, returned: always}
    memory_ratio: {description: The used part of the limit; null without one., type: float, returned: always}
    memory_of_host_ratio: {description: Its memory as a share of that of the host., type: float, returned: always}
    oom_kills: {description: Processes killed for lack of memory since its start., type: int, returned: always}
    new_oom_kills: {description: The same in the interval., type: int, returned: always}
    pids: {description: Its threads., type: int, returned: always}
  sample:
    - id: 0d9d4d6e4bb6dfe250ec1e7526775ebefd4cd77d37c7f9915a933fbfe0518062
      container: music-analysis_service-1
      service: analysis_service
      project: music
      cpu_ratio: 0.2
      cpu_of_host_ratio: 0.1
      memory_bytes: 90177536
      memory_limit_bytes: null
      memory_ratio: null
      memory_of_host_ratio: 0.0036
      oom_kills: 0
      new_oom_kills: 0
      pids: 4
containers_total: {description: Number of containers., returned: always, type: int, sample: 6}
listeners:
  description: Sockets of this network namespace that wait for connections or datagrams, by protocol and port; at most O(top) times 5.
  returned: always
  type: list
  elements: dict
  contains:
    protocol: {description: V(tcp) or V(udp)., type: str, returned: always}
    address: {description: Its address., type: str, returned: always}
    port: {description: Its port., type: int, returned: always}
    backlog: {description: 'Connections that its process has not accepted; null for udp.', type: int, returned: always}
    pid: {description: 'The oldest process that has it open; null if it is hidden.', type: int, returned: always}
    user: {description: Its user., type: str, returned: always}
    command: {description: Its command., type: str, returned: always}
    unit: {description: Its service of systemd., type: str, returned: always}
    container: {description: Its container; for the proxy of Docker the one that publishes the port., type: str, returned: always}
    service: {description: The compose service of the container., type: str, returned: always}
    project: {description: The compose project of the container., type: str, returned: always}
  sample:
    - {protocol: tcp, address: 127.0.0.1, port: 8001, backlog: 0, pid: 811, user: root, command: docker-proxy, unit: docker.service,
       container: music-analysis_service-1, service: analysis_service, project: music}
listeners_total: {description: Number of these sockets., returned: always, type: int, sample: 1}
zombies:
  description: Processes that have ended in both samples and whose parent does not wait for them, by parent; at most O(top) parents.
  returned: always
  type: list
  elements: dict
  contains:
    pid: {description: The parent., type: int, returned: always}
    user: {description: Its user., type: str, returned: always}
    command: {description: Its command., type: str, returned: always}
    unit: {description: Its service of systemd., type: str, returned: always}
    container: {description: Its container., type: str, returned: always}
    service: {description: The compose service of the container., type: str, returned: always}
    project: {description: The compose project of the container., type: str, returned: always}
    count: {description: Number of its zombies., type: int, returned: always}
    names: {description: Names of some of them., type: list, elements: str, returned: always}
    pids: {description: Process ids of some of them., type: list, elements: int, returned: always}
    oldest_seconds: {description: Seconds since the start of the oldest one., type: float, returned: always}
  sample: []
zombies_total: {description: Number of zombies., returned: always, type: int, sample: 0}
# File systems and files
file_systems:
  description:
    - The file systems of the host and of its containers, those that hang first, then the fullest. O(top) of those without a problem are
      listed. Each is listed once, however often it is mounted, and an overlay as the file system that it writes to. Those without space of
      their own, and those that are full by design (such as squashfs), are left out.
  returned: always
  type: list
  elements: dict
  contains:
    mount_point: {description: 'The mount point, as C(container) sees it if that is not null.', type: str, returned: always}
    source: {description: 'The device or the server, without a password.', type: str, returned: always}
    type: {description: The type of the file system., type: str, returned: always}
    device: {description: 'The number of the device in the kernel (major << 20 | minor).', type: int, returned: always}
    pid: {description: 'A process that sees it, if only other mount namespaces have it.', type: int, returned: always}
    container: {description: The container that sees it only; null for a file system of the host., type: str, returned: always}
    service: {description: The compose service of the container., type: str, returned: always}
    in_memory: {description: Whether it is in memory., type: bool, returned: always}
    hung: {description: Whether it did not answer within O(mount_timeout). All sizes are null then., type: bool, returned: always}
    hung_since: {description: When a measurement found that for the first time (epoch seconds)., type: float, returned: always}
    bytes: {description: Size., type: int, returned: always}
    used_bytes: {description: Used space., type: int, returned: always}
    available_bytes: {description: Space that every user can use., type: int, returned: always}
    reserved_bytes: {description: Free space that is reserved for root., type: int, returned: always}
    used_ratio: {description: 'Used part of what is used or available, as in df.', type: float, returned: always}
    inodes: {description: 'Inodes; null if their number is not fixed, as with btrfs.', type: int, returned: always}
    inodes_used: {description: Used inodes., type: int, returned: always}
    inodes_ratio: {description: Used part of the inodes., type: float, returned: always}
    read_only: {description: Whether it is mounted read-only., type: bool, returned: always}
    read_only_reason:
      description: Why it should not be. V(errors), if the kernel stopped to write to it; V(fstab), if fstab mounts it writable; else null.
      type: str
      returned: always
    causes:
      description:
        - The first three of what holds most of a nearly full file system, as C(kind) (V(directory), V(file), V(deleted) for a deleted file
          that is open, V(container_log)), C(path), C(bytes), C(container), C(command), C(pid). Null if it is not nearly full.
      type: list
      elements: dict
      returned: always
    causes_complete: {description: Whether all its directories were read in time; null if it is not nearly full., type: bool, returned: always}
    log_roots: {description: Those of O(log_roots) that are on it; null if it is not nearly full., type: list, elements: str, returned: always}
    log_files: {description: Log files that a remedy could delete; null if it is not nearly full., type: int, returned: always}
    log_bytes: {description: Their disk space., type: int, returned: always}
    temporary_roots: {description: The same for temporary files., type: list, elements: str, returned: always}
    temporary_files: {description: The same for temporary files., type: int, returned: always}
    temporary_bytes: {description: The same for temporary files., type: int, returned: always}
  sample:
    - mount_point: /
      source: /dev/vda1
      type: ext4
      device: 266338305
      pid: null
      container: null
      service: null
      in_memory: false
      hung: false
      hung_since: null
      bytes: 52576092160
      used_bytes: 47185920000
      available_bytes: 2684354560
      reserved_bytes: 2705817600
      used_ratio: 0.9462
      inodes: 3276800
      inodes_used: 419430
      inodes_ratio: 0.128
      read_only: false
      read_only_reason: null
      causes: [{kind: container_log, path: /var/lib/docker/containers/3f2a/3f2a-json.log, bytes: 21474836480, container: music-analysis_service-1,
          command: null, pid: null}]
      causes_complete: true
      log_roots: [/var/log]
      log_files: 12
      log_bytes: 1073741824
      temporary_roots: []
      temporary_files: 0
      temporary_bytes: 0
file_systems_total: {description: Number of file systems., returned: always, type: int, sample: 4}
deleted_open_files:
  description:
    - Files that were deleted and that processes still have open, the largest first. Each is listed once, with the oldest process. Objects in
      memory and files that are only mapped are left out.
  returned: always
  type: list
  elements: dict
  contains:
    pid: {description: The oldest process that has it open., type: int, returned: always}
    user: {description: Its user., type: str, returned: always}
    command: {description: 'Its program, without arguments.', type: str, returned: always}
    unit: {description: Its service of systemd., type: str, returned: always}
    container: {description: Its container., type: str, returned: always}
    service: {description: The compose service of the container., type: str, returned: always}
    project: {description: The compose project of the container., type: str, returned: always}
    path: {description: 'The path that it had, as the process saw it.', type: str, returned: always}
    fd: {description: Its descriptor., type: int, returned: always}
    bytes: {description: The disk space that it still holds., type: int, returned: always}
    processes: {description: Number of processes that have it open., type: int, returned: always}
    device: {description: 'The device of its file system, as in RV(file_systems).', type: int, returned: always}
    mount_point: {description: The mount point of its file system; null if that was not measured., type: str, returned: always}
    in_memory: {description: Whether its file system is in memory., type: bool, returned: always}
    file_system_bytes: {description: Size of its file system., type: int, returned: always}
    file_system_available_bytes: {description: Available space of its file system., type: int, returned: always}
    file_system_used_ratio: {description: Used part of its file system., type: float, returned: always}
  sample:
    - pid: 4711
      user: root
      command: nginx
      unit: nginx.service
      container: null
      service: null
      project: null
      path: /var/log/nginx/access.log.1
      fd: 7
      bytes: 5368709120
      processes: 3
      device: 266338305
      mount_point: /
      in_memory: false
      file_system_bytes: 52576092160
      file_system_available_bytes: 2684354560
      file_system_used_ratio: 0.9462
deleted_open_files_total: {description: Number of these files., returned: always, type: int, sample: 1}
deleted_open_files_bytes: {description: The disk space that all of them hold., returned: always, type: int, sample: 5368709120}
largest:
  description:
    - The largest files and directories on nearly full file systems, those of O(largest_roots) and O(watched_roots) first, then the rest of
      each file system. Empty if none is nearly full. A file with several names counts once, other file systems are not entered, and links
      are not followed.
  returned: always
  type: list
  elements: dict
  contains:
    root: {description: 'The directory, as C(container) sees it if that is not null.', type: str, returned: always}
    container: {description: The container., type: str, returned: always}
    bytes: {description: The disk space of all its files that were counted., type: int, returned: always}
    files: {description: Number of files., type: int, returned: always}
    complete: {description: Whether everything was read in time., type: bool, returned: always}
    directories:
      description: The directories that hold most, none of them within another, as C(path), C(bytes), C(files).
      type: list
      elements: dict
      returned: always
    largest_files: {description: 'The largest files, as C(path), C(bytes), C(modified).', type: list, elements: dict, returned: always}
    other_file_systems: {description: The first directories that were not entered., type: list, elements: str, returned: always}
    left_out: {description: The first directories that were not read in time., type: list, elements: str, returned: always}
    left_out_total: {description: Number of directories that were not read in time., type: int, returned: always}
    unreadable: {description: Number of directories that could not be read., type: int, returned: always}
    seconds: {description: How long it took., type: float, returned: always}
  sample:
    - root: /var/log
      container: null
      bytes: 2147483648
      files: 241
      complete: true
      directories: [{path: /var/log/journal, bytes: 2013265920, files: 17}]
      largest_files: [{path: /var/log/journal/3f2a/system.journal, bytes: 134217728, modified: 1795593039.0}]
      other_file_systems: []
      left_out: []
      left_out_total: 0
      unreadable: 0
      seconds: 0.012
container_logs:
  description: The log files of containers without a maximum size, the largest first. Null without the right to read the files of the engine.
  returned: always
  type: list
  elements: dict
  contains:
    container: {description: The container., type: str, returned: always}
    service: {description: Its compose service., type: str, returned: always}
    project: {description: Its compose project., type: str, returned: always}
    path: {description: The file., type: str, returned: always}
    bytes: {description: Its disk space., type: int, returned: always}
  sample: [{container: music-redis-1, service: redis, project: music, path: /var/lib/docker/containers/3f2a/3f2a-json.log, bytes: 4096}]
container_logs_total: {description: Number of these files., returned: always, type: int, sample: 6}
container_logs_bytes: {description: Disk space of these files., returned: always, type: int, sample: 40960}
# Trends
trends:
  description:
    - How fast memory and file systems grow. Rates are bytes per second, by the median of the slopes between all pairs of samples (Theil-Sen),
      with a confidence interval that is corrected for autocorrelation.
    - Empty without O(history) or O(samples).
  returned: always
  type: dict
  contains:
    samples: {description: Number of samples., type: int, returned: always}
    span_seconds: {description: Seconds from the first sample to the last., type: float, returned: always}
    missing:
      description: What is missing to say that something does not grow, such as V(8 of 24 samples); null if nothing is.
      type: str
      returned: always
    history:
      description: The file; null without O(history).
      type: dict
      returned: always
      contains:
        path: {description: Its path., type: str, returned: always}
        problems: {description: "Why it could not be read or written, or not completely.", type: list, elements: str, returned: always}
    notes: {description: "Reboots between the samples, and clocks that were set.", type: list, elements: str, returned: always}
    memory:
      description: Containers, and processes with the most memory, what grows first.
      type: list
      elements: dict
      returned: always
      contains:
        kind: {description: Either V(container) or V(process)., type: str, returned: always}
        pid: {description: "Its process id; of a container, that of its largest process.", type: int, returned: always}
        user: {description: The user of the process., type: str, returned: always}
        command: {description: 'The command of the process, without arguments.', type: str, returned: always}
        unit: {description: Its service of systemd., type: str, returned: always}
        container: {description: The container., type: str, returned: always}
        service: {description: The compose service of the container., type: str, returned: always}
        project: {description: The compose project of the container., type: str, returned: always}
        bytes:
          description: Anonymous memory of a process, or memory of a container that cannot be reclaimed, with what is swapped out.
          type: int
          returned: always
        age_seconds: {description: Seconds since its start., type: float, returned: always}
        limit_of: {description: 'Which limit it reaches first: that of its V(container), or the memory of the V(host).', type: str, returned: always}
        limit_bytes: {description: The limit of the container; null for the host., type: int, returned: always}
        room_bytes: {description: Bytes until the limit., type: int, returned: always}
        in_growing_container: {description: Whether it is a process of a container that grows., type: bool, returned: always}
        growing:
          description: Whether it grows steadily. Null if that cannot be decided.
          type: bool
          returned: always
        reason: {description: Why it cannot be decided., type: str, returned: always}
        samples: {description: Its samples since its start and its warm-up., type: int, returned: always}
        span_seconds: {description: Seconds from the first of them to the last., type: float, returned: always}
        bytes_per_second: {description: Its growth., type: float, returned: always}
        bytes_per_second_low: {description: Low end of the confidence interval., type: float, returned: always}
        bytes_per_second_high: {description: High end of the confidence interval., type: float, returned: always}
        seconds_to_limit: {description: 'Seconds until the limit, if it grows.', type: float, returned: always}
        seconds_to_limit_at_most: {description: The same by the low end of the interval., type: float, returned: always}
    memory_total: {description: Number of processes and containers that were sampled., type: int, returned: always}
    file_systems:
      description: File systems that can be written, what grows first.
      type: list
      elements: dict
      returned: always
      contains:
        mount_point: {description: Its mount point., type: str, returned: always}
        source: {description: Its device., type: str, returned: always}
        container: {description: 'The container, if only that sees it.', type: str, returned: always}
        service: {description: The compose service of that container., type: str, returned: always}
        bytes: {description: Used bytes., type: int, returned: always}
        room_bytes: {description: Available bytes., type: int, returned: always}
        free_ratio: {description: Share of the usable bytes that is available., type: float, returned: always}
        growing: {description: Whether it fills steadily. Null if that cannot be decided., type: bool, returned: always}
        reason: {description: Why it cannot be decided., type: str, returned: always}
        samples: {description: Its samples., type: int, returned: always}
        span_seconds: {description: Seconds from the first of them to the last., type: float, returned: always}
        bytes_per_second: {description: Its growth., type: float, returned: always}
        bytes_per_second_low: {description: Low end of the confidence interval., type: float, returned: always}
        bytes_per_second_high: {description: High end of the confidence interval., type: float, returned: always}
        seconds_to_limit: {description: 'Seconds until it is full, if it grows.', type: float, returned: always}
        seconds_to_limit_at_most: {description: The same by the low end of the interval., type: float, returned: always}
    file_systems_total: {description: Number of file systems that were sampled., type: int, returned: always}
  sample:
    samples: 10
    span_seconds: 270.0
    missing: 10 of 24 samples
    history: null
    notes: []
    memory:
      - kind: process
        pid: 4711
        user: music
        command: python3 worker.py
        unit: tracktion-worker.service
        container: null
        service: null
        project: null
        bytes: 160432128
        age_seconds: 86400.0
        limit_of: host
        limit_bytes: null
        room_bytes: 4294967296
        in_growing_container: false
        growing: true
        reason: null
        samples: 10
        span_seconds: 270.0
        bytes_per_second: 1048576.0
        bytes_per_second_low: 1040000.0
        bytes_per_second_high: 1057152.0
        seconds_to_limit: 4096.0
        seconds_to_limit_at_most: 4129.8
    memory_total: 40
    file_systems: []
    file_systems_total: 0
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _host_resources_info


def main() -> None:
    module = AnsibleModule(argument_spec=_host_resources_info.ARGUMENT_SPEC, supports_check_mode=True)
    read_only = module.params["read_only"] or module.check_mode
    exit_module(module, partial(_host_resources_info.measure, {**module.params, "read_only": read_only}))


if __name__ == "__main__":
    main()
