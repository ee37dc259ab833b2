# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HTTP endpoint: what is asked of it, and what it has to answer. Private to this collection."""

from __future__ import annotations

import base64
import functools
import json
import math
import re
import socket
import ssl
import string
import time
from urllib.parse import quote, unquote, unquote_plus, urljoin, urlsplit

from ansible_collections.tracktion.ops.plugins.module_utils._http._expected import hidden, mismatches
from ansible_collections.tracktion.ops.plugins.module_utils._http._http_exchange import Exchange, Stopwatch, stranger
from ansible_collections.tracktion.ops.plugins.module_utils._http._http_redact import (
    decoded,
    excerpt,
    hide,
    secrets_in,
    shown_url,
    values_in,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    cut,
    error,
)
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable

EXCERPT, EXCERPT_OF = 240, 2048
NAME_LENGTH = 160
# Whoever has less time than this, and than its own timeout, is not asked: no answer would say nothing.
LEAST_SECONDS = 0.5
MOST_MISMATCHES = 10
REDIRECTS = (301, 302, 303, 307, 308)
DEFAULT_PORTS = {"http": 80, "https": 443}
# Options of an endpoint that stand for all of them as well.
NUMBERS = ("timeout", "requests", "max_body_bytes")
FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Headers that open no door.
PLAIN_HEADERS = ("user-agent", "accept", "connection", "content-type", "host")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
SAFE = "/%:=&?~+!$,;'@()*[]"


class Target:
    """Where a URL leads. Raises ValueError where it leads nowhere."""

    def __init__(self, url):
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError("must begin with http:// or https://")
        if not parts.hostname:
            raise ValueError("names no host")
        self.url = url
        self.scheme = parts.scheme
        self.host = parts.hostname
        self.default_port = DEFAULT_PORTS[parts.scheme]
        # An impossible port is a ValueError of urlsplit's own.
        self.port = self.default_port if parts.port is None else parts.port
        self.path = quote(parts.path or "/", safe=SAFE) + ("?" + quote(parts.query, safe=SAFE) if parts.query else "")
        self.where = ("[%s]:%d" if ":" in self.host else "%s:%d") % (self.host, self.port)
        self.origin = (self.scheme, self.host, self.port)
        self.user = None if parts.username is None else unquote(parts.username)
        self.password = unquote(parts.password or "")


class Endpoint:
    """One entry of the option ``endpoints``; raises BadOption, which never quotes what may be a secret."""

    def __init__(self, wanted, options):
        self.name = wanted["name"]
        try:
            self.target = Target(wanted["url"])
        except ValueError as exc:
            # The parser's own messages quote the URL.
            raise self._bad("url", exc if str(exc).startswith(("must", "names")) else "cannot be understood")
        self.wanted = wanted
        self.shows_body = options["show_bodies"]
        self.timeout, self.requests, self.most_bytes = (
            options[name] if wanted[name] is None else wanted[name] for name in NUMBERS
        )
        for name in NUMBERS:
            if wanted[name] is not None and wanted[name] <= 0:
                raise self._bad(name, "must be above 0")
        if not wanted["status"]:
            raise self._bad("status", "is empty")
        if wanted["method"] == "HEAD" and (wanted["body_contains"] or wanted["body_json"]):
            raise self._bad("method", "HEAD brings no body that body_contains or body_json could be about")
        if wanted["max_redirects"] < 0:
            raise self._bad("max_redirects", "must not be below 0")
        if wanted["client_key"] and not wanted["client_cert"]:
            raise self._bad("client_key", "needs client_cert")
        self.headers = self._headers(wanted["headers"] or {})
        self.body = self._encoded(wanted["body"])
        self.secrets = self._secrets()
        files = wanted["ca_cert"], wanted["client_cert"], wanted["client_key"]
        # A redirect may lead to TLS as well.
        self._contexts = functools.partial(self._load_contexts, files, wanted["validate_certs"])
        if self.target.scheme == "https":
            self._contexts()

    def _bad(self, option, reason):
        return BadOption(
            "endpoints: %s: %s: %s" % (self.name, option, reason), hint="correct %s of %s" % (option, self.name)
        )

    def _headers(self, given):
        headers = {"User-Agent": "tracktion.ops", "Accept": "*/*", "Connection": "close"}
        if self.target.user is not None:
            login = "%s:%s" % (self.target.user, self.target.password)
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode("utf-8")).decode("ascii")
        for name, value in given.items():
            if not HEADER_NAME.fullmatch(str(name)) or not HEADER_VALUE.fullmatch(str(value)):
                raise self._bad("headers", "%s cannot be sent" % cut(ascii(name), 60))
            for default in [default for default in headers if default.lower() == str(name).lower()]:
                del headers[default]
            headers[str(name)] = str(value)
        return headers

    def _encoded(self, body):
        if body is None:
            return None
        if isinstance(body, (dict, list)):
            if not any(name.lower() == "content-type" for name in self.headers):
                self.headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        return str(body).encode("utf-8")

    def _load_contexts(self, files, validate):
        try:
            return tls_contexts(*files)[0], None if validate else tls_contexts(*files)[1]
        except (OSError, ssl.SSLError) as exc:
            said = exc.strerror or exc.__class__.__name__
            raise self._bad("ca_cert, client_cert or client_key", "cannot be loaded: %s" % said)

    def _secrets(self):
        """What must not be seen wherever an answer repeats it."""
        in_url = secrets_in(self.target.url)
        in_headers = [value for name, value in self.headers.items() if name.lower() not in PLAIN_HEADERS]
        in_body = [self.body.decode("utf-8"), *values_in(self.body.decode("utf-8"))] if self.body else []
        return [
            *(self.target.user or "", self.target.password),
            *(*in_url, *(unquote_plus(value) for value in in_url)),
            *(*in_headers, *(value.partition(" ")[2] for value in in_headers)),
            *in_body,
        ]

    # Measuring

    def measure(self, deadline):
        """Everything that is told about it; null where there is no time left to ask it in earnest."""
        if deadline.remaining() < min(self.timeout, LEAST_SECONDS):
            return None
        first = self._ask(deadline)
        answers = list(self._answers(first, deadline))
        took = [answer.took for answer in answers if answer.ok]
        failures = [answer.failure for answer in answers if not answer.ok]
        return {**first.described(), "latency": latency(took, failures, self.requests)}

    def unmeasured(self):
        """The same where nobody came to ask it."""
        return {**Answer(self).described(), "latency": latency([], [], self.requests)}

    def _answers(self, first, deadline):
        yield first
        if first.error:
            # Whatever does not answer once is not asked again: it would only use up the time.
            return
        for _number in range(self.requests - 1):
            answer = self._ask(deadline)
            if answer.error and deadline.expired():
                # Cut off by the end of the time for all, not by a fault of its own.
                return
            yield answer

    def _ask(self, deadline):
        answer = Answer(self)
        try:
            answer.get(Deadline(deadline.remaining(self.timeout)))
        except CannotConnect as exc:
            answer.error = error(exc)
            answer.error["message"] = hide(answer.error["message"], self.secrets)
        answer.took = answer.watch.total()
        return answer

    def exchange(self, target, deadline, watch):
        contexts = self._contexts() if target.scheme == "https" else None
        return Exchange(target, contexts, FAMILIES[self.wanted["address_family"]], deadline, watch)


class Answer:
    """One answer of an endpoint, at the end of its redirects."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.wanted = endpoint.wanted
        self.watch = Stopwatch()
        self.took = None
        self.error = None
        self.exchange = None
        self.redirects = []
        self.contains = None
        self.mismatches = []

    def get(self, deadline):
        """Ask, and follow where the answer points to. Raises CannotConnect."""
        target, method = self.endpoint.target, self.wanted["method"]
        headers, body = self.endpoint.headers, self.endpoint.body
        seen = {(method, target.url)}
        while True:
            with self.endpoint.exchange(target, deadline, self.watch) as self.exchange:
                self.exchange.run(method, headers, body, self.endpoint.most_bytes)
            status = self.exchange.status
            if status not in REDIRECTS or status in self.wanted["status"] or not self.wanted["max_redirects"]:
                break
            following = self._next(target)
            self.redirects.append(shown_url(following.url, whole_query=False))
            if len(self.redirects) > self.wanted["max_redirects"]:
                raise CannotConnect(
                    "too_many_redirects",
                    "it redirects more than %d times" % self.wanted["max_redirects"],
                    "See where to.",
                )
            if status == 303 or (method == "POST" and status in (301, 302)):
                method, body = "HEAD" if method == "HEAD" else "GET", None
            if following.origin != target.origin:
                if body is not None:
                    raise CannotConnect("bad_redirect", "it redirects a body to another server", "Name that url.")
                # What opens the door here is nobody else's business.
                headers = {name: headers[name] for name in ("User-Agent", "Accept", "Connection") if name in headers}
            target = following
            if (method, target.url) in seen:
                raise CannotConnect("redirect_loop", "it redirects in a circle", "See its configuration.")
            seen.add((method, target.url))
        self._compare()

    def _next(self, target):
        try:
            # The library takes the bytes of a header for Latin-1; they go back as they came.
            location = quote(self.exchange.location or "", safe=string.punctuation, encoding="latin-1")
            return Target(urljoin(target.url, location))
        except ValueError:
            raise CannotConnect("bad_redirect", "it redirects to what is no http or https url", "See its log.")

    def _compare(self):
        text = self.exchange.body.decode("utf-8", "replace")
        if self.wanted["body_contains"] is not None:
            self.contains = self.wanted["body_contains"] in text
        self.mismatches = mismatches(text, self.wanted["body_json"] or {})

    @property
    def answered(self):
        """Whether a whole answer came, whatever it says; null where nobody asked."""
        return None if self.exchange is None else self.error is None

    @property
    def status_ok(self):
        return self.exchange.status in self.wanted["status"] if self.answered else None

    @property
    def body_ok(self):
        return self.contains is not False and not self.mismatches if self.answered else None

    @property
    def ok(self):
        return self.answered and self.status_ok and self.body_ok

    @property
    def failure(self):
        """What is wrong with it, in a word or two."""
        if self.error:
            return self.error["kind"]
        return "wrong body" if self.status_ok else "status %d" % self.exchange.status

    def described(self):
        endpoint, exchange, secrets = self.endpoint, self.exchange, self.endpoint.secrets
        body = exchange.body if exchange else b""
        shown = self.answered and not self.ok and endpoint.shows_body
        return {
            "name": endpoint.name,
            "url": shown_url(endpoint.target.url),
            "service": self.wanted["service"],
            "method": self.wanted["method"],
            "ok": self.ok,
            "answered": self.answered,
            "error": self.error,
            "phase": self.watch.phase,
            "address": exchange.address if exchange else None,
            "port": endpoint.target.port,
            "status": exchange.status if exchange else None,
            "expected_status": self.wanted["status"],
            "status_ok": self.status_ok,
            "body": {
                "bytes": len(body) if self.answered else None,
                "ok": self.body_ok,
                "contains": self.contains,
                "mismatches": [
                    hidden(mismatch, secrets, endpoint.shows_body) for mismatch in self.mismatches[:MOST_MISMATCHES]
                ],
                "mismatch_count": len(self.mismatches),
                "excerpt": excerpt(decoded(body[:EXCERPT_OF]), secrets, EXCERPT) if shown else None,
            },
            "seconds": {**self.watch.seconds, "total": self.took},
            "redirects": {"count": len(self.redirects), "urls": self.redirects[: self.wanted["max_redirects"] + 1]},
            "tls": certificate(exchange.tls if exchange else None),
            "container": None,
        }


@functools.lru_cache(maxsize=None)
def tls_contexts(ca_cert, client_cert, client_key):
    """A context that verifies and one that does not. Reading the authorities takes 20 ms: once for all endpoints."""
    verifying, trusting = ssl.create_default_context(cafile=ca_cert), stranger()
    # Python 3.13 and later refuse authorities that curl, browsers and older Pythons take, for lack of formalities.
    verifying.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if client_cert:
        for context in (verifying, trusting):
            context.load_cert_chain(client_cert, client_key)
    return verifying, trusting


def latency(took, failures, wanted):
    """Of the answers that were right, by nearest rank: no time is told that nobody has waited."""
    took = sorted(took)

    def rank(ratio):
        return took[max(0, math.ceil(ratio * len(took)) - 1)] if took else None

    return {
        "wanted": wanted,
        "made": len(took) + len(failures),
        "failed": len(failures),
        "failures": sorted(set(failures)),
        "p50_seconds": rank(0.5),
        "p95_seconds": rank(0.95),
        "max_seconds": rank(1),
    }


def certificate(tls):
    """The part ``tls``, with the time that is left."""
    if tls is None:
        return None
    fields = ("verified", "problem", "message", "version", "subject", "issuer", "names", "begins", "expires")
    told = {field: tls.get(field) for field in fields}
    for field in ("subject", "issuer"):
        told[field] = shown_name(told[field])
    told["names"] = [shown_name(name) for name in (told["names"] or [])[:10]]
    told["seconds_left"] = None if told["expires"] is None else round(told["expires"] - time.time(), 1)
    return told


def shown_name(name):
    """A name in a certificate, which anybody may have written."""
    return None if name is None else cut(printable(name), NAME_LENGTH)
