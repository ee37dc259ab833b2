# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of all RabbitMQ modules. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description: Host name or address of the broker, for the management API and for AMQP.
    type: str
    default: localhost
  login_port:
    description: Port of the management API.
    type: int
    default: 15672
  login_user:
    description:
      - The user that logs in. To read the nodes, the connections and the names of all vhosts, it needs the tag C(monitoring).
      - The user V(guest) can log in from the machine of the broker only, unless the broker is configured otherwise.
    type: str
    default: guest
  login_password:
    description: Password of O(login_user).
    type: str
  login_protocol:
    description: Protocol of the management API.
    type: str
    choices: [http, https]
    default: http
  ca_cert:
    description: File with the trusted CA certificates, for HTTPS and for AMQP over TLS.
    type: path
  client_cert:
    description: File with the client certificate.
    type: path
  client_key:
    description: File with the private key of O(client_cert).
    type: path
  validate_certs:
    description: Whether to verify that a trusted CA signed the broker's certificate and that it contains O(login_host).
    type: bool
    default: true
  vhost:
    description: The vhost to open over AMQP, and the default vhost of queues that are named without one.
    type: str
    default: /
  amqp_port:
    description: Port of AMQP.
    type: int
    default: 5672
  amqp_tls:
    description: Whether to use TLS for AMQP. Its usual port is 5671.
    type: bool
    default: false
  timeout:
    description: Seconds for each connection attempt, request and read. Only O(deadline) limits the lists of all queues, exchanges and connections.
    type: float
    default: 3.0
  deadline:
    description: Seconds for the whole module.
    type: float
    default: 15.0
  top:
    description: Maximum number of queues, connections, exchanges and so on to return of each kind, the worst first.
    type: int
    default: 20
  max_queues:
    description: If the broker has more queues, the list of all queues is not read, because it takes the broker a second or more per 10,000
      queues. The sums over all queues and the queues that are named explicitly are still measured.
    type: int
    default: 20000
notes:
  - The management API is read with Python's standard library, over one connection. AMQP requires the library pika.
  - Runs on RabbitMQ 3.10 and later.
  - Credentials are never part of a URL, a message or a result.
requirements:
  - pika >= 1.2 (for AMQP)
"""
