# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that the RabbitMQ modules share. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description: Where the broker listens, for the management API and for AMQP.
    type: str
    default: localhost
  login_port:
    description: Port of the management API.
    type: int
    default: 15672
  login_user:
    description:
      - Who logs in. To see every vhost, the nodes and the connections, the user needs the tag C(monitoring).
      - The user V(guest) may log in from the broker's own machine only, unless the broker is set up otherwise.
    type: str
    default: guest
  login_password:
    description: The password of O(login_user).
    type: str
  login_protocol:
    description: Protocol of the management API.
    type: str
    choices: [http, https]
    default: http
  ca_cert:
    description: File with the certificates of the authorities to trust, for HTTPS and for AMQP over TLS.
    type: path
  client_cert:
    description: File with the certificate to show to the broker.
    type: path
  client_key:
    description: File with the key of O(client_cert).
    type: path
  validate_certs:
    description: Whether the broker's certificate must be signed by an authority that is trusted, and name O(login_host).
    type: bool
    default: true
  vhost:
    description: The vhost to enter over AMQP. Queues that are named without a vhost are in this one.
    type: str
    default: /
  amqp_port:
    description: Port for AMQP.
    type: int
    default: 5672
  amqp_tls:
    description: Whether AMQP is spoken over TLS. The port for it is mostly 5671.
    type: bool
    default: false
  timeout:
    description: Seconds that one connection attempt, request or read may take. The lists of all queues, exchanges and connections may take until
      O(deadline).
    type: float
    default: 3.0
  deadline:
    description: Seconds that everything together may take.
    type: float
    default: 15.0
  top:
    description: How many queues, connections, exchanges and so on of each kind are returned at most, the worst first.
    type: int
    default: 20
  max_queues:
    description: Where the broker has more queues, the list of all queues is not read, because the broker works on it for a second and more for each
      10,000 of them. The sums over all queues, and queues that are named, are known nevertheless.
    type: int
    default: 20000
notes:
  - The management API is read with Python's own library, over one connection. AMQP needs the library pika.
  - Runs on RabbitMQ 3.10 and later.
  - Credentials are never part of a URL, a message or a result.
requirements:
  - pika >= 1.2, for what is read or done over AMQP
"""
