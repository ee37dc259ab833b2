#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_node_info
short_description: Measure a RabbitMQ broker, its nodes, connections and topology
version_added: 0.2.0
description:
  - Measures whether clients can log in over AMQP, whether the management API answers, the resources and alarms of each node, the connections,
    the exchanges without a binding, and the queues that receive dead letters.
  - Dead-letter queues are found by their role. The module follows the bindings from the C(x-dead-letter-*) arguments and the policies of all queues to
    the queues that receive the messages. Of these, it leaves out work queues (which have or had consumers, or which a delay or retry cycle leads back to)
    and delay queues. Names decide only where neither statistics nor routes do.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._rabbitmq
options:
  memory_limit_bytes:
    description:
      - The memory limit of the broker, for comparison with its watermark. RabbitMQ computes the watermark from the memory of the machine, not from
        the limit of its container.
      - With V(0), the limit is read from the control group if the broker runs on the host that measures, and is unknown otherwise.
      - If several brokers on that host could be the node, and none of its connections shows which one it is, the limit is unknown.
    type: int
    default: 0
  consumed_queues:
    description:
      - Names of queues that have a consumer when all is well. They are never counted as dead-letter queues.
    type: list
    elements: str
    default: []
seealso:
  - module: tracktion.ops.rabbitmq_queue_state
"""

EXAMPLES = r"""
- name: Measure the broker
  tracktion.ops.rabbitmq_node_info:
    login_host: rabbitmq.example.com
    login_user: monitor
    login_password: "{{ rabbitmq_monitor_password }}"
  register: broker

- name: Fail if an alarm blocks publishers
  ansible.builtin.assert:
    that:
      - broker.reachable
      - broker.nodes | selectattr('running') | map(attribute='memory') | selectattr('alarm') | length == 0
      - broker.nodes | selectattr('running') | map(attribute='disk') | selectattr('alarm') | length == 0
"""

RETURN = r"""
reachable: {description: "Whether the broker answered, over AMQP or its management API.", returned: always, type: bool, sample: true}
error:
  description: Why not, or null. Of RabbitMQ only, C(kind) is V(loopback_only), V(no_such_vhost) or V(vhost_down).
  returned: always
  type: dict
unknown:
  description: Parts that could not be read. C(vhosts[...]) are those that O(login_user) may not see.
  returned: always
  type: list
  elements: dict
identity:
  description:
    - Text that identifies the broker, the same from every host. For users with the tag C(administrator) or C(policymaker), the name of the cluster
      and its permanent id. For users with the tag C(monitoring), the name of the cluster and a hash of its oldest connection; it is stable while
      that connection lasts.
    - Null if the broker cannot be distinguished from others of the same name.
  returned: always
  type: str
  sample: rabbitmq:rabbit@mq/rabbitmq-cluster-id-UM0S2HYVW_JFPPh5aruNcQ
amqp:
  description:
    - Whether O(login_user) can log in to O(vhost) over AMQP. Null if the library is missing or O(deadline) left too little time.
    - No login is tried if the management API shows that the vhost does not exist or that the user has no permissions in it.
  returned: always
  type: dict
  contains:
    reachable: {description: Whether the login succeeded., type: bool, returned: always}
    seconds: {description: Time to connect and log in., type: float, returned: always}
    error: {description: "The failure as C(kind), C(message) and C(hint).", type: dict, returned: always}
  sample: {reachable: true, seconds: 0.008, error: null}
management:
  description: Whether O(login_user) can use the management API.
  returned: always
  type: dict
  contains:
    reachable: {description: Whether the API answered. Null if O(deadline) left too little time., type: bool, returned: always}
    seconds: {description: Time of the first request., type: float, returned: always}
    error: {description: "The failure as C(kind), C(message) and C(hint).", type: dict, returned: always}
  sample: {reachable: true, seconds: 0.012, error: null}
server:
  description:
    - The server as C(version), C(erlang_version), C(cluster_name), C(rates_mode) and C(statistics) (whether it keeps any). Null if the management
      API does not answer.
  returned: always
  type: dict
  sample: {version: 4.0.5, erlang_version: 27.3.4, cluster_name: rabbit@mq, rates_mode: basic, statistics: true}
nodes:
  description: The nodes of the cluster. Null without the tag C(monitoring).
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the node., type: str, returned: always}
    container: {description: "Its container, null if the node does not run in one on the host that measures.", type: str, returned: always}
    running: {description: Whether the node is running., type: bool, returned: always}
    type: {description: V(disc) or V(ram)., type: str, returned: always}
    uptime_seconds: {description: Time since the node started., type: float, returned: always}
    being_drained: {description: Whether the node is in maintenance mode., type: bool, returned: always}
    partitions: {description: Nodes that this node lost contact with while both were running., type: list, elements: str, returned: always}
    memory:
      description: >-
        Memory as C(alarm), C(used_bytes), C(watermark_bytes) (threshold of the alarm), C(ratio) (used bytes divided by the watermark), C(limit_bytes)
        (limit of the broker), C(limit_source) (V(option), V(cgroup), V(host), or V(unknown) if several processes could be the node), C(watermark_ratio)
        (watermark divided by the limit) and C(base_bytes) (bytes in use beside queues, messages and connections; read near the watermark only, else
        null). Null if the node is down or the broker keeps no statistics.
      type: dict
      returned: always
    disk:
      description: Disk as C(alarm), C(free_bytes), C(limit_bytes) (threshold of the alarm), C(total_bytes) and C(device) (size and device number of the
        file system, null if the node does not run on the host that measures). Null like RV(nodes[].memory).
      type: dict
      returned: always
    files: {description: "File descriptors as C(used), C(limit) and C(ratio). Null like RV(nodes[].memory).", type: dict, returned: always}
    sockets: {description: "Sockets like RV(nodes[].files). Also null on RabbitMQ 4, which has no separate limit for sockets.", type: dict, returned: always}
    processes: {description: "Erlang processes like RV(nodes[].files).", type: dict, returned: always}
    run_queue: {description: Number of Erlang processes that wait for a CPU., type: int, returned: always}
    processors: {description: Number of CPUs., type: int, returned: always}
  sample:
    - {name: rabbit@mq, running: true, type: disc, uptime_seconds: 86400.0, being_drained: false, partitions: [],
       memory: {alarm: false, used_bytes: 166944768, watermark_bytes: 483183820, ratio: 0.3455, limit_bytes: 805306368, limit_source: cgroup,
                watermark_ratio: 0.6, base_bytes: null},
       disk: {alarm: false, free_bytes: 82304929792, limit_bytes: 50000000, total_bytes: 105089261568, device: 266338305},
       files: {used: 50, limit: 65536, ratio: 0.0008},
       sockets: null,
       processes: {used: 446, limit: 1048576, ratio: 0.0004}, run_queue: 0, processors: 2}
listeners:
  description: Addresses of the nodes as C(node), C(protocol), C(address) and C(port). Null without the tag C(monitoring).
  returned: always
  type: list
  elements: dict
  sample: [{node: rabbit@mq, protocol: amqp, address: "::", port: 5672}]
vhosts:
  description:
    - The vhosts as C(name) and C(down_on) (the nodes on which the vhost does not run). Without the tag C(monitoring), only those in which the user has
      permissions. Null if they could not be read.
  returned: always
  type: list
  elements: dict
  sample: [{name: /, down_on: []}]
connections:
  description: Client connections, except those named C(tracktion-ops). Null without the tag C(monitoring).
  returned: always
  type: dict
  contains:
    total: {description: Number of connections., type: int, returned: always}
    channels: {description: Number of their open channels., type: int, returned: always}
    states: {description: "Number of connections by state, as C(state) and C(connections).", type: list, elements: dict, returned: always}
    held_back:
      description: Connections that an alarm blocks (states V(blocked) and V(blocking)), like RV(connections.most_channels).
      type: list
      elements: dict
      returned: always
    held_back_total: {description: Number of all blocked connections., type: int, returned: always}
    most_channels:
      description: Connections with the most channels, as C(name), C(client), C(user), C(vhost), C(peer), C(node), C(state), C(channels) and
        C(channel_max).
      type: list
      elements: dict
      returned: always
  sample:
    total: 1
    channels: 2
    states: [{state: running, connections: 1}]
    held_back: []
    held_back_total: 0
    most_channels:
      - {name: "172.20.0.7:41306 -> 172.20.0.2:5672", client: analysis_service, user: analysis_service, vhost: /, peer: 172.20.0.7,
         node: rabbit@mq, state: running, channels: 2, channel_max: 2047}
limits:
  description: Limits of vhosts and users, fullest first, at most O(top). Null without the tag C(monitoring).
  returned: always
  type: list
  elements: dict
  contains:
    scope: {description: V(vhost) or V(user)., type: str, returned: always}
    name: {description: Name of the vhost or user., type: str, returned: always}
    limit: {description: "V(max-connections), V(max-queues) or V(max-channels).", type: str, returned: always}
    value: {description: "The limit. With V(0), everything is rejected.", type: int, returned: always}
    definition: {description: All limits of the vhost or user., type: dict, returned: always}
    used: {description: How much of the limit is in use. Null if it is not known., type: int, returned: always}
    ratio: {description: "The same, divided by the limit.", type: float, returned: always}
  sample: [{scope: vhost, name: /, limit: max-connections, value: 100, definition: {max-connections: 100}, used: 12, ratio: 0.12}]
queue_counts:
  description: Number of queues as C(total), those C(created) and C(deleted) within the last C(window_seconds), C(grown) (the difference) and
    C(growing_seconds) (for how long the number has been growing without a pause of 10 seconds). Null without the tag C(monitoring).
  returned: always
  type: dict
  sample: {total: 31, window_seconds: 300, created: 2, deleted: 2, grown: 0, growing_seconds: 0}
unroutable:
  description: Messages that reached no queue, as C(dropped) and C(returned) within the last C(window_seconds), and C(dropped_total) and C(returned_total)
    since the broker started. The counts are null if the broker keeps no rates. Null without the tag C(monitoring).
  returned: always
  type: dict
  sample: {window_seconds: 300, dropped: 0, returned: 0, dropped_total: 4, returned_total: 0}
exchanges:
  description: Exchanges without a binding in the vhosts in which the user has permissions. Null if they could not be read.
  returned: always
  type: dict
  contains:
    total: {description: Number of exchanges., type: int, returned: always}
    checked: {description: "Number of exchanges whose bindings were read, at most 200, those with the most messages first.", type: int, returned: always}
    without_binding:
      description: Exchanges without a binding, as C(vhost), C(name), C(type), C(internal), C(alternate_exchange), C(policy)
        and C(published) (messages since the broker started).
      type: list
      elements: dict
      returned: always
    without_binding_total: {description: Number of all exchanges without a binding., type: int, returned: always}
  sample:
    total: 9
    checked: 2
    without_binding:
      - {vhost: /, name: tracktion.old, type: topic, internal: false, alternate_exchange: null, policy: null, published: 12}
    without_binding_total: 1
dead_letters:
  description: Routes of rejected and expired messages in the vhosts in which the user has permissions. Null if they could not be read.
  returned: always
  type: dict
  contains:
    queues:
      description: Queues in which dead letters wait, as C(vhost), C(name), C(ready), C(messages) and C(sources) (as C(queue), C(via), C(exchange) and
        C(routing_key)). The 200 longest queues that receive dead letters are looked at.
      type: list
      elements: dict
      returned: always
    total: {description: Number of all of them., type: int, returned: always}
    lost:
      description: Queues whose dead letters reach no queue, as C(vhost), C(queue), C(via), C(exchange), C(routing_key) and C(reason).
      type: list
      elements: dict
      returned: always
    lost_total: {description: Number of all queues whose dead letters reach no queue., type: int, returned: always}
    cycles:
      description: Queues whose dead letters lead back to them, as C(vhost), C(queues) (at most 10 names), C(queues_total), C(messages) (in all of them),
        C(rejected)
        and C(acked) (deliveries within the last hour) and C(rounds) (how often each message was rejected on average, at least). The last three are null
        if the broker keeps no message rates. At most 20, fullest first.
      type: list
      elements: dict
      returned: always
    cycles_total: {description: Number of all cycles., type: int, returned: always}
  sample:
    queues:
      - vhost: /
        name: audio.analysis.dead
        ready: 50
        messages: 50
        sources: [{queue: audio.analysis.requests, via: argument, exchange: tracktion.dead, routing_key: audio.analysis.requests}]
    total: 1
    lost: []
    lost_total: 0
    cycles: []
    cycles_total: 0
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _rabbitmq_node_info


def main() -> None:
    module = AnsibleModule(argument_spec=_rabbitmq_node_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(_rabbitmq_node_info.measure, module.params))


if __name__ == "__main__":
    main()
