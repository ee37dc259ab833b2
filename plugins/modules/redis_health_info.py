#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_health_info
short_description: Measure how a Redis server serves its clients
version_added: 0.2.0
description:
  - Measures the status, look-ups, evictions, slow commands, latency events, persistence, clients and replication of a Redis server.
  - Reads the counters twice, O(sample_seconds) apart, so that rates are current, not the mean since the start of the server.
  - Never runs MONITOR. The slow log, latency events and command statistics have the same information at no cost for the server.
  - A server that cannot be reached is reported in RV(error), and the task does not fail.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._redis
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
options:
  sample_seconds:
    description: Seconds between the two readings of the counters.
    type: float
    default: 1.0
  show_key_names:
    description: Whether the slow log contains names of keys. If V(false), it contains the number of arguments only. It never contains values.
    type: bool
    default: true
seealso:
  - module: tracktion.ops.redis_memory
"""

EXAMPLES = r"""
- name: Measure a Redis server
  tracktion.ops.redis_health_info:
    login_host: redis.example.org
    login_password: "{{ redis_password }}"
    tls: true
  register: redis_health

- name: Fail with the reason if the server cannot be reached
  ansible.builtin.assert:
    that: redis_health.reachable
    fail_msg: "{{ redis_health.error.message }}. {{ redis_health.error.hint }}"
"""

RETURN = r"""
reachable: {description: Whether the connection and the log-in succeeded. Null for a Sentinel., returned: always, type: bool, sample: true}
error: {description: "Why not, or null. Of Redis only, C(kind) is V(protected_mode), V(busy) or V(sentinel).", returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
identity:
  description: "C(redis:) and the C(run_id) of the server. Null if it cannot be read."
  returned: always
  type: str
  sample: redis:6d20629e7cbd8db3007d3fba8b8098825ba1612a
redis_cli:
  description:
    - The words of a redis-cli command line for the server. It asks for the password, if one was given.
    - Null if the server cannot be reached.
  returned: always
  type: list
  elements: str
  sample: [redis-cli, -h, redis.example.org]
ping:
  description:
    - The answer to PING after the log-in. Null if the ACL denies PING.
    - C(status) is V(ok), V(loading), V(misconf), V(replica_without_primary) or V(too_few_replicas).
      C(message) is the error reply, else null. C(seconds) is the time of log-in and PING.
  returned: always
  type: dict
  sample: {status: ok, message: null, seconds: 0.000412}
server:
  description:
    - Version and state of the server.
    - C(loading) is null, except while the server loads its data from disk. Then it has C(loaded_bytes), C(total_bytes), C(loaded_ratio) and
      C(eta_seconds).
  returned: always
  type: dict
  sample: {version: 7.0.15, mode: standalone, config_file: /etc/redis/redis.conf, uptime_seconds: 86400, loading: null}
load:
  description:
    - Load in the interval. C(cpu_ratio) is the share of one core, because commands run in one thread.
    - C(latest_fork_seconds) is the time that the last fork for a snapshot blocked the server.
  returned: always
  type: dict
  sample: {interval_seconds: 1.002, operations_per_second: 412.3, cpu_ratio: 0.0312, latest_fork_seconds: 0.000911}
lookups:
  description:
    - Look-ups of keys in the interval and since the start of the counters.
    - Look-ups by TYPE, PTTL and OBJECT IDLETIME are not counted. They read no value, and M(tracktion.ops.redis_memory) runs them.
  returned: always
  type: dict
  contains:
    interval:
      description: C(hit_count), C(miss_count), C(lookup_count), their C(ratio) (null without look-ups) and C(seconds).
      returned: always
      type: dict
    since_start: {description: "C(hit_count), C(miss_count), C(lookup_count) and their C(ratio).", type: dict, returned: always}
  sample:
    interval: {hit_count: 180, miss_count: 20, lookup_count: 200, ratio: 0.9, seconds: 1.002}
    since_start: {hit_count: 95012, miss_count: 5001, lookup_count: 100013, ratio: 0.949997}
evictions:
  description: Evicted and expired keys, since the start and in the interval, and the eviction C(policy).
  returned: always
  type: dict
  sample: {evicted_count: 0, evicted_in_interval: 0, evicted_per_second: 0.0, expired_count: 12, expired_per_second: 0.0, policy: allkeys-lru}
commands:
  description:
    - Command statistics, without the command of this module in the interval. C(top) are the commands that took most time in the interval, then
      since the start; C(total) is the number of all commands.
    - C(busy_ratio) is the share of the interval that the server spent in the command.
  returned: always
  type: dict
  sample:
    interval_seconds: 1.002
    total: 14
    top:
      - {command: get, calls: 400, calls_per_second: 399.2, seconds: 0.0012, seconds_per_call: 0.000003, busy_ratio: 0.001198,
         failed_calls: 0, total_calls: 100213, total_seconds: 0.31}
errors:
  description: Error replies by their first word, since the start and in the interval.
  returned: always
  type: list
  elements: dict
  sample: [{error: OOM, count: 12, in_interval: 2, per_second: 1.996}]
slow_log:
  description:
    - The newest entries of the slow log, without those of this collection, which C(own_count) counts. C(threshold_seconds) is null if the log is
      off or CONFIG GET is denied. C(length) is the number of all entries, null if SLOWLOG LEN is denied.
    - C(line) is the command with names of keys, and the number and size of its other arguments, without values. It is escaped and cut, and secrets
      in names are hidden.
    - C(commands) are the newest 128 entries by command, the slowest first. Null if their age is unknown, or if there are no entries and the log is
      off or its setting is unknown.
  returned: always
  type: dict
  sample:
    threshold_seconds: 0.01
    length: 3
    own_count: 0
    entries:
      - {id: 2, at: 1767225600.0, age_seconds: 12.1, seconds: 0.212, command: SMEMBERS, line: SMEMBERS artists, client: "10.0.0.7:51122", client_name: null}
    commands:
      - {command: SMEMBERS, entry_count: 3, latest_age_seconds: 12.1, worst_seconds: 0.212, worst_line: SMEMBERS artists}
latency:
  description:
    - Events of the latency monitor, worst first, without those of this collection. C(events) is null if the server's clock is unknown.
    - C(threshold_seconds) is null if the monitor is off, which is its default, or CONFIG GET is denied.
  returned: always
  type: dict
  sample: {threshold_seconds: 0.1, events: [{event: command, at: 1767225600.0, age_seconds: 12.1, latest_seconds: 0.212, worst_seconds: 0.4}]}
persistence:
  description:
    - State of snapshots (C(rdb)) and of the append-only file (C(aof)).
    - C(rdb.enabled) is true if save rules are set, null if CONFIG GET is denied. C(rdb.saved_since_start) is whether a snapshot has succeeded
      since the start of the server; if it is V(false), C(rdb.last_save_at) is null. C(rdb.unsaved_seconds) is the time since the last snapshot or the start.
    - C(files) is where the server writes snapshots.
  returned: always
  type: dict
  sample:
    rdb: {enabled: true, last_status: ok, saved_since_start: true, unsaved_seconds: 310.2, last_save_at: 1767225600.0, last_save_age_seconds: 310.2,
      changes_since_save: 17, last_seconds: 1,
      in_progress: false, current_seconds: null}
    files: {directory: /var/lib/redis, file_name: dump.rdb}
    aof: {enabled: false, last_write_status: ok, last_rewrite_status: ok, rewrite_in_progress: false, size_bytes: null, base_bytes: null,
      pending_fsyncs: null, delayed_fsyncs: null}
clients:
  description:
    - Connections and maxclients, rejected connections and blocked clients.
    - C(buffers) are the clients that take most memory, those with the same address, name, user and kind as one row, with the C(largest) of them.
      C(kind) is V(normal), V(pubsub), V(replica) or V(primary). C(addresses) are the clients by address, with up to three of their names.
    - C(waiting_for_replicas_count) are the blocked clients that wait in WAIT or WAITAOF.
    - Clients of this collection are left out. C(buffers), C(addresses), C(waiting_for_replicas_count) and C(longest_blocked_seconds) are null if there
      are more than 5000 clients or CLIENT LIST is denied.
  returned: always
  type: dict
  sample:
    connected_count: 12
    max_count: 10000
    use_ratio: 0.0012
    blocked_count: 1
    blocked_ratio: 0.083333
    waiting_for_replicas_count: 0
    longest_blocked_seconds: 3
    rejected_count: 0
    rejected_in_interval: 0
    evicted_count: 0
    buffers:
      - {address: 10.0.0.7, client_name: null, user: default, kind: normal, client_count: 3, output_bytes: 0, total_bytes: 66894, largest: {id: 7,
         address: "10.0.0.7:51122", client_name: null, user: default, kind: normal, blocked: false, command: get, age_seconds: 40,
         idle_seconds: 0, output_bytes: 0, query_bytes: 26, total_bytes: 22298}}
    addresses:
      - {address: 10.0.0.7, client_count: 3, blocked_count: 1, client_names: [worker], least_idle_seconds: 0, most_idle_seconds: 40}
replication:
  description:
    - C(role) is V(primary) or V(replica). The fields from C(link_up) to C(primary) are null on a primary.
    - C(replicas) are the replicas of this server with their lag.
    - C(good_replicas) is the number of replicas with a lag within C(min-replicas-max-lag). It is null if Redis accepts writes without replicas.
  returned: always
  type: dict
  sample:
    role: primary
    link_up: null
    link_down_seconds: null
    last_io_seconds: null
    sync_in_progress: null
    primary: null
    replicas: [{address: "10.0.0.8:6379", state: online, lag_seconds: 0, lag_bytes: 0}]
    good_replicas: null
    min_replicas_to_write: 0
cluster:
  description:
    - State of the cluster as this node sees it. All but C(enabled) is null or empty if the server is not part of one.
    - C(missing_slots) are the ranges of slots that no node serves. C(failing_nodes) do not answer, C(confirmed) by the majority or by this node only.
  returned: always
  type: dict
  sample: {enabled: true, state: ok, slots_assigned: 16384, slots_failing: 0, slots_maybe_failing: 0, node_count: 6, missing_slots: [], failing_nodes: [
      {address: "10.0.0.9:6379", role: replica, confirmed: true, linked: false, slot_count: 0}]}
access:
  description:
    - Who can use the server without a password. The module reads the user default if that is its user, else it tries a second connection without a
      password.
    - C(password_required) is V(false) if that succeeds, or is rejected by the protected mode only. C(may_configure) is whether such a client may run
      CONFIG GET. They are null if unknown.
    - C(loopback_only) is whether all addresses of C(bind) are of the loopback interface. C(beyond_host) is whether other hosts can connect, by the
      network namespaces and listening sockets of the host of the module. It is null if the server's process is not on this host, if what
      listens there cannot be seen, or if a password is required.
  returned: always
  type: dict
  sample: {password_required: true, may_configure: null, protected_mode: true, bind: ["127.0.0.1", "-::1"], loopback_only: true, beyond_host: null}
host:
  description:
    - Settings of the kernel that affect Redis. They are null if the server's process is not on the host of the module (C(local) is false).
    - C(container) is the container of the server, C(project) its compose project, C(data_device) the device number of the file system that
      it saves to; null if they are not known.
    - Null if INFO is denied.
  returned: always
  type: dict
  sample: {transparent_hugepage: madvise, overcommit_memory: 1, local: true, container: music-redis-1, project: music, data_device: 266338305}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures._redis_health_info import ARGUMENT_SPEC, measure


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(measure, module.params))


if __name__ == "__main__":
    main()
