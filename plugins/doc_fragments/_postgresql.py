# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the modules for PostgreSQL. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description: Host name or address of the server. Ignored with O(login_unix_socket).
    type: str
    default: localhost
  login_port:
    description: Port of the server.
    type: int
    default: 5432
  login_user:
    description:
      - The role to log in as. To measure, membership in C(pg_monitor) is enough.
      - To test whether the application can log in, use the application's own role.
    type: str
    default: postgres
  login_password:
    description: Password of O(login_user). If it is empty, the client library reads its password file.
    type: str
    default: ""
  login_db:
    description: The database to connect to. Tables, indexes, statements and sequences of this database are used.
    type: str
    default: postgres
  login_unix_socket:
    description: Directory of the server's Unix-domain socket. It replaces O(login_host).
    type: path
    default: ""
  ssl_mode:
    description: Encryption of the connection, as C(sslmode) of libpq.
    type: str
    default: prefer
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File with the certificate of the authority that signed the server's certificate.
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
    description: Timeout of the connection attempt and of each query, in seconds.
    type: float
    default: 3.0
requirements:
  - psycopg2
"""

    # For modules that measure.
    MEASURING = r"""
options:
  deadline:
    description: Seconds for the whole measurement. Parts that are not read by then are listed in RV(ignore:unknown).
    type: float
    default: 15.0
  top:
    description: Maximum number of rows in each list.
    type: int
    default: 20
  query_length:
    description: Maximum number of characters of the text of a statement, after its constants are replaced. V(0) returns no text.
    type: int
    default: 300
  show_literals:
    description:
      - Whether to return the constants and comments of SQL statements, which may hold secrets or personal data.
      - By default each constant is replaced by C(?), and comments are removed.
      - Passwords that follow the word C(PASSWORD) are never returned.
    type: bool
    default: false
notes:
  - Every query runs in a read-only transaction with a C(statement_timeout) and a C(lock_timeout) of 50 ms, with the
    C(application_name) V(tracktion.ops). No query waits for a lock on a table.
  - Queries that need a privilege that the role lacks are not sent, so that a measurement leaves no errors in the server's log.
"""
