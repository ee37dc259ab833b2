# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures by kind, invalid options, and the parts of a node."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _failures
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _rabbitmq_node_info as node_info
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _rabbitmq_queue_state as queue_state
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq as rabbitmq
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_memory import NodeProcess

OPTIONS = {
    **{name: about.get("default") for name, about in rabbitmq.CONNECTION_SPEC.items()},
    "login_password": "hunter2",
    "top": 20,
}


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name_resolution"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused"),
        (TimeoutError("timed out"), "timeout"),
        (OSError(errno.ETIMEDOUT, "timed out"), "timeout"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "closed"),
        (http.client.RemoteDisconnected("closed"), "closed"),
        (http.client.IncompleteRead(b""), "closed"),
        (http.client.BadStatusLine("AMQP"), "protocol"),
        (ssl.SSLError(1, "wrong version number"), "tls"),
        (ssl.SSLCertVerificationError("unable to get local issuer certificate"), "certificate"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no_route"),
        (PermissionError(errno.EPERM, "Operation not permitted"), "failed"),
        (OSError(errno.EIO, "Input/output error"), "failed"),
    ],
)
@pytest.mark.parametrize("port", ["login_port", "amqp_port"])
def test_a_failure_has_a_kind_and_a_hint_with_an_option(raised, kind, port):
    found = rabbitmq.connection_failure(raised, OPTIONS, amqp=port == "amqp_port")
    assert found.kind == kind
    assert kind in _failures.KINDS
    assert "login_host" in found.hint or port in found.hint
    assert "hunter2" not in str(found) + found.hint


def test_a_timeout_after_tcp_connected_is_no_answer():
    found = rabbitmq.connection_failure(TimeoutError("timed out"), OPTIONS, connected=True)
    assert found.kind == "no_answer"
    assert "`login_host` and `login_port`" in found.hint


def test_every_kind_of_its_own_has_a_hint():
    for kind, row in rabbitmq.KINDS.items():
        assert row.meaning
        assert "%" not in rabbitmq.hint_for(kind, OPTIONS, vhost="v")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b'{"error":"not_authorized","reason":"Not_Authorized"}', "authentication"),
        (401, b'{"error":"not_authorized","reason":"Login failed"}', "authentication"),
        (401, b'{"error":"not_authorised","reason":"Not management user"}', "permission"),
        (401, b'{"error":"not_authorised","reason":"User not authorised to access virtual host"}', "permission"),
        (401, b'{"error":"not_authorised","reason":"User can only log in via localhost"}', "loopback_only"),
        (404, b'{"error":"Object Not Found","reason":"Not Found"}', "not_found"),
        (404, b"<html>", "protocol"),
        (200, b"<html>", "protocol"),
        (503, b"", "failed"),
    ],
)
def test_a_reply_without_the_data_has_a_kind_and_a_hint(status, body, kind):
    with pytest.raises(rabbitmq.ReplyError) as caught:
        rabbitmq._decode(SimpleNamespace(status=status, reason="because"), body)
    assert caught.value.kind == kind
    assert rabbitmq.hint_for(kind, OPTIONS)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"timeout": 0}, "timeout"),
        ({"deadline": -1}, "deadline"),
        ({"top": 0}, "top"),
        ({"amqp_port": 70000}, "amqp_port"),
        ({"client_key": "/k"}, "client_key"),
    ],
)
def test_an_invalid_option_is_named(changed, named):
    with pytest.raises(BadOption, match="^" + named):
        rabbitmq.check_options({**OPTIONS, **changed})


# A node on another machine.
ELSEWHERE = NodeProcess(None, 0)


def test_a_node_that_is_down_or_has_no_statistics_has_no_resources():
    for entry in ({"name": "n", "running": False, "mem_limit": 5}, {"name": "n", "running": True}):
        found = node_info.node(entry, ELSEWHERE)
        assert (found["memory"], found["disk"], found["files"], found["sockets"], found["processes"]) == (None,) * 5
        assert found["partitions"] == []


def test_the_parts_of_a_node():
    entry = {
        "name": "n",
        "running": True,
        "uptime": 5000,
        "mem_used": 30,
        "mem_limit": 60,
        "mem_alarm": False,
        "disk_free": "disk_free_monitoring_disabled",
        "disk_free_limit": 50,
        "fd_used": 7,
        "fd_total": 10,
        "sockets_used": 0,
        "sockets_total": 0,
        "proc_used": 1,
        "proc_total": 4,
    }
    found = node_info.node(entry, ELSEWHERE, 50)
    assert found["memory"]["ratio"] == 0.5
    assert (found["memory"]["watermark_ratio"], found["memory"]["limit_source"]) == (1.2, "option")
    assert found["disk"] == {"alarm": False, "free_bytes": None, "limit_bytes": 50, "total_bytes": None, "device": None}
    assert found["files"] == {"used": 7, "limit": 10, "ratio": 0.7}
    assert found["sockets"] is None
    assert found["uptime_seconds"] == 5.0


def test_several_processes_that_could_be_the_node_leave_its_limit_unknown():
    entry = {"name": "n", "running": True, "mem_used": 30, "mem_limit": 60}
    memory = node_info.node(entry, NodeProcess(None, 2))["memory"]
    assert (memory["limit_source"], memory["watermark_ratio"]) == ("unknown", None)
    assert node_info.node(entry, ELSEWHERE)["memory"]["limit_source"] is None


def test_the_memory_beside_queues_messages_and_connections():
    breakdown = {
        "queue_procs": 10,
        "connection_other": 5,
        "binary": 20,
        "code": 30,
        "total": {"rss": 80},
        "strategy": "rss",
    }
    assert node_info.base_bytes(80, breakdown) == 45
    assert node_info.base_bytes(20, breakdown) == 0
    for nothing in (None, {}, "no_memory_details"):
        assert node_info.base_bytes(80, nothing) is None


def counters(*values):
    """Samples as the API sends them, newest first; ``values`` oldest first, the last in the future."""
    return {"samples": [{"sample": v, "timestamp": n * 10000} for n, v in reversed(list(enumerate(values)))]}


def test_the_number_of_queues_and_its_growth():
    churn = {"queue_created_details": counters(5, 5, 25, 45, 45), "queue_deleted_details": counters(1, 1, 1, 11, 11)}
    counts = node_info.queue_counts({"object_totals": {"queues": 34}, "churn_rates": churn}, 35.0)
    wanted = {"total": 34, "created": 40, "deleted": 10, "grown": 30, "growing_seconds": 20, "window_seconds": 300}
    assert counts == wanted
    # A broker that shows no counters to the user, and one that has counted nothing yet.
    assert node_info.queue_counts({}, 35.0)["grown"] is None
    assert node_info.queue_counts({"churn_rates": {"queue_created": 0}}, 35.0)["grown"] == 0


def test_unroutable_messages_are_counted_over_the_samples():
    samples = [{"sample": count, "timestamp": 0} for count in (12, 9, 5)]
    overview = {
        "rates_mode": "basic",
        "listeners": [],
        "message_stats": {"drop_unroutable": 12, "drop_unroutable_details": {"rate": 0.0, "samples": samples}},
    }
    found = node_info.unroutable(overview)
    assert (found["dropped"], found["dropped_total"], found["returned"], found["returned_total"]) == (7, 12, 0, 0)
    # The broker keeps no rates, or does not show them to the user.
    assert node_info.unroutable({"rates_mode": "none", "listeners": []})["dropped"] is None
    assert node_info.unroutable({"rates_mode": "basic"})["dropped"] is None


def test_connections_are_counted_and_the_worst_returned():
    entries = [{"name": "c%d" % number, "state": "running", "channels": number} for number in range(5)]
    entries += [
        {"name": "b", "state": "blocked", "channels": 1, "client_properties": {"connection_name": "app"}},
        {"name": "young"},
    ]
    found = node_info.connections(entries, 2)
    assert (found["total"], found["held_back_total"], found["channels"]) == (7, 1, 11)
    assert [entry["name"] for entry in found["most_channels"]] == ["c4", "c3"]
    assert found["held_back"][0]["client"] == "app"
    assert {entry["state"]: entry["connections"] for entry in found["states"]} == {
        "running": 5,
        "blocked": 1,
        "unknown": 1,
    }


def test_totals_count_what_is_left_out():
    listed = [
        {
            "vhost": "/",
            "name": name,
            "ready": 1,
            "unacked": None,
            "total": 1,
            "state": "running",
            "type": "classic",
            "members": None,
            "online_members": None,
        }
        for name in ("a", "b", "c", "gone")
    ]
    found = queue_state.totals(listed, {("/", "a"): {}}, vanished=1)
    assert (found["queues"], found["ready"], found["unacked"], found["left_out"]) == (4, 4, 0, 2)


def test_the_default_vhost_of_expected_queues_is_that_of_the_connection():
    options = {
        "vhost": "/",
        "expected_queues": [
            {"name": "a", "vhost": None, "min_consumers": 2},
            {"name": "b", "vhost": "v", "min_consumers": 0},
        ],
    }
    assert queue_state.expectations(options) == {("/", "a"): 2, ("v", "b"): 0}
