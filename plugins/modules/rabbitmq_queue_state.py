#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_queue_state
short_description: Measure RabbitMQ queues, export and replay messages
version_added: 0.2.0
description:
  - Measures the queues of all vhosts with two kinds of requests that put little load on a big broker. One list without statistics, and one small
    request for each queue worth the details (the longest, those with the most unacknowledged messages, those that do not work).
  - Queues that are too new for the broker's statistics (about 5 seconds) are read by a passive declare over AMQP.
  - With O(state=purged), exports the ready messages of one queue to a file and then removes exactly those messages.
    With O(state=replayed), publishes the messages of such a file to the same queue.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
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
      - A queue without ready messages is not changed. The progress of a replay is recorded beside the file, so that no message is published twice.
options:
  state:
    description:
      - With V(measured), nothing is changed. A broker that cannot be reached is then part of the result; otherwise it is a failure.
      - With V(purged), the messages that are ready when the module starts are fetched without acknowledgement, written to a file that is synced to
        the disk, and only then acknowledged. Messages that arrive in the meantime and unacknowledged messages of consumers stay in the queue.
        If anything fails before (a full disk, the deadline, the connection), the broker requeues every message at its original position.
      - With V(replayed), the messages of the file are published with publisher confirms through a temporary exchange, so that they keep their
        routing keys and reach no other queue. A user id other than O(login_user) is removed, because the broker rejects it.
    type: str
    choices: [measured, purged, replayed]
    default: measured
  vhosts:
    description: Measure only queues of these vhosts. Empty means all.
    type: list
    elements: str
    default: []
  include:
    description: Measure only queues whose name matches one of these shell patterns. Empty means all.
    type: list
    elements: str
    default: []
  exclude:
    description: Exclude queues whose name matches one of these shell patterns.
    type: list
    elements: str
    default: []
  expected_queues:
    description: Queues that must exist. They are always measured, over AMQP if the management API is not available.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the queue.
        type: str
        required: true
      vhost:
        description: Vhost of the queue. The default is O(vhost).
        type: str
      min_consumers:
        description: Minimum number of consumers. It is returned with the actual number.
        type: int
        default: 0
  sample_seconds:
    description: Seconds between two passive declares if the management API does not report the growth of a queue. With V(0), it stays unknown.
    type: float
    default: 1.0
  consumed_queues:
    description:
      - Names of queues that have a consumer when all is well. They are work queues, whatever their routes and statistics show
        (RV(queues[].role)).
    type: list
    elements: str
    default: []
  services:
    description: Compose services whose containers are looked up. O(docker_host) must be on the host that measures.
    type: list
    elements: str
    default: []
  project:
    description: Compose project of O(services). Empty means any.
    type: str
    default: ""
  docker_host:
    description: Address of the container engine of O(services).
    type: str
    default: unix:///var/run/docker.sock
  restarts:
    description: Restarts by the restart policy within O(restarts_window) that are a crash loop (RV(services[].looping)).
    type: int
    default: 3
  restarts_window:
    description: Seconds for O(restarts).
    type: float
    default: 300.0
  ack_timeout_seconds:
    description:
      - The broker's C(consumer_timeout), after which it closes the channel of a consumer that has not acknowledged a message.
      - Used for queues without a timeout of their own (from the API, an argument or a policy).
      - With V(0), it is read from the configuration files of the broker, if it runs on the host that measures and the user of the task may read them.
        Otherwise the default of RabbitMQ, 1800 seconds, is assumed.
    type: float
    default: 0.0
  name:
    description: The queue to purge. Optional with O(state=replayed), where it is compared with the file.
    type: str
  expected_messages:
    description: Expected number of ready messages. The queue is not purged if the actual number differs by more than O(drift_tolerance).
    type: int
  drift_tolerance:
    description: Tolerated difference from O(expected_messages), as a ratio of it.
    type: float
    default: 0.1
  export_directory:
    description:
      - Directory on the host for the exported messages. If it does not exist, it is created with mode 0700.
      - The directory and its parents must belong to root or to the user of the task and must not be writable by others.
    type: path
  export_path:
    description:
      - The file to replay. It must belong to root or to the user of the task, and no other user may be able to replace it.
    type: path
  max_messages:
    description: A queue or a file with more messages is rejected.
    type: int
    default: 100000
  max_bytes:
    description: An export that would be larger is aborted without a change to the queue. A larger file is not replayed.
    type: int
    default: 268435456
notes:
  - The broker rejects an export of a stream, which keeps its messages, and of a queue with an exclusive consumer.
  - Requeueing messages of a quorum queue counts as one delivery attempt against its delivery limit.
seealso:
  - module: tracktion.ops.rabbitmq_node_info
  - module: community.rabbitmq.rabbitmq_queue
"""

EXAMPLES = r"""
- name: Measure the queues
  tracktion.ops.rabbitmq_queue_state:
    login_host: rabbitmq.example.com
    login_user: monitor
    login_password: "{{ rabbitmq_monitor_password }}"
    exclude: ["amq.gen-*"]
    expected_queues:
      - name: audio.analysis.requests
        min_consumers: 1
  register: queues

- name: Show queues with messages and without a consumer
  ansible.builtin.debug:
    msg: "{{ queues.queues | selectattr('consumers', 'eq', 0) | selectattr('ready', 'gt', 0) | map(attribute='name') }}"

- name: Show what a purge would do
  tracktion.ops.rabbitmq_queue_state:
    state: purged
    login_user: admin
    login_password: "{{ rabbitmq_password }}"
    name: audio.analysis.requests
    expected_messages: 1200
    export_directory: /var/lib/tracktion-ops/exports
  check_mode: true
  diff: true

- name: Publish the exported messages
  tracktion.ops.rabbitmq_queue_state:
    state: replayed
    login_user: admin
    login_password: "{{ rabbitmq_password }}"
    export_path: /var/lib/tracktion-ops/exports/audio.analysis.requests-1f0c2a44-20260101T030000Z.jsonl
    deadline: 120
"""

RETURN = r"""
reachable: {description: "Whether the broker answered, over its management API or AMQP.", returned: O(state=measured), type: bool, sample: true}
error: {description: "Why not, or null, as in M(tracktion.ops.rabbitmq_node_info).", returned: O(state=measured), type: dict, sample: null}
unknown:
  description: Parts that could not be read. C(queues[...]) are those that O(login_user) may not see.
  returned: O(state=measured)
  type: list
  elements: dict
rates_mode:
  description: The broker's C(rates_mode). With V(none), it keeps no message rates.
  returned: O(state=measured)
  type: str
  sample: basic
totals:
  description: Sums over all selected queues, returned or not. Null if the list could not be read.
  returned: O(state=measured)
  type: dict
  contains:
    queues: {description: Number of queues., type: int, returned: always}
    ready: {description: Number of messages ready for delivery., type: int, returned: always}
    unacked: {description: Number of messages delivered and not yet acknowledged., type: int, returned: always}
    total: {description: Sum of both., type: int, returned: always}
    out_of_order:
      description: Number of queues that do not work (down, stopped, crashed, ...). Null if the broker has more than O(max_queues).
      type: int
      returned: always
    left_out: {description: Number of queues that RV(queues) lacks because of O(top)., type: int, returned: always}
    left_out_messages: {description: Number of messages in those. Null like RV(totals.out_of_order)., type: int, returned: always}
    vanished: {description: Number of queues that were deleted during the measurement., type: int, returned: always}
  sample: {queues: 31, ready: 1840, unacked: 12, total: 1852, out_of_order: 0, left_out: 11, left_out_messages: 0, vanished: 0}
queues:
  description: The queues worth the details, longest first. Null if they could not be read.
  returned: O(state=measured)
  type: list
  elements: dict
  contains:
    vhost: {description: Vhost of the queue., type: str, returned: always}
    name: {description: Name of the queue., type: str, returned: always}
    role:
      description:
        - V(work) (it needs a consumer), V(delay) (its messages expire and are dead-lettered to another queue; it has no consumer by design),
          V(dead_letter) (rejected messages wait there for a person), or V(unrouted) (it is bound to alternate exchanges only, and holds what the
          bindings of other exchanges did not match). Null if the exchanges or bindings could not be read.
        - A queue that has or had a consumer is a work queue. Otherwise the routes of dead letters decide, then the names.
      type: str
      returned: always
    receives_dead_letters: {description: Whether another queue dead-letters into this one., type: bool, returned: always}
    family: {description: "Pattern of RV(families) if the queue is one of many without a consumer, else null.", type: str, returned: always}
    polled:
      description: Whether clients have removed messages with C(basic.get) within the last 10 minutes. Known for queues with messages and without a consumer.
      type: bool
      returned: always
    type: {description: "V(classic), V(quorum) or V(stream).", type: str, returned: always}
    state:
      description: State as the broker reports it. In V(running), V(idle), V(flow), V(live) and V(syncing), the queue works.
      type: str
      returned: always
    out_of_order: {description: Whether the queue is known not to work. Its numbers are null then., type: bool, returned: always}
    durable: {description: Whether the queue survives a restart of the broker., type: bool, returned: always}
    exclusive: {description: Whether the queue belongs to one connection., type: bool, returned: always}
    auto_delete: {description: Whether the queue is deleted with its last consumer., type: bool, returned: always}
    source: {description: "Source of RV(queues[].ready) and RV(queues[].consumers), V(management) or V(amqp) (a passive declare).", type: str, returned: always}
    ready: {description: Number of messages ready for delivery., type: int, returned: always}
    unacked: {description: Number of messages delivered and not yet acknowledged., type: int, returned: always}
    total: {description: Sum of both., type: int, returned: always}
    consumers: {description: Number of consumers., type: int, returned: always}
    consumer_capacity:
      description: Share of the time in which the queue can deliver messages to consumers immediately, 0 to 1.
      type: float
      returned: always
    publish_rate: {description: "Messages published per second, over the last 10 seconds.", type: float, returned: always}
    deliver_rate: {description: Messages delivered per second., type: float, returned: always}
    ack_rate: {description: Messages acknowledged per second., type: float, returned: always}
    redeliver_rate: {description: Messages redelivered per second., type: float, returned: always}
    growth_rate:
      description: Change of RV(queues[].total) per second since the queue began to grow, or since it last grew, at most over the last minute.
      type: float
      returned: always
    trend: {description: "V(growing), V(draining) or V(steady).", type: str, returned: always}
    drain_seconds: {description: Time until the queue is empty at this rate. Null if it does not drain., type: float, returned: always}
    rates_source:
      description: Source of RV(queues[].growth_rate), V(management) or V(samples) (two passive declares, O(sample_seconds) apart).
      type: str
      returned: always
    growing_seconds:
      description: Time for which the queue has been growing without a pause of 10 seconds, at most 60. Null if it is not known.
      type: float
      returned: always
    head_age_seconds:
      description: Age of the first message, if publishers set the property C(timestamp) and the queue is a classic queue.
      type: float
      returned: always
    unacked_age_seconds: {description: Minimum age of the oldest unacknowledged delivery. Known up to an hour., type: float, returned: always}
    no_ack_seconds:
      description: Minimum time during which messages were unacknowledged and none was acknowledged. What the broker's statistics do not show yet, because
        they are up to 5 seconds old, does not count.
      type: float
      returned: always
    slowest_ack_seconds:
      description: Longest time, within the last 10 minutes or hour, during which messages were unacknowledged before one was acknowledged. Null without one.
      type: float
      returned: always
    ack_timeout_seconds: {description: Time after which the broker closes the channel of a consumer that does not acknowledge., type: float, returned: always}
    ack_timeout_source:
      description: Source of RV(queues[].ack_timeout_seconds), V(queue) (itself, a policy or a consumer), V(configuration) (the files of the broker), V(option)
        or V(assumed) (the default of RabbitMQ).
      type: str
      returned: always
    ack_timeout_ratio: {description: "RV(queues[].unacked_age_seconds) divided by RV(queues[].ack_timeout_seconds).", type: float, returned: always}
    prefetch_total: {description: Prefetch limit of all consumers together. Null means no limit., type: int, returned: always}
    at_prefetch_ceiling: {description: Whether the consumers have reached their prefetch limit., type: bool, returned: always}
    unlimited_consumers:
      description: Number of consumers that acknowledge and have no prefetch limit, of their own or of their channel.
      type: int
      returned: always
    memory_bytes: {description: Memory that the queue uses on the broker., type: int, returned: always}
    leader: {description: Node of the leader., type: str, returned: always}
    members: {description: Number of members of a quorum queue or stream., type: int, returned: always}
    online_members: {description: Number of members that are online., type: int, returned: always}
    policy: {description: Policy that applies., type: str, returned: always}
    dead_letter_exchange: {description: "Dead-letter exchange, by argument or policy.", type: str, returned: always}
    dead_letter_routing_key: {description: Routing key of dead letters. Null means the original one., type: str, returned: always}
    message_ttl_seconds: {description: Time after which a message expires., type: float, returned: always}
    max_length: {description: Maximum number of messages., type: int, returned: always}
    max_length_bytes: {description: Maximum size of its messages., type: int, returned: always}
    overflow:
      description: What happens to messages above RV(queues[].max_length), V(drop-head), V(reject-publish) or V(reject-publish-dlx).
      type: str
      returned: always
    full: {description: Whether the queue has reached its maximum length or size. Null if it has none., type: bool, returned: always}
    dropped:
      description: Messages that a queue with a maximum length dropped or rejected within the last 10 minutes. If messages also expire, these
        count as well while the queue was full.
      type: int
      returned: always
    delivery_limit: {description: Maximum number of deliveries of a message., type: int, returned: always}
    error: {description: "Why a passive declare failed, as C(kind) (such as V(exclusive)) and C(message).", type: dict, returned: always}
  sample:
    - {vhost: /, name: audio.analysis.requests, role: work, receives_dead_letters: false, family: null, polled: null, type: classic,
       state: running, out_of_order: false, durable: true, exclusive: false,
       auto_delete: false, source: management, ready: 1200, unacked: 10, total: 1210, consumers: 1, consumer_capacity: 0.01, publish_rate: 4.2,
       deliver_rate: 1.1, ack_rate: 1.1, redeliver_rate: 0.0, growth_rate: 3.1, trend: growing, drain_seconds: null, rates_source: management,
       head_age_seconds: 391.2, unacked_age_seconds: 9.0, no_ack_seconds: 1.1, slowest_ack_seconds: null, ack_timeout_seconds: 1800.0, ack_timeout_ratio: 0.005,
       prefetch_total: 10, at_prefetch_ceiling: true, unlimited_consumers: 0, growing_seconds: 55.0, ack_timeout_source: queue, memory_bytes: 602408,
       leader: rabbit@mq, members: null, online_members: null, policy: null,
       dead_letter_exchange: dead,
       dead_letter_routing_key: null, message_ttl_seconds: null, max_length: null, max_length_bytes: null, overflow: drop-head,
       full: null, dropped: null, delivery_limit: null, error: null}
families:
  description:
    - Queues of one vhost whose names differ only in numbers, UUIDs, long hexadecimal or random parts, if there are 20 or more. Those with the most messages
      first, at most 20. Null if the list of queues could not be read.
  returned: O(state=measured)
  type: list
  elements: dict
  contains:
    vhost: {description: Vhost of the queues., type: str, returned: always}
    pattern: {description: "Their name, with C(*) for the parts in which they differ.", type: str, returned: always}
    queues: {description: Number of queues., type: int, returned: always}
    with_messages: {description: Number of queues that hold messages., type: int, returned: always}
    ready: {description: Number of messages ready for delivery in all of them., type: int, returned: always}
    unacked: {description: Number of messages delivered and not yet acknowledged in all of them., type: int, returned: always}
    measured: {description: Number of queues that are in RV(queues)., type: int, returned: always}
    without_consumers: {description: How many of these are work queues with messages and without a consumer., type: int, returned: always}
  sample: [{vhost: /, pattern: session.*, queues: 1500, with_messages: 1500, ready: 3000, unacked: 0, measured: 20, without_consumers: 20}]
expected:
  description: State of O(expected_queues), in the same order.
  returned: O(state=measured)
  type: list
  elements: dict
  contains:
    vhost: {description: Vhost of the queue., type: str, returned: always}
    name: {description: Name of the queue., type: str, returned: always}
    exists: {description: "Whether the queue exists. Null if that is not known, with the reason in RV(unknown).", type: bool, returned: always}
    ready: {description: Number of messages ready for delivery., type: int, returned: always}
    consumers: {description: Number of consumers., type: int, returned: always}
    min_consumers: {description: Minimum number of consumers., type: int, returned: always}
    error: {description: "Why the queue could not be read, as C(kind) and C(message).", type: dict, returned: always}
  sample: [{vhost: /, name: file.events, exists: true, ready: 0, consumers: 1, min_consumers: 1, error: null}]
hidden_vhosts:
  description: Vhosts of O(vhosts) whose queues O(login_user) may not see, as C(name). Null without the tag C(monitoring).
  returned: O(state=measured)
  type: list
  elements: dict
  sample: []
services:
  description: The containers of O(services). Null if the engine does not answer.
  returned: O(state=measured)
  type: list
  elements: dict
  contains:
    name: {description: Compose service., type: str, returned: always}
    project: {description: 'The project of its containers; null without any, and if they are of several projects.', type: str, returned: always}
    containers: {description: Number of its containers., type: int, returned: always}
    container_names: {description: "Their names, at most 20.", type: list, elements: str, returned: always}
    running: {description: Number of those that run., type: int, returned: always}
    looping:
      description: Whether one of them is in a crash loop. The engine has given up, or has restarted it O(restarts) times or more and still does, or did
        within O(restarts_window).
      type: bool
      returned: always
  sample:
    - {name: analysis_service, project: music, containers: 1, container_names: [music-analysis_service-1], running: 1, looping: false}
before:
  description: The queue before the change, as C(ready), C(unacked) (null without the management API) and C(consumers).
  returned: O(state=purged) or O(state=replayed)
  type: dict
  sample: {ready: 1200, unacked: 10, consumers: 1}
after:
  description: The queue after the change, measured again; in check mode, the expected values.
  returned: O(state=purged) or O(state=replayed)
  type: dict
  sample: {ready: 0, unacked: 10, consumers: 1}
exported_messages: {description: Number of messages that were exported and removed., type: int, returned: O(state=purged), sample: 1200}
exported_bytes: {description: Size of the file. Null in check mode., type: int, returned: O(state=purged), sample: 402911}
export_path:
  description: Path of the file. Null in check mode and if there was nothing to export.
  returned: O(state=purged) or O(state=replayed)
  type: str
  sample: /var/lib/tracktion-ops/exports/audio.analysis.requests-1f0c2a44-20260101T030000Z.jsonl
replayed_messages: {description: Number of messages that were published and confirmed., type: int, returned: O(state=replayed), sample: 1200}
"""

from functools import partial
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _rabbitmq_queue_state
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_acts
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

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


def run(params: Options, check_mode: bool) -> Mapping[str, Any]:
    """Measure the queues, or purge or replay one. Raise CannotMeasure; if not measuring, also CannotConnect and Aborted."""
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


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(_rabbitmq_queue_state.ARGUMENT_SPEC, **ACTING_SPEC),
        required_if=[
            ("state", "purged", ("name", "expected_messages", "export_directory")),
            ("state", "replayed", ("export_path",)),
        ],
        supports_check_mode=True,
    )
    exit_module(module, partial(run, module.params, module.check_mode))


if __name__ == "__main__":
    main()
