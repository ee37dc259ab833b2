# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to an HTTP endpoint, and the comparison of its answers with what is expected. Private to this collection."""

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
from typing import Any, Iterable, Iterator, Mapping
from urllib.parse import quote, unquote, unquote_plus, urljoin, urlsplit

from ansible_collections.tracktion.ops.plugins.module_utils._http import _http_exchange, _proxy_answers, _self_report
from ansible_collections.tracktion.ops.plugins.module_utils._http._expected import Mismatch, mismatches, redacted
from ansible_collections.tracktion.ops.plugins.module_utils._http._http_exchange import (
    Exchange,
    Stopwatch,
    Tls,
    unverified_context,
)
from ansible_collections.tracktion.ops.plugins.module_utils._http._http_redact import (
    conceal,
    decoded,
    excerpt,
    hide,
    secrets_in,
    shown_url,
    values_in,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    LATE,
    BadOption,
    CannotConnect,
    Deadline,
    OutOfTime,
    cut,
    error,
)
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo, Options, Part

# Characters of an excerpt, and bytes of the body that it is made of.
EXCERPT, EXCERPT_OF = 240, 2048
NAME_LENGTH, SERVER_LENGTH = 160, 60
# With less time than this, and than its own timeout, no request is sent: no answer would prove nothing.
LEAST_SECONDS = 0.5
OUT_OF_TIME = OutOfTime().kind
MOST_MISMATCHES = 10
REDIRECTS = (301, 302, 303, 307, 308)
DEFAULT_PORTS = {"http": 80, "https": 443}
# Options of an endpoint that fall back to the module's option of the same name.
NUMBERS = ("timeout", "requests", "max_body_bytes")
FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Headers that hold no secret.
PLAIN_HEADERS = ("user-agent", "accept", "connection", "content-type", "host")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
SAFE = "/%:=&?~+!$,;'@()*[]"


class Target:
    """The parts of a URL. Raises ValueError for an invalid one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError("must begin with http:// or https://")
        if not parts.hostname:
            raise ValueError("has no host")
        self.url = url
        self.scheme = parts.scheme
        self.host = parts.hostname
        self.default_port = DEFAULT_PORTS[parts.scheme]
        # parts.port raises ValueError for an invalid port.
        self.port = self.default_port if parts.port is None else parts.port
        self.path = quote(parts.path or "/", safe=SAFE) + ("?" + quote(parts.query, safe=SAFE) if parts.query else "")
        self.host_port = ("[%s]:%d" if ":" in self.host else "%s:%d") % (self.host, self.port)
        self.origin = (self.scheme, self.host, self.port)
        self.user = None if parts.username is None else unquote(parts.username)
        self.password = unquote(parts.password or "")


class Endpoint:
    """One entry of the option ``endpoints``. Raises BadOption, without values that may be secret."""

    def __init__(self, entry: Options, options: Options) -> None:
        self.name: str = entry["name"]
        try:
            self.target = Target(entry["url"])
        except ValueError as exc:
            # Messages of urlsplit quote the URL.
            raise self._bad("url", str(exc) if str(exc).startswith(("must", "has no")) else "is invalid")
        self.entry = entry
        self.shows_body: bool = options["show_bodies"]
        self.timeout, self.requests, self.most_bytes = (
            options[name] if entry[name] is None else entry[name] for name in NUMBERS
        )
        for name in NUMBERS:
            if entry[name] is not None and entry[name] <= 0:
                raise self._bad(name, "must be above 0")
        if not entry["status"]:
            raise self._bad("status", "is empty")
        if entry["method"] == "HEAD" and (entry["body_contains"] or entry["body_json"]):
            raise self._bad("method", "HEAD has no body for body_contains or body_json")
        if entry["max_redirects"] < 0:
            raise self._bad("max_redirects", "must not be below 0")
        if entry["client_key"] and not entry["client_cert"]:
            raise self._bad("client_key", "needs client_cert")
        self.headers = self._headers(entry["headers"] or {})
        self.body = self._encode(entry["body"])
        self.secrets = self._secrets()
        # The answer to the first request, null before.
        self.first: Answer | None = None
        # Loaded before any request; redirects from http may need them too.
        if self.target.scheme == "https":
            self._contexts()

    def _bad(self, option: str, reason: str) -> BadOption:
        return BadOption(
            "endpoints: %s: %s: %s" % (self.name, option, reason),
            hint="Correct `endpoints[].%s` of %s." % (option, self.name),
        )

    def _headers(self, given: Mapping[Any, Any]) -> dict[str, str]:
        """Return the headers of the request: the defaults, replaced by those ``given`` in any case."""
        headers = {"User-Agent": "tracktion.ops", "Accept": "*/*", "Connection": "close"}
        if self.target.user is not None:
            login = "%s:%s" % (self.target.user, self.target.password)
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode("utf-8")).decode("ascii")
        for name, value in given.items():
            if not HEADER_NAME.fullmatch(str(name)) or not HEADER_VALUE.fullmatch(str(value)):
                raise self._bad("headers", "%s is not a valid header" % cut(ascii(name), 60))
            for default in [default for default in headers if default.lower() == str(name).lower()]:
                del headers[default]
            headers[str(name)] = str(value)
        return headers

    def _encode(self, body: Any) -> bytes | None:
        """Return the body of the request as bytes, and set Content-Type for JSON."""
        if body is None:
            return None
        if isinstance(body, (dict, list)):
            if not any(name.lower() == "content-type" for name in self.headers):
                self.headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        return str(body).encode("utf-8")

    def _contexts(self) -> _http_exchange.Contexts:
        try:
            verifying, trusting = tls_contexts(
                self.entry["ca_cert"], self.entry["client_cert"], self.entry["client_key"]
            )
        except OSError as exc:
            reason = exc.strerror or exc.__class__.__name__
            raise self._bad("ca_cert, client_cert or client_key", "cannot be loaded: %s" % reason)
        return verifying, None if self.entry["validate_certs"] else trusting

    def _secrets(self) -> list[str]:
        """Return the texts that are hidden wherever an answer repeats them."""
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

    def measure(self, deadline: Deadline) -> Part | None:
        """Return the endpoint's entry of the measurement; null if too little time is left."""
        if deadline.remaining() < min(self.timeout, LEAST_SECONDS):
            return None
        self.first = first = self._request(deadline)
        if first.error and first.error["kind"] == OUT_OF_TIME:
            return None
        answers = list(self._answers(first, deadline))
        seconds = [answer.seconds for answer in answers if answer.ok]
        failures = [answer.failure for answer in answers if not answer.ok]
        return {**first.as_result(), "latency": latency(seconds, failures, self.requests)}

    def unmeasured(self) -> Part:
        """Return the entry of an endpoint that no request was sent to."""
        return {**Answer(self).as_result(), "latency": latency([], [], self.requests)}

    def _answers(self, first: Answer, deadline: Deadline) -> Iterator[Answer]:
        """Yield the first answer and those of the requests after it, until the deadline."""
        yield first
        if first.error:
            # More requests to an endpoint that does not answer would only use up the time.
            return
        for _number in range(self.requests - 1):
            answer = self._request(deadline)
            if answer.error and (deadline.expired() or answer.error["kind"] == OUT_OF_TIME):
                # The deadline ended it, not the endpoint.
                return
            yield answer

    def _request(self, deadline: Deadline) -> Answer:
        answer = Answer(self)
        seconds, too_short = deadline.remaining(self.timeout), deadline.too_short(self.timeout)
        try:
            answer.get(Deadline(seconds))
        except CannotConnect as exc:
            late = exc.kind in (*LATE, "unfinished") and too_short
            answer.error = error(OutOfTime(seconds) if late else exc)
            answer.error["message"] = hide(answer.error["message"], self.secrets)
        answer.seconds = answer.watch.total()
        return answer

    def exchange(self, target: Target, deadline: Deadline, watch: Stopwatch) -> Exchange:
        """Return an exchange that is not started yet. ``watch`` adds up the seconds of all redirects."""
        contexts = self._contexts() if target.scheme == "https" else None
        return Exchange(target, contexts, FAMILIES[self.entry["address_family"]], deadline, watch)


class Answer:
    """One answer of an endpoint, at the end of its redirects."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.entry = endpoint.entry
        self.watch = Stopwatch()
        self.seconds: float | None = None
        self.error: ErrorInfo | None = None
        self.exchange: Exchange | None = None
        # The address of the endpoint itself, before redirects, that accepted the connection or was tried last.
        self.address: str | None = None
        self.redirects: list[str] = []
        self.contains: bool | None = None
        self.mismatches: list[Mismatch] = []
        self.report = _self_report.NOTHING
        self.is_login = False

    def get(self, deadline: Deadline) -> None:
        """Send the request and follow redirects. Raises CannotConnect."""
        target, method = self.endpoint.target, self.entry["method"]
        headers, body = self.endpoint.headers, self.endpoint.body
        seen = {(method, target.url)}
        while True:
            with self.endpoint.exchange(target, deadline, self.watch) as exchange:
                self.exchange = exchange
                try:
                    exchange.run(method, headers, body, self.endpoint.most_bytes)
                finally:
                    self.address = self.address or exchange.address
            status = exchange.status
            if status not in REDIRECTS or status in self.entry["status"] or not self.entry["max_redirects"]:
                break
            following = self._redirect_target(target, exchange.location)
            self.redirects.append(shown_url(following.url, whole_query=False))
            if len(self.redirects) > self.entry["max_redirects"]:
                message = "more than %d redirects" % self.entry["max_redirects"]
                raise _http_exchange.failure("too_many_redirects", message)
            if status == 303 or (method == "POST" and status in (301, 302)):
                method, body = "HEAD" if method == "HEAD" else "GET", None
            if following.origin != target.origin:
                if body is not None:
                    raise _http_exchange.failure("bad_redirect", "redirect of a request with a body to another server")
                # Other servers receive no credentials.
                headers = {name: headers[name] for name in ("User-Agent", "Accept", "Connection") if name in headers}
            target = following
            if (method, target.url) in seen:
                raise _http_exchange.failure("redirect_loop", "redirect to a url that was requested before")
            seen.add((method, target.url))
        self._compare(exchange.body.decode("utf-8", "replace"))

    def _redirect_target(self, target: Target, location: str | None) -> Target:
        try:
            # http.client decodes headers as Latin-1; encode them to the same bytes.
            return Target(urljoin(target.url, quote(location or "", safe=string.punctuation, encoding="latin-1")))
        except ValueError:
            raise _http_exchange.failure("bad_redirect", "redirect to something other than an http or https url")

    def _compare(self, text: str) -> None:
        if self.entry["body_contains"] is not None:
            self.contains = self.entry["body_contains"] in text
        self.mismatches = mismatches(text, self.entry["body_json"] or {})
        path = self.endpoint.target.path
        content_type = self.exchange.headers.get("content-type", "") if self.exchange else ""
        if _self_report.is_health_path(path) or "health+json" in content_type:
            # Else the user's own expectation of the state counts.
            if not set(map(str, self.entry["body_json"] or {})) & set(_self_report.STATE_KEYS):
                self.report = _self_report.read(text)
            self.is_login = _proxy_answers.is_login(path, self.redirects, text, content_type)

    @property
    def answered(self) -> bool | None:
        """Whether a complete answer came; null if no request was sent."""
        return None if self.exchange is None else self.error is None

    @property
    def status_ok(self) -> bool | None:
        """Whether the status is an expected one; null without a complete answer."""
        return self.exchange.status in self.entry["status"] if self.exchange and self.answered else None

    @property
    def body_ok(self) -> bool | None:
        """Whether the body has the expected text and values; null without a complete answer."""
        return self.contains is not False and not self.mismatches if self.answered else None

    @property
    def ok(self) -> bool | None:
        """Whether it is complete, with an expected status and body, and not unhealthy; null if no request was sent."""
        if not self.answered:
            return self.answered
        return bool(self.status_ok and self.body_ok and not self.is_unhealthy and not self.is_login)

    @property
    def is_unhealthy(self) -> bool:
        """Whether the service reports that it is unhealthy, with a status for success."""
        status = self.exchange.status if self.exchange else None
        return self.report.healthy is False and status is not None and status < 300

    @property
    def failure(self) -> str:
        """The kind of the error, or what is wrong with the answer, in two words."""
        if self.error:
            return self.error["kind"]
        if not self.status_ok:
            return "status %s" % (self.exchange and self.exchange.status)
        return "wrong body" if not self.body_ok else "login page" if self.is_login else "unhealthy"

    def as_result(self) -> Part:
        """Return the answer as an entry of ``endpoints``, without ``latency``."""
        endpoint, exchange, secrets = self.endpoint, self.exchange, self.endpoint.secrets
        body = exchange.body if exchange else b""
        shown = self.answered and not self.ok and endpoint.shows_body
        return {
            "name": endpoint.name,
            "url": shown_url(endpoint.target.url),
            "host": endpoint.target.host,
            "service": self.entry["service"],
            "method": self.entry["method"],
            "ok": self.ok,
            "answered": self.answered,
            "error": self.error,
            "phase": self.watch.phase,
            "address": self.address,
            "port": endpoint.target.port,
            "status": exchange.status if exchange else None,
            "expected_status": self.entry["status"],
            "status_ok": self.status_ok,
            "server": self._server(),
            "proxy": self.proxy(False),
            "is_login": self.is_login if self.answered else None,
            "report": self._report(),
            "body": {
                "bytes": len(body) if self.answered else None,
                "ok": self.body_ok,
                "contains": self.contains,
                "mismatches": [
                    redacted(mismatch, secrets, endpoint.shows_body) for mismatch in self.mismatches[:MOST_MISMATCHES]
                ],
                "mismatch_count": len(self.mismatches),
                "excerpt": excerpt(decoded(body[:EXCERPT_OF]), secrets, EXCERPT) if shown else None,
            },
            "seconds": {**self.watch.seconds, "total": self.seconds},
            "redirects": {"count": len(self.redirects), "urls": self.redirects[: self.entry["max_redirects"] + 1]},
            "tls": tls_result(exchange.tls if exchange else None),
            "foreign": False,
            "responder": None,
            "container": None,
            "cpu": None,
        }

    def proxy(self, is_proxy: bool) -> str | None:
        """Return the name of the proxy that gave this answer instead of the service; null if the service did.

        ``is_proxy``: the program that answers is one.
        """
        if not self.exchange or not self.answered or self.status_ok:
            return None
        text = self.exchange.body[:EXCERPT_OF].decode("utf-8", "replace")
        return _proxy_answers.proxy(self.exchange.status, self.exchange.headers, text, is_proxy)

    def _server(self) -> str | None:
        text = self.exchange.headers.get("server") if self.exchange else None
        return cut(printable(conceal(text, self.endpoint.secrets)), SERVER_LENGTH) if text else None

    def _report(self) -> Part | None:
        """Return the part ``report``: what a health endpoint says about itself; null if it says nothing."""
        report = self.report
        if report.state is None and not report.failing:
            return None

        def shown(text: str | None, name: str = "") -> str | None:
            if text is None:
                return None
            # The name of a secret hides its value.
            return conceal("%s: %s" % (name, text), self.endpoint.secrets).partition(": ")[2]

        result: Part = {"healthy": report.healthy, "reduced": report.reduced, "state": None, "failing": []}
        if self.endpoint.shows_body:
            result["state"] = shown(report.state)
            result["failing"] = [
                {
                    "path": shown(each.path),
                    "state": shown(each.state),
                    "reason": shown(each.reason, each.path.rpartition(".")[2]),
                }
                for each in report.failing
            ]
        return result


@functools.lru_cache(maxsize=None)
def tls_contexts(
    ca_cert: str | None, client_cert: str | None, client_key: str | None
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a context that verifies certificates and one that does not. Raises OSError, of which SSLError is one.

    Loading the authorities takes 20 ms, so endpoints with the same files share the contexts.
    """
    verifying, trusting = ssl.create_default_context(cafile=ca_cert), unverified_context()
    # Strict verification, the default from Python 3.13 on, rejects authorities that curl and browsers accept.
    verifying.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if client_cert:
        for context in (verifying, trusting):
            context.load_cert_chain(client_cert, client_key)
    return verifying, trusting


def latency(seconds: Iterable[float | None], failures: list[str], wanted: int) -> Part:
    """Return the part ``latency``. Percentiles are by nearest rank: each is the time of one of the right answers."""
    ordered = sorted(taken for taken in seconds if taken is not None)

    def rank(ratio: float) -> float | None:
        return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)] if ordered else None

    return {
        "wanted": wanted,
        "made": len(ordered) + len(failures),
        "failed": len(failures),
        "failures": sorted(set(failures)),
        "p50_seconds": rank(0.5),
        "p95_seconds": rank(0.95),
        "max_seconds": rank(1),
    }


def tls_result(tls: Tls | None) -> Part | None:
    """Return the part ``tls``, with the time until the certificate expires; null without TLS."""
    if tls is None:
        return None
    fields = ("verified", "problem", "message", "version", "subject", "issuer", "names", "begins", "expires")
    result: Part = {field: tls.get(field) for field in fields}
    for field in ("subject", "issuer"):
        result[field] = shown_name(result[field])
    result["names"] = [shown_name(name) for name in (result["names"] or [])[:10]]
    result["seconds_left"] = None if result["expires"] is None else round(result["expires"] - time.time(), 1)
    return result


def shown_name(name: str | None) -> str | None:
    """Return a name of a certificate, which is untrusted text, cut and without control characters."""
    return None if name is None else cut(printable(name), NAME_LENGTH)
