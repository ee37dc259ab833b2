# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rabbitmq_queue_state against real brokers: what it measures, and that a purge loses no message."""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import os
import re
import shlex
import socket
import stat
import subprocess
import threading
import time
from urllib.parse import quote

import pika
import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _remedies
from tests.integration.rabbitmq import broker
from tests.lab.faults.message_queue import queue
from tests.lab.shell import wait_until
from tests.slack import SLACK

# Special characters of shells, terminals, templates and paths. The broker removes newlines from names of queues.
NAME = "lab/ sp ace é '; touch x; $(x)`x` {{ x }}\x1b[31m\u202e../.%s "
ALL = ("configure", "write", "read")
VHOST = "-p'; $(x)\n{{ x }}"


@pytest.fixture(scope="module", params=("rabbitmq310", "rabbitmq40"))
def lab(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def one():
    with broker("trixie", management__rates_mode="none") as found:
        yield found


def fill(lab, name, count=20, arguments=None):
    """Publish messages with all properties, each with a routing key of its own."""
    with lab.amqp() as connection:
        channel = connection.channel()
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.exchange_declare("lab.origin", "topic")
        channel.queue_bind(name, "lab.origin", "file.#")
        channel.confirm_delivery()
        for number in range(count):
            properties = pika.BasicProperties(
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
                priority=number % 3,
                correlation_id="c-%d" % number,
                reply_to="answers",
                message_id="ümlaut-%d" % number,
                timestamp=1700000000 + number,
                type="track",
                user_id=lab.server.user,
                app_id="lab",
                headers={
                    "text": "ünicode",
                    "bytes": b"\xff\x00",
                    "number": 2**40,
                    "money": decimal.Decimal("1.25"),
                    "when": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
                    "nothing": None,
                    "yes": True,
                    "list": [1, "two", {"three": 3}],
                    "!odd": {"!bytes": "no"},
                },
            )
            channel.basic_publish("lab.origin", "file.created.%d" % number, b"\x00body %d" % number, properties)
    return name


def take(lab, name):
    """Remove and return all ready messages of a queue, as a consumer would receive them."""
    taken = []
    with lab.amqp() as connection:
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(name, auto_ack=True)
            if method is None:
                return taken
            headers = {key: value for key, value in (properties.headers or {}).items() if not key.startswith("x-")}
            known = {key: value for key, value in vars(properties).items() if value is not None and key != "headers"}
            taken.append((method.routing_key, body, known, headers))


@pytest.fixture
def name(lab):
    chosen = NAME % os.urandom(3).hex()
    yield chosen
    with lab.amqp() as connection:
        channel = connection.channel()
        channel.queue_delete(chosen)
        # Other test files use the same broker.
        channel.exchange_delete("lab.origin")


def purge(lab, name, directory, expected, **options):
    return lab.run(state="purged", name=name, expected_messages=expected, export_directory=str(directory), **options)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_purge_and_replay_in_check_mode_for_real_and_again(lab, name, kind, tmp_path):
    directory = tmp_path / "exports"
    fill(lab, name, arguments={"x-queue-type": kind})
    before = take(lab, name)
    assert len(before) == 20
    fill(lab, name, arguments={"x-queue-type": kind})

    result = purge(lab, name, directory, 20, check=True, diff=True)
    assert (result["changed"], result["exported_messages"], result["export_path"]) == (True, 20, None)
    assert (result["diff"]["before"]["ready"], result["diff"]["after"]["ready"]) == (20, 0)
    assert lab.ready(name) == 20
    assert not directory.exists()

    result = purge(lab, name, directory, 20)
    assert (result["changed"], result["exported_messages"], result["before"]["ready"], result["after"]["ready"]) == (
        True,
        20,
        20,
        0,
    )
    assert "diff" not in result
    assert lab.ready(name) == 0
    path = result["export_path"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert os.stat(path).st_size == result["exported_bytes"]
    with open(path, encoding="utf-8") as handle:
        lines = [json.loads(line) for line in handle]
    assert [line["position"] for line in lines] == list(range(1, 21))
    assert {line["routing_key"] for line in lines} == {"file.created.%d" % number for number in range(20)}

    for check in (True, False):
        result = purge(lab, name, directory, 20, check=check)
        assert (result["changed"], result["exported_messages"], result["export_path"]) == (False, 0, None)
    assert len(list(directory.iterdir())) == 1

    result = lab.run(state="replayed", export_path=path, check=True, diff=True)
    assert (result["changed"], result["replayed_messages"]) == (True, 20)
    assert (result["diff"]["before"]["ready"], result["diff"]["after"]["ready"]) == (0, 20)
    assert lab.ready(name) == 0
    result = lab.run(state="replayed", export_path=path)
    assert (result["changed"], result["replayed_messages"], result["after"]["ready"]) == (True, 20, 20)
    for check in (True, False):
        result = lab.run(state="replayed", export_path=path, check=check)
        assert (result["changed"], result["replayed_messages"]) == (False, 0)
    # The messages are the same as before, including routing keys and order.
    assert take(lab, name) == before
    exchanges = {entry["name"] for entry in lab.rabbitmq_api("GET", "/exchanges")}
    assert not [entry for entry in exchanges if entry.startswith("tracktion.ops.replay")]


def test_a_purge_works_while_an_alarm_blocks_publishers_and_a_replay_is_refused(lab, name, tmp_path):
    fill(lab, name)
    with lab.fault("blocked-publisher"):
        planned, done, again = (
            purge(lab, name, tmp_path / "exports", 20, check=check) for check in (True, False, False)
        )
        assert [each["changed"] for each in (planned, done, again)] == [True, True, False]
        assert planned["exported_messages"] == done["exported_messages"] == 20
        assert lab.ready(name) == 0
        for check in (True, False):
            refused = lab.run(state="replayed", export_path=done["export_path"], check=check)
            assert refused["failed"] is True
            assert "nothing was replayed: the memory alarm of rabbit@localhost blocks publishers" in refused["msg"]
            assert "`rabbitmqctl status`" in refused["hint"]
    wait_until(lambda: not lab.run(state="replayed", export_path=done["export_path"]).get("failed"), "the replay", 15)
    assert lab.ready(name) == 20


def test_purge_and_replay_in_a_vhost_with_a_hostile_name(lab, name, tmp_path):
    path = quote(VHOST, safe="")
    lab.rabbitmq_api("PUT", "/vhosts/" + path, {})
    lab.rabbitmq_api("PUT", "/permissions/%s/%s" % (path, lab.server.user), dict.fromkeys(ALL, ".*"))
    with lab.amqp(virtual_host=VHOST) as connection:
        connection.channel().queue_declare(name, durable=True)
        connection.channel().basic_publish("", name, b"{}")
    result = purge(lab, name, tmp_path, 1, vhost=VHOST)
    assert (result["exported_messages"], lab.ready(name, VHOST)) == (1, 0)
    (export,) = tmp_path.iterdir()
    assert str(export) == result["export_path"]
    # The undo command of the remedy, as a shell splits it.
    (row,) = [row for row in _areas.find(["message_queue"])[0].rows("remedies") if row["id"].endswith(".purge")]
    replayed = {"export_path": "/exports/'; touch x; '$(x)/" + export.name}
    undo = _remedies.undo_command(row["undo"], "web 1", {}, replayed)
    assert (undo[0], undo[-1]) == ("`", "`")
    words = shlex.split(undo[1:-1])
    assert words[:2] == ["ansible", "web 1"]
    assert json.loads(words[-1]) == {"tracktion_remedy": replayed}
    assert lab.run(state="replayed", export_path=result["export_path"])["replayed_messages"] == 1
    assert lab.ready(name, VHOST) == 1
    lab.rabbitmq_api("DELETE", "/vhosts/" + path)


def test_headers_that_pika_can_read_but_not_write_are_replayed(lab, name, tmp_path):
    path = quote(name, safe="")
    with lab.amqp() as connection:
        connection.channel().queue_declare(name, durable=True)
    headers = {"fraction": 1.5, "nested": {"list": [0.25, "x"]}}
    message = {"payload": "{}", "payload_encoding": "string", "routing_key": name, "properties": {"headers": headers}}
    assert lab.rabbitmq_api("POST", "/exchanges/%2F/amq.default/publish", message) == {"routed": True}
    result = purge(lab, name, tmp_path, 1)
    assert lab.run(state="replayed", export_path=result["export_path"])["replayed_messages"] == 1
    wanted = {"count": 2, "ackmode": "ack_requeue_true", "encoding": "auto"}
    (found,) = lab.rabbitmq_api("POST", "/queues/%2F/" + path + "/get", wanted)
    assert (found["payload"], found["routing_key"], found["properties"]["headers"]) == ("{}", name, headers)


def test_unacknowledged_messages_stay(lab, name, tmp_path):
    fill(lab, name)
    with lab.amqp() as connection:
        channel = connection.channel()
        for _number in range(5):
            channel.basic_get(name)
        result = purge(lab, name, tmp_path, 15)
        assert (result["exported_messages"], result["after"]["ready"]) == (15, 0)
    # The consumer has disconnected: its messages are requeued.
    assert [body for _key, body, _properties, _headers in take(lab, name)] == [
        b"\x00body %d" % number for number in range(5)
    ]


def test_a_queue_with_an_unexpected_depth_is_not_purged(lab, name, tmp_path):
    fill(lab, name)
    for expected in (15, 25, 0):
        for check in (True, False):
            result = purge(lab, name, tmp_path, expected, check=check)
            assert result["failed"]
            assert "holds 20 ready messages, %d were expected" % expected in result["msg"]
            assert "expected_messages" in result["msg"]
    assert purge(lab, name, tmp_path, 19, check=True)["changed"]
    assert lab.ready(name) == 20


def test_limits_apply_and_nothing_is_lost(lab, name, tmp_path):
    fill(lab, name)
    for check in (True, False):
        result = purge(lab, name, tmp_path, 20, check=check, max_messages=19)
        assert "max_messages" in result["msg"]
    result = purge(lab, name, tmp_path, 20, max_bytes=5000)
    assert "max_bytes" in result["msg"]
    assert list(tmp_path.iterdir()) == []
    # Requeued in their original order.
    assert [body for _key, body, _p, _h in take(lab, name)] == [b"\x00body %d" % number for number in range(20)]


def test_a_full_disk_purges_nothing(lab, name, tmp_path):
    fill(lab, name)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", str(tmp_path)], check=True)
    try:
        result = purge(lab, name, tmp_path, 20)
        assert "No space left on device" in result["msg"]
        assert "export_directory" in result["msg"]
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert [body for _key, body, _p, _h in take(lab, name)] == [b"\x00body %d" % number for number in range(20)]


def test_an_export_directory_that_cannot_be_written_purges_nothing(lab, name, tmp_path):
    fill(lab, name)
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        for check in (True, False):
            result = purge(lab, name, directory, 20, check=check)
            assert result["failed"]
            assert "export_directory" in result["msg"]
    # Not detected before the directory is created.
    assert "export_directory" in purge(lab, name, "/proc/nothing", 20)["msg"]
    assert lab.ready(name) == 20


def test_a_deadline_that_is_too_short_leaves_the_queue_unchanged(lab, name, tmp_path):
    with lab.amqp() as connection:
        channel = connection.channel()
        channel.queue_declare(name, durable=True)
        for number in range(3000):
            channel.basic_publish("", name, b"%d" % number)
    while lab.ready(name) < 3000:
        time.sleep(0.1)
    result = purge(lab, name, tmp_path, 3000, deadline=0.4)
    assert result["failed"]
    assert "nothing was purged" in result["msg"]
    assert "deadline" in result["msg"]
    assert list(tmp_path.iterdir()) == []
    assert lab.ready(name) == 3000


def test_an_invalid_export_is_not_replayed(lab, name, tmp_path):
    fill(lab, name)
    path = purge(lab, name, tmp_path, 20)["export_path"]
    with open(path, "rb") as handle:
        lines = handle.readlines()
    for broken, reason in (
        (lines[:10] + lines[11:], "line 11 has position 12"),
        (lines[:-1] + [lines[-1][:-20]], "line 20"),
        (lines[:3] + [b"{}\n"], "line 4 lacks position"),
        ([], "no message"),
    ):
        with open(path, "wb") as handle:
            handle.writelines(broken)
        for check in (True, False):
            result = lab.run(state="replayed", export_path=path, check=check)
            assert reason in result["msg"]
    assert lab.ready(name) == 0
    result = lab.run(state="replayed", export_path=str(tmp_path / "nothing"))
    assert "export_path" in result["msg"]


def test_a_broker_that_closes_the_connection_during_a_replay_is_reported(lab, name, tmp_path):
    fill(lab, name)
    path = purge(lab, name, tmp_path, 20)["export_path"]
    with open(path, "rb") as handle:
        lines = [json.loads(line) for line in handle]
    # A table with a type that AMQP does not have: the broker answers INTERNAL_ERROR.
    lines[9]["headers_amqp"] = base64.b64encode(b"\0\0\0\3\1aZ").decode("ascii")
    with open(path, "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(line) + "\n" for line in lines)
    result = lab.run(state="replayed", export_path=path)
    assert result["failed"]
    assert "closed the connection" in result["msg"]
    assert lab.ready(name) == 9


def test_a_failed_replay_continues_where_it_stopped(lab, name, tmp_path):
    # The queue accepts ten messages and rejects more until it is empty.
    fill(lab, name, arguments={"x-max-length": 10, "x-overflow": "reject-publish"}, count=10)
    path = purge(lab, name, tmp_path, 10)["export_path"]
    with open(path, "rb") as handle:
        lines = [json.loads(line) for line in handle]
    with open(path, "w", encoding="utf-8") as handle:
        for number in range(25):
            print(json.dumps({**lines[number % 10], "position": number + 1}), file=handle)
    seen = []
    for _attempt in range(3):
        result = lab.run(state="replayed", export_path=path)
        seen += [body for _key, body, _p, _h in take(lab, name)]
        if not result.get("failed"):
            break
        assert "messages were replayed" in result["msg"]
    assert seen == [b"\x00body %d" % (number % 10) for number in range(25)]


def test_a_failed_purge_names_the_option_to_correct(lab, tmp_path):
    assert "Correct `name` and `vhost`" in purge(lab, "lab.nothing", tmp_path, 1)["msg"]
    assert "Correct `vhost`" in purge(lab, "lab.nothing", tmp_path, 1, vhost="nowhere")["msg"]
    assert "amqp_port" in purge(lab, "lab.nothing", tmp_path, 1, amqp_port=1)["msg"]
    assert "login_password" in purge(lab, "lab.nothing", tmp_path, 1, login_password="wrong")["msg"]
    assert "missing: expected_messages, export_directory" in lab.run(state="purged", name="lab.nothing")["msg"]
    with lab.amqp() as connection:
        connection.channel().queue_declare("lab.mine", exclusive=True)
        result = purge(lab, "lab.mine", tmp_path, 1)
        assert "exclusive queue" in result["msg"]
    lab.user("lab.reader", permissions={"/": "^$"})
    with queue(lab, "lab.locked", messages=1):
        result = purge(lab, "lab.locked", tmp_path, 1, login_user="lab.reader", login_password="lab.reader")
        assert "permissions" in result["msg"]


def test_a_queue_is_measured(lab):
    arguments = {
        "x-max-length": 500,
        "x-message-ttl": 3600000,
        "x-dead-letter-exchange": "",
        "x-consumer-timeout": 60000,
    }
    with queue(lab, NAME % "measured", arguments, messages=7), lab.amqp() as connection:
        channel = connection.channel()
        channel.basic_get(NAME % "measured")
        # A new queue: the API has no statistics yet, but AMQP has.
        result = lab.run(include=["lab/*"])
        (found,) = result["queues"]
        assert (found["vhost"], found["name"], found["ready"], found["consumers"]) == ("/", NAME % "measured", 6, 0)
        assert found["source"] in ("amqp", "management")
        assert (found["max_length"], found["message_ttl_seconds"], found["ack_timeout_seconds"]) == (500, 3600.0, 60.0)
        assert found["dead_letter_exchange"] == ""
        assert result["changed"] is False
        assert (result["reachable"], result["error"], result["unknown"]) == (True, None, [])
        deadline = time.monotonic() + 15
        # A passive declare shows the number of consumers, also if the API has statistics.
        while found["unacked"] != 1:
            assert time.monotonic() < deadline
            time.sleep(0.5)
            (found,) = lab.run(include=["lab/*"])["queues"]
        assert (found["ready"], found["unacked"], found["total"]) == (6, 1, 7)


def test_queues_are_selected_by_vhost_and_name_and_the_rest_is_counted(lab):
    lab.rabbitmq_api("PUT", "/vhosts/lab.other", {})
    allowed = {"configure": ".*", "write": ".*", "read": ".*"}
    lab.rabbitmq_api("PUT", "/permissions/lab.other/%s" % lab.server.user, allowed)
    with contextlib.ExitStack() as stack:
        for number in range(6):
            stack.enter_context(queue(lab, "lab.many.%d" % number, messages=number))
        with lab.amqp(virtual_host="lab.other") as connection:
            connection.channel().queue_declare("lab.many.9")
        result = lab.run(include=["lab.many.*"], exclude=["*.0"])
        names = [(found["vhost"], found["name"]) for found in result["queues"]]
        assert names[:2] == [("/", "lab.many.5"), ("/", "lab.many.4")]
        assert result["totals"]["queues"] == len(names) == 6
        assert result["totals"]["ready"] == 15
        result = lab.run(include=["lab.many.*"], exclude=["*.0"], top=2)
        assert [found["name"] for found in result["queues"]] == ["lab.many.5", "lab.many.4"]
        assert (result["totals"]["left_out"], result["totals"]["left_out_messages"]) == (4, 6)
        (found,) = lab.run(vhosts=["lab.other"])["queues"]
        assert found["name"] == "lab.many.9"
    lab.rabbitmq_api("DELETE", "/vhosts/lab.other")


def test_an_exclusive_queue_exists_although_it_cannot_be_declared(lab):
    with lab.amqp() as connection:
        connection.channel().queue_declare("lab.private", exclusive=True)
        wanted = [{"name": "lab.private"}, {"name": "lab.gone"}]
        result = lab.run(expected_queues=wanted, include=["nothing"])
        assert [found["exists"] for found in result["expected"]] == [True, False]
        # Without the management API, the broker rejects a passive declare of it, so it exists.
        result = lab.run(expected_queues=wanted, login_port=1)
        assert [found["exists"] for found in result["expected"]] == [True, False]
        assert result["expected"][0]["error"]["kind"] == "exclusive"
        assert result["totals"] is None
        assert {entry["part"] for entry in result["unknown"]} == {
            "rates_mode",
            "totals",
            "queues[...]",
            "families",
            "hidden_vhosts",
        }


def test_growth_is_sampled_if_the_api_does_not_report_it(one):
    with one.fault("growing-queue"):
        # Over AMQP only: two passive declares.
        result = one.run(expected_queues=[{"name": "lab.growing"}], login_port=1, sample_seconds=1)
        (found,) = result["queues"]
        assert (found["source"], found["rates_source"], found["trend"]) == ("amqp", "samples", "growing")
        assert 20 < found["growth_rate"] < 80
        # With the API's list, for a queue too new for its samples; this broker keeps no message rates.
        (found,) = one.run(sample_seconds=1)["queues"]
        assert found["publish_rate"] is None
        assert found["growth_rate"] > 20


def test_the_list_is_not_read_from_a_broker_with_more_queues_than_max_queues(lab):
    with queue(lab, "lab.one", messages=2), queue(lab, "lab.two"), queue(lab, "lab.three"):
        wait_until(lambda: lab.rabbitmq_api("GET", "/overview")["queue_totals"].get("messages_ready") == 2, "sums", 20)
        result = lab.run(expected_queues=[{"name": "lab.one"}], max_queues=2)
        (found,) = result["queues"]
        assert (found["name"], found["ready"], found["source"]) == ("lab.one", 2, "amqp")
        assert (result["totals"]["queues"], result["totals"]["ready"], result["totals"]["left_out"]) == (3, 2, 2)
        assert all("max_queues" in entry["reason"] for entry in result["unknown"])
        letters = lab.run("rabbitmq_node_info", max_queues=2)
        assert letters["dead_letters"] is None
        assert [entry["part"] for entry in letters["unknown"]] == ["dead_letters"]


def test_a_failure_to_connect_is_data_when_measuring(lab):
    result = lab.run(login_port=1, amqp_port=1)
    assert "failed" not in result
    assert (result["reachable"], result["queues"], result["totals"]) == (False, None, None)
    assert result["error"]["kind"] == "refused"
    assert "login_port" in result["error"]["hint"]
    assert lab.server.password not in json.dumps(result)


@contextlib.contextmanager
def impostor(serve_client):
    """A server that is not a broker, on a port of its own: ``serve_client(connection)`` for every client."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def serve():
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    connection = listening.accept()[0]
                    threading.Thread(target=serve_client, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            stop.set()


def drip(connection):
    with contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.2)


def flood(connection):
    with contextlib.suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n[")
        while True:
            connection.sendall(b"0," * 500000)


def banner(connection):
    """What a broker sends on its AMQP port to a client that does not speak AMQP."""
    connection.sendall(b"AMQP\x00\x00\x09\x01")
    connection.shutdown(socket.SHUT_WR)
    connection.recv(65536)


def web_page(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>")


IMPOSTORS = {
    "silence": (lambda connection: time.sleep(20), "no_answer"),
    "a byte now and then": (drip, "no_answer"),
    "a flood": (flood, "too_large"),
    "a web page": (web_page, "protocol"),
    "another protocol": (banner, "protocol"),
    "a closed connection": (lambda connection: connection.close(), "closed"),
}


@pytest.mark.parametrize("module", ["rabbitmq_node_info", "rabbitmq_queue_state"])
def test_without_time_left_nothing_is_reported_about_the_broker(lab, module):
    result = lab.run(module, deadline=1e-9)
    assert (result["reachable"], result["error"]["kind"]) == (None, "deadline")
    assert result["error"]["message"] == "not measured (0.0 s of the deadline left)"
    # The same applies to a broker that had too little time to answer.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        result = lab.run(module, deadline=0.3, login_port=port, amqp_port=port)
    assert result["reachable"] is None
    assert re.fullmatch(r"not measured \(0\.\d s of the deadline left\)", result["error"]["message"])


@pytest.mark.parametrize("kind_of_server", IMPOSTORS)
def test_a_server_that_is_not_a_broker_is_reported_in_time(one, kind_of_server):
    serve, kind = IMPOSTORS[kind_of_server]
    with impostor(serve) as port:
        began = time.monotonic()
        result = one.run(login_port=port, amqp_port=port, timeout=1, deadline=2)
        assert time.monotonic() - began < 4 * SLACK
    assert (result["reachable"], result["error"]["kind"]) == (False, kind)
    assert "login_port" in result["error"]["hint"] or "login_port" in result["error"]["message"]


def test_invalid_options_are_named(one):
    assert "timeout: must be above 0" in one.run(timeout=0)["msg"]
    assert "top: must be at least 1" in one.run(top=0)["msg"]
    assert "client_key: needs client_cert" in one.run(client_key="/nowhere")["msg"]
    assert "ca_cert" in one.run(login_protocol="https", ca_cert="/nowhere")["msg"]
