# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of failures, one word each for all services, with the hint for each. Private to this collection.

``kind`` is what a check or a playbook compares. A service maps its errors to these kinds: those of the system by
``of_os_error()``, the replies of its server by a table of its own.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect


class Service(NamedTuple):
    """How a service is called in hints, and which options lead to it."""

    # "PostgreSQL"
    name: str
    # "login_host and login_port"
    address: str
    # "login_user and login_password"
    credentials: str = ""
    # "ssl_mode and ca_cert"
    tls: str = ""
    # "Start it: `systemctl start docker`."; empty where it is not known how the service is started.
    start: str = ""


# kind -> hint for all services. Most placeholders are names of options.
HINTS = {
    "refused": "Start {name}, or correct {address}: nothing listens there.",
    "timeout": "Check that the machine is up, and the routes and firewalls on the way to {address}.",
    "no_answer": (
        "Check the process of {name} (paused, no CPU, waiting for a disk): it accepts connections and does not answer."
    ),
    "name_resolution": "Correct {address}, or the DNS configuration of the host that measures.",
    "no_route": "Check the routes, firewalls and Docker networks between the host that measures and {address}.",
    "permission": "Check the rights of the account, and local firewalls, on the host that measures.",
    "authentication": "Correct {credentials}. Services that use the same credentials fail too.",
    "tls": "Check {tls} against the TLS configuration of {name}.",
    "certificate": "Check {tls}: the signing authority must be trusted, and the host name be in the certificate.",
    "protocol": "Correct {address}: something other than {name} answers there.",
    "closed": "Read the log of {name}: it, or a proxy in front of it, closes the connection.",
    "failed": "Read the log of {name}.",
}

# Every kind that a measurement may hold, and what it means. Those above come with a common hint.
KINDS = {
    # Cannot connect
    "refused": "nothing listens at the address",
    "timeout": "no connection within the timeout",
    "no_answer": "a connection, and no answer within the timeout",
    "name_resolution": "the host name cannot be resolved",
    "no_route": "the network or the host is unreachable",
    "authentication": "the user or the password is wrong or missing",
    "permission": "the account, or the user on the host, lacks a right",
    "tls": "the TLS handshake failed",
    "certificate": "the certificate is not trusted",
    "protocol": "something else answers at the address",
    "closed": "the connection was closed or reset",
    "too_many_connections": "the service has no connection left",
    "starting_up": "the service is starting, stopping or recovering",
    "failed": "another failure, which the message describes",
    # Nothing is known of the service
    "deadline": "the deadline left too little time",
    "ended": "the visit was ended before the measurement was finished",
    # The measurement cannot run
    "bad_option": "an option has an invalid value",
    "missing_library": "a Python library cannot be imported",
    "cannot_measure": "the measurement cannot run on this host",
    "malformed": "the measurement does not have its documented shape",
    "crashed": "the measuring function raised an unexpected exception",
    "died": "the process of the area ended",
    "too_large": "the answer or the measurement is larger than its limit",
    "not_evaluated": "the checks of the area could not be evaluated",
}

_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL)


def of_os_error(exc: BaseException) -> str:
    """Return the kind of an error of a socket or of TLS: ``failed`` for one that says nothing about the connection."""
    if isinstance(exc, socket.gaierror):
        return "name_resolution"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "certificate"
    # Before the other errors of the system, of which it is one.
    if isinstance(exc, ssl.SSLEOFError):
        return "closed"
    if isinstance(exc, ssl.SSLError):
        return "tls"
    if isinstance(exc, (socket.timeout, TimeoutError)):
        return "timeout"
    if isinstance(exc, ConnectionRefusedError):
        return "refused"
    if isinstance(exc, ConnectionError):
        return "closed"
    if isinstance(exc, PermissionError):
        return "permission"
    return "no_route" if isinstance(exc, OSError) and exc.errno in _NO_ROUTE else "failed"


def hint(kind: str, service: Service) -> str:
    """Return the hint for a kind of failure of a service, one that ``HINTS`` holds."""
    text = HINTS[kind].format(**service._asdict())
    return "%s %s" % (service.start, text) if service.start and kind == "refused" else text


def failure(kind: str, message: str, service: Service, more: str = "") -> CannotConnect:
    """Return the failure to reach a service. ``more`` is appended to the common hint."""
    return CannotConnect(kind, message, " ".join(filter(None, (hint(kind, service), more))))
