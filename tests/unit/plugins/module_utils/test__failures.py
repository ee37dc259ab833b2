# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import errno
import socket
import ssl
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _failures
from ansible_collections.tracktion.ops.plugins.module_utils._failures import Service

ROOT = Path(__file__).resolve().parents[4]
SERVICE = Service(
    "Valkey",
    "`login_host` and `login_port`",
    "`login_user` and `login_password`",
    "`tls` and `ca_certs`",
    host="-x; y",
    port=6379,
    start="systemctl start valkey",
    log="tail -n 50 /var/log/valkey.log",
    processes="-C valkey-server",
)


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name_resolution"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "timeout"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no_route"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no_route"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "closed"),
        (BrokenPipeError(errno.EPIPE, "pipe"), "closed"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "closed"),
        (ssl.SSLCertVerificationError(1, "self-signed certificate"), "certificate"),
        (ssl.SSLError(1, "wrong version number"), "tls"),
        (PermissionError(errno.EACCES, "denied"), "permission"),
        (OSError(errno.EIO, "I/O error"), "failed"),
        (ValueError("not an error of the system"), "failed"),
    ],
)
def test_an_error_of_the_system_has_one_kind(exc, kind):
    assert _failures.of_os_error(exc) == kind
    assert kind in _failures.KINDS


@pytest.mark.parametrize("kind", sorted(_failures.HINTS))
def test_a_hint_names_options_and_has_no_placeholder_left(kind):
    text = _failures.hint(kind, SERVICE)
    assert "{" not in text
    assert text.endswith(".")
    assert any(name in text for name in ("login_host", "login_user", "tls", "Valkey", "firewall"))
    assert kind in _failures.KINDS


def test_a_failure_has_the_common_hint_and_what_the_service_adds():
    found = _failures.failure("refused", "nothing listens on h:1", SERVICE, "See the manual.")
    assert (found.kind, str(found)) == ("refused", "nothing listens on h:1")
    start = "Start Valkey: `docker start CONTAINER` or `systemctl start valkey`; "
    assert found.hint == start + "or correct `login_host` and `login_port`: nothing listens there. See the manual."


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("no_answer", "`docker ps --filter status=paused`"),
        ("no_answer", "`ps -C valkey-server -o pid,stat,pcpu,args`"),
        ("closed", "`docker logs --tail 50 CONTAINER` or `tail -n 50 /var/log/valkey.log`"),
        ("timeout", "`ping -c 3 -- '-x; y'`"),
        ("name_resolution", "`getent hosts -- '-x; y'`"),
        ("tls", "`openssl s_client -connect '-x; y:6379' </dev/null`"),
        ("protocol", "`ss -ltnp 'sport = :6379'`"),
    ],
)
def test_a_hint_contains_a_command_for_the_service(kind, command):
    assert command in _failures.hint(kind, SERVICE)


def test_the_commands_for_a_service_of_which_nothing_more_is_known():
    service = Service("web", "`paths`", host="::1", port=443)
    assert "Start web: `docker start CONTAINER`; or" in _failures.hint("refused", service)
    assert "`ps -e -o pid,stat,pcpu,args`" in _failures.hint("no_answer", service)
    assert "-connect '[::1]:443'" in _failures.hint("certificate", service)


def test_a_socket_of_this_machine_that_accepts_no_connection_has_a_full_queue():
    assert _failures.hint("timeout", SERVICE._replace(host="")) == _failures.hint("no_answer", SERVICE)


PLUGINS = ROOT / "plugins"


def raised_kinds():
    """Return the kinds that the code of managed hosts names as text when it makes a failure."""
    for path in sorted((PLUGINS / "module_utils").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
                kind = getattr(node.args[0], "value", None)
                if name in ("CannotConnect", "failure") and isinstance(kind, str):
                    yield kind


def test_a_kind_is_common_or_documented_by_its_module():
    documentation = "".join(path.read_text(encoding="utf-8") for path in (PLUGINS / "modules").glob("*.py"))
    kinds = set(raised_kinds())
    assert {"no_such_vhost", "nxdomain"} <= kinds
    assert {kind for kind in kinds if kind not in _failures.KINDS and "V(%s)" % kind not in documentation} == set()
