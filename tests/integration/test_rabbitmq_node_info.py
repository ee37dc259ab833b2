# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rabbitmq_node_info against real brokers: compared with rabbitmqctl, over TLS, and while the broker starts."""

from __future__ import annotations

import json
import time

import pytest

from tests.integration.rabbitmq import broker
from tests.lab.engine import docker
from tests.lab.faults.message_queue import queue
from tests.lab.shell import wait_until


@pytest.fixture(scope="module", params=("bookworm", "trixie"))
def lab(request):
    with broker(request.param, tls=request.param == "bookworm") as found:
        yield found


@pytest.fixture(scope="module")
def plain():
    with broker("trixie") as found:
        yield found


def info(lab, **options):
    if lab.server.tls:
        trusted = {"login_protocol": "https", "amqp_tls": True, "ca_cert": str(lab.server.ca_cert)}
        options = {**trusted, "login_host": "localhost", **options}
    return lab.run("rabbitmq_node_info", **options)


def test_the_measurement_agrees_with_rabbitmqctl(lab):
    result = wait_until(lambda: with_memory(info(lab)), "statistics", 15)
    assert (result["changed"], result["reachable"], result["error"], result["unknown"]) == (False, True, None, [])
    assert result["amqp"]["reachable"]
    assert result["management"]["reachable"]
    assert result["server"]["version"] == lab.server.exec("rabbitmqctl", "version").strip()
    assert result["vhosts"] == [{"name": "/", "down_on": []}]
    (node,) = result["nodes"]
    status = json.loads(lab.server.exec("rabbitmqctl", "--quiet", "--formatter", "json", "status"))
    assert (node["name"], node["running"], node["partitions"]) == ("rabbit@localhost", True, [])
    assert node["memory"]["watermark_bytes"] == status["vm_memory_high_watermark_limit"]
    assert node["disk"]["limit_bytes"] == status["disk_free_limit"]
    # rabbitmqctl does not count the descriptors that the node reserves for itself.
    assert 0 <= node["files"]["limit"] - status["file_descriptors"]["total_limit"] <= 200
    assert node["processes"]["limit"] == status["processes"]["limit"]
    # RabbitMQ 4 does not limit sockets.
    assert (node["sockets"] is None) == (lab.server.suite == "trixie")
    port = 5671 if lab.server.tls else 5672
    assert port in {listener["port"] for listener in result["listeners"]}
    assert lab.server.password not in json.dumps(result)


def with_memory(result):
    return result if result["nodes"] and result["nodes"][0]["memory"] else None


def test_an_untrusted_certificate_is_reported(lab):
    if not lab.server.tls:
        result = info(lab, login_protocol="https", amqp_tls=True)
        assert result["management"]["error"]["kind"] == "tls"
        return
    result = info(lab, ca_cert=None)
    kinds = (result["error"]["kind"], result["management"]["error"]["kind"])
    assert (result["reachable"], kinds) == (False, ("certificate", "certificate"))
    assert "ca_cert" in result["error"]["hint"]
    assert info(lab, ca_cert=None, validate_certs=False)["amqp"]["reachable"]
    certificate = {"client_cert": str(lab.server.client_cert), "client_key": str(lab.server.client_key)}
    assert info(lab, **certificate)["management"]["reachable"]
    # Without TLS: the API closes the connection, or does not answer in HTTP.
    result = info(lab, login_protocol="http", amqp_tls=False, timeout=1)
    assert result["reachable"] is False


def test_the_limit_of_the_container_is_found_and_the_option_overrides_it(plain):
    wait_until(lambda: with_memory(info(plain)), "statistics", 15)
    # A connection shows which of the brokers on this host this is.
    with plain.amqp(), plain.fault("small-container"):
        wait_until(lambda: plain.rabbitmq_api("GET", "/connections"), "the connection", 15)
        limit = int(docker("inspect", "--format", "{{.HostConfig.Memory}}", plain.server.name))
        memory = info(plain, memory_limit_bytes=0)["nodes"][0]["memory"]
        # The kernel counts in pages.
        assert (memory["limit_bytes"], memory["limit_source"]) == (limit // 4096 * 4096, "cgroup")
    memory = info(plain, memory_limit_bytes=2**30)["nodes"][0]["memory"]
    assert (memory["limit_bytes"], memory["limit_source"]) == (2**30, "option")


def test_dead_letters_are_followed_through_exchanges_of_every_type(plain):
    with plain.amqp() as connection:
        channel = connection.channel()
        for name, kind in (("lab.topic", "topic"), ("lab.inner", "fanout"), ("lab.headers", "headers")):
            channel.exchange_declare(name, kind)
        dead = {"x-dead-letter-exchange": "lab.topic", "x-dead-letter-routing-key": "dead.audio.mp3"}
        with (
            queue(plain, "lab.source", dead),
            queue(plain, "lab.direct", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.grave"}),
            queue(plain, "lab.lost", {"x-dead-letter-exchange": "lab.topic", "x-dead-letter-routing-key": "other"}),
            queue(plain, "lab.any", {"x-dead-letter-exchange": "lab.headers"}),
            queue(plain, "lab.grave"),
        ):
            channel.exchange_bind("lab.inner", "lab.topic", "dead.#")
            channel.queue_bind("lab.grave", "lab.inner")
            channel.queue_bind("lab.grave", "lab.headers", arguments={"x-match": "all", "a": "b"})
            letters = info(plain)["dead_letters"]
        for name in ("lab.topic", "lab.inner", "lab.headers"):
            channel.exchange_delete(name)
    (grave,) = letters["queues"]
    assert (grave["name"], letters["total"]) == ("lab.grave", 1)
    assert [source["queue"] for source in grave["sources"]] == ["lab.any", "lab.direct", "lab.source"]
    (lost,) = letters["lost"]
    assert (lost["queue"], lost["reason"]) == ("lab.lost", "the exchange lab.topic routes them to no queue")


def test_a_starting_broker_is_not_reported_as_healthy(plain):
    plain.server.stop()
    result = info(plain)
    assert (result["reachable"], result["error"]["kind"]) == (False, "refused")
    docker("start", plain.server.name)
    deadline = time.monotonic() + 60
    while not (result["amqp"]["reachable"] and result["management"]["reachable"]):
        assert time.monotonic() < deadline
        result = info(plain, timeout=2)
        for part in ("amqp", "management"):
            if not result[part]["reachable"]:
                error = result[part]["error"]
                assert error["kind"] in ("refused", "closed", "timeout", "no_answer", "failed", "protocol"), error
                assert error["hint"]
        time.sleep(0.3)
