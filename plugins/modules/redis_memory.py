#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_memory
short_description: Measure and limit the memory of a Redis server
version_added: 0.2.0
description:
  - Measures the memory of a Redis server, its limits (maxmemory, and the memory of its container or host), and the memory of its keys by prefix
    and type.
  - Ensures O(maxmemory) and O(maxmemory_policy), and evicts keys only with O(allow_eviction=true).
  - Deletes keys by a pattern, never all keys.
  - Never runs KEYS or MONITOR. Keys are read by SCAN, MEMORY USAGE (with its default of 5 samples), PTTL and TYPE, in small pipelines. None of
    these changes the idle time or the frequency of a key. The number of keys of a step is adapted so that a step takes about 20 ms at most, there
    is a pause after each step, and reading ends early if the server is busy.
  - Keys that expire or are deleted while they are read are left out.
  - With O(state=measured), a server that cannot be reached is reported in RV(error), and the task does not fail. With other states it fails.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._redis
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.actiongroup
attributes:
  check_mode:
    support: full
    details:
      - Check mode predicts whether the server can rewrite its configuration file if the server's process is on the host of the module.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(measured) only measures.
      - V(configured) ensures O(maxmemory) and O(maxmemory_policy), then measures.
      - V(deleted) deletes the keys that O(delete) selects, then measures.
    type: str
    choices: [measured, configured, deleted]
    default: measured
  maxmemory:
    description:
      - The setting maxmemory, as V(1gb), V(512mb) or a number of bytes. As in C(redis.conf), V(1gb) is 1024 MB and V(1g) is 1000 MB.
        V(0) sets no limit.
      - Redis counts data, not the process. Leave memory for fragmentation and for copy-on-write during a snapshot, for example a quarter of the
        memory of the container.
    type: str
  maxmemory_policy:
    description: The eviction policy, the setting maxmemory-policy.
    type: str
    choices:
      - noeviction
      - allkeys-lru
      - allkeys-lfu
      - allkeys-random
      - volatile-lru
      - volatile-lfu
      - volatile-random
      - volatile-ttl
  allow_eviction:
    description:
      - Whether to accept settings that evict keys, or reject writes, at once because more memory is in use than O(maxmemory).
    type: bool
    default: false
  max_evicted_bytes:
    description: With O(allow_eviction=true), how many bytes of keys may be evicted at once. Without it, any number.
    type: int
  persist:
    description:
      - Whether to write the settings to the configuration file, by CONFIG REWRITE.
      - The file is written if the task changes a setting, or if the file can be read on this host and has another value.
      - CONFIG REWRITE writes all settings in force to the file, not only those of this module.
    type: bool
    default: true
  delete:
    description:
      - The keys that O(state=deleted) deletes.
      - Each key is checked again when it is deleted, in one step (a script), so a key that was used or written in between stays.
      - This also works if memory is full. A server that rejects deletions, such as a replica, fails the task in check mode too.
    type: dict
    suboptions:
      pattern:
        description: Pattern of SCAN, such as V(cache:album:*). A pattern of wildcards only, such as V(*), is rejected.
        type: str
        required: true
      database:
        description: Number of the database.
        type: int
        default: 0
      only_without_ttl:
        description: Whether to delete only keys without a time to live.
        type: bool
        default: true
      idle_seconds:
        description:
          - Only delete keys that were neither read nor written for so many seconds. V(0) for any key.
          - With an LFU policy the server does not record this. Then the task fails, unless it is V(0).
        type: int
        default: 86400
      max_count:
        description: Maximum number of keys to delete.
        type: int
        default: 1000
      list_path:
        description:
          - File on the host to which a line of JSON is appended for each deleted key. It is created with mode 0600. A link is not followed.
        type: path
  distribution:
    description:
      - V(sampled) reads as many keys as O(max_calls) allows, and all keys of small databases. The 95 % confidence interval is returned with each
        value. Keys that are large in comparison with the mean are not extrapolated. They are searched among all keys (see O(search_keys)), by one
        command for each key.
      - V(whole) reads every key, as far as O(deadline) allows. For 1,000,000 keys it sends 3,000,000 commands, which take about 10 s of the
        server's time.
      - V(none) reads no key.
    type: str
    choices: [sampled, whole, none]
    default: sampled
  max_calls:
    description:
      - Maximum number of commands of a sample. For each key these are MEMORY USAGE, PTTL (if keys expire) and TYPE.
      - At least 100.
    type: int
    default: 3000
  max_load:
    description: Maximum share of the time for reading keys, above 0 and at most 1. The pause after each step follows from it.
    type: float
    default: 0.25
  search_keys:
    description:
      - Number of keys up to which a sample is followed by a search for large keys. The search reads the size of every key (MEMORY USAGE), as far as
        O(deadline) allows. For 1,000,000 keys it takes 2 to 3 s of the server's time.
      - It also follows if the sample accounts for less than nine tenths of the memory, whatever the number of keys. V(0) never searches.
    type: int
    default: 300000
  search_load:
    description: Maximum share of the time for the search, above 0 and at most 1. It is exceeded if the search would not end before O(deadline).
    type: float
    default: 0.5
  big_bytes:
    description: Size in bytes from which keys are summed up in RV(distribution.big_groups).
    type: int
    default: 1048576
  prefix_separator:
    description: >-
      Separator that ends the prefix of a key. The prefix of V(track:12:bpm) is V(track). Names without a separator have an empty prefix.
      In a prefix, V({*}) stands for the hash tag of a cluster. The prefix of V({user:1}:cart:5) is V({*}:cart).
    type: str
    default: ":"
  show_key_names:
    description:
      - Whether to return names of keys. If V(false), the prefix and a part of the SHA-256 hash of the name are returned. Prefixes are always
        returned.
      - Secrets in names are always hidden.
    type: bool
    default: true
seealso:
  - module: tracktion.ops.redis_health_info
"""

EXAMPLES = r"""
- name: Measure memory, with every key
  tracktion.ops.redis_memory:
    login_host: redis.example.org
    login_password: "{{ redis_password }}"
    distribution: whole
    deadline: 60

- name: Limit the memory of a cache
  tracktion.ops.redis_memory:
    state: configured
    maxmemory: 1gb
    maxmemory_policy: allkeys-lru

- name: Show which keys would be deleted
  tracktion.ops.redis_memory:
    state: deleted
    delete:
      pattern: "cache:album:*"
      idle_seconds: 604800
  check_mode: true
"""

RETURN = r"""
reachable: {description: Whether the connection and the log-in succeeded., returned: always, type: bool, sample: true}
error: {description: "Why not, or null, as in M(tracktion.ops.redis_health_info).", returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
server:
  description: Version and state of the server. C(local_pid) is its process on the host of the module, null if it is not there.
  returned: always
  type: dict
  sample: {version: 7.0.15, mode: standalone, role: master, config_file: /etc/redis/redis.conf, uptime_seconds: 86400, local_pid: 812}
memory:
  description:
    - Memory in use and its limits. C(counted_bytes) is the memory that counts against C(maxmemory_bytes). C(maxmemory_bytes) is V(0) if no limit
      is set; then C(maxmemory_ratio) is null.
    - C(limit_bytes) is the memory available to the server. C(limit_source) is V(cgroup) if it is the limit of a control group of the server's
      process on this host, else V(system), the memory of the server's host. C(limit_ratio) is C(rss_bytes) / C(limit_bytes),
      C(maxmemory_limit_ratio) is C(maxmemory_bytes) / C(limit_bytes).
    - C(available_bytes) is the memory that the server's process can have, which is its own and what other processes leave of the limits of its
      control groups and of the memory of the host. Null if the process is not on the host of the module.
    - C(evictable_count) is the number of keys that the policy may evict.
  returned: always
  type: dict
  sample: {used_bytes: 217246872, counted_bytes: 217246872, rss_bytes: 228003840, peak_bytes: 217321232, dataset_bytes: 161084784,
    overhead_bytes: 56162088, startup_bytes: 876088, clients_bytes: 0, replication_bytes: 0, aof_buffer_bytes: 0, scripts_bytes: 200,
    maxmemory_bytes: 536870912, maxmemory_ratio: 0.404655, policy: allkeys-lru, limit_bytes: 1073741824, limit_source: cgroup,
    limit_ratio: 0.212345, maxmemory_limit_ratio: 0.5, system_bytes: 25276502016,
    available_bytes: 1001745408, key_count: 1000001, evictable_count: 1000001,
    evictable_ratio: 1.0, evicted_count: 0, expired_count: 0}
fragmentation:
  description:
    - Why the process takes more memory than its data, one row for each C(cause), with its C(ratio) and C(bytes).
    - V(allocator) is partly filled pages, V(allocator_rss) free pages that the allocator keeps, V(process_rss) memory of the process beside the
      allocator, V(swap) data that is not resident, V(peak) the highest use minus the current one.
  returned: always
  type: list
  elements: dict
  sample: [{cause: allocator, ratio: 1.05, bytes: 10796880}]
databases:
  description: The databases that hold keys.
  returned: always
  type: list
  elements: dict
  sample: [{database: 0, key_count: 1000001, expiring_count: 200000, average_ttl_seconds: 85955.77}]
distribution:
  description: Memory of the keys, by prefix and type, over all databases. Null if keys cannot be read, or the server is too busy.
  returned: always
  type: dict
  contains:
    mode: {description: The value of O(distribution)., returned: always, type: str}
    complete: {description: "Whether every key was read, with its size and time to live.", returned: always, type: bool}
    searched: {description: "Whether the size of every key was read, so that no large key is missing.", returned: always, type: bool}
    ended: {description: "Why reading ended early, V(busy) (the server is busy) or V(deadline); else null.", returned: always, type: str}
    seconds: {description: Duration., returned: always, type: float}
    longest_step_seconds: {description: The longest time from sending a step to its last reply. The server was blocked for less., returned: always, type: float}
    call_count: {description: Commands sent., type: int, returned: always}
    seen_count: {description: Keys read., type: int, returned: always}
    unread_count: {description: "Keys that the user may not read, estimated if not all keys were listed.", type: int, returned: always}
    key_count: {description: Number of all keys by the server's own account., type: int, returned: always}
    bytes:
      description: Memory of all keys by MEMORY USAGE, estimated unless RV(distribution.complete). Null if MEMORY USAGE is denied.
      returned: always
      type: int
    keyspace_bytes: {description: "Memory of all keys by the server's own account, without the tables of the databases.", type: int, returned: always}
    explained_ratio:
      description:
        - RV(distribution.bytes) / RV(distribution.keyspace_bytes). About 0.95 if all keys were read, less if rare big keys are not in the sample.
        - Null if either is null, or if there are keys that the user may not read.
      returned: always
      type: float
    confidence: {description: Confidence level of the intervals from C(_low) to C(_high)., type: float, returned: always}
    prefixes:
      description:
        - The prefixes and types that take most memory, one row for each database, prefix and type.
        - C(prefix) is empty for names without O(prefix_separator), and null for the sum of all prefixes after the first 20,000.
        - C(pattern) is the pattern of SCAN for the keys of the prefix, null if text cannot express it, or if the prefix has a hash tag.
        - Large keys (from 50 times the mean size on) are never extrapolated. Without RV(distribution.searched), those of the sample count once.
        - C(ttl_ratio) is the share of the keys with a time to live, C(mean_ttl_seconds) the mean of these times.
        - The keys of a database that the user may not read are one row, in which C(readable) is false and all but their number is null.
        - Null if MEMORY USAGE or PTTL is denied.
      returned: always
      type: list
      elements: dict
    prefixes_total: {description: Number of all rows., type: int, returned: always}
    types: {description: The same by type., type: list, elements: dict, returned: always}
    biggest_keys:
      description:
        - The biggest keys that were read. C(expires) is null if PTTL is denied; C(ttl_seconds) is null for a key that does not expire.
        - C(is_exact) is true if C(name) is the exact name, not escaped, cut or hidden. C(printf_format) is the format with which C(printf) of a
          shell prints any other name, null if the name must not be shown.
        - The keys of a database that the user may not read are one entry, in which C(readable) is false and all else is null.
        - Null if MEMORY USAGE is denied.
      returned: always
      type: list
      elements: dict
    big_groups:
      description:
        - The keys of at least O(big_bytes), one row for each database, prefix and type, and one for each key without a prefix, the largest sum first.
        - C(largest) are up to three of them, as in RV(distribution.biggest_keys).
        - The keys of a database that the user may not read are one row, in which C(readable) is false and all else is null.
        - Null if MEMORY USAGE is denied.
      returned: always
      type: list
      elements: dict
    big_groups_total: {description: Number of all rows., returned: always, type: int}
  sample:
    mode: sampled
    complete: false
    searched: false
    ended: null
    seconds: 0.145042
    longest_step_seconds: 0.005758
    call_count: 90000
    seen_count: 30613
    unread_count: 0
    key_count: 1000001
    bytes: 188704595
    keyspace_bytes: 201084824
    explained_ratio: 0.938433
    confidence: 0.95
    prefixes:
      - {database: 0, readable: true, prefix: track, pattern: "track:*", type: string, seen_count: 12362, key_count: 403816,
         key_count_low: 398440, key_count_high: 409265,
         bytes: 73226480, bytes_low: 72177129, bytes_high: 74291087, mean_bytes: 181, without_ttl_count: 403816, without_ttl_bytes: 73226480,
         ttl_ratio: 0.0, mean_ttl_seconds: null}
    prefixes_total: 6
    types: [{type: string, key_count: 699671, bytes: 150876445, without_ttl_count: 502663, without_ttl_bytes: 115074887}]
    biggest_keys:
      - {database: 0, readable: true, name: "analysis:677", is_exact: true, printf_format: null, type: string, bytes: 696, expires: false,
         ttl_seconds: null}
    big_groups:
      - {database: 0, readable: true, prefix: queue, pattern: "queue:*", type: list, key_count: 2, bytes: 5242880, largest_bytes: 4194304,
         without_ttl_count: 2, largest: [{database: 0, readable: true, name: "queue:1", is_exact: true, printf_format: null, type: list,
         bytes: 4194304, expires: false, ttl_seconds: null}]}
    big_groups_total: 1
stream_groups:
  description:
    - Consumer groups of streams, those with most pending entries first. Empty with O(distribution=none).
    - Streams are searched (by TYPE) if clients have used one since the start of the counters, or if one is among the keys that were read.
    - C(undelivered_count) is the lag of the group, null if the server does not know it. C(oldest_idle_seconds), C(oldest_deliveries) and
      C(oldest_consumer) are about the pending entry with the lowest id.
    - C(is_exact) is true if C(stream) and C(group) are the exact names, not escaped, cut or hidden.
  returned: always
  type: list
  elements: dict
  sample:
    - {database: 0, stream: jobs, group: workers, is_exact: true, consumer_count: 2, pending_count: 12, undelivered_count: 0,
       oldest_idle_seconds: 3600.5, oldest_deliveries: 1, oldest_consumer: worker-1}
stream_groups_total:
  description: Number of all consumer groups that were found.
  returned: always
  type: int
  sample: 1
configuration:
  description:
    - The result of O(state=configured). RV(configuration.before) and RV(configuration.after) have C(maxmemory) in bytes and C(maxmemory_policy).
  returned: when O(state=configured); null in O(state=deleted)
  type: dict
  contains:
    before: {description: The settings before., type: dict, returned: always}
    after: {description: "The settings after. In check mode, as they would be.", type: dict, returned: always}
    config_file: {description: "The server's configuration file, null if it was started without one.", type: str, returned: always}
    redis_cli:
      description: The words of a redis-cli command line for the server. It asks for the password, if one was given.
      returned: always
      type: list
      elements: str
    persisted:
      description: Whether the settings survive a restart. In check mode, whether they would. Null if this is unknown.
      returned: always
      type: bool
    persist_hint: {description: "What to change by hand so that they do, else null.", returned: always, type: str}
  sample:
    before: {maxmemory: 0, maxmemory_policy: noeviction}
    after: {maxmemory: 1073741824, maxmemory_policy: allkeys-lru}
    config_file: /etc/redis/redis.conf
    redis_cli: [redis-cli]
    persisted: true
    persist_hint: null
deletion:
  description:
    - The result of O(state=deleted). In check mode, what it would be.
    - C(kept_count) are selected keys that were used, or given a time to live, in between, so they were not deleted. C(complete) is false if
      O(delete.max_count) or O(deadline) was reached first. C(names) are the first 1000.
  returned: when O(state=deleted); null in O(state=configured)
  type: dict
  sample: {database: 0, pattern: "cache:album:*", matched_count: 310, deleted_count: 2, deleted_bytes: 1808, kept_count: 0, complete: true,
    names: ["cache:album:1", "cache:album:2"], list_path: null}
"""

from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures._redis_memory import ARGUMENT_SPEC, measure
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import connect
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_change import (
    DELETE_SPEC,
    configure,
    delete_keys,
    wanted_settings,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

POLICIES = [
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
]


def act(params: Options, check_mode: bool) -> dict[str, Any]:
    """Ensure the state, then measure. Raises CannotMeasure and, unless the state is ``measured``, CannotConnect."""
    result: dict[str, Any] = {"configuration": None, "deletion": None}
    if params["state"] == "configured":
        wanted = wanted_settings(params["maxmemory"], params["maxmemory_policy"])
        evictable = params["max_evicted_bytes"] if params["allow_eviction"] else 0
        done = configure(connect(params), wanted, evictable, params["persist"], check_mode)
        result.update(changed=done.pop("changed"), configuration=done)
        result["diff"] = {"before": done["before"], "after": done["after"]}
    elif params["state"] == "deleted":
        done = delete_keys(
            connect(params), params["delete"], params["prefix_separator"] or ":", params["show_key_names"], check_mode
        )
        result.update(changed=done.pop("changed"), deletion=done)
        result["diff"] = {"before": {"keys": done["names"]}, "after": {"keys": []}}
    return dict(result, **measure(params))


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            state={"type": "str", "choices": ["measured", "configured", "deleted"], "default": "measured"},
            maxmemory={"type": "str"},
            maxmemory_policy={"type": "str", "choices": POLICIES},
            allow_eviction={"type": "bool", "default": False},
            max_evicted_bytes={"type": "int"},
            persist={"type": "bool", "default": True},
            delete={"type": "dict", "options": DELETE_SPEC},
        ),
        required_if=[
            ("state", "configured", ("maxmemory", "maxmemory_policy"), True),
            ("state", "deleted", ("delete",)),
        ],
        supports_check_mode=True,
    )
    exit_module(module, partial(act, module.params, module.check_mode))


if __name__ == "__main__":
    main()
