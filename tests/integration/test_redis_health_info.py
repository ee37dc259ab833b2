# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""redis_health_info against real servers, and each kind of failure to connect."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from tests.integration.redis_lab import cache
from tests.lab.certificates import make_certificates
from tests.lab.shell import wait_until
from tests.rights.cache import RIGHTS


@pytest.fixture(scope="module")
def with_tls():
    with cache("bookworm", tls=True) as found:
        yield found


@contextlib.contextmanager
def listener(greeting=None, held=None):
    """Yield a port that accepts connections, adds them to ``held`` and sends the greeting only."""
    held = [] if held is None else held
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = server.accept()
                    held.append(connection)
                    if greeting:
                        connection.sendall(greeting)

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for connection in held:
            connection.close()


def failure(found, **login):
    """Return the error of a server that cannot be reached, and assert that the two modules agree about it."""
    measured = found.health(**login)
    assert measured["reachable"] is False
    assert measured["ping"] is None
    assert found.memory(**login)["error"]["kind"] == measured["error"]["kind"]
    return measured["error"]


def test_lookups_of_the_interval_are_counted_exactly(each_redis):
    client = each_redis.redis()
    client.set("a", 1)
    result = {}
    thread = threading.Thread(target=lambda: result.update(each_redis.health(sample_seconds=1.5)))
    thread.start()
    time.sleep(0.7)
    for _count in range(30):
        client.get("a")
    for _count in range(10):
        client.get("nothing")
    thread.join()
    interval = result["lookups"]["interval"]
    assert (interval["hit_count"], interval["miss_count"], interval["ratio"]) == (30, 10, 0.75)
    assert {row["command"]: row["calls"] for row in result["commands"]["top"]}["get"] == 40


def test_arguments_of_slow_commands_can_be_hidden(each_redis):
    client = each_redis.redis()
    client.config_set("slowlog-log-slower-than", 0)
    client.get(b"user:alice\xff\n")
    client.config_set("slowlog-log-slower-than", 10000)
    lines = [entry["line"] for entry in each_redis.health()["slow_log"]["entries"]]
    assert "GET user:alice\\xff\\n" in lines
    hidden = [entry["line"] for entry in each_redis.health(show_key_names=False)["slow_log"]["entries"]]
    assert "GET (1 arguments)" in hidden
    assert not [line for line in hidden if "alice" in line]


def test_denied_parts_are_unknown_and_the_others_are_measured(each_redis):
    cases = {
        "-slowlog": {"slow_log"},
        "-latency": {"latency"},
        "-config": {
            "replication.min_replicas_to_write",
            "slow_log.threshold_seconds",
            "slow_log.commands",
            "latency.threshold_seconds",
            "persistence.rdb.*",
            "persistence.files.*",
            "access.*",
        },
        "-client": {"clients.buffers", "clients.addresses"},
        "-ping": {"ping"},
    }
    for rule, parts in cases.items():
        with each_redis.user("limited", "~*", "+@all", rule) as login:
            found = each_redis.health(**login)
        assert found["reachable"] is True
        assert {entry["part"] for entry in found["unknown"]} == parts, rule
        assert found["server"]["version"]
    assert found["ping"] is None
    with each_redis.user("limited", "~*", "+@all", "-info") as login:
        found = each_redis.health(**login)
    assert found["lookups"] is found["persistence"] is None
    assert {"lookups", "persistence", "clients"} <= {entry["part"] for entry in found["unknown"]}
    assert found["slow_log"]["length"] is not None


def test_the_user_of_the_readme_can_read_everything(each_redis):
    each_redis.redis().set("a:1", "x")
    with each_redis.user("monitor", *(right.name for right in RIGHTS)) as login:
        assert each_redis.health(**login)["unknown"] == []
        found = each_redis.memory(**login)
    assert found["unknown"] == []
    assert found["distribution"]["bytes"] > 0


def test_each_failure_has_its_kind(each_redis):
    assert failure(each_redis, login_port=1)["kind"] == "refused"
    assert failure(each_redis, login_host="no.such.host.invalid")["kind"] == "name_resolution"
    wrong = failure(each_redis, login_password="not-it-at-all")
    assert (wrong["kind"], "not-it" in wrong["message"]) == ("authentication", False)
    assert failure(each_redis, login_user="nobody")["kind"] == "authentication"
    missing = failure(each_redis, login_password=None)
    assert (missing["kind"], "login_password" in missing["hint"]) == ("authentication", True)
    assert failure(each_redis, tls=True, timeout=0.5)["kind"] == "tls"


def test_a_server_that_never_answers_costs_one_timeout(redis8):
    connections = []
    with listener(held=connections) as port:
        found = redis8.health(login_port=port, timeout=0.5)
    assert len(connections) == 1
    assert found["error"]["kind"] == "no_answer"
    assert "timeout" in found["error"]["hint"]


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_another_service_is_recognised(redis8, greeting):
    with listener(greeting) as port:
        assert failure(redis8, login_port=port)["kind"] == "protocol"


def test_a_server_without_free_connections_is_recognised(redis8):
    client = redis8.redis()
    client.config_set("maxclients", 1)
    try:
        assert failure(redis8)["kind"] == "too_many_connections"
    finally:
        client.config_set("maxclients", 10000)


def test_a_server_in_protected_mode_is_recognised(redis8):
    client = redis8.redis()
    client.ping()
    client.config_set("protected-mode", "yes")
    client.config_set("requirepass", "")
    try:
        assert failure(redis8, login_password=None)["kind"] == "protected_mode"
    finally:
        client.config_set("requirepass", redis8.server.password)
        client.config_set("protected-mode", "no")


def test_a_password_for_a_server_without_one_is_ignored(redis8):
    client = redis8.redis()
    client.ping()
    client.config_set("requirepass", "")
    try:
        assert redis8.health()["reachable"] is True
    finally:
        client.config_set("requirepass", redis8.server.password)


def test_a_server_busy_with_a_script_is_recognised(each_redis):
    client = each_redis.redis()
    client.config_set("busy-reply-threshold", 50)
    thread = threading.Thread(target=run_endless_script, args=(each_redis,))
    thread.start()
    try:
        wait_until(lambda: each_redis.health()["error"], "a busy server", 10)
        found = failure(each_redis)
    finally:
        each_redis.redis().script_kill()
        thread.join()
        client.config_set("busy-reply-threshold", 5000)
    assert (found["kind"], "SCRIPT KILL" in found["hint"]) == ("busy", True)


def run_endless_script(found):
    with contextlib.suppress(Exception):
        found.redis().eval("while true do end", 0)


def test_tls_is_used_and_certificates_are_checked(with_tls, tmp_path):
    tls = {"tls": True, "login_host": "127.0.0.1"}
    trusted = with_tls.health(**tls, ca_certs=str(with_tls.server.ca_cert))
    assert trusted["reachable"] is True
    assert with_tls.health(**tls, validate_certs=False)["reachable"] is True
    both = {"client_cert_file": str(with_tls.server.client_cert), "client_key_file": str(with_tls.server.client_key)}
    assert with_tls.health(**tls, **both, ca_certs=str(with_tls.server.ca_cert))["reachable"] is True
    other = make_certificates(tmp_path, "client").ca_cert
    for options in ({}, {"ca_certs": str(other)}):
        found = failure(with_tls, **tls, **options)
        assert (found["kind"], "ca_certs" in found["hint"]) == ("certificate", True)
    plain = failure(with_tls, timeout=1)
    assert (plain["kind"] in ("closed", "protocol"), "tls" in plain["hint"]) == (True, True)


def test_an_error_of_a_certificate_file_names_its_option(with_tls, tmp_path):
    (tmp_path / "empty.pem").write_text("")
    for option in ("ca_certs", "client_cert_file"):
        found = with_tls.health(tls=True, **{option: str(tmp_path / "empty.pem")})
        assert found["failed"] is True
        assert option in found["msg"]
