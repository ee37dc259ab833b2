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
    description: ACL user. Without it, O(login_password) is the password of the user C(default).
    type: str
  login_password:
    description: Password of the user.
    type: str
  tls:
    description: Whether to connect over TLS.
    type: bool
    default: false
  validate_certs:
    description: Whether the server's certificate must be signed by a trusted authority and contain O(login_host).
    type: bool
    default: true
  ca_certs:
    description: File with the certificates of trusted authorities. Without it, the authorities that the system trusts.
    type: path
  client_cert_file:
    description: File with the client certificate, in PEM format.
    type: path
  client_key_file:
    description: File with the key of O(client_cert_file), if that file does not contain it.
    type: path
  timeout:
    description: Timeout in seconds for connecting and logging in, and for each reply.
    type: float
    default: 3.0
  deadline:
    description: Limit in seconds for the whole measurement. Parts that are not read by then are listed in RV(ignore:unknown).
    type: float
    default: 15.0
  top:
    description: Maximum number of rows of each list that can grow without bound.
    type: int
    default: 20
requirements:
  - redis >= 4.3
  - hiredis >= 1.0
notes:
  - Tested with Redis 7.0 and 8.0.
  - A command that the ACL denies does not make the measurement fail. The parts that need it are null and listed in C(unknown), with the
    command that allows it. A denied command is sent once, because the server logs each denial in its ACL LOG.
  - The name of the connection is C(tracktion-ops).
"""
