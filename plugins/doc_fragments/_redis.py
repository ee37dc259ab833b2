# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connection options of the Redis modules. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description: Name or address of the Redis server.
    type: str
    default: localhost
  login_port:
    description: TCP port of the Redis server.
    type: int
    default: 6379
  login_user:
    description: ACL user to log in as. Without it, O(login_password) is that of the user C(default).
    type: str
  login_password:
    description: Password to log in with.
    type: str
  tls:
    description: Whether to connect over TLS.
    type: bool
    default: false
  validate_certs:
    description: Whether the server's certificate must be signed by a known authority and name O(login_host).
    type: bool
    default: true
  ca_certs:
    description: File with the certificates of the authorities to trust. Without it, those that the system trusts.
    type: path
  client_cert_file:
    description: File with the certificate to show to the server, in PEM format.
    type: path
  client_key_file:
    description: File with the key of O(client_cert_file), where that file does not hold it.
    type: path
  timeout:
    description: Seconds to wait for the connection with its log-in, and for each reply.
    type: float
    default: 3.0
  deadline:
    description: Seconds within which everything is over. What could not be read by then is named in RV(ignore:unknown).
    type: float
    default: 15.0
  top:
    description: The most rows of each list that can grow without bound.
    type: int
    default: 20
requirements:
  - redis >= 4.3
  - hiredis >= 1.0
notes:
  - Tested with Redis 7.0 and 8.0.
  - Commands that the user's ACL forbids are no failure of a measurement. What they would have told is null and named in C(unknown), with the
    command that allows it. A forbidden command is sent once, as the server notes each refusal in its ACL LOG.
  - The connection is named C(tracktion-ops).
"""
