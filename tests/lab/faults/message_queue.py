# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of RabbitMQ."""

from __future__ import annotations

import contextlib
import json
import threading
import time

from ..services.topology import AUDIO_QUEUE, DEAD_QUEUE
from ..shell import LabError, wait_until
from . import fault

NODE = "rabbit@localhost"
# erl_call connects to a node that runs; each start of rabbitmqctl costs half a second of processor time.
# Bytes, three times what a node uses by itself.
BALLAST = 400_000_000
EVALUATE = 'printf "%s\\n" "$2" | erl_call -sname "$1" -c "$(cat /var/lib/rabbitmq/.erlang.cookie)" -e'


def evaluate(lab, expression: str, node: str = NODE) -> str:
    """Return the value of an Erlang expression, evaluated on a node of the broker."""
    output = lab.exec("rabbitmq", "sh", "-c", EVALUATE, "sh", node, expression + ".")
    if not output.startswith("{ok, "):
        raise LabError(f"{node} could not evaluate {expression}: {output}")
    return output.strip()[len("{ok, ") : -1]


def publish(lab, queue: str, bodies: list[bytes]) -> None:
    """Publish messages directly to a queue, each confirmed."""
    import pika

    with lab.amqp() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))


def depth(lab, queue: str) -> int:
    """Return the number of ready messages, exact immediately, unlike that of the management API."""
    with lab.amqp() as connection:
        return connection.channel().queue_declare(queue, passive=True).method.message_count


def settled(lab, queue: str, ready: int) -> None:
    """Wait until a queue holds this many messages."""
    wait_until(lambda: depth(lab, queue) >= ready, f"{ready} messages in {queue}", 30)


def node_of(lab) -> dict:
    """Return the first node in the statistics of the broker. One that has just started has no figures yet."""
    return lab.rabbitmq_api("GET", "/nodes")[0]


@contextlib.contextmanager
def queue(lab, name: str, arguments: dict | None = None, messages: int = 0, **properties):
    """Declare a durable queue with messages; delete it at the end of the context."""
    import pika

    with lab.amqp() as connection:
        channel = connection.channel()
        channel.queue_declare(name, durable=True, arguments=arguments)
        for number in range(messages):
            channel.basic_publish("", name, b"%d" % number, pika.BasicProperties(**properties))
    try:
        settled(lab, name, messages)
        yield name
    finally:
        with lab.amqp() as connection:
            connection.channel().queue_delete(name)


@contextlib.contextmanager
def client(lab, work, name: str):
    """Run a client of the broker: `work(channel, stop)` in a thread until the end of the context."""
    stop = threading.Event()
    connection = lab.amqp(heartbeat=0, client_properties={"connection_name": f"lab {name}"})

    def run() -> None:
        # The fault may be fixed by closing this connection.
        with contextlib.suppress(Exception):
            work(connection.channel(), stop)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield connection
    finally:
        stop.set()
        thread.join(10)
        with contextlib.suppress(Exception):
            connection.close()


def holding(name: str, prefetch: int):
    """Return the work of a consumer that fetches up to its prefetch limit and acknowledges nothing."""

    def work(channel, stop) -> None:
        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(name, lambda *_delivery: None)
        while not stop.is_set():
            channel.connection.process_data_events(time_limit=0.2)

    return work


@fault(fires=["message_queue.no_consumer"])
def queue_without_consumer(lab):
    """The analysis service is stopped with 500 requests in its queue."""

    def reported() -> bool:
        queue = lab.rabbitmq_api("GET", f"/queues/%2F/{AUDIO_QUEUE}")
        return queue.get("messages_ready") == 500 and queue.get("consumers") == 0

    with lab.stopped("analysis_service"):
        publish(lab, AUDIO_QUEUE, [json.dumps({"path": f"/music/lab/{number}.flac"}).encode() for number in range(500)])
        # The broker's statistics are up to five seconds old.
        wait_until(reported, "the broker's statistics", 30)
        yield
    wait_until(lambda: depth(lab, AUDIO_QUEUE) == 0, "the backlog to be consumed", 60)


@fault(fires=["message_queue.dead_letters"])
def dead_letters(lab):
    """The analysis service has rejected 50 invalid requests."""
    publish(lab, AUDIO_QUEUE, [b"not a request"] * 50)
    wait_until(lambda: depth(lab, DEAD_QUEUE) >= 50, "50 dead letters", 30)
    yield
    with lab.amqp() as connection:
        connection.channel().queue_purge(DEAD_QUEUE)


@fault(fires=["message_queue.memory_alarm"])
def memory_alarm(lab):
    """The broker uses more memory than its watermark and blocks every publisher."""

    def alarmed() -> bool:
        return node_of(lab).get("mem_alarm")

    watermark = "vm_memory_monitor:set_vm_memory_high_watermark"
    before = evaluate(lab, "vm_memory_monitor:get_vm_memory_high_watermark()")
    try:
        evaluate(lab, f"{watermark}({{absolute, 10000000}})")
        wait_until(alarmed, "the alarm", 30)
        yield
    finally:
        evaluate(lab, f"{watermark}({before})")
    wait_until(lambda: not alarmed(), "the end of the alarm", 30)


@fault(fires=["message_queue.stuck_consumer", "message_queue.ack_timeout_risk"])
def stuck_consumer(lab):
    """A consumer has reached its prefetch limit and acknowledges nothing; 20 more messages are ready."""
    with queue(lab, "lab.stuck", messages=30), client(lab, holding("lab.stuck", 10), "stuck consumer"):
        wait_until(lambda: depth(lab, "lab.stuck") == 20, "ten messages delivered", 20)
        yield


@fault(fires=["message_queue.unacked"])
def hoarding_consumer(lab):
    """A consumer without a prefetch limit holds 1,100 messages."""
    with queue(lab, "lab.hoarded", messages=1100), client(lab, holding("lab.hoarded", 0), "hoarding consumer"):
        wait_until(lambda: depth(lab, "lab.hoarded") == 0, "all messages delivered", 20)
        yield


@fault(fires=["message_queue.no_consumer", "message_queue.backlog"])
def orphaned_queue(lab):
    """1,100 messages are in a queue without consumers."""
    with queue(lab, "lab.orphaned", messages=1100):
        yield


@fault(fires=["message_queue.head_message_age"])
def old_messages(lab):
    """The first message of a queue was published ten minutes ago."""
    with queue(lab, "lab.old", messages=3, timestamp=int(time.time()) - 600):
        yield


@fault(fires=["message_queue.growing"])
def growing_queue(lab):
    """A publisher sends 50 messages a second to a queue without consumers."""

    def work(channel, stop) -> None:
        while not stop.wait(0.1):
            for _number in range(5):
                channel.basic_publish("", "lab.growing", b"{}")

    with queue(lab, "lab.growing", messages=150), client(lab, work, "fast publisher"):
        yield


@fault(fires=["message_queue.slow_drain"])
def slow_consumer(lab):
    """A consumer needs two seconds for each of 5,000 messages."""

    def work(channel, stop) -> None:
        while not stop.wait(2):
            method, _properties, _body = channel.basic_get("lab.slow")
            channel.basic_ack(method.delivery_tag)

    with queue(lab, "lab.slow", messages=5000), client(lab, work, "slow consumer"):
        yield


@fault(fires=["message_queue.redelivery_loop"])
def poison_message(lab):
    """A consumer requeues a message that it cannot process, ten times a second."""

    def work(channel, stop) -> None:
        while not stop.wait(0.1):
            method, _properties, _body = channel.basic_get("lab.poisoned")
            channel.basic_nack(method.delivery_tag, requeue=True)

    with queue(lab, "lab.poisoned", messages=1), client(lab, work, "confused consumer"):
        yield


@fault(fires=["message_queue.exchange_without_binding", "message_queue.unroutable"])
def unbound_exchange(lab):
    """A client publishes to an exchange without a binding."""
    name = "lab.unbound"

    def work(channel, stop) -> None:
        while not stop.wait(0.1):
            channel.basic_publish(name, "nowhere", b"{}")

    with lab.amqp() as connection:
        connection.channel().exchange_declare(name, "topic", durable=True)
    with client(lab, work, "publisher to nowhere"):
        yield
    with lab.amqp() as connection:
        connection.channel().exchange_delete(name)


@fault(fires=["message_queue.dead_letters"])
def rejected_messages(lab):
    """50 messages were rejected, and a policy routed them to a dead-letter queue."""
    definition = {"dead-letter-exchange": "lab.graveyard", "dead-letter-routing-key": "dead"}
    lab.rabbitmq_api(
        "PUT",
        "/policies/%2F/lab.graveyard",
        {"pattern": "^lab.rejected$", "apply-to": "queues", "definition": definition},
    )
    with queue(lab, "lab.rejected"), queue(lab, "lab.graveyard"):
        with lab.amqp() as connection:
            channel = connection.channel()
            channel.exchange_declare("lab.graveyard", "direct", durable=True)
            channel.queue_bind("lab.graveyard", "lab.graveyard", "dead")
            publish(lab, "lab.rejected", [b"{}"] * 50)
            for _number in range(50):
                channel.basic_nack(channel.basic_get("lab.rejected")[0].delivery_tag, requeue=False)
        settled(lab, "lab.graveyard", 50)
        yield
        with lab.amqp() as connection:
            connection.channel().exchange_delete("lab.graveyard")
    lab.rabbitmq_api("DELETE", "/policies/%2F/lab.graveyard")


@fault(fires=["message_queue.dead_letters_lost"])
def lost_dead_letters(lab):
    """The dead-letter exchange of a queue does not exist."""
    with queue(lab, "lab.careless", {"x-dead-letter-exchange": "lab.missing"}):
        yield


@fault(fires=["message_queue.channel_leak"])
def leaked_channels(lab):
    """A client has opened 150 channels and closed none."""
    connection = lab.amqp(heartbeat=0, client_properties={"connection_name": "lab channel leak"})
    for _number in range(150):
        connection.channel()
    yield
    connection.close()


@fault(fires=["message_queue.file_descriptors", "message_queue.erlang_processes"])
def many_connections(lab):
    """200 connections are open."""
    connections = [lab.amqp(heartbeat=0) for _number in range(200)]
    yield
    for connection in connections:
        connection.close()


@fault(fires=["message_queue.vhost_down", "message_queue.queue_down"])
def vhost_down(lab):
    """The message store of a vhost has failed, and its queue with it."""
    import pika

    vhost = "lab.broken"
    lab.rabbitmq_api("PUT", f"/vhosts/{vhost}", {})
    lab.rabbitmq_api("PUT", f"/permissions/{vhost}/tracktion", {"configure": ".*", "write": ".*", "read": ".*"})
    with lab.amqp(virtual_host=vhost) as connection:
        channel = connection.channel()
        channel.queue_declare("lab.down", durable=True)
        channel.basic_publish("", "lab.down", b"{}", pika.BasicProperties(delivery_mode=2))
    store = "/var/lib/rabbitmq/mnesia/rabbit@localhost/msg_stores/vhosts"
    directory = lab.exec("rabbitmq", "sh", "-c", f"dirname $(grep -lx {vhost} {store}/*/.vhost)").strip()
    evaluate(lab, f'rabbit_vhost_sup_sup:stop_and_delete_vhost(<<"{vhost}">>)')
    # Prevents RabbitMQ 4 from restarting the vhost within half a minute.
    lab.exec("rabbitmq", "touch", directory)
    yield
    # The operator may have removed the file and restarted the vhost.
    lab.exec("rabbitmq", "sh", "-c", f"test -d {directory} || rm -f {directory}")
    lab.rabbitmq_api("DELETE", f"/vhosts/{vhost}")


SECOND = "second@localhost"
# A second node in the container of the first; the file with the name of the first must not be read.
START_SECOND = f"""
echo '[rabbitmq_management_agent].' > /tmp/second_plugins && : > /tmp/second.conf && cd /
export RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_NODENAME={SECOND} RABBITMQ_NODE_PORT=5673
export RABBITMQ_CONFIG_FILE=/tmp/second RABBITMQ_ENABLED_PLUGINS_FILE=/tmp/second_plugins HOME=/var/lib/rabbitmq
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none"
setsid setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups -- rabbitmq-server > /tmp/second.log 2>&1 &
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rabbitmqctl -n {SECOND} await_startup --timeout 30 2> /dev/null && break
    sleep 1
done
rabbitmqctl -n {SECOND} stop_app && rabbitmqctl -n {SECOND} reset
rabbitmqctl -n {SECOND} join_cluster {NODE} && rabbitmqctl -n {SECOND} start_app
"""
# The second node may not have joined.
FORGET_SECOND = f"rm -rf /var/lib/rabbitmq/mnesia/{SECOND}*; rabbitmqctl forget_cluster_node {SECOND} || true"


def running_nodes(lab) -> int:
    """Return the number of nodes that run, as the first one sees them."""
    return sum(node["running"] for node in lab.rabbitmq_api("GET", "/nodes"))


def halt_second(lab) -> None:
    """Halt the second node, if it runs, and wait until the first has noticed."""
    with contextlib.suppress(LabError):
        evaluate(lab, "spawn(fun() -> timer:sleep(100), erlang:halt() end)", SECOND)
    connected = f"lists:member('{SECOND}', nodes())"
    wait_until(lambda: evaluate(lab, connected) == "false", "the loss of the second node", 30)
    wait_until(lambda: running_nodes(lab) == 1, "the broker to report the loss", 30)


@contextlib.contextmanager
def second_node(lab):
    """Run a cluster of two nodes until the end of the context."""
    try:
        lab.exec("rabbitmq", "sh", "-c", START_SECOND, timeout=120)
        wait_until(lambda: running_nodes(lab) == 2, "the second node", 120, interval=0.5)
        yield
    finally:
        halt_second(lab)
        lab.exec("rabbitmq", "sh", "-c", FORGET_SECOND)
    wait_until(lambda: len(lab.rabbitmq_api("GET", "/nodes")) == 1, "the removal of the second node", 20)


# RabbitMQ 3.10 has no such function, but removes a node that is forgotten from the members.
SHRINK = (
    "erlang:function_exported(rabbit_quorum_queue, force_shrink_member_to_current_member, 2) andalso "
    'rabbit_quorum_queue:force_shrink_member_to_current_member(<<"/">>, <<"lab.quorum">>)'
)


@fault(fires=["message_queue.node_down", "message_queue.queue_members", "message_queue.queue_down"])
def lost_node(lab):
    """One of two nodes has stopped, and a quorum queue has lost its majority."""
    with second_node(lab):
        with lab.amqp() as connection:
            channel = connection.channel()
            channel.queue_declare("lab.quorum", durable=True, arguments={"x-queue-type": "quorum"})
        halt_second(lab)
        yield
        # A queue without a majority cannot be deleted over AMQP.
        evaluate(lab, SHRINK)
    with lab.amqp() as connection:
        connection.channel().queue_delete("lab.quorum")


def alone(lab, node: str) -> bool:
    """Return whether a node has noticed that it has lost contact with the other."""
    try:
        return evaluate(lab, "mnesia:system_info(running_db_nodes) =:= [node()]", node) == "true"
    except LabError:
        # Just after the loss, a node may close other connections, too.
        return False


@fault(fires=["message_queue.partition"])
def partitioned_cluster(lab):
    """Two nodes have lost contact while both were running."""
    with second_node(lab):
        # Two nodes with different cookies lose contact, and detect the partition when the cookies match again.
        others = {NODE: SECOND, SECOND: NODE}
        for node, other in others.items():
            evaluate(lab, f"erlang:set_cookie('{other}', wrong), erlang:disconnect_node('{other}')", node)
        for node in others:
            wait_until(lambda of=node: alone(lab, of), f"{node} to be alone", 30)
        for node, other in others.items():
            evaluate(lab, f"erlang:set_cookie('{other}', erlang:get_cookie())", node)
        evaluate(lab, f"net_adm:ping('{SECOND}')")
        wait_until(lambda: lab.rabbitmq_api("GET", "/nodes")[0].get("partitions"), "the partition", 30)
        yield


@fault(fires=["message_queue.memory_near_watermark"])
def memory_nearly_full(lab):
    """The memory of the broker is close to its watermark."""
    get, put = (f"vm_memory_monitor:{verb}_vm_memory_high_watermark" for verb in ("get", "set"))
    before = evaluate(lab, f"{get}()")
    # A node that has just started returns up to a tenth of its memory: here, that is a small part of all.
    evaluate(lab, f"persistent_term:put(lab_ballast, binary:copy(<<0>>, {BALLAST}))")
    try:
        used = wait_until(lambda: node_of(lab).get("mem_used", 0) > BALLAST and node_of(lab)["mem_used"], "its use", 30)
        evaluate(lab, f"{put}({{absolute, {int(used * 1.06)}}})")
        yield
    finally:
        evaluate(lab, f"{put}({before})")
        evaluate(lab, "persistent_term:erase(lab_ballast), erlang:garbage_collect()")


@fault(fires=["message_queue.disk_alarm"])
def disk_alarm(lab):
    """The broker has less free disk space than its limit and blocks every publisher."""
    with disk_limit(lab, lambda free: free * 2):
        wait_until(lambda: node_of(lab)["disk_free_alarm"], "the alarm", 30)
        yield


@fault(fires=["message_queue.disk_free_near_limit"])
def disk_nearly_full(lab):
    """The free disk space of the broker is one and a half times its limit."""
    with disk_limit(lab, lambda free: int(free / 1.5)):
        yield


@contextlib.contextmanager
def disk_limit(lab, compute):
    """Set another limit for the free disk space, computed from the free space, until the end of the context."""
    node = wait_until(lambda: "disk_free" in node_of(lab) and node_of(lab), "the statistics of the node", 30)
    try:
        evaluate(lab, f"rabbit_disk_monitor:set_disk_free_limit({compute(node['disk_free'])})")
        yield
    finally:
        evaluate(lab, f"rabbit_disk_monitor:set_disk_free_limit({node['disk_free_limit']})")
    wait_until(lambda: not node_of(lab)["disk_free_alarm"], "the end of the alarm", 30)


@fault(fires=["message_queue.blocked_connections", "message_queue.memory_alarm"])
def blocked_publisher(lab):
    """The memory alarm blocks a publisher."""
    connection = lab.amqp(heartbeat=0, client_properties={"connection_name": "lab blocked publisher"})
    alarm = memory_alarm(lab)
    next(alarm, None)
    try:
        connection.channel().basic_publish("", "lab.nowhere", b"{}")
        wait_until(
            lambda: any(found.get("state") == "blocked" for found in lab.rabbitmq_api("GET", "/connections")),
            "the publisher to be blocked",
            30,
        )
        yield
    finally:
        next(alarm, None)
    connection.close()


@fault(fires=["message_queue.management_unreachable"])
def management_off(lab):
    """The management plugin is disabled; AMQP works."""
    lab.exec("rabbitmq", "rabbitmq-plugins", "disable", "rabbitmq_management")
    yield
    lab.exec("rabbitmq", "rabbitmq-plugins", "enable", "rabbitmq_management")
    wait_until(lambda: answers(lab), "the management API", 60)


@fault(fires=["message_queue.statistics_off"])
def statistics_off(lab):
    """The broker keeps no statistics."""
    setting = "application:set_env(rabbitmq_management_agent, disable_metrics_collector, {})"
    evaluate(lab, setting.format("true"))
    yield
    evaluate(lab, setting.format("false"))


def answers(lab) -> bool:
    """Return whether the management API answers."""
    try:
        return bool(lab.rabbitmq_api("GET", "/overview"))
    except OSError:
        return False


@fault(fires=["message_queue.unreachable"])
def frozen_broker(lab):
    """The broker hangs: it accepts connections and does not answer."""
    lab.docker("pause", lab.container("rabbitmq"))
    try:
        yield
    finally:
        lab.docker("unpause", lab.container("rabbitmq"))


@fault(fires=["message_queue.missing_queue"])
def deleted_queue(lab):
    """The queue of the analysis requests was deleted while its service is stopped."""
    with lab.stopped("analysis_service"):
        with lab.amqp() as connection:
            connection.channel().queue_delete(AUDIO_QUEUE)
        yield


@fault(fires=["message_queue.memory_watermark_above_limit"])
def small_container(lab):
    """The memory limit of the broker's container is below the broker's watermark."""
    name = lab.container("rabbitmq")
    limit = lab.docker("inspect", "--format", "{{.HostConfig.Memory}}", name).strip()
    watermark = node_of(lab)["mem_limit"]
    lower = max(int(watermark / 1.1), 400 * 2**20)
    lab.docker("update", "--memory", str(lower), "--memory-swap", str(lower), name)
    yield
    lab.docker("update", "--memory", limit, "--memory-swap", limit, name)
