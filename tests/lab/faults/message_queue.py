# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong in RabbitMQ."""

from __future__ import annotations

import json

from ..services.topology import AUDIO_QUEUE, DEAD_QUEUE
from ..shell import wait_until
from . import fault


def publish(lab, queue: str, bodies: list[bytes]) -> None:
    """Publish messages straight into a queue, each confirmed."""
    import pika

    with lab.amqp() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))


def depth(lab, queue: str) -> int:
    """How many messages are ready in a queue, exact at once, unlike the management API's."""
    with lab.amqp() as connection:
        return connection.channel().queue_declare(queue, passive=True).method.message_count


@fault(fires=["message_queue.no_consumer"])
def queue_without_consumer(lab):
    """The analysis service is stopped, and 500 requests wait for it."""
    with lab.stopped("analysis_service"):
        publish(lab, AUDIO_QUEUE, [json.dumps({"path": f"/music/lab/{number}.flac"}).encode() for number in range(500)])
        yield
    wait_until(lambda: depth(lab, AUDIO_QUEUE) == 0, "the backlog to be consumed", 60)


@fault(fires=["message_queue.dead_letters"])
def dead_letters(lab):
    """The analysis service has rejected 50 requests that it cannot read."""
    publish(lab, AUDIO_QUEUE, [b"not a request"] * 50)
    wait_until(lambda: depth(lab, DEAD_QUEUE) >= 50, "50 dead letters", 30)
    yield
    with lab.amqp() as connection:
        connection.channel().queue_purge(DEAD_QUEUE)


@fault(fires=["message_queue.memory_alarm"])
def memory_alarm(lab):
    """The broker uses more memory than its watermark and blocks every publisher."""

    def alarmed() -> bool:
        return lab.rabbitmq_api("GET", "/nodes?columns=mem_alarm")[0]["mem_alarm"]

    watermark = "vm_memory_monitor:set_vm_memory_high_watermark"
    before = lab.exec("rabbitmq", "rabbitmqctl", "eval", "vm_memory_monitor:get_vm_memory_high_watermark().").strip()
    try:
        lab.exec("rabbitmq", "rabbitmqctl", "eval", f"{watermark}(0.01).")
        wait_until(alarmed, "the alarm", 30)
        yield
    finally:
        lab.exec("rabbitmq", "rabbitmqctl", "eval", f"{watermark}({before}).")
    wait_until(lambda: not alarmed(), "the end of the alarm", 30)


@fault(fires=["message_queue.stuck_consumer"])
def stuck_consumer(lab):
    """A consumer holds as many messages as its prefetch allows and acknowledges none; 20 more wait."""
    queue = "lab.stuck"
    # No heartbeat: nobody is there to answer it.
    connection = lab.amqp(heartbeat=0, client_properties={"connection_name": "lab stuck consumer"})
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    publish(lab, queue, [b"{}"] * 30)
    taken = []
    channel.basic_qos(prefetch_count=10)
    channel.basic_consume(queue, lambda *delivery: taken.append(delivery), consumer_tag="lab.stuck")

    def full() -> bool:
        connection.process_data_events(time_limit=0.2)
        return len(taken) == 10

    wait_until(full, "ten messages delivered", 20)
    yield
    # Somebody may have closed this connection: that is one cure.
    if connection.is_open:
        connection.close()
    with lab.amqp() as other:
        other.channel().queue_delete(queue)
