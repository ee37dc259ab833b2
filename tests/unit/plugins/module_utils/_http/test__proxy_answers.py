# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests for answers that a proxy gives by itself."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._http import _proxy_answers

NGINX = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
)
HAPROXY = (
    "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n"
)
APACHE = (
    '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n<title>503 Service Unavailable</title>\n</head>'
    "<body>\n<h1>Service Unavailable</h1>\n<p>The server is temporarily unable to service your\nrequest due to "
    "maintenance downtime or capacity\nproblems. Please try again later.</p>\n</body></html>\n"
)
ENVOY = "upstream connect error or disconnect/reset before headers. reset reason: connection failure"
JSON = '{"status": "unhealthy"}'


@pytest.mark.parametrize(
    ("status", "server", "text", "expected"),
    [
        (502, "nginx/1.22.1", NGINX, "nginx"),
        (504, "nginx", NGINX.replace("502 Bad Gateway", "504 Gateway Time-out"), "nginx"),
        (401, "nginx", NGINX.replace("502 Bad Gateway", "401 Authorization Required"), "nginx"),
        (503, "", HAPROXY, "haproxy"),
        (503, "Apache/2.4.57 (Debian)", APACHE, "apache"),
        (503, "envoy", ENVOY, "envoy"),
        (503, "istio-envoy", ENVOY, "istio-envoy"),
        (502, "", "Bad Gateway", "traefik"),
        (502, "Caddy", "", "caddy"),
        (503, "", "no available server\n", "traefik"),
        # An own error page of the proxy.
        (502, "nginx", "<h1>We are sorry</h1>", "nginx"),
        # The service answers, and the proxy puts its name on it.
        (503, "nginx", JSON, None),
        (502, "nginx", JSON, None),
        (401, "nginx", '{"error": "token"}', None),
        (500, "nginx", "<h1>Server Error (500)</h1>", None),
        (404, "", "404 page not found\n", None),
        # Without a proxy, these are words of the service.
        (502, "uvicorn", "<h1>upstream</h1>", None),
        (503, "uvicorn", "", None),
        (200, "nginx", NGINX, None),
    ],
)
def test_errors_of_proxies(status, server, text, expected):
    assert _proxy_answers.proxy(status, {"server": server}, text) == expected


def test_an_error_of_a_program_that_is_a_proxy():
    assert _proxy_answers.proxy(502, {}, "<h1>oops</h1>", is_proxy=True) == "proxy"
    assert _proxy_answers.proxy(502, {}, JSON, is_proxy=True) is None


@pytest.mark.parametrize(
    ("url", "redirects", "text", "expected"),
    [
        ("/health", ["http://h/oauth2/start?rd=***"], "<html>", True),
        ("/health", ["https://sso.example/realms/x/protocol/openid-connect/auth?x=***"], "<html>", True),
        ("/health", [], '<form><input class="x" type="password" name="p"></form>', True),
        ("/health", ["http://h/health/"], "<html>ok</html>", False),
        ("/health", ["http://h/author/health"], '{"status": "ok"}', False),
        ("/login", [], '<input type="password">', False),
    ],
)
def test_login_pages(url, redirects, text, expected):
    assert _proxy_answers.is_login(url, redirects, text, "") is expected


@pytest.mark.parametrize(
    "text",
    [
        "<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
        "Client sent an HTTP request to an HTTPS server.\n",
        "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
        "Bad Request\r\nThis combination of host and port requires TLS.\r\n",
    ],
)
def test_a_server_that_expects_tls(text):
    assert _proxy_answers.expects_tls(400, text.encode())
    assert not _proxy_answers.expects_tls(200, text.encode())
