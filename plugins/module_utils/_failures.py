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
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote


class Service(NamedTuple):
    """How a service is called in hints, which options lead to it, and what the commands of hints name.

    An option is between backticks: a visit replaces it by the role's variable (``_settings.name_variables``).
    """

    # "PostgreSQL"
    name: str
    # "`login_host` and `login_port`"
    address: str
    # "`login_user` and `login_password`"
    credentials: str = ""
    # "`ssl_mode` and `ca_cert`"
    tls: str = ""
    # The host and the port of the address. No host: a socket of this machine.
    host: str = ""
    port: int = 0
    # The commands that start it and show its log where it is no container: "systemctl start redis-server".
    start: str = ""
    log: str = ""
    # The options of ps that select its processes: "-C redis-server".
    processes: str = "-e"
    # The option of openssl if the client requests TLS in the protocol of the service: "-starttls postgres ".
    starttls: str = ""


# kind -> hint for all services. Most placeholders are fields of a Service, the others are commands (``filled_in()``).
HINTS = {
    "refused": "Start {name}: {starting}; or correct {address}: nothing listens there.",
    "timeout": (
        "Check that the machine is up, and the routes and firewalls on the way to {address}: `ping -c 3 {target}`."
    ),
    "no_answer": (
        "Check the process of {name} on its machine: `docker ps --filter status=paused` lists paused containers, "
        "`ps {processes} -o pid,stat,pcpu,args` the states of processes (T: stopped, D: waiting for a disk). "
        "It accepts connections and does not answer."
    ),
    "name_resolution": "Correct {address}, or the DNS servers of the host that measures: `getent hosts {target}`.",
    "no_route": (
        "Check the routes, firewalls and Docker networks between the host that measures and {address}: `ip route`, "
        "`docker network ls`."
    ),
    "permission": "List the rules of the local firewall with their counters: `iptables-save -c; nft list ruleset`.",
    "authentication": "Correct {credentials}. Services that use the same credentials fail too.",
    "tls": "Check {tls} against the TLS configuration of {name}: `openssl s_client {peer} </dev/null`.",
    "certificate": (
        "Check {tls}: the signing authority must be trusted, and the host name be in the certificate. Show it: "
        "`openssl s_client {peer} -showcerts </dev/null`."
    ),
    "protocol": (
        "Correct {address}: something other than {name} answers there. Show the program, on its machine: {listening}."
    ),
    "closed": "Read the log of {name}: {reading}. It, or a proxy in front of it, closes the connection.",
    "failed": "Read the log of {name}: {reading}.",
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
    if kind == "timeout" and not service.host:
        # The queue of a socket of this machine is full.
        kind = "no_answer"
    return filled_in(HINTS[kind], service)


def filled_in(text: str, service: Service, **more: str) -> str:
    """Return a hint with its placeholders replaced: fields of the service, the commands for it, and ``more``."""
    host = "[%s]" % service.host if ":" in service.host else service.host
    return text.format(
        starting=_commands("docker start CONTAINER", service.start),
        reading=_commands("docker logs --tail 50 CONTAINER", service.log),
        target=("-- " if service.host.startswith("-") else "") + shell_quote(service.host),
        listening="`ss -ltnp 'sport = :%d'`" % service.port if service.port else "`ss -lxp`",
        peer="%s-connect %s" % (service.starttls, shell_quote("%s:%d" % (host, service.port))),
        **service._asdict(),
        **more,
    )


def _commands(in_container: str, elsewhere: str) -> str:
    """Return the commands for a service in a container and for one outside of containers, if that is known."""
    return " or ".join("`%s`" % command for command in (in_container, elsewhere) if command)


def failure(kind: str, message: str, service: Service, more: str = "") -> CannotConnect:
    """Return the failure to reach a service. ``more`` is appended to the common hint."""
    return CannotConnect(kind, message, " ".join(filter(None, (hint(kind, service), more))))
