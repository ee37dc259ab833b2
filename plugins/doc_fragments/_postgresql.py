# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the modules for PostgreSQL. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description: Name or address of the server. Not used with O(login_unix_socket).
    type: str
    default: localhost
  login_port:
    description: Port of the server.
    type: int
    default: 5432
  login_user:
    description:
      - The role to log in as. Membership in C(pg_monitor) is enough to measure.
      - To find out whether the application can log in, use the application's own role.
    type: str
    default: postgres
  login_password:
    description: The password of O(login_user). Where it is empty, the client library looks into its password file.
    type: str
    default: ""
  login_db:
    description: The database to connect to. Tables, indexes, statements and sequences are those of this database.
    type: str
    default: postgres
  login_unix_socket:
    description: Directory of the server's Unix-domain socket, to be used instead of O(login_host).
    type: path
    default: ""
  ssl_mode:
    description: Whether, and how strictly, the connection is to be encrypted, in the words of libpq.
    type: str
    default: prefer
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File with the certificate of the authority that must have signed the server's certificate.
    type: path
    default: ""
  ssl_cert:
    description: File with the client certificate.
    type: path
    default: ""
  ssl_key:
    description: File with the key of O(ssl_cert).
    type: path
    default: ""
  timeout:
    description: Seconds for the attempt to connect, and for each query.
    type: float
    default: 3.0
requirements:
  - psycopg2
"""

    # For modules that measure.
    MEASURING = r"""
options:
  deadline:
    description: Seconds for the whole measurement. What is not read by then is named in RV(ignore:unknown).
    type: float
    default: 15.0
  top:
    description: How many rows each list holds at most.
    type: int
    default: 20
notes:
  - Every query runs in a read-only transaction with a C(statement_timeout) and a C(lock_timeout) of 50 ms, under the
    C(application_name) V(tracktion.ops). No query waits for a lock on a table.
  - What the role may not read is not asked for, so that the server's log has no errors of a measurement.
"""
