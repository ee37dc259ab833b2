# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unusual but healthy queues are not reported, and faults that look like them are, on RabbitMQ 3.10 and 4.0."""

from __future__ import annotations

import contextlib
import os
import struct
import time

import pika
import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_amqp, _rabbitmq_memory
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_messages import RawTable
from tests.integration.areas import fired
from tests.lab.engine import docker
from tests.lab.faults.message_queue import client, depth, holding, publish, queue, settled
from tests.lab.shell import wait_until
from tests.lab.throwaway import project

ALLOWED = dict.fromkeys(("configure", "write", "read"), ".*")
OTHER = "lab.second"
# The statistics of these brokers are updated every second, so that faults show sooner.
SETTINGS = {
    "message_queue_growth_seconds_warning": 20,
    "message_queue_stuck_consumer_warning": 5,
    "message_queue_count_growth_warning": 50,
    # A busy machine may need longer than the default.
    "message_queue_deadline": 60,
}
LEAKED = 60


@pytest.fixture(scope="module", params=("rabbitmq310", "rabbitmq40"))
def lab(request):
    return request.getfixturevalue(request.param)


def delay(target, seconds):
    return {
        "x-message-ttl": int(seconds * 1000),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": target,
    }


def rejecting(name, least_rounds=None):
    """Return the work of a consumer that rejects each message; with ``least_rounds``, it accepts it after so many."""

    def work(channel, stop):
        def received(_channel, delivery, properties, _body):
            deaths = (properties.headers or {}).get("x-death") or [{"count": 0}]
            if least_rounds is not None and max(death["count"] for death in deaths) >= least_rounds:
                channel.basic_ack(delivery.delivery_tag)
            else:
                channel.basic_reject(delivery.delivery_tag, requeue=False)

        channel.basic_qos(prefetch_count=5)
        channel.basic_consume(name, received)
        while not stop.is_set():
            channel.connection.process_data_events(time_limit=0.2)

    return work


def polling(name):
    """Return the work of a client that fetches messages with basic.get, a few every second."""

    def work(channel, stop):
        while not stop.wait(0.5):
            method, _properties, _body = channel.basic_get(name)
            if method:
                channel.basic_ack(method.delivery_tag)

    return work


def working(name, prefetch, seconds):
    """Return the work of a consumer that needs these seconds for each message."""

    def work(channel, stop):
        def received(_channel, delivery, _properties, _body):
            channel.connection.sleep(seconds)
            channel.basic_ack(delivery.delivery_tag)

        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(name, received)
        while not stop.is_set():
            channel.connection.process_data_events(time_limit=0.1)

    return work


def sharing(name, prefetch):
    """Return the work of a consumer whose channel has one prefetch limit for all its consumers."""

    def work(channel, stop):
        channel.basic_qos(prefetch_count=prefetch, global_qos=True)
        channel.basic_consume(name, lambda *_delivery: None)
        while not stop.is_set():
            channel.connection.process_data_events(time_limit=0.2)

    return work


def publishing(name, every):
    def work(channel, stop):
        while not stop.wait(every):
            channel.basic_publish("", name, b"{}")

    return work


@contextlib.contextmanager
def vhost(lab, name):
    lab.rabbitmq_api("PUT", "/vhosts/" + name, {})
    lab.rabbitmq_api("PUT", "/permissions/%s/%s" % (name, lab.server.user), ALLOWED)
    try:
        yield name
    finally:
        lab.rabbitmq_api("DELETE", "/vhosts/" + name)


@contextlib.contextmanager
def publisher(lab, name, count):
    """Publish messages, and keep the connection: a busy broker may never count those of one that closes at once."""
    with lab.amqp(heartbeat=0) as connection:
        channel = connection.channel()
        for _number in range(count):
            channel.basic_publish("", name, b"{}")
        yield


@contextlib.contextmanager
def leaked_queues(lab):
    """60 queues of a client that declares one for each session and does not consume it."""
    names = ["lab.session.%04d" % number for number in range(LEAKED)]
    with lab.amqp() as connection:
        channel = connection.channel()
        for name in names:
            channel.queue_declare(name, durable=True)
            channel.basic_publish("", name, b"{}")
    yield
    with lab.amqp() as connection:
        channel = connection.channel()
        for name in names:
            channel.queue_delete(name)


def inject(lab, stack):
    """Set up all queues of this file, healthy and not."""
    enter = stack.enter_context
    # A delay queue without consumers is by design; the work queue behind it is the fault.
    enter(queue(lab, "lab.late.work"))
    enter(queue(lab, "lab.late.hour", delay("lab.late.work", 3000), messages=200))
    with lab.amqp() as connection:
        connection.channel().queue_declare("lab.late.second", durable=True, arguments=delay("lab.late.work", 1))
    stack.callback(lambda: delete(lab, "lab.late.second"))
    publish(lab, "lab.late.second", [b"{}"] * 120)
    # Publishers set an expiration for each message.
    by_message = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.late.work"}
    enter(queue(lab, "lab.late.each", by_message))
    with lab.amqp() as connection:
        channel = connection.channel()
        for milliseconds in ("1", "3000000"):
            for _number in range(5):
                channel.basic_publish("", "lab.late.each", b"{}", pika.BasicProperties(expiration=milliseconds))
    # The same name in two vhosts: a dead-letter queue here, a work queue there.
    enter(queue(lab, "lab.failed"))
    enter(queue(lab, "lab.orders", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.failed"}, 15))
    enter(vhost(lab, OTHER))
    with lab.amqp(virtual_host=OTHER) as connection:
        channel = connection.channel()
        channel.queue_declare("lab.failed", durable=True)
        for _number in range(500):
            channel.basic_publish("", "lab.failed", b"{}")
    with client(lab, rejecting("lab.orders"), "rejecting consumer"):
        settled(lab, "lab.failed", 15)
    # A queue with a consumer is no dead-letter queue, also if others dead-letter into it.
    enter(queue(lab, "lab.handled", messages=1500))
    enter(queue(lab, "lab.source", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.handled"}))
    enter(client(lab, working("lab.handled", 5, 1), "consumer of dead letters"))
    # Two retry cycles: one consumer never accepts a message, the other one does the second time.
    for name, rounds in (("endless", None), ("bounded", 2)):
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.%s.retry" % name}
        enter(queue(lab, "lab.%s.retry" % name, delay("lab.%s" % name, 0.5)))
        enter(queue(lab, "lab.%s" % name, dead))
        publish(lab, "lab.%s" % name, [b"{}"] * 20)
        enter(client(lab, rejecting("lab.%s" % name, rounds), "%s consumer" % name))
    # Drained by basic.get.
    enter(queue(lab, "lab.polled", messages=900))
    enter(client(lab, polling("lab.polled"), "poller"))
    # Queues at their maximum length.
    enter(queue(lab, "lab.ring", {"x-max-length": 50}))
    enter(publisher(lab, "lab.ring", 400))
    enter(queue(lab, "lab.closed", {"x-max-length": 50, "x-overflow": "reject-publish"}))
    enter(publisher(lab, "lab.closed", 80))
    enter(queue(lab, "lab.roomy", {"x-max-length": 5000}))
    enter(publisher(lab, "lab.roomy", 400))
    kept = {"x-max-length": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.failed"}
    enter(queue(lab, "lab.spilling", kept))
    enter(publisher(lab, "lab.spilling", 60))
    # Prefetch limits.
    enter(queue(lab, "lab.greedy", messages=400))
    enter(client(lab, holding("lab.greedy", 0), "greedy consumer"))
    enter(queue(lab, "lab.modest", messages=400))
    enter(client(lab, holding("lab.modest", 400), "modest consumer"))
    if lab.server.suite == "bookworm":
        # The API of RabbitMQ 4 does not show the limit of a channel, which is deprecated.
        enter(queue(lab, "lab.shared", messages=400))
        enter(client(lab, sharing("lab.shared", 400), "consumer of a limited channel"))
    # At its prefetch limit, but it acknowledges 10 messages a second.
    enter(queue(lab, "lab.busy", messages=5000))
    enter(client(lab, working("lab.busy", 10, 0.1), "busy consumer"))
    enter(queue(lab, "lab.rising", messages=150))
    enter(client(lab, publishing("lab.rising", 0.1), "steady publisher"))
    enter(leaked_queues(lab))


def delete(lab, name):
    with lab.amqp() as connection:
        connection.channel().queue_delete(name)


@pytest.fixture(scope="module")
def found(lab):
    """The findings of a broker with all of these queues, by check and object."""
    wanted = {
        "message_queue.no_consumer": "/ lab.late.work",
        "message_queue.dead_letters": "/ lab.failed",
        "message_queue.dead_letter_cycle": "/ lab.endless -> lab.endless.retry",
        "message_queue.overflow": "/ lab.ring",
        "message_queue.unacked": "/ lab.greedy",
        "message_queue.growing": "/ lab.rising",
        "message_queue.many_without_consumer": "/ lab.session.*",
        "message_queue.queue_count": None,
    }
    with contextlib.ExitStack() as stack:
        inject(lab, stack)
        wait_until(lambda: depth(lab, "lab.late.work") >= 125, "expired messages", 60)
        deadline = time.monotonic() + 240
        while True:
            findings = lab.diagnose(**SETTINGS, message_queue_top=40)
            objects = {(check, each["object"]): each for check, listed in findings.items() for each in listed}
            unknown = [key for key, each in objects.items() if each["status"] == "unknown"]
            if set(wanted.items()) <= set(objects) and not unknown:
                break
            assert time.monotonic() < deadline, (set(wanted.items()) - set(objects), unknown, list(objects))
            time.sleep(1)
        yield objects


def of(found, check):
    return {name: each for (one, name), each in found.items() if one == "message_queue." + check}


def test_every_finding_was_evaluated(found):
    assert [each for each in found.values() if each["status"] == "unknown"] == []
    assert [each["hint"] for each in found.values() if "is undefined" in (each["hint"] or "")] == []


def test_the_work_queue_behind_a_delay_is_the_fault(found):
    missing = of(found, "no_consumer")
    assert missing["/ lab.late.work"]["status"] == "critical"
    assert not [name for name in missing if "lab.late" in name and name != "/ lab.late.work"]
    assert "/ lab.late.work" not in of(found, "dead_letters")


def test_a_dead_letter_queue_of_one_vhost_hides_no_queue_of_another(found):
    assert of(found, "no_consumer")[OTHER + " lab.failed"]["status"] == "critical"
    assert list(of(found, "dead_letters")) == ["/ lab.failed"]
    assert "/ lab.failed" not in of(found, "no_consumer")


def test_purge_is_offered_for_dead_letters_and_not_for_work_that_others_dead_letter_into(found):
    assert of(found, "dead_letters")["/ lab.failed"]["remedy"]["id"] == "message_queue.purge"
    backlog = of(found, "backlog")
    assert backlog["/ lab.handled"]["remedy"] is None
    assert backlog["/ lab.busy"]["remedy"]["id"] == "message_queue.purge"


def test_an_endless_cycle_is_a_finding_and_a_bounded_retry_is_not(found):
    assert list(of(found, "dead_letter_cycle")) == ["/ lab.endless -> lab.endless.retry"]
    (finding,) = of(found, "dead_letter_cycle").values()
    assert finding["observed"]["rounds"] >= 6


def test_a_polled_queue_has_no_consumer_and_is_no_fault(found):
    assert "/ lab.polled" not in of(found, "no_consumer")


def test_lost_messages_are_counted(found):
    lost = of(found, "overflow")
    assert set(lost) == {"/ lab.ring", "/ lab.closed"}
    assert lost["/ lab.ring"]["observed"]["dropped"] == 350
    assert "350 messages were dropped" in lost["/ lab.ring"]["summary"]
    assert "30 messages were rejected" in lost["/ lab.closed"]["summary"]
    assert not set(lost) & set(of(found, "slow_drain"))


def test_unacknowledged_messages_without_a_prefetch_limit(found):
    assert set(of(found, "unacked")) == {"/ lab.greedy"}
    assert "1 of them without a prefetch limit" in found["message_queue.unacked", "/ lab.greedy"]["summary"]


def test_a_consumer_at_its_prefetch_limit_that_acknowledges_is_not_stuck(found):
    assert "/ lab.busy" not in of(found, "stuck_consumer")


def test_growth_lasts(found):
    assert set(of(found, "growing")) == {"/ lab.rising"}
    assert found["message_queue.growing", "/ lab.rising"]["observed"]["growing_seconds"] >= 20


def test_many_queues_of_one_leak_are_one_finding(found):
    assert not [name for name in of(found, "no_consumer") if "lab.session" in name]
    (finding,) = of(found, "many_without_consumer").values()
    assert "%d queues are named lab.session.*" % LEAKED in finding["summary"]
    (finding,) = of(found, "queue_count").values()
    assert finding["status"] == "info"
    assert "named lab.session.*" in finding["summary"]


def test_a_new_consumer_counts_before_the_statistics_show_it(lab):
    with queue(lab, "lab.fresh", messages=5):
        path = "/queues/%2F/lab.fresh"
        wait_until(lambda: lab.rabbitmq_api("GET", path).get("consumers") == 0, "statistics without consumers", 15)
        only = {"message_queue_include": ["lab.fresh"]}
        assert fired(lab.diagnose(**only), "message_queue.no_consumer", "warning")
        with lab.amqp() as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume("lab.fresh", lambda *_delivery: None)
            assert fired(lab.diagnose(**only), "message_queue.no_consumer") == []


def test_no_consumer_of_an_expected_queue_with_messages_is_critical(lab):
    expected = {"message_queue_expected_queues": [{"name": "lab.wanted", "min_consumers": 1}]}
    with queue(lab, "lab.wanted"):
        assert fired(lab.diagnose(**expected), "message_queue.too_few_consumers", "warning")
        publish(lab, "lab.wanted", [b"{}"])
        assert fired(lab.diagnose(**expected), "message_queue.too_few_consumers", "critical")


def test_a_limit_of_connections_is_not_a_missing_permission(lab):
    with vhost(lab, "lab.limited"), lab.amqp(virtual_host="lab.limited"):
        lab.rabbitmq_api("PUT", "/vhost-limits/lab.limited/max-connections", {"value": 1})
        lab.rabbitmq_api("PUT", "/vhost-limits/lab.limited/max-queues", {"value": 9})
        limited = {"message_queue_vhost": "lab.limited"}
        reached = "message_queue.limit_reached"
        findings = wait_until(lambda: with_check(lab.diagnose(**limited), reached), "the connection", 15)
        (finding,) = fired(findings, "message_queue.unreachable", "critical")
        assert finding["summary"].startswith("too_many_connections: ")
        assert "list_vhost_limits --vhost=lab.limited" in finding["hint"]
        (finding,) = fired(findings, reached, "critical")
        assert finding["object"] == "vhost lab.limited max-connections"
        assert finding["summary"] == "vhost lab.limited uses 1 of 1 (max-connections)"
        follow(lab, finding["hint"])
        (limits,) = [each for each in lab.rabbitmq_api("GET", "/vhost-limits") if each["vhost"] == "lab.limited"]
        assert limits["value"] == {"max-connections": 3, "max-queues": 9}
        assert reached not in lab.diagnose(**limited)
        assert "message_queue.unreachable" not in lab.diagnose(**limited)
    lab.user("lab.capped", tags="monitoring", permissions={"/": "^$"})
    lab.rabbitmq_api("PUT", "/user-limits/lab.capped/max-connections", {"value": 0})
    capped = {"message_queue_login_user": "lab.capped", "message_queue_login_password": "lab.capped"}
    findings = lab.diagnose(**capped)
    (finding,) = fired(findings, "message_queue.unreachable", "critical")
    assert "user connection limit (0) is reached" in finding["summary"]
    (finding,) = fired(findings, reached, "info")
    lab.rabbitmq_api("DELETE", "/users/lab.capped")


def with_check(findings, check):
    return findings if check in findings else None


def follow(lab, hint):
    """Run the first command of a hint in the container of the broker."""
    lab.exec("rabbitmq", "sh", "-c", hint.split("`")[1])


def test_a_watermark_below_what_the_node_needs_is_raised_not_drained(lab):
    with lab.fault("memory-alarm"):
        findings = wait_until(lambda: with_check(lab.diagnose(), "message_queue.memory_alarm"), "the alarm", 15)
        (finding,) = fired(findings, "message_queue.memory_alarm", "critical")
        assert "draining queues does not end the alarm" in finding["hint"]
        follow(lab, finding["hint"])
        wait_until(lambda: "message_queue.memory_alarm" not in lab.diagnose(), "the end of the alarm", 15)


def test_a_disk_limit_above_the_size_of_the_disk_is_lowered(lab):
    # A connection of its own shows which of the brokers on this host this is.
    with lab.amqp():
        node = wait_until(lambda: with_disk(lab), "the size of the disk", 15)
        try:
            wanted = str(node["disk"]["total_bytes"] * 2)
            lab.exec("rabbitmq", "rabbitmqctl", "set_disk_free_limit", wanted)
            findings = wait_until(lambda: with_check(lab.diagnose(), "message_queue.disk_alarm"), "the alarm", 30)
            (finding,) = fired(findings, "message_queue.disk_alarm", "critical")
            assert finding["hint"].startswith("Lower the limit")
            follow(lab, finding["hint"])
            lower = int(node["disk"]["total_bytes"] * 0.1)
            wait_until(lambda: lab.rabbitmq_api("GET", "/nodes")[0]["disk_free_limit"] == lower, "the lower limit", 30)
        finally:
            lab.exec("rabbitmq", "rabbitmqctl", "set_disk_free_limit", str(node["disk"]["limit_bytes"]))
        wait_until(lambda: not lab.rabbitmq_api("GET", "/nodes")[0]["disk_free_alarm"], "the end of the alarm", 30)


def with_disk(lab):
    (node,) = lab.run("rabbitmq_node_info")["nodes"]
    return node if node["disk"] and node["disk"]["total_bytes"] else None


def with_uptime(lab):
    """Return the node once it has statistics, which a broker that has just started lacks."""
    (entry,) = lab.rabbitmq_api("GET", "/nodes")
    return entry if entry.get("uptime") else None


def test_of_several_brokers_on_this_host_a_connection_shows_which_is_the_node(rabbitmq310, rabbitmq40, monkeypatch):
    # In containers of one image that were started together, both would be the same.
    monkeypatch.setattr(_rabbitmq_memory, "MOST_SECONDS_APART", 1e6)
    monkeypatch.setattr(_rabbitmq_memory, "_inner_pid", lambda _process: "14")
    for lab in (rabbitmq310, rabbitmq40):
        entry = wait_until(lambda lab=lab: with_uptime(lab), "the statistics of the node", 15)
        entry["os_pid"] = "14"
        process = _rabbitmq_memory.process_of(entry, [])
        assert (process.path, process.candidates >= 2) == (None, True)
        with lab.amqp():
            entries = wait_until(lambda lab=lab: lab.rabbitmq_api("GET", "/connections"), "the connection", 15)
            process = _rabbitmq_memory.process_of(entry, entries)
            (identity,) = docker("inspect", "--format", "{{.Id}}", lab.server.name).split()
            with open(os.path.join(process.path, "cgroup"), encoding="utf-8") as handle:
                assert identity in handle.read()


def short(text):
    return bytes([len(text)]) + text


def long(kind, text):
    return kind + struct.pack(">I", len(text)) + text


# Every type of AMQP 0-9-1 as RabbitMQ reads it, in the order in which RabbitMQ 4 sorts the names.
HEADERS = {
    b"A": long(b"A", b"b\x01" + long(b"S", b"q")),
    b"B": b"B\xff",
    b"D": b"D\x02" + struct.pack(">i", -125),
    b"F": long(b"F", short(b"n") + b"s\x00\x01"),
    b"I": b"I\xff\xff\xff\xfe",
    b"S": long(b"S", b"\xff\x00 no text"),
    b"T": b"T" + struct.pack(">Q", 1700000000),
    b"V": b"V",
    b"b": b"b\xff",
    b"d": b"d" + struct.pack(">d", 0.1),
    b"f": b"f" + struct.pack(">f", 0.1),
    b"i": b"i\xff\xff\xff\xfe",
    b"l": b"l" + b"\xff" * 8,
    b"s": b"s\xff\xfe",
    b"t": b"t\x01",
    b"u": b"u\xff\xfe",
    b"x": long(b"x", b"bytes"),
}


def test_headers_of_every_type_return_as_they_were(lab, tmp_path):
    table = b"".join(short(name) + value for name, value in HEADERS.items())
    raw = struct.pack(">I", len(table)) + table
    with queue(lab, "lab.typed"):
        with lab.amqp() as connection, _rabbitmq_amqp.exact_headers(pika):
            connection.channel().basic_publish("", "lab.typed", b"x", pika.BasicProperties(headers=RawTable({}, raw)))
        settled(lab, "lab.typed", 1)
        purged = lab.run(state="purged", name="lab.typed", expected_messages=1, export_directory=str(tmp_path / "out"))
        assert (purged["exported_messages"], depth(lab, "lab.typed")) == (1, 0)
        assert lab.run(state="replayed", export_path=purged["export_path"])["replayed_messages"] == 1
        with lab.amqp() as connection, _rabbitmq_amqp.exact_headers(pika):
            _method, properties, _body = connection.channel().basic_get("lab.typed", auto_ack=True)
        assert properties.headers.raw == raw


def test_the_timeout_of_the_broker_is_read(lab):
    with queue(lab, "lab.slow-task", messages=1), client(lab, holding("lab.slow-task", 1), "slow task"):

        def read():
            (item,) = lab.run(include=["lab.slow-task"])["queues"]
            return item if item["ack_timeout_ratio"] is not None else None

        item = wait_until(read, "the age of the message", 30)
        # The API of RabbitMQ 3.10 does not show it. Its configuration file does not set it.
        source = "configuration" if lab.server.suite == "bookworm" else "queue"
        assert (item["ack_timeout_seconds"], item["ack_timeout_source"]) == (1800.0, source)


CRASHING = "import sys; sys.exit('no database')"
IDLE = "import time; time.sleep(1e6)"


def test_a_restart_is_offered_where_it_can_help(rabbitmq40):
    lab = rabbitmq40
    with queue(lab, "lab.consumed", messages=3), project("message_queue") as services:

        def finding(service, **more):
            settings = {
                **more,
                "message_queue_consumers": {"lab.consumed": [service]},
                "tracktion_compose_project": services.name,
                "message_queue_expected_queues": [{"name": "lab.consumed", "min_consumers": 1}],
                "message_queue_include": ["lab.consumed"],
            }
            (found,) = fired(lab.diagnose(**settings), "message_queue.no_consumer")
            return found

        services.run("worker", "python3", "-c", IDLE)
        name = services.run("crashing", "python3", "-c", CRASHING, options=("--restart", "always"))
        wait_until(lambda: int(docker("inspect", "--format", "{{.RestartCount}}", name)) >= 3, "three restarts", 60)
        worker = finding("worker")
        assert worker["remedy"]["id"] == "message_queue.restart_consumers"
        # The consumer of a few messages has gone, whatever an endpoint of its container answers.
        assert worker["status"] == "critical"
        assert "which runs and does not consume" in worker["hint"]
        assert finding("crashing")["remedy"] is None
        assert "crashing is in a crash loop" in finding("crashing")["hint"]
        assert "`docker logs --tail 50 %s`" % name in finding("crashing")["hint"]
        # The limits are those of containers.crash_loop.
        tolerant = finding("crashing", containers_restarts_warning=1000)
        assert tolerant["remedy"]["id"] == "message_queue.restart_consumers"
        assert "crash loop" not in tolerant["hint"]
        assert finding("missing")["remedy"] is None
        assert "missing, which has no container on this host" in finding("missing")["hint"]
