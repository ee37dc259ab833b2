#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_pooler_info
short_description: Measure PgBouncer
version_added: 0.2.0
description:
  - Reads the pools, databases and limits of PgBouncer by its console, and tests whether a client that logs in through it reaches the server.
  - The other options for connections are those of the server behind it. Only those for TLS and time are used, and O(login_user) and O(login_password)
    as defaults.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._postgresql
options:
  poolers:
    description: The poolers to measure. Each needs O(poolers[].user), O(poolers[].database) or both.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Host name or address.
        type: str
        required: true
      port:
        description: Port.
        type: int
        default: 6432
      user:
        description: User for the console, one of C(stats_users) or C(admin_users). Without it the console is not read.
        type: str
        default: ""
      password:
        description: Password of O(poolers[].user).
        type: str
        default: ""
      database:
        description: Database to log in to through the pooler, as a service does. Without it no login is tested.
        type: str
        default: ""
      service_user:
        description: User of that login. By default O(login_user), with O(login_password).
        type: str
        default: ""
      service_password:
        description: Password of O(poolers[].service_user).
        type: str
        default: ""
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
  top:
    description: Maximum number of rows in each list.
    type: int
    default: 20
seealso:
  - module: tracktion.ops.pg_activity
"""

EXAMPLES = r"""
- name: Measure a pooler
  tracktion.ops.pg_pooler_info:
    poolers:
      - host: 127.0.0.1
        user: stats
        password: "{{ stats_password }}"
        database: tracktion
        service_user: tracktion_user
        service_password: "{{ tracktion_password }}"
  register: measured

- name: Check that no client waits
  ansible.builtin.assert:
    that: measured.pools | map(attribute='clients_waiting') | sum == 0
"""

RETURN = r"""
reachable: {description: Always true. Each of RV(poolers) and RV(logins) has its own., returned: always, type: bool, sample: true}
error: {description: Always null., returned: always, type: dict}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
poolers:
  description: The poolers whose console is read.
  returned: always
  type: list
  elements: dict
  contains:
    pooler: {description: Host and port., type: str, returned: always}
    reachable: {description: Whether the console could be reached. Null without the time to find out., type: bool, returned: always}
    error: &error
      description: Why not, as described in docs/measurement.md. Null otherwise.
      type: dict
      returned: always
      contains:
        kind: {description: Kind of the failure., type: str, returned: always}
        message: {description: The reason., type: str, returned: always}
        hint: {description: The next step., type: str, returned: always}
    version: {description: Version., type: str, returned: always}
    max_clients: {description: "The setting C(max_client_conn).", type: int, returned: always}
    clients: {description: Clients that are connected to its databases., type: int, returned: always}
    clients_ratio: {description: "RV(poolers[].clients) divided by RV(poolers[].max_clients).", type: float, returned: always}
    query_wait_timeout: {description: Seconds after which a waiting client is disconnected. 0 for never., type: float, returned: always}
    pool_mode: {description: Its default pool mode., type: str, returned: always}
  sample:
    - {pooler: "127.0.0.1:6432", reachable: true, error: null, version: PgBouncer 1.24.1, max_clients: 100, clients: 12, clients_ratio: 0.12,
       query_wait_timeout: 120.0, pool_mode: transaction}
logins:
  description: The logins through poolers.
  returned: always
  type: list
  elements: dict
  contains:
    pooler: {description: Host and port., type: str, returned: always}
    database: {description: The database., type: str, returned: always}
    user: {description: The user., type: str, returned: always}
    reachable: {description: Whether a query reached the server. Null without the time to find out., type: bool, returned: always}
    error: *error
  sample: [{pooler: "127.0.0.1:6432", database: tracktion, user: tracktion_user, reachable: true, error: null}]
pools:
  description: The pools, those with the longest wait first.
  returned: always
  type: list
  elements: dict
  contains:
    pooler: {description: Host and port., type: str, returned: always}
    database: {description: The database., type: str, returned: always}
    user: {description: The user., type: str, returned: always}
    clients_active: {description: Clients with a connection to the server or without a query., type: int, returned: always}
    clients_waiting: {description: Clients that wait for a connection to the server., type: int, returned: always}
    wait_seconds: {description: How long the first of them has waited., type: float, returned: always}
    servers: {description: Connections to the server., type: int, returned: always}
    servers_active: {description: How many of them are used by a client., type: int, returned: always}
    servers_logging_in: {description: How many of them are being opened., type: int, returned: always}
    pool_size: {description: Maximum number of connections to the server. Null if it is not known., type: int, returned: always}
    paused: {description: Whether the database is paused., type: bool, returned: always}
  sample:
    - {pooler: "127.0.0.1:6432", database: tracktion, user: tracktion_user, clients_active: 20, clients_waiting: 7, wait_seconds: 3.5, servers: 20,
       servers_active: 20, servers_logging_in: 0, pool_size: 20, paused: false}
pools_total: {description: Number of pools., returned: always, type: int, sample: 1}
databases:
  description: The databases, those that are paused or disabled first.
  returned: always
  type: list
  elements: dict
  contains:
    pooler: {description: Host and port., type: str, returned: always}
    name: {description: Name for clients., type: str, returned: always}
    host: {description: Host of the server. Null for its Unix-domain socket., type: str, returned: always}
    port: {description: Port of the server., type: int, returned: always}
    database: {description: Name on the server., type: str, returned: always}
    pool_size: {description: Maximum number of connections of each pool., type: int, returned: always}
    connections: {description: Connections to the server., type: int, returned: always}
    max_connections: {description: Their maximum. Null without one., type: int, returned: always}
    paused: {description: Whether it is paused., type: bool, returned: always}
    disabled: {description: Whether it is disabled., type: bool, returned: always}
  sample:
    - {pooler: "127.0.0.1:6432", name: tracktion, host: db, port: 5432, database: tracktion, pool_size: 20, connections: 20, max_connections: null,
       paused: false, disabled: false}
databases_total: {description: Number of databases., returned: always, type: int, sample: 1}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_pooler_info as pg_pooler_info


def main() -> None:
    module = AnsibleModule(argument_spec=pg_pooler_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(pg_pooler_info.measure, module.params))


if __name__ == "__main__":
    main()
