#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_node_info
short_description: Measure a RabbitMQ broker, its nodes, connections and topology
version_added: "0.1.0"
description:
  - Tells whether clients can log in over AMQP and whether the management API answers, what every node uses of what it may use, which alarms are
    raised, who is connected, which exchanges lead nowhere, and where dead letters end up.
  - Dead-letter queues are found by their role, not by their name. From the C(x-dead-letter-*) arguments and the policies of all queues, the
    bindings are followed to the queues that receive.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._rabbitmq
options:
  memory_limit_bytes:
    description:
      - The memory that the broker may really use, for comparison with its watermark. RabbitMQ sets the watermark from the memory of the machine, and does
        not know the limit of its container.
      - With V(0), it is found out where the broker runs on the machine that measures (from its control group), and not known elsewhere.
    type: int
    default: 0
seealso:
  - module: tracktion.ops.rabbitmq_queue_state
"""

EXAMPLES = r"""
- name: Look at the broker
  tracktion.ops.rabbitmq_node_info:
    login_host: rabbitmq.example.com
    login_user: monitor
    login_password: "{{ rabbitmq_monitor_password }}"
  register: broker

- name: Stop where an alarm blocks publishers
  ansible.builtin.assert:
    that:
      - broker.reachable
      - broker.nodes | selectattr('running') | map(attribute='memory') | selectattr('alarm') | length == 0
      - broker.nodes | selectattr('running') | map(attribute='disk') | selectattr('alarm') | length == 0
"""

RETURN = r"""
reachable:
  description: Whether the broker answered, over AMQP or on its management API. Null where O(deadline) left no time to find out.
  returned: always
  type: bool
  sample: true
error:
  description: Why it did not, as C(kind), C(message) and C(hint). Null where it did.
  returned: always
  type: dict
  sample: null
unknown:
  description: Parts that could not be read, each with C(part), C(reason) and, where there is one, C(hint) (the command that grants the right).
    A list that lacks what O(login_user) may not see is named as C(vhosts[...]).
  returned: always
  type: list
  elements: dict
  sample: []
identity:
  description:
    - A text that names the broker, the same from whichever host it is measured. For users with the tag C(administrator) or C(policymaker), the name of
      the cluster and its permanent id. For those with the tag C(monitoring), the name of the cluster and a hash of its oldest connection,
      as long as that lasts.
    - Null where the broker cannot be told apart from others of the same name.
  returned: always
  type: str
  sample: rabbitmq:rabbit@mq/rabbitmq-cluster-id-UM0S2HYVW_JFPPh5aruNcQ
amqp:
  description:
    - Whether O(login_user) can log in to O(vhost) over AMQP. Null where the library for it is missing, or O(deadline) left no time.
    - Where the management API tells that the vhost does not exist, or that the user has no permissions in it, no login is tried.
  returned: always
  type: dict
  contains:
    reachable:
      description: Whether it can.
      type: bool
      returned: always
    seconds:
      description: What connecting and logging in took.
      type: float
      returned: always
    error:
      description: Why it cannot, as C(kind), C(message) and C(hint).
      type: dict
      returned: always
  sample: {reachable: true, seconds: 0.008, error: null}
management:
  description: Whether the management API answers O(login_user).
  returned: always
  type: dict
  contains:
    reachable:
      description: Whether it does. Null where O(deadline) left no time to find out.
      type: bool
      returned: always
    seconds:
      description: What the first request took.
      type: float
      returned: always
    error:
      description: Why it does not, as C(kind), C(message) and C(hint).
      type: dict
      returned: always
  sample: {reachable: true, seconds: 0.012, error: null}
server:
  description:
    - Null where the management API does not answer. Who answered, as C(version), C(erlang_version), C(cluster_name), C(rates_mode) and
      C(statistics) (whether the broker keeps any).
  returned: always
  type: dict
  sample: {version: 4.0.5, erlang_version: 27.3.4, cluster_name: rabbit@mq, rates_mode: basic, statistics: true}
nodes:
  description: The nodes of the cluster. Null without the tag C(monitoring).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
      returned: always
    running:
      description: Whether it runs.
      type: bool
      returned: always
    type:
      description: V(disc) or V(ram).
      type: str
      returned: always
    uptime_seconds:
      description: How long it has been running.
      type: float
      returned: always
    being_drained:
      description: Whether it is in maintenance.
      type: bool
      returned: always
    partitions:
      description: Nodes that it lost contact with while both were running.
      type: list
      elements: str
      returned: always
    memory:
      description: >-
        Memory, as C(alarm), C(used_bytes), C(watermark_bytes) (where the alarm is raised), C(ratio) (used of the watermark), C(limit_bytes) (what it may
        really use), C(limit_source) (V(option), V(cgroup) or V(host)) and C(watermark_ratio) (watermark of the limit). Null where the node is down
        or the broker keeps no statistics.
      type: dict
      returned: always
    disk:
      description: Disk, as C(alarm), C(free_bytes) and C(limit_bytes) (where the alarm is raised). Null as RV(nodes[].memory).
      type: dict
      returned: always
    files:
      description: File descriptors, as C(used), C(limit) and C(ratio). Null as RV(nodes[].memory).
      type: dict
      returned: always
    sockets:
      description: Sockets, as RV(nodes[].files). Null also on RabbitMQ 4, which does not limit them apart from file descriptors.
      type: dict
      returned: always
    processes:
      description: Erlang processes, as RV(nodes[].files).
      type: dict
      returned: always
    run_queue:
      description: Erlang processes waiting for a processor.
      type: int
      returned: always
    processors:
      description: Processors.
      type: int
      returned: always
  sample:
    - {name: rabbit@mq, running: true, type: disc, uptime_seconds: 86400.0, being_drained: false, partitions: [],
       memory: {alarm: false, used_bytes: 166944768, watermark_bytes: 483183820, ratio: 0.3455, limit_bytes: 805306368, limit_source: cgroup,
                watermark_ratio: 0.6},
       disk: {alarm: false, free_bytes: 82304929792, limit_bytes: 50000000}, files: {used: 50, limit: 65536, ratio: 0.0008}, sockets: null,
       processes: {used: 446, limit: 1048576, ratio: 0.0004}, run_queue: 0, processors: 2}
listeners:
  description: Null without the tag C(monitoring). Where the nodes listen, each as C(node), C(protocol), C(address) and C(port).
  returned: always
  type: list
  elements: dict
  sample: [{node: rabbit@mq, protocol: amqp, address: "::", port: 5672}]
vhosts:
  description:
    - The vhosts (without the tag C(monitoring), those in which the user has permissions; null where they could not be read), each as
      C(name) and C(down_on) (the nodes on which it does not run).
  returned: always
  type: list
  elements: dict
  sample: [{name: /, down_on: []}]
connections:
  description: Who is connected. Connections with the name C(tracktion-ops) are left out. Null without the tag C(monitoring).
  returned: always
  type: dict
  contains:
    total:
      description: How many connections there are.
      type: int
      returned: always
    channels:
      description: How many channels they have open.
      type: int
      returned: always
    states:
      description: Connections by state, each as C(state) and C(connections).
      type: list
      elements: dict
      returned: always
    held_back:
      description: Connections that an alarm keeps from publishing (states V(blocked) and V(blocking)), as RV(connections.most_channels).
      type: list
      elements: dict
      returned: always
    held_back_total:
      description: How many those are.
      type: int
      returned: always
    most_channels:
      description: Connections with the most channels, each as C(name), C(client), C(user), C(vhost), C(peer), C(node), C(state), C(channels) and
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
unroutable:
  description: Messages that reached no queue, as C(dropped) and C(returned) within the last C(window_seconds), and C(dropped_total) and C(returned_total)
    since the start. Each is null where the broker keeps no rates, all of it without the tag C(monitoring).
  returned: always
  type: dict
  sample: {window_seconds: 300, dropped: 0, returned: 0, dropped_total: 4, returned_total: 0}
exchanges:
  description: Exchanges that lead nowhere, of the vhosts in which the user has permissions. Null where they could not be read.
  returned: always
  type: dict
  contains:
    total:
      description: How many exchanges there are.
      type: int
      returned: always
    checked:
      description: Of how many the bindings were read, at most 200, those with the most messages first.
      type: int
      returned: always
    without_binding:
      description: Exchanges without a binding, each as C(vhost), C(name), C(type), C(internal), C(alternate_exchange), C(policy)
        and C(published) (messages since the start).
      type: list
      elements: dict
      returned: always
    without_binding_total:
      description: How many those are.
      type: int
      returned: always
  sample:
    total: 9
    checked: 2
    without_binding:
      - {vhost: /, name: tracktion.old, type: topic, internal: false, alternate_exchange: null, policy: null, published: 12}
    without_binding_total: 1
dead_letters:
  description: Where rejected and expired messages go, in the vhosts in which the user has permissions. Null where that could not be read.
  returned: always
  type: dict
  contains:
    queues:
      description: Queues that receive dead letters, each as C(vhost), C(name), C(ready), C(messages) and C(sources) (each as C(queue), C(via), C(exchange) and
        C(routing_key)).
      type: list
      elements: dict
      returned: always
    total:
      description: How many there are.
      type: int
      returned: always
    names:
      description: The names of all of them.
      type: list
      elements: str
      returned: always
    lost:
      description: Queues whose dead letters reach no queue, each as C(vhost), C(queue), C(via), C(exchange), C(routing_key) and C(reason).
      type: list
      elements: dict
      returned: always
    lost_total:
      description: How many those are.
      type: int
      returned: always
  sample:
    queues:
      - vhost: /
        name: audio.analysis.dead
        ready: 50
        messages: 50
        sources: [{queue: audio.analysis.requests, via: argument, exchange: tracktion.dead, routing_key: audio.analysis.requests}]
    total: 1
    names: [audio.analysis.dead]
    lost: []
    lost_total: 0
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _rabbitmq_node_info


def main():
    module = AnsibleModule(argument_spec=_rabbitmq_node_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(_rabbitmq_node_info.measure, module.params))


if __name__ == "__main__":
    main()
