#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_memory
short_description: Measure and bound the memory of a Redis server
version_added: "0.1.0"
description:
  - Measures what a Redis server's memory is used for, against O(maxmemory) and against the memory its container or host has, and which
    prefixes and types of keys take it.
  - Ensures O(maxmemory) and O(maxmemory_policy), without evicting keys unless told to.
  - Deletes keys that are named by a pattern, never all keys.
  - Never runs KEYS or MONITOR. Keys are read by SCAN, MEMORY USAGE (with its default of 5 samples), PTTL and TYPE, in pipelines that the
    server works off in pieces. None of these touches the idle time or the frequency of a key. The number of keys of a step is adapted so that
    one takes about 20 ms at most, after each step comes a pause, and reading ends early if the server is busy.
  - Keys that expire or are deleted meanwhile are left out.
  - When measuring, a server that cannot be reached is reported in RV(error), and the task does not fail. When acting, it fails.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._redis
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
attributes:
  check_mode:
    support: full
    details:
      - Whether the server can rewrite its configuration file is only known once it has tried.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(measured) only measures.
      - V(configured) ensures O(maxmemory) and O(maxmemory_policy), then measures.
      - V(deleted) deletes the keys that O(delete) names, then measures.
    type: str
    choices: [measured, configured, deleted]
    default: measured
  maxmemory:
    description:
      - The memory the server may use, as V(1gb), V(512mb) or a number of bytes. As in C(redis.conf), V(1gb) is 1024 MB and V(1g) is 1000 MB.
        V(0) sets no limit.
      - Redis counts data, not the process. Leave room for fragmentation and for the copy a snapshot makes, for example a quarter of the
        memory of the container.
    type: str
  maxmemory_policy:
    description: What the server does when O(maxmemory) is reached.
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
      - Whether a setting may be made that evicts keys, or refuses writes, at once, because more memory is in use than O(maxmemory).
    type: bool
    default: false
  persist:
    description:
      - Whether to keep the settings over a restart, by CONFIG REWRITE.
      - It is done where this run changes a setting, and where the configuration file can be read on this host and has another value.
      - CONFIG REWRITE writes all settings in force to the file, not only those of this module.
    type: bool
    default: true
  delete:
    description:
      - The keys that O(state=deleted) deletes.
      - Each is looked at again at the last moment, and one that a client writes to in between stays.
    type: dict
    suboptions:
      pattern:
        description: Pattern of SCAN, such as V(cache:album:*). One that names no character, such as V(*), is refused.
        type: str
        required: true
      database:
        description: Number of the database.
        type: int
        default: 0
      only_without_ttl:
        description: Whether to leave keys alone that expire by themselves.
        type: bool
        default: true
      idle_seconds:
        description:
          - Only delete keys that were neither read nor written for so long. V(0) for any key.
          - The server does not keep this with an LFU policy. The task fails then, unless it is V(0).
        type: int
        default: 86400
      max_count:
        description: The most keys that one run deletes.
        type: int
        default: 1000
      list_path:
        description:
          - File on the host, made with mode 0600, to append a line of JSON to for each key that went. A link is not followed.
        type: path
  distribution:
    description:
      - V(sampled) looks at as many keys as O(max_calls) allows, and at all keys of small databases. The interval in which the true value lies
        with a probability of 95 % is returned with each value. A rare big key is likely not in the sample. RV(distribution.explained_ratio) shows
        it.
      - V(whole) looks at every key, as far as O(deadline) allows. For 1,000,000 keys it sends 3,000,000 commands, which take the
        server some 10 s.
      - V(none) looks at no key.
    type: str
    choices: [sampled, whole, none]
    default: sampled
  max_calls:
    description:
      - The most commands that a sample sends. For each key these are MEMORY USAGE, PTTL (where keys expire) and TYPE.
      - It is at least 100.
    type: int
    default: 3000
  max_load:
    description: The share of the server's time that looking at keys may take, above 0 and at most 1. It pauses after each step accordingly.
    type: float
    default: 0.25
  prefix_separator:
    description: What ends the prefix of a key. The prefix of V(track:12:bpm) is V(track). Names without it have an empty prefix.
    type: str
    default: ":"
  show_key_names:
    description:
      - Whether to return names of keys. If V(false), the prefix and a part of the SHA-256 hash of the name. Prefixes are always returned.
      - What looks like a secret in a name is always hidden.
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

- name: Bound the memory of a cache
  tracktion.ops.redis_memory:
    state: configured
    maxmemory: 1gb
    maxmemory_policy: allkeys-lru

- name: See which keys would go
  tracktion.ops.redis_memory:
    state: deleted
    delete:
      pattern: "cache:album:*"
      idle_seconds: 604800
  check_mode: true
"""

RETURN = r"""
reachable:
  description: Whether the server let us in. Null if O(deadline) was over before, which says nothing about the server.
  returned: always
  type: bool
  sample: true
error:
  description:
    - Why the server cannot be reached, as C(kind), C(message) and C(hint); else null.
    - The values of C(kind) are those of M(tracktion.ops.redis_health_info).
  returned: always
  type: dict
  sample: null
unknown:
  description:
    - The parts that could not be read, as C(part) and C(reason). C(hint), where there is one, is the command that allows it.
    - 'C(PART.*) is about entries of a list, or fields of a mapping, that are null.'
  returned: always
  type: list
  elements: dict
  sample: []
server:
  description: The server. C(local_pid) is its process on the host the module runs on, null where it is not there.
  returned: always
  type: dict
  sample: {version: 7.0.15, mode: standalone, role: master, config_file: /etc/redis/redis.conf, uptime_seconds: 86400, local_pid: 812}
memory:
  description:
    - Memory in use and its limits. C(counted_bytes) is what counts against C(maxmemory_bytes), which is V(0) where no limit is set;
      C(maxmemory_ratio) is null then.
    - C(limit_bytes) is the memory the server can have at all. C(limit_source) is V(cgroup) where the control group of the server's process
      was read on this host, else V(system), the memory of the server's host. C(limit_ratio) is that of C(rss_bytes),
      C(maxmemory_limit_ratio) that of C(maxmemory_bytes).
    - C(evictable_count) is how many keys the policy may evict.
  returned: always
  type: dict
  sample: {used_bytes: 217246872, counted_bytes: 217246872, rss_bytes: 228003840, peak_bytes: 217321232, dataset_bytes: 161084784,
    overhead_bytes: 56162088, startup_bytes: 876088, clients_bytes: 0, replication_bytes: 0, aof_buffer_bytes: 0, scripts_bytes: 200,
    maxmemory_bytes: 536870912, maxmemory_ratio: 0.404655, policy: allkeys-lru, limit_bytes: 1073741824, limit_source: cgroup,
    limit_ratio: 0.212345, maxmemory_limit_ratio: 0.5, system_bytes: 25276502016, key_count: 1000001, evictable_count: 1000001,
    evictable_ratio: 1.0, evicted_count: 0, expired_count: 0}
fragmentation:
  description:
    - Why the process takes more memory than its data, one row for each C(cause), with its C(ratio) and C(bytes).
    - V(allocator) is partly filled pages, V(allocator_rss) free pages that the allocator keeps, V(process_rss) what the process holds beside
      the allocator, V(swap) data that is not in memory, V(peak) what was in use once and no longer is.
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
  description: What keys take, by prefix and type, over all databases. Null where keys cannot be read, or the server is too busy.
  returned: always
  type: dict
  contains:
    mode:
      description: The value of O(distribution).
      returned: always
      type: str
    complete:
      description: Whether every key was looked at, and its size and time to live could be read.
      returned: always
      type: bool
    ended:
      description: Why reading ended early, V(busy) for a busy server and V(deadline); else null.
      returned: always
      type: str
    seconds:
      description: How long it took.
      returned: always
      type: float
    longest_step_seconds:
      description: The longest time between sending one step and having its replies. A stall of the server by us is shorter.
      returned: always
      type: float
    call_count:
      description: Commands that were sent for it.
      returned: always
      type: int
    seen_count:
      description: Keys that were looked at.
      returned: always
      type: int
    unread_count:
      description: Keys that the user may not read, estimated where not all keys were listed.
      returned: always
      type: int
    key_count:
      description: Keys there are, as the server counts them.
      returned: always
      type: int
    bytes:
      description: What all keys take, by MEMORY USAGE, estimated where not RV(distribution.complete). Null where it is refused.
      returned: always
      type: int
    keyspace_bytes:
      description: What all keys take by the server's own account, without the tables of the databases.
      returned: always
      type: int
    explained_ratio:
      description:
        - RV(distribution.bytes) / RV(distribution.keyspace_bytes). About 0.95 if all is seen, less where rare big keys are not in the sample.
        - Null where either is null, and where there are keys that the user may not read.
      returned: always
      type: float
    confidence:
      description: Probability with which a true value lies in its interval from C(_low) to C(_high).
      returned: always
      type: float
    prefixes:
      description:
        - The prefixes and types that take most, one row for each database, prefix and type.
        - C(prefix) is empty for names without O(prefix_separator), and null for what is left after 20,000 prefixes.
        - C(pattern) is the pattern of SCAN that names the keys of the prefix, null where text cannot name them.
        - C(ttl_ratio) is the share of the keys that expire by themselves, C(mean_ttl_seconds) the mean time these have to live.
        - For the keys of a database that the user may not read there is one row, in which C(readable) is false and all but their number is null.
        - Null where MEMORY USAGE or PTTL is refused.
      returned: always
      type: list
      elements: dict
    prefixes_total:
      description: How many rows there are in all.
      returned: always
      type: int
    types:
      description: The same by type.
      returned: always
      type: list
      elements: dict
    biggest_keys:
      description:
        - The biggest keys that were looked at. C(expires) says whether they expire, and is null where PTTL is refused; C(ttl_seconds) is null for
          a key that does not.
        - C(is_exact) says whether C(name) is the name as it is, not escaped, cut or hidden. C(printf_format) is the format with which C(printf) of
          a shell writes any other name, null where it must not be shown.
        - For the keys of a database that the user may not read there is one entry, in which C(readable) is false and all else is null.
        - Null where MEMORY USAGE is refused.
      returned: always
      type: list
      elements: dict
  sample:
    mode: sampled
    complete: false
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
configuration:
  description:
    - What O(state=configured) did; else null. RV(configuration.before) and RV(configuration.after) have C(maxmemory) in bytes and C(maxmemory_policy).
    - C(persisted) says whether the settings outlive a restart, null where that cannot be known. C(persist_hint) says what to change by hand
      where they may not, else it is null.
  returned: when O(state=configured); null in O(state=deleted)
  type: dict
  contains:
    before:
      description: The settings before.
      returned: always
      type: dict
    after:
      description: The settings after, as read again from the server. In check mode, as they would be.
      returned: always
      type: dict
    config_file:
      description: The server's configuration file, null where it was started without one.
      returned: always
      type: str
    redis_cli:
      description: The words of a command line that reaches the server. It takes the password from the environment variable E(REDISCLI_AUTH).
      returned: always
      type: list
      elements: str
    persisted:
      description: Whether the settings outlive a restart.
      returned: always
      type: bool
    persist_hint:
      description: What to change by hand.
      returned: always
      type: str
  sample:
    before: {maxmemory: 0, maxmemory_policy: noeviction}
    after: {maxmemory: 1073741824, maxmemory_policy: allkeys-lru}
    config_file: /etc/redis/redis.conf
    redis_cli: [redis-cli]
    persisted: true
    persist_hint: null
deletion:
  description:
    - What O(state=deleted) deleted, or would delete in check mode; else null.
    - C(kept_count) are keys that were to go, but were used or written to in between. C(complete) is false where O(delete.max_count) or
      O(deadline) was reached first. C(names) are the first 1000.
  returned: when O(state=deleted); null in O(state=configured)
  type: dict
  sample: {database: 0, pattern: "cache:album:*", matched_count: 310, deleted_count: 2, deleted_bytes: 1808, kept_count: 0, complete: true,
    names: ["cache:album:1", "cache:album:2"], list_path: null}
"""

from functools import partial

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


def act(params, check_mode):
    """Do what the state asks for, then measure. Raises CannotMeasure and, where there is to act, CannotConnect."""
    result = {"configuration": None, "deletion": None}
    if params["state"] == "configured":
        wanted = wanted_settings(params["maxmemory"], params["maxmemory_policy"])
        done = configure(connect(params), wanted, params["allow_eviction"], params["persist"], check_mode)
        result.update(changed=done.pop("changed"), configuration=done)
        result["diff"] = {"before": done["before"], "after": done["after"]}
    elif params["state"] == "deleted":
        done = delete_keys(
            connect(params), params["delete"], params["prefix_separator"] or ":", params["show_key_names"], check_mode
        )
        result.update(changed=done.pop("changed"), deletion=done)
        result["diff"] = {"before": {"keys": done["names"]}, "after": {"keys": []}}
    return dict(result, **measure(params))


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            state={"type": "str", "choices": ["measured", "configured", "deleted"], "default": "measured"},
            maxmemory={"type": "str"},
            maxmemory_policy={"type": "str", "choices": POLICIES},
            allow_eviction={"type": "bool", "default": False},
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
