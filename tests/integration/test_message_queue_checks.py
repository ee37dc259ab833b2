# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the area message_queue fires on a real fault, and is quiet without it, on RabbitMQ 3.10 and 4.0."""

from __future__ import annotations

import contextlib
import time
from urllib.parse import quote

import pytest

from tests.integration.playbooks import LOCAL, inventory, run_remedy
from tests.integration.rabbitmq import broker
from tests.lab.engine import docker
from tests.lab.faults.message_queue import publish
from tests.lab.shell import wait_until
from tests.lab.throwaway import project

# Thresholds where the fault would take too long to grow.
SOONER = {
    "message_queue_stuck_consumer_warning": 5,
    # Of half an hour.
    "message_queue_ack_timeout_warning": 0.002,
}

# Faults that leave each other alone and are injected together, because the broker's statistics need seconds to see
# them: check -> (fault, part of the finding's object).
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


class Case:
    """One broker, judged while it is well and while the faults of TOGETHER break it."""

    def __init__(self, suite, found, well, broken):
        self.suite = suite
        self.broker = found
        self.well = well
        self.broken = broken


@pytest.fixture(scope="module", params=SUITES)
def case(request):
    with broker(request.param) as found, contextlib.ExitStack() as stack:
        with found.amqp() as connection:
            connection.channel().queue_declare("lab.quiet", durable=True)
        wait_until(lambda: found.rabbitmq_api("GET", "/nodes")[0].get("proc_used"), "statistics", 15)
        settings = {**SOONER, "message_queue_use_warning": part_of(found, "fd", connections=100)}
        for_processes = {"message_queue_use_warning": part_of(found, "proc", connections=100)}
        well = found.diagnose(**settings)
        well.update(processes_of(found.diagnose(**for_processes)))
        for fault in dict.fromkeys(fault for fault, _thing in TOGETHER.values()):
            stack.enter_context(found.fault(fault))
        wanted = {"message_queue." + check for check in expected_of(request.param)}
        deadline = time.monotonic() + 40
        broken = {}
        while wanted - set(broken) and time.monotonic() < deadline:
            time.sleep(1)
            # Rates come and go with the broker's samples: what has fired once has fired.
            broken.update(found.diagnose(**settings))
            broken.update(processes_of(found.diagnose(**for_processes)))
        yield Case(request.param, found, well, broken)


def part_of(found, resource, connections):
    """The part of a node's limit that so many connections more would take."""
    node = found.rabbitmq_api("GET", "/nodes")[0]
    return (node[resource + "_used"] + connections) / node[resource + "_total"]


def processes_of(findings):
    """The one check that is judged with a threshold of its own: there are far more processes than file descriptors."""
    return {check: found for check, found in findings.items() if check == "message_queue.erlang_processes"}


def expected_of(suite):
    # RabbitMQ 4 does not limit sockets by themselves.
    return [check for check in TOGETHER if check != "sockets" or suite == "bookworm"]


def sound(findings):
    """Findings that are worded: a template that fails shows as the title with the reason."""
    for finding in findings:
        assert finding["status"] in ("info", "warning", "critical"), finding
        assert finding["title"] not in finding["summary"], finding["summary"]
        assert "is undefined" not in (finding["hint"] or ""), finding["hint"]
        assert finding["why"]
    return findings


def test_a_broker_that_is_well_has_no_findings(case):
    assert case.well == {}


@pytest.mark.parametrize("check", TOGETHER)
def test_a_check_fires_on_its_fault(case, check):
    found = case.broken.get("message_queue." + check, [])
    if check not in expected_of(case.suite):
        assert found == []
        return
    thing = TOGETHER[check][1]
    assert [finding for finding in sound(found) if thing is None or thing in finding["object"]], case.broken.keys()


def test_queues_that_are_well_are_not_named_beside_those_that_are_not(case):
    named = {finding["object"] for findings in case.broken.values() for finding in findings if finding["object"]}
    assert "/ lab.quiet" not in named
    # Dead letters are meant to wait.
    waiting = {finding["object"] for finding in case.broken["message_queue.no_consumer"]}
    assert "/ lab.graveyard" not in waiting


# Faults that concern the whole broker, one after the other: fault -> checks that it makes fire.
ALONE = {
    "blocked-publisher": ("memory_alarm", "blocked_connections"),
    "disk-alarm": ("disk_alarm",),
    "disk-nearly-full": ("disk_free_near_limit",),
    "memory-nearly-full": ("memory_near_watermark",),
    "partitioned-cluster": ("partition",),
    "lost-node": ("node_down", "queue_members", "queue_down"),
}


@pytest.fixture(scope="module")
def one():
    """A broker to break as a whole."""
    with broker("trixie") as found:
        wait_until(lambda: found.rabbitmq_api("GET", "/nodes")[0].get("mem_used"), "statistics", 15)
        yield found


@pytest.mark.parametrize("fault", ALONE)
def test_a_check_of_the_node_fires_on_its_fault_and_falls_silent(one, fault):
    wanted = {"message_queue." + check for check in ALONE[fault]}
    assert not wanted & set(one.diagnose())
    with one.fault(fault):
        found = wait_until(lambda: said(one.diagnose(), wanted), "%s to be noticed" % fault, 20)
        for check in wanted:
            assert sound(found[check])
    wait_until(lambda: not wanted & set(one.diagnose()), "%s to be forgotten" % fault, 20)


def said(findings, wanted):
    return findings if wanted <= set(findings) else None


def test_the_management_api_is_off_and_amqp_still_answers(one):
    with one.amqp() as connection:
        connection.channel().queue_declare("lab.expected", durable=True)
    expected = [{"name": "lab.expected", "min_consumers": 1}, {"name": "lab.missing"}]
    with one.fault("management-off"):
        found = one.diagnose(message_queue_expected_queues=expected)
    (finding,) = sound(found["message_queue.management_unreachable"])
    assert finding["observed"] == {"reachable": False}
    assert "rabbitmq_management" in finding["hint"]
    assert "message_queue.unreachable" not in found
    # What AMQP alone tells is judged, and all else is unknown.
    assert [finding["object"] for finding in sound(found["message_queue.missing_queue"])] == ["/ lab.missing"]
    assert [finding["object"] for finding in sound(found["message_queue.too_few_consumers"])] == ["/ lab.expected"]
    for check in ("memory_alarm", "node_down", "dead_letters", "unroutable", "vhost_hidden"):
        (finding,) = found["message_queue." + check]
        assert finding["status"] == "unknown"
        assert "the management API" in finding["summary"]


def test_expected_queues_are_missed_and_found(one):
    with one.amqp() as connection:
        channel = connection.channel()
        channel.queue_declare("lab.expected", durable=True)
        expected = {"message_queue_expected_queues": [{"name": "lab.expected", "min_consumers": 1}]}
        assert sound(one.diagnose(**expected)["message_queue.too_few_consumers"])
        channel.basic_consume("lab.expected", lambda *_delivery: None)
        # Found out by a passive declare where the statistics come too late, and from them else.
        wait_until(lambda: "message_queue.too_few_consumers" not in one.diagnose(**expected), "the consumer", 15)
        channel.queue_delete("lab.expected")
    assert sound(one.diagnose(**expected)["message_queue.missing_queue"])


def test_a_user_without_permissions_is_not_told_that_all_is_well(one):
    one.user("lab.watcher", tags="monitoring")
    with one.amqp() as connection:
        connection.channel().queue_declare("lab.unseen")
    wait_until(lambda: one.rabbitmq_api("GET", "/overview")["object_totals"]["queues"] > 0, "the queue", 10)
    watching = {"message_queue_login_user": "lab.watcher", "message_queue_login_password": "lab.watcher"}
    found = one.diagnose(**watching)
    assert [finding["object"] for finding in sound(found["message_queue.vhost_hidden"])] == ["vhost /"]
    (finding,) = sound(found["message_queue.unreachable"])
    assert (finding["status"], "set_permissions" in finding["hint"]) == ("warning", True)
    # Permissions that match nothing are enough.
    one.user("lab.watcher", tags="monitoring", permissions={"/": "^$"})
    assert one.diagnose(**watching) == {}


def test_a_user_without_the_tag_may_use_amqp_only(one):
    one.user("lab.service", permissions={"/": ".*"})
    service = {"message_queue_login_user": "lab.service", "message_queue_login_password": "lab.service"}
    found = one.diagnose(**service)
    (finding,) = found["message_queue.management_unreachable"]
    assert "set_user_tags" in finding["hint"]
    assert "message_queue.unreachable" not in found


def test_a_broker_without_statistics_says_so(one):
    assert "message_queue.statistics_off" not in one.diagnose()
    with one.fault("statistics-off"):
        findings = one.diagnose()
    assert sound(findings["message_queue.statistics_off"])
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
    (finding,) = sound(one.diagnose(**settings)["message_queue.unreachable"])
    assert finding["status"] == "critical"
    assert finding["summary"].startswith(kind + ":")
    assert option in finding["hint"]


def test_a_broker_that_hangs_is_given_up_in_time(one):
    with one.fault("frozen-broker"):
        began = time.monotonic()
        found = one.diagnose(message_queue_timeout=1, message_queue_deadline=6)
        seconds = time.monotonic() - began
    (finding,) = sound(found["message_queue.unreachable"])
    assert finding["summary"].startswith("timeout:")
    # One time-out for AMQP and one for the API; the second probe remembers both.
    assert seconds < 4


def remedy(one, tmp_path, tasks, check, settings=None, /, **evidence):
    """Run a remedy's task file by hand; its output."""
    login = {key: value for key, value in one.settings(**(settings or {})).items() if "_expected_" not in key}
    exports = {"message_queue_export_directory": str(tmp_path / "exports")}
    hosts = inventory(tmp_path / "inventory.yml", {"broker": {**LOCAL, **login}})
    said = run_remedy("message_queue", tasks, hosts, evidence, *(["--check", "--diff"] if check else []), extra=exports)
    assert one.server.password not in said
    return said


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
        said = remedy(one, tmp_path, "remediate/purge", True, **offered["vars"])
        assert '-    "ready": 1100' in said
        assert '+    "ready": 0' in said
        assert one.ready("lab.orphaned") == 1100
        remedy(one, tmp_path, "remediate/purge", False, **offered["vars"])
        assert one.ready("lab.orphaned") == 0
        (export,) = (tmp_path / "exports").iterdir()
        remedy(one, tmp_path, "undo/replay_export", True, export_path=str(export))
        assert one.ready("lab.orphaned") == 0
        remedy(one, tmp_path, "undo/replay_export", False, export_path=str(export))
        assert one.ready("lab.orphaned") == 1100


# Both are there after a restart only: one has stopped, and one has lost its connection and does not notice.
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
    """Close every connection but ours, as a broker does that was restarted."""
    for connection in one.rabbitmq_api("GET", "/connections"):
        if connection["client_properties"].get("connection_name") != "lab":
            one.rabbitmq_api("DELETE", "/connections/%s" % quote(connection["name"]))


def consumers(one):
    """How many consumers the broker itself says there are."""
    with one.amqp() as connection:
        return connection.channel().queue_declare("lab.consumed", passive=True).method.consumer_count


@pytest.mark.parametrize("how", GONE)
def test_the_remedy_of_a_missing_consumer_brings_it_back(one, tmp_path, how):
    with one.amqp() as connection:
        connection.channel().queue_declare("lab.consumed", durable=True)
    with project("message_queue") as services:
        login = "LOGIN=%s:%s" % (one.server.user, one.server.password)
        options = ("--network", "container:%s" % one.server.name, "--env", login, "--restart", "unless-stopped")
        name = services.run("worker", "python3", "-c", CONSUMER, options=options)
        wait_until(lambda: consumers(one) == 1, "the consumer", 15)
        # The API lists a connection some seconds after it was made.
        wait_until(lambda: one.rabbitmq_api("GET", "/connections"), "the connection", 15)
        settings = {
            "message_queue_consumers": {"lab.consumed": ["worker"]},
            "message_queue_consumer_project": services.name,
            "message_queue_consumer_min_uptime": 0,
            "message_queue_expected_queues": [{"name": "lab.consumed", "min_consumers": 1}],
        }
        wait_until(lambda: "message_queue.too_few_consumers" not in one.diagnose(**settings), "quiet", 15)
        GONE[how](one, name)
        wait_until(lambda: consumers(one) == 0, "the consumer to be gone", 15)
        publish(one, "lab.consumed", [b"{}"] * 3)
        wanted = {"message_queue.no_consumer", "message_queue.too_few_consumers"}
        found = wait_until(lambda: said(one.diagnose(**settings), wanted), "the loss to be noticed", 20)
        offered = [finding["remedy"] for check in wanted for finding in sound(found[check])]
        # Two findings, one action.
        assert {(each["id"], each["risk"], each["target"], each["denied"]) for each in offered} == {
            ("message_queue.restart_consumers", "disruptive", "worker", False)
        }
        assert len({each["evidence"] for each in offered}) == 1
        assert "restarts worker, which consumes lab.consumed" in offered[0]["does"]
        said_by_check = remedy(one, tmp_path, "remediate/restart_consumers", True, settings, **offered[0]["vars"])
        assert "CHANGED" in said_by_check
        assert consumers(one) == 0
        remedy(one, tmp_path, "remediate/restart_consumers", False, settings, **offered[0]["vars"])
        wait_until(lambda: consumers(one) == 1 and one.ready("lab.consumed") == 0, "the consumer to be back", 15)
        wait_until(lambda: not wanted & set(one.diagnose(**settings)), "the findings to be gone", 20)
        # The queue is asked at the last moment: it has its consumer, whatever was found before.
        again = remedy(one, tmp_path, "remediate/restart_consumers", False, settings, **offered[0]["vars"])
        assert "CHANGED" not in again
        assert "SKIPPED" in again
    with one.amqp() as connection:
        connection.channel().queue_delete("lab.consumed")


def test_a_queue_whose_consumer_nobody_has_named_gets_no_action(one):
    with one.fault("orphaned-queue"):
        (finding,) = [
            found for found in one.diagnose()["message_queue.no_consumer"] if found["object"] == "/ lab.orphaned"
        ]
    assert finding["remedy"]["denied"] is True
    assert finding["remedy"]["problem"] is None
    assert finding["remedy"]["does"].startswith("nothing: message_queue_consumers does not say")
    assert "message_queue_consumers" in finding["hint"]
