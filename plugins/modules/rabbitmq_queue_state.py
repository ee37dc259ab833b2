#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_queue_state
short_description: Measure RabbitMQ queues, move messages to a file and back
version_added: "0.1.0"
description:
  - Measures the queues of all vhosts with two kinds of request that do not hurt a big broker. One list without statistics, and one small request
    for each queue that a person would look at (the longest, those with the most unacknowledged messages, those that do not serve).
  - Queues that are too young for the broker's statistics (about 5 seconds) are asked for by a passive declare over AMQP.
  - With O(state=purged), exports the ready messages of one queue to a file and then removes exactly those.
    With O(state=replayed), publishes such a file again to the same queue.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._rabbitmq
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A queue without ready messages is left as it is. Messages that were replayed are noted beside the file and not published twice.
options:
  state:
    description:
      - With V(measured), nothing is changed. A broker that cannot be reached is part of the result then, and a failure otherwise.
      - With V(purged), the messages that were ready when the module looked are fetched without being acknowledged, written to a file that is synced to
        the disk, and only then acknowledged. Messages that arrive meanwhile stay, and so do those that a consumer holds unacknowledged.
        Whatever fails before (a full disk, the deadline, the connection), the broker puts every message back to its place.
      - With V(replayed), the messages of the file are published with publisher confirms through an exchange made for it, so that they keep
        their routing keys and reach no other queue. Where the broker keeps a user id that is not O(login_user), it is left out.
    type: str
    choices: [measured, purged, replayed]
    default: measured
  vhosts:
    description: Only look at queues of these vhosts. Empty means all.
    type: list
    elements: str
    default: []
  include:
    description: Only look at queues whose name matches one of these shell patterns. Empty means all.
    type: list
    elements: str
    default: []
  exclude:
    description: Leave out queues whose name matches one of these shell patterns.
    type: list
    elements: str
    default: []
  expected_queues:
    description: Queues that must exist. They are looked at in any case, over AMQP where the management API does not tell.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the queue.
        type: str
        required: true
      vhost:
        description: Its vhost; O(vhost) where it is not given.
        type: str
      min_consumers:
        description: How many consumers it should have at least. Returned beside the number it has.
        type: int
        default: 0
  sample_seconds:
    description: Time between two passive declares, where the management API does not know whether a queue grows. V(0) means that it is not known then.
    type: float
    default: 1.0
  ack_timeout_seconds:
    description:
      - The broker's C(consumer_timeout), after which it closes the channel of a consumer that has not acknowledged a message.
      - Used for queues of which neither the API nor argument or policy tells a timeout.
    type: float
    default: 1800.0
  name:
    description: The queue to purge. With O(state=replayed) not needed, but checked against the file.
    type: str
  expected_messages:
    description: How many ready messages the queue is thought to hold. It is not purged where it holds far fewer or more (O(drift_tolerance)).
    type: int
  drift_tolerance:
    description: How far the number of ready messages may be from O(expected_messages), as a part of it.
    type: float
    default: 0.1
  export_directory:
    description:
      - Directory on the host for the exported messages. It is made, for its owner only, where it does not exist.
      - It and the directories above it must belong to root or to the user of the task and must not be writable by others.
    type: path
  export_path:
    description:
      - The file to replay. It must belong to root or to the user of the task, and no other user may be able to replace it.
    type: path
  max_messages:
    description: A queue or a file with more messages is refused.
    type: int
    default: 100000
  max_bytes:
    description: An export that would be larger is given up, and the queue left as it was. A larger file is not replayed.
    type: int
    default: 268435456
notes:
  - An export is refused on a stream, which keeps its messages, and on a queue that somebody consumes exclusively.
  - Putting messages of a quorum queue back counts as one delivery attempt against its delivery limit.
seealso:
  - module: tracktion.ops.rabbitmq_node_info
  - module: community.rabbitmq.rabbitmq_queue
"""

EXAMPLES = r"""
- name: Look at the queues
  tracktion.ops.rabbitmq_queue_state:
    login_host: rabbitmq.example.com
    login_user: monitor
    login_password: "{{ rabbitmq_monitor_password }}"
    exclude: ["amq.gen-*"]
    expected_queues:
      - name: audio.analysis.requests
        min_consumers: 1
  register: queues

- name: Name the queues that nobody empties
  ansible.builtin.debug:
    msg: "{{ queues.queues | selectattr('consumers', 'eq', 0) | selectattr('ready', 'gt', 0) | map(attribute='name') }}"

- name: Say what a purge would do
  tracktion.ops.rabbitmq_queue_state:
    state: purged
    login_user: admin
    login_password: "{{ rabbitmq_password }}"
    name: audio.analysis.requests
    expected_messages: 1200
    export_directory: /var/lib/tracktion-ops/exports
  check_mode: true
  diff: true

- name: Put the messages back
  tracktion.ops.rabbitmq_queue_state:
    state: replayed
    login_user: admin
    login_password: "{{ rabbitmq_password }}"
    export_path: /var/lib/tracktion-ops/exports/audio.analysis.requests-1f0c2a44-20260101T030000Z.jsonl
    deadline: 120
"""

RETURN = r"""
reachable:
  description: Whether the broker answered, on its management API or over AMQP. Null where O(deadline) left no time to find out.
  returned: O(state=measured)
  type: bool
  sample: true
error:
  description: Why it did not, as C(kind), C(message) and C(hint). Null where it did.
  returned: O(state=measured)
  type: dict
  sample: {kind: refused, message: nothing listens at localhost port 15672, hint: check login_host and login_port}
unknown:
  description: Parts that could not be read, each with C(part), C(reason) and, where there is one, C(hint) (the command that grants the right).
    C(queues[...]) says that RV(queues) lacks those that O(login_user) may not see.
  returned: O(state=measured)
  type: list
  elements: dict
  sample: []
rates_mode:
  description: The broker's C(rates_mode). With V(none), it keeps no message rates.
  returned: O(state=measured)
  type: str
  sample: basic
totals:
  description: Sums over all queues that were looked at, shown or not. Null where the list could not be read.
  returned: O(state=measured)
  type: dict
  contains:
    queues:
      description: How many there are.
      type: int
      returned: always
    ready:
      description: Messages waiting for a consumer.
      type: int
      returned: always
    unacked:
      description: Messages delivered and not yet acknowledged.
      type: int
      returned: always
    total:
      description: Both together.
      type: int
      returned: always
    out_of_order:
      description: Queues that do not serve (down, stopped, crashed, ...). Null where there are more than O(max_queues).
      type: int
      returned: always
    left_out:
      description: Queues that O(top) left out of RV(queues).
      type: int
      returned: always
    left_out_messages:
      description: Messages in those. Null as RV(totals.out_of_order).
      type: int
      returned: always
    vanished:
      description: Queues that were gone when they were looked at closely.
      type: int
      returned: always
  sample: {queues: 31, ready: 1840, unacked: 12, total: 1852, out_of_order: 0, left_out: 11, left_out_messages: 0, vanished: 0}
queues:
  description: The queues worth a closer look, longest first. Null where they could not be read.
  returned: O(state=measured)
  type: list
  elements: dict
  contains:
    vhost:
      description: The vhost.
      type: str
      returned: always
    name:
      description: The name.
      type: str
      returned: always
    type:
      description: V(classic), V(quorum) or V(stream).
      type: str
      returned: always
    state:
      description: The broker's word for it. V(running), V(idle), V(flow) and V(live) are well.
      type: str
      returned: always
    out_of_order:
      description: Whether the queue is known not to serve. Its numbers are null then.
      type: bool
      returned: always
    durable:
      description: Whether it outlives the broker.
      type: bool
      returned: always
    exclusive:
      description: Whether it belongs to one connection.
      type: bool
      returned: always
    auto_delete:
      description: Whether it goes with its last consumer.
      type: bool
      returned: always
    source:
      description: Where RV(queues[].ready) and RV(queues[].consumers) come from, V(management) or V(amqp) (a passive declare).
      type: str
      returned: always
    ready:
      description: Messages waiting.
      type: int
      returned: always
    unacked:
      description: Messages delivered and not yet acknowledged.
      type: int
      returned: always
    total:
      description: Both together.
      type: int
      returned: always
    consumers:
      description: How many consumers it has.
      type: int
      returned: always
    consumer_capacity:
      description: The part of the time in which the queue could deliver at once to its consumers, 0 to 1.
      type: float
      returned: always
    publish_rate:
      description: Messages in, per second, over the last 10 seconds.
      type: float
      returned: always
    deliver_rate:
      description: Messages out, per second.
      type: float
      returned: always
    ack_rate:
      description: Messages acknowledged, per second.
      type: float
      returned: always
    redeliver_rate:
      description: Messages out that had been out before, per second.
      type: float
      returned: always
    growth_rate:
      description: Change of RV(queues[].total), per second.
      type: float
      returned: always
    trend:
      description: V(growing), V(draining) or V(steady).
      type: str
      returned: always
    drain_seconds:
      description: When it will be empty at this rate. Null where it does not drain.
      type: float
      returned: always
    rates_source:
      description: Where RV(queues[].growth_rate) comes from, V(management) or V(samples) (two passive declares, O(sample_seconds) apart).
      type: str
      returned: always
    head_age_seconds:
      description: Age of the first message, where publishers set the property C(timestamp) and the queue is a classic one.
      type: float
      returned: always
    unacked_age_seconds:
      description: The oldest unacknowledged message has been out at least this long. Known up to an hour.
      type: float
      returned: always
    no_ack_seconds:
      description: For at least this long, messages have been out and none was acknowledged.
      type: float
      returned: always
    ack_timeout_seconds:
      description: When the broker closes the channel of a consumer that does not acknowledge.
      type: float
      returned: always
    ack_timeout_ratio:
      description: How near the oldest unacknowledged message is to that, 1 being there.
      type: float
      returned: always
    prefetch_total:
      description: How many messages its consumers together may hold unacknowledged. Null means no limit.
      type: int
      returned: always
    at_prefetch_ceiling:
      description: Whether they hold that many.
      type: bool
      returned: always
    memory_bytes:
      description: Memory it takes on the broker.
      type: int
      returned: always
    leader:
      description: The node that leads it.
      type: str
      returned: always
    members:
      description: Members of a quorum queue or stream.
      type: int
      returned: always
    online_members:
      description: Members that are up.
      type: int
      returned: always
    policy:
      description: The policy that applies.
      type: str
      returned: always
    dead_letter_exchange:
      description: Where rejected and expired messages go, by argument or policy.
      type: str
      returned: always
    dead_letter_routing_key:
      description: The routing key they get. Null means the one they had.
      type: str
      returned: always
    message_ttl_seconds:
      description: When a message expires.
      type: float
      returned: always
    max_length:
      description: How many messages it may hold.
      type: int
      returned: always
    delivery_limit:
      description: How often a message is delivered at most.
      type: int
      returned: always
    error:
      description: Why the queue itself did not tell, as C(kind) and C(message). V(exclusive), for one.
      type: dict
      returned: always
  sample:
    - {vhost: /, name: audio.analysis.requests, type: classic, state: running, out_of_order: false, durable: true, exclusive: false,
       auto_delete: false, source: management, ready: 1200, unacked: 10, total: 1210, consumers: 1, consumer_capacity: 0.01, publish_rate: 4.2,
       deliver_rate: 1.1, ack_rate: 1.1, redeliver_rate: 0.0, growth_rate: 3.1, trend: growing, drain_seconds: null, rates_source: management,
       head_age_seconds: 391.2, unacked_age_seconds: 9.0, no_ack_seconds: 1.1, ack_timeout_seconds: 1800.0, ack_timeout_ratio: 0.005,
       prefetch_total: 10, at_prefetch_ceiling: true, memory_bytes: 602408, leader: rabbit@mq, members: null, online_members: null, policy: null,
       dead_letter_exchange: dead,
       dead_letter_routing_key: null, message_ttl_seconds: null, max_length: null, delivery_limit: null, error: null}
expected:
  description: What became of O(expected_queues), in the same order.
  returned: O(state=measured)
  type: list
  elements: dict
  contains:
    vhost:
      description: The vhost.
      type: str
      returned: always
    name:
      description: The name.
      type: str
      returned: always
    exists:
      description: Whether it exists. Null where that could not be found out, with the reason in RV(unknown).
      type: bool
      returned: always
    ready:
      description: Messages waiting.
      type: int
      returned: always
    consumers:
      description: How many consumers it has.
      type: int
      returned: always
    min_consumers:
      description: How many it should have.
      type: int
      returned: always
    error:
      description: What the broker said instead, as C(kind) and C(message).
      type: dict
      returned: always
  sample: [{vhost: /, name: file.events, exists: true, ready: 0, consumers: 1, min_consumers: 1, error: null}]
hidden_vhosts:
  description: Vhosts of O(vhosts) whose queues the broker does not tell O(login_user), each as C(name). Empty where there are none, null without the
    tag C(monitoring).
  returned: O(state=measured)
  type: list
  elements: dict
  sample: []
before:
  description: The queue before, as C(ready), C(unacked) (null without the management API) and C(consumers).
  returned: O(state=purged) or O(state=replayed)
  type: dict
  sample: {ready: 1200, unacked: 10, consumers: 1}
after:
  description: The queue afterwards, read anew; in check mode, what it would be.
  returned: O(state=purged) or O(state=replayed)
  type: dict
  sample: {ready: 0, unacked: 10, consumers: 1}
exported_messages:
  description: How many messages went to the file and out of the queue.
  returned: O(state=purged)
  type: int
  sample: 1200
exported_bytes:
  description: Size of the file. Null in check mode.
  returned: O(state=purged)
  type: int
  sample: 402911
export_path:
  description: The file. Null where there was nothing to export, and in check mode.
  returned: O(state=purged) or O(state=replayed)
  type: str
  sample: /var/lib/tracktion-ops/exports/audio.analysis.requests-1f0c2a44-20260101T030000Z.jsonl
replayed_messages:
  description: How many messages were published and confirmed by the broker.
  returned: O(state=replayed)
  type: int
  sample: 1200
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _rabbitmq_queue_state
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_acts

ACTING_SPEC = {
    "state": {"type": "str", "choices": ["measured", "purged", "replayed"], "default": "measured"},
    "name": {"type": "str"},
    "expected_messages": {"type": "int"},
    "drift_tolerance": {"type": "float", "default": 0.1},
    "export_directory": {"type": "path"},
    "export_path": {"type": "path"},
    "max_messages": {"type": "int", "default": 100000},
    "max_bytes": {"type": "int", "default": 268435456},
}
ACTS = {"purged": _rabbitmq_acts.purge, "replayed": _rabbitmq_acts.replay}


def act(params, check_mode):
    """Do what the state asks for. Raises CannotMeasure and, where there is to act, CannotConnect and Refused."""
    if params["state"] == "measured":
        return _rabbitmq_queue_state.measure(params)
    result = ACTS[params["state"]](params, check_mode)
    header = "queue %s" % params["name"]
    result["diff"] = {
        "before_header": header,
        "after_header": header,
        "before": result["before"],
        "after": result["after"],
    }
    return result


def main():
    module = AnsibleModule(
        argument_spec=dict(_rabbitmq_queue_state.ARGUMENT_SPEC, **ACTING_SPEC),
        required_if=[
            ("state", "purged", ("name", "expected_messages", "export_directory")),
            ("state", "replayed", ("export_path",)),
        ],
        supports_check_mode=True,
    )
    exit_module(module, partial(act, module.params, module.check_mode))


if __name__ == "__main__":
    main()
