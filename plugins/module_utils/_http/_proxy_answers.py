# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers that a proxy gives by itself, and pages that ask for a login. Private to this collection."""

from __future__ import annotations

import re
from typing import Mapping, Sequence

# The error pages of proxies, as they are without configuration: name -> pattern of the body.
PAGES = {
    "nginx": r"<hr><center>(?:nginx|openresty)(?:/[\w.]+)?(?: \([^)]*\))?</center>",
    "haproxy": r"<html><body><h1>[45]\d\d [\w ]+</h1>\s*(?:No server is available to handle this request|"
    r"The server didn't respond in time|The server returned an invalid or incomplete response|"
    r"Request forbidden by administrative rules|You need a valid user and password)",
    "traefik": r"^(?:Bad Gateway|Gateway Timeout|Service Unavailable|no available server)\s*$",
    "envoy": r"^(?:upstream connect error or disconnect/reset before headers|no healthy upstream|"
    r"upstream request timeout|stream timeout|RBAC: access denied)",
    "apache": r"The proxy server (?:received an invalid|could not handle)|(?:>|^)Proxy Error<|"
    r"The gateway did not receive a timely response|"
    r"Service Unavailable</h1>\s*<p>The server is temporarily unable to service your\s+request",
    "varnish": r"<h1>Error \d+ (?:Backend fetch failed|VCL failed)|Guru Meditation",
    "kong": r"An invalid response was received from the upstream server|no Route matched with those values|"
    r"failure to get a peer from the ring-balancer|The upstream server is timing out",
}
# Names in the header Server.
SERVERS = (
    r"(?i)^(nginx|openresty|haproxy|traefik|envoy|istio-envoy|apache|varnish|kong|caddy|cloudflare|awselb|awsalb|"
    r"microsoft-azure|gws|google frontend|akamaighost)"
)
# A proxy whose name is not known.
UNNAMED = "proxy"
# Statuses that mean a failure of the upstream server: an application hardly ever sends the first two.
GATEWAY = (502, 504, 503)
REJECTED = (401, 403, 407)
# The page of a server that expects TLS and received a request without it, with status 400.
PAGE_BYTES = 2048
EXPECTS_TLS = (
    r"The plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL-enabled server port|"
    r"Client sent an HTTP request to an HTTPS server|This combination of host and port requires TLS"
)
LOGIN_PATH = (
    r"(?i)/(?:log-?in|sign-?in|sso|oauth2?|saml2?|openid-connect|auth|authorize|accounts?/login|users?/sign_in|session/new)"
    r"(?:[/.?]|$)"
)
LOGIN_FORM = r"(?i)<input\b[^>]{0,300}\btype\s*=\s*[\"']?password"


def proxy(status: int | None, headers: Mapping[str, str], text: str, is_proxy: bool = False) -> str | None:
    """Return the name of the proxy that gave an error by itself; null if the error is that of the service, or no error.

    ``headers`` are in lower case. ``is_proxy``: the program that answers is known to be a proxy.
    """
    if status is None or status < 400:
        return None
    match = re.match(SERVERS, headers.get("server", ""))
    named = match.group(1).lower() if match else None
    for name, pattern in PAGES.items():
        # Traefik's words are those of other programs with another status.
        if re.search(pattern, text) and (name != "traefik" or status in GATEWAY):
            return named or name
    # A proxy puts its name on the answers of the service, too: only an answer without content is its own.
    if status in GATEWAY[:2] and (named or is_proxy) and not text.lstrip().startswith(("{", "[")):
        return named or UNNAMED
    if status in (*GATEWAY, *REJECTED) and (named or is_proxy) and not text.strip():
        return named or UNNAMED
    return None


def expects_tls(status: int | None, body: bytes) -> bool:
    """Return whether an answer to a request without TLS says that the server expects TLS."""
    return status == 400 and bool(re.search(EXPECTS_TLS, body[:PAGE_BYTES].decode("utf-8", "replace")))


def is_login(url: str, redirects: Sequence[str], text: str, content_type: str) -> bool:
    """Return whether a page asks for a login instead of answering: after a redirect to one, or a form with a password.

    ``redirects`` are the urls that the request was redirected to.
    """
    if re.search(LOGIN_PATH, url):
        return False
    if "html" not in content_type.lower() and text.lstrip()[:1] != "<":
        return False
    return bool(re.search(LOGIN_FORM, text)) or any(re.search(LOGIN_PATH, each) for each in redirects)
