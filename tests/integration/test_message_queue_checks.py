# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the area message_queue fires on a real fault, and not without it, on RabbitMQ 3.10 and 4.0."""

from __future__ import annotations

import contextlib
import time
from urllib.parse import quote

import pytest

from tests.integration import areas
from tests.integration.followed_hints import MESSAGE_QUEUE
from tests.integration.following import Operator, follow
from tests.integration.playbooks import LOCAL, inventory, run_remedy
from tests.integration.rabbitmq import broker
from tests.lab.engine import docker
from tests.lab.faults.message_queue import publish
from tests.lab.shell import wait_until
from tests.lab.throwaway import project

# Lower thresholds, because the fault would take too long to develop.
SOONER = {
    "message_queue_stuck_consumer_warning": 5,
    # A ratio of half an hour.
    "message_queue_ack_timeout_warning": 0.002,
    "message_queue_growth_seconds_warning": 15,
}

# Independent faults that are injected together, because the broker's statistics take seconds to show them:
# check -> (fault, part of the finding's object).
TOGETHER = {
    "no_consumer": ("orphaned-queue", "/ lab.orphaned"),
    "backlog": ("orphaned-queue", "/ lab.orphaned"),
    "head_message_age": ("old-messages", "/ lab.old"),
    "growing": ("growing-queue", "/ lab.growing"),
    "slow_drain": ("slow-consumer", "/ lab.slow"),
    "unacked": ("hoarding-consumer", "/ lab.hoarded"),
    "stuck_consumer": ("stuck-consumer", "/ lab.stuck"),
    "ack_timeout_risk": ("stuck-consumer", "/ lab.stuck"),
    "redelivery_loop": ("poison-message", "/ lab.poisoned"),
    "exchange_without_binding": ("unbound-exchange", "/ lab.unbound"),
    "unroutable": ("unbound-exchange", None),
    "dead_letters": ("rejected-messages", "/ lab.graveyard"),
    "dead_letters_lost": ("lost-dead-letters", "/ lab.careless"),
    "channel_leak": ("leaked-channels", "lab channel leak from"),
    "file_descriptors": ("many-connections", "rabbit@localhost"),
    "erlang_processes": ("many-connections", "rabbit@localhost"),
    "sockets": ("many-connections", "rabbit@localhost"),
    "vhost_down": ("vhost-down", "vhost lab.broken"),
    "queue_down": ("vhost-down", "lab.broken lab.down"),
    "memory_watermark_above_limit": ("small-container", "rabbit@localhost"),
}
SUITES = ("bookworm", "trixie")
# Seconds between two diagnoses: the broker's statistics change every second.
POLL = 0.5


class Case:
    """The findings about one broker without faults and with those of TOGETHER."""

    def __init__(self, suite, well, broken):
        self.suite = suite
        self.well = well
        self.broken = broken


@pytest.fixture(scope="module", params=SUITES)
def case(request):
    # A broker of its own: some findings outlive their fault by minutes.
    with broker(request.param) as found, contextlib.ExitStack() as stack:
        with found.amqp() as connection:
            connection.channel().queue_declare("lab.quiet", durable=True)
        wait_until(lambda: found.rabbitmq_api("GET", "/nodes")[0].get("proc_used"), "statistics", 15)
        settings = {**SOONER, "message_queue_use_warning": part_of(found, "fd", connections=100)}
        for_processes = {"message_queue_use_warning": part_of(found, "proc", connections=100)}
        well = found.diagnose(**settings)
        # The connections of the faults show which of the brokers on this host this is.
        settings["message_queue_memory_limit_bytes"] = 0
        well.update(processes_of(found.diagnose(**for_processes)))
        for fault in dict.fromkeys(fault for fault, _thing in TOGETHER.values()):
            stack.enter_context(found.fault(fault))
        wanted = {"message_queue." + check for check in expected_of(request.param)}
        deadline = time.monotonic() + 160
        broken = {}
        while wanted - set(broken) and time.monotonic() < deadline:
            time.sleep(1)
            # Rates change with the broker's samples: it is enough that a check has fired once.
            broken.update(found.diagnose(**settings))
            broken.update(processes_of(found.diagnose(**for_processes)))
        if request.param == SUITES[-1]:
            for fault in dict.fromkeys(fault for fault, _thing in TOGETHER.values()):
                follow(
                    Operator(container=found.server.name),
                    MESSAGE_QUEUE[fault],
                    broken,
                    lambda: found.diagnose(**settings),
                )
    return Case(request.param, well, broken)


def part_of(found, resource, connections):
    """Return the ratio of a node's limit that is in use with this many more connections."""
    node = found.rabbitmq_api("GET", "/nodes")[0]
    return (node[resource + "_used"] + connections) / node[resource + "_total"]


def processes_of(findings):
    """Return the one check with a threshold of its own: there are far more processes than file descriptors."""
    return {check: found for check, found in findings.items() if check == "message_queue.erlang_processes"}


def expected_of(suite):
    # RabbitMQ 4 has no separate limit for sockets.
    return [check for check in TOGETHER if check != "sockets" or suite == "bookworm"]


def checked(findings):
    """Return the findings, whose templates must not have failed: the summary would contain the title and the reason."""
    for finding in findings:
        assert finding["status"] in ("info", "warning", "critical"), finding
        assert finding["title"] not in finding["summary"], finding["summary"]
        assert "is undefined" not in (finding["hint"] or ""), finding["hint"]
        assert finding["why"]
    return findings


def test_a_healthy_broker_has_no_findings(case):
    assert case.well == {}


@pytest.mark.parametrize("check", TOGETHER)
def test_a_check_fires_on_its_fault(case, check):
    found = case.broken.get("message_queue." + check, [])
    if check not in expected_of(case.suite):
        assert found == []
        return
    thing = TOGETHER[check][1]
    assert [finding for finding in checked(found) if thing is None or thing in finding["object"]], case.broken.keys()


def test_healthy_queues_are_not_reported_with_the_others(case):
    named = {finding["object"] for findings in case.broken.values() for finding in findings if finding["object"]}
    assert "/ lab.quiet" not in named
    # Dead-letter queues need no consumer.
    waiting = {finding["object"] for finding in case.broken["message_queue.no_consumer"]}
    assert "/ lab.graveyard" not in waiting


# Faults of the whole broker, injected one after the other: fault -> checks that fire.
ALONE = {
    "blocked-publisher": ("memory_alarm", "blocked_connections"),
    "disk-alarm": ("disk_alarm",),
    "disk-nearly-full": ("disk_free_near_limit",),
    "memory-nearly-full": ("memory_near_watermark",),
    "partitioned-cluster": ("partition",),
    "lost-node": ("node_down", "queue_members", "queue_down"),
}


@pytest.fixture(scope="module")
def one(rabbitmq40):
    """A broker for faults of the whole broker."""
    wait_until(lambda: rabbitmq40.rabbitmq_api("GET", "/nodes")[0].get("mem_used"), "statistics", 15)
    yield rabbitmq40
    known = {user["name"] for user in rabbitmq40.rabbitmq_api("GET", "/users")}
    for name in known & {"lab.watcher", "lab.service"}:
        rabbitmq40.rabbitmq_api("DELETE", "/users/" + name)


@pytest.mark.parametrize("fault", ALONE)
def test_a_check_of_the_node_fires_on_its_fault_and_ends_with_it(one, fault):
    wanted = {"message_queue." + check for check in ALONE[fault]}
    assert not wanted & set(one.diagnose())
    with one.fault(fault):
        found = wait_until(lambda: if_all(one.diagnose(), wanted), "the findings of %s" % fault, 20, POLL)
        for check in wanted:
            assert checked(found[check])
        follow(Operator(container=one.server.name), MESSAGE_QUEUE[fault], found, one.diagnose)
    wait_until(lambda: not wanted & set(one.diagnose()), "the end of the findings of %s" % fault, 20, POLL)


def if_all(findings, wanted):
    return findings if wanted <= set(findings) else None


def test_without_the_management_api_amqp_is_still_checked(one):
    with one.amqp() as connection:
        connection.channel().queue_declare("lab.expected", durable=True)
    expected = [{"name": "lab.expected", "min_consumers": 1}, {"name": "lab.missing"}]
    with one.fault("management-off"):
        found = one.diagnose(message_queue_expected_queues=expected)
        follow(Operator(container=one.server.name), MESSAGE_QUEUE["management-off"], found, one.diagnose)
    (finding,) = checked(found["message_queue.management_unreachable"])
    assert finding["observed"] == {"reachable": False}
    assert "rabbitmq_management" in finding["hint"]
    assert "message_queue.unreachable" not in found
    # Checks that AMQP can answer are evaluated, all others are unknown.
    assert [finding["object"] for finding in checked(found["message_queue.missing_queue"])] == ["/ lab.missing"]
    assert [finding["object"] for finding in checked(found["message_queue.too_few_consumers"])] == ["/ lab.expected"]
    for check in ("memory_alarm", "node_down", "dead_letters", "unroutable", "vhost_hidden"):
        (finding,) = found["message_queue." + check]
        assert finding["status"] == "unknown"
        assert "the management API" in finding["summary"]


def test_expected_queues_without_consumer_and_missing(one):
    with one.amqp() as connection:
        channel = connection.channel()
        channel.queue_declare("lab.expected", durable=True)
        expected = {"message_queue_expected_queues": [{"name": "lab.expected", "min_consumers": 1}]}
        assert checked(one.diagnose(**expected)["message_queue.too_few_consumers"])
        channel.basic_consume("lab.expected", lambda *_delivery: None)
        # Known from a passive declare until the statistics are updated.
        wait_until(lambda: "message_queue.too_few_consumers" not in one.diagnose(**expected), "the consumer", 15, POLL)
        channel.queue_delete("lab.expected")
    assert checked(one.diagnose(**expected)["message_queue.missing_queue"])


def test_hidden_queues_are_reported_for_a_user_without_permissions(one):
    one.user("lab.watcher", tags="monitoring")
    with one.amqp() as connection:
        connection.channel().queue_declare("lab.unseen")
    wait_until(lambda: one.rabbitmq_api("GET", "/overview")["object_totals"]["queues"] > 0, "the queue", 10)
    watching = {"message_queue_login_user": "lab.watcher", "message_queue_login_password": "lab.watcher"}
    found = one.diagnose(**watching)
    assert [finding["object"] for finding in checked(found["message_queue.vhost_hidden"])] == ["vhost /"]
    (finding,) = checked(found["message_queue.unreachable"])
    assert (finding["status"], "set_permissions" in finding["hint"]) == ("warning", True)
    # Permissions that match nothing are enough.
    one.user("lab.watcher", tags="monitoring", permissions={"/": "^$"})
    # A test before this one has restarted the management plugin, which counts anew.
    wait_until(lambda: one.diagnose(**watching) == {}, "no findings", 15, POLL)
    with one.amqp() as connection:
        connection.channel().queue_delete("lab.unseen")


def test_a_user_without_the_tag_can_use_amqp_only(one):
    one.user("lab.service", permissions={"/": ".*"})
    service = {"message_queue_login_user": "lab.service", "message_queue_login_password": "lab.service"}
    found = one.diagnose(**service)
    (finding,) = found["message_queue.management_unreachable"]
    assert "set_user_tags" in finding["hint"]
    assert "message_queue.unreachable" not in found


def test_a_broker_without_statistics_is_reported(one):
    assert "message_queue.statistics_off" not in one.diagnose()
    with one.fault("statistics-off"):
        findings = one.diagnose()
    assert checked(findings["message_queue.statistics_off"])
    for check in ("memory_alarm", "disk_alarm", "file_descriptors"):
        assert {finding["status"] for finding in findings["message_queue." + check]} == {"unknown"}


UNREACHABLE = {
    "wrong password": ({"message_queue_login_password": "wrong"}, "authentication", "login_password"),
    "closed port": ({"message_queue_amqp_port": 1, "message_queue_management_port": 1}, "refused", "amqp_port"),
    "no such vhost": ({"message_queue_vhost": "lab.nowhere"}, "no_such_vhost", "vhost"),
    "no such host": ({"message_queue_login_host": "nowhere.invalid"}, "name_resolution", "login_host"),
}


@pytest.mark.parametrize("how", UNREACHABLE)
def test_unreachable_names_the_cause_and_the_option(one, how):
    settings, kind, option = UNREACHABLE[how]
    (finding,) = checked(one.diagnose(**settings)["message_queue.unreachable"])
    assert finding["status"] == "critical"
    assert finding["summary"].startswith(kind + ":")
    assert option in finding["hint"]


def test_a_broker_that_hangs_is_reported_in_time(one):
    with one.fault("frozen-broker"):
        impatient = one.settings(message_queue_timeout=1, message_queue_deadline=6)
        area, outcome, settings = areas.visit("message_queue", impatient)
        found = areas.evaluate(area, outcome, settings)
        follow(Operator(container=one.server.name), MESSAGE_QUEUE["frozen-broker"], found, one.diagnose)
    (finding,) = checked(found["message_queue.unreachable"])
    assert finding["summary"].startswith("no_answer:")
    # One timeout for AMQP and one for the API: the second probe has the failures of the first, whose text contains
    # what was left of the deadline.
    node, queues = (outcome["measurement"][probe] for probe in ("node", "queues"))
    assert node["management"]["error"] == queues["error"]


def remedy(one, tmp_path, tasks, check, settings=None, /, **evidence):
    """Run a remedy's task file by itself and return its output."""
    login = {key: value for key, value in one.settings(**(settings or {})).items() if "_expected_" not in key}
    exports = {"message_queue_export_directory": str(tmp_path / "exports")}
    hosts = inventory(tmp_path / "inventory.yml", {"broker": {**LOCAL, **login}})
    output = run_remedy(
        "message_queue", tasks, hosts, evidence, *(["--check", "--diff"] if check else []), extra=exports
    )
    assert one.server.password not in output
    return output


def test_the_remedies_of_a_finding_purge_and_replay(one, tmp_path):
    with one.fault("orphaned-queue"):
        (finding,) = [found for found in one.diagnose()["message_queue.backlog"] if found["object"] == "/ lab.orphaned"]
        offered = finding["remedy"]
        assert (offered["id"], offered["risk"], offered["data_loss"]) == (
            "message_queue.purge",
            "destructive",
            "message",
        )
        assert "exports the 1100 ready messages of lab.orphaned" in offered["does"]
        output = remedy(one, tmp_path, "remediate/purge", True, **offered["vars"])
        assert '-    "ready": 1100' in output
        assert '+    "ready": 0' in output
        assert one.ready("lab.orphaned") == 1100
        remedy(one, tmp_path, "remediate/purge", False, **offered["vars"])
        assert one.ready("lab.orphaned") == 0
        (export,) = (tmp_path / "exports").iterdir()
        remedy(one, tmp_path, "undo/replay_export", True, export_path=str(export))
        assert one.ready("lab.orphaned") == 0
        remedy(one, tmp_path, "undo/replay_export", False, export_path=str(export))
        assert one.ready("lab.orphaned") == 1100


# Both work again only after a restart: one has stopped, and one has lost its connection and does not notice.
GONE = {
    "stopped": lambda one, name: docker("stop", "--time", "1", name),
    "disconnected": lambda one, name: disconnect(one),
}
CONSUMER = """
import os, pika, time
parameters = pika.ConnectionParameters("127.0.0.1", credentials=pika.PlainCredentials(*os.environ["LOGIN"].split(":")))
try:
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.basic_consume("lab.consumed", lambda channel, delivery, *rest: channel.basic_ack(delivery.delivery_tag))
    channel.start_consuming()
except pika.exceptions.AMQPError:
    time.sleep(1e6)
"""


def disconnect(one):
    """Close every connection except those of the lab, as a restart of the broker does."""
    for connection in one.rabbitmq_api("GET", "/connections"):
        if connection["client_properties"].get("connection_name") != "lab":
            one.rabbitmq_api("DELETE", "/connections/%s" % quote(connection["name"]))


def consumers(one):
    """Return the number of consumers that the broker reports."""
    with one.amqp() as connection:
        return connection.channel().queue_declare("lab.consumed", passive=True).method.consumer_count


@pytest.mark.parametrize("how", GONE)
def test_the_remedy_of_a_missing_consumer_restarts_it(one, tmp_path, how):
    with one.amqp() as connection:
        connection.channel().queue_declare("lab.consumed", durable=True)
    with project("message_queue") as services:
        login = "LOGIN=%s:%s" % (one.server.user, one.server.password)
        options = ("--network", "container:%s" % one.server.name, "--env", login, "--restart", "unless-stopped")
        name = services.run("worker", "python3", "-c", CONSUMER, options=options)
        wait_until(lambda: consumers(one) == 1, "the consumer", 15)
        # The API lists a connection some seconds after it was opened.
        wait_until(lambda: one.rabbitmq_api("GET", "/connections"), "the connection", 15)
        settings = {
            "message_queue_consumers": {"lab.consumed": ["worker"]},
            "tracktion_compose_project": services.name,
            "message_queue_consumer_min_uptime": 0,
            "message_queue_expected_queues": [{"name": "lab.consumed", "min_consumers": 1}],
        }
        wait_until(lambda: "message_queue.too_few_consumers" not in one.diagnose(**settings), "no finding", 15, POLL)
        GONE[how](one, name)
        wait_until(lambda: consumers(one) == 0, "the consumer to be gone", 15)
        publish(one, "lab.consumed", [b"{}"] * 3)
        wanted = {"message_queue.no_consumer", "message_queue.too_few_consumers"}
        found = wait_until(lambda: if_all(one.diagnose(**settings), wanted), "the findings", 20, POLL)
        offered = [finding["remedy"] for check in wanted for finding in checked(found[check])]
        # Two findings, but one action.
        assert {(each["id"], each["risk"], each["target"], each["denied"]) for each in offered} == {
            ("message_queue.restart_consumers", "disruptive", "worker", False)
        }
        assert len({each["evidence"] for each in offered}) == 1
        assert "restarts worker, which consumes lab.consumed" in offered[0]["does"]
        output = remedy(one, tmp_path, "remediate/restart_consumers", True, settings, **offered[0]["vars"])
        assert "CHANGED" in output
        assert consumers(one) == 0
        remedy(one, tmp_path, "remediate/restart_consumers", False, settings, **offered[0]["vars"])
        wait_until(lambda: consumers(one) == 1 and one.ready("lab.consumed") == 0, "the consumer to be back", 15)
        wait_until(lambda: not wanted & set(one.diagnose(**settings)), "the findings to be gone", 20, POLL)
        # The queue is measured again just before the restart: it has its consumer, whatever the finding said.
        again = remedy(one, tmp_path, "remediate/restart_consumers", False, settings, **offered[0]["vars"])
        assert "CHANGED" not in again
        assert "SKIPPED" in again
    with one.amqp() as connection:
        connection.channel().queue_delete("lab.consumed")


def test_a_queue_without_a_configured_consumer_gets_no_action(one):
    with one.fault("orphaned-queue"):
        (finding,) = [
            found for found in one.diagnose()["message_queue.no_consumer"] if found["object"] == "/ lab.orphaned"
        ]
    assert finding["remedy"] is None
    assert "message_queue_consumers" in finding["hint"]
