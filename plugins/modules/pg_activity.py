#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_activity
short_description: Measure the activity of a PostgreSQL server, and end sessions
version_added: 0.2.0
description:
  - Measures sessions, use of connections, long queries and transactions, blocking chains, the lock table and prepared transactions of a
    PostgreSQL server (12 or newer).
  - With O(state=ended) it ends the sessions that match all criteria. It cancels a running query first, and terminates the session only if
    that does not end it.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._postgresql
  - tracktion.ops._postgresql.measuring
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A second run changes nothing, unless O(max_sessions) left sessions over or an application has reconnected.
options:
  state:
    description:
      - V(measured) only measures. A server that cannot be reached is a result (RV(reachable)), not a failure.
      - V(ended) ends the sessions that match all given criteria. It requires O(pids), or O(states) with O(min_age).
      - Only sessions of clients are ended, never the module's own, a replication sender or a process of the server.
      - A session that only waits for a lock is left alone, unless it is named with O(pids[].blocking). It continues when the session that holds the
        lock has ended.
      - A session that runs a command of maintenance (C(VACUUM), C(ANALYZE), C(CREATE INDEX), C(REINDEX), C(CLUSTER), C(REFRESH MATERIALIZED VIEW)) is
        left alone, unless it is named with O(pids).
      - A session that waits for a synchronous standby is left alone. If its commit were cancelled, it would be complete on this server only.
      - The sessions are ended one after the other, and the conditions are checked again before each signal.
    type: str
    choices: [measured, ended]
    default: measured
  pools:
    description: The connection pools of the services, to compare them with the connection limit.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Name of the service.
        type: str
        required: true
      pool_size:
        description: Connections that the pool of one process keeps.
        type: int
        default: 5
      max_overflow:
        description: Connections that it may open in addition.
        type: int
        default: 10
      workers:
        description: Processes with such a pool, in all replicas of the service.
        type: int
        default: 1
  service_roles:
    description: Roles that services log in as. Roles with open sessions are known without it.
    type: list
    elements: str
    default: []
  pids:
    description: The sessions to end. A session that has reused a process ID is not ended.
    type: list
    elements: dict
    default: []
    suboptions:
      pid:
        description: Process ID of the session.
        type: int
        required: true
      backend_start:
        description: Start of the session, as measured (RV(active_queries[].backend_start)).
        type: float
        required: true
      transaction_start:
        description: Start of its transaction, as measured. If given, a session in another transaction is not ended.
        type: float
      state_start:
        description: Start of its state, as measured. If given, a session that has started or finished a query since is not ended.
        type: float
      blocking:
        description:
          - End the session only while others wait behind it (RV(blocking), RV(lock_queues)). It may wait for a lock itself.
          - If others still wait for an advisory lock of it after its query was cancelled, the lock belongs to the session, which is terminated.
        type: bool
        default: false
  states:
    description: End only sessions in these states.
    type: list
    elements: str
    default: []
    choices: [active, fastpath function call, idle, idle in transaction, idle in transaction (aborted)]
  min_age:
    description: End only sessions whose query has run for at least this long or, if none runs, that have been in their state for this long. In seconds.
    type: float
  users:
    description: End only sessions of these roles.
    type: list
    elements: str
    default: []
  applications:
    description: End only sessions with one of these values of C(application_name).
    type: list
    elements: str
    default: []
  databases:
    description: End only sessions in these databases.
    type: list
    elements: str
    default: []
  deny_users:
    description: Never end sessions of these roles.
    type: list
    elements: str
    default: []
  deny_applications:
    description: Never end sessions with one of these values of C(application_name).
    type: list
    elements: str
    default: [pg_basebackup, pg_dump, pg_dumpall, pg_receivewal, pg_repack, pg_restore, reindexdb, vacuumdb]
  max_sessions:
    description: Maximum number of sessions to end in one run, oldest first.
    type: int
    default: 10
  mode:
    description:
      - V(cancel) cancels running queries and keeps all sessions connected. Sessions that run no query are left alone.
      - V(cancel_then_terminate) cancels a running query, and terminates the session if its transaction is not over after O(grace).
        Sessions that run no query are terminated.
      - V(terminate) terminates at once.
    type: str
    choices: [cancel, cancel_then_terminate, terminate]
    default: cancel_then_terminate
  grace:
    description: Seconds to wait for the effect of each signal, in addition to O(deadline).
    type: float
    default: 5.0
seealso:
  - module: tracktion.ops.pg_health_info
"""

EXAMPLES = r"""
- name: Measure as a monitoring role
  tracktion.ops.pg_activity:
    login_host: 127.0.0.1
    login_user: monitor
    login_password: "{{ monitor_password }}"
    login_db: tracktion
    pools:
      - {service: analysis_service, pool_size: 20, max_overflow: 30, workers: 3}
  register: activity

- name: Check that the pools fit into the connection limit
  ansible.builtin.assert:
    that: activity.pools.openable <= activity.connections.limit
  when: activity.reachable

- name: Show which sessions idle in transaction for 15 minutes would be ended
  tracktion.ops.pg_activity:
    login_host: 127.0.0.1
    login_user: postgres
    login_password: "{{ postgres_password }}"
    state: ended
    states: [idle in transaction]
    min_age: 900
    deny_users: [postgres]
  check_mode: true
  diff: true

- name: End the session that blocks most others, if it has done nothing since
  tracktion.ops.pg_activity:
    login_host: 127.0.0.1
    login_user: postgres
    login_password: "{{ postgres_password }}"
    state: ended
    pids:
      - pid: "{{ activity.blocking[0].pid }}"
        backend_start: "{{ activity.blocking[0].backend_start }}"
        transaction_start: "{{ activity.blocking[0].transaction_start }}"
        state_start: "{{ activity.blocking[0].state_start }}"
        blocking: true
  when: activity.blocking | length > 0
"""

RETURN = r"""
reachable: {description: Whether the server could be reached., returned: when O(state=measured), type: bool, sample: true}
error:
  description: Why not, or null. Of PostgreSQL only, C(kind) is V(no_hba_entry), V(no_database), V(disk_full) or V(pooler).
  returned: when O(state=measured)
  type: dict
unknown: {description: "Parts that could not be read, or not completely.", returned: when O(state=measured), type: list, elements: dict, sample: []}
identity:
  description: "C(postgresql:) with the system identifier of the server and, for a standby, the time of its start. Null if the role may not read it."
  returned: when O(state=measured)
  type: str
  sample: postgresql:7713304088322195483
server:
  description: The server, and the role and database of the connection, as described in docs/measurement.md.
  returned: when O(state=measured)
  type: dict
  contains:
    version: {description: Version., type: str, returned: always}
    version_num: {description: Version as a number., type: int, returned: always}
    in_recovery: {description: Whether it is a standby or in recovery., type: bool, returned: always}
    started: {description: Start time., type: float, returned: always}
    role: {description: Role of the connection., type: str, returned: always}
    database: {description: Database of the connection., type: str, returned: always}
    sees_all: {description: Whether the role may see all sessions., type: bool, returned: always}
    sees_settings: {description: Whether the role may see all settings., type: bool, returned: always}
    through_pooler: {description: Whether a pooler answers at the address., type: bool, returned: always}
    hint: {description: Command that grants the role both. Null if it has both., type: str, returned: always}
  sample:
    {version: "17.6", version_num: 170006, in_recovery: false, started: 1763900000.5, role: monitor, database: tracktion, sees_all: true,
     sees_settings: true, through_pooler: false, hint: null}
connections:
  description: Use of the connections that ordinary roles may open.
  returned: when O(state=measured)
  type: dict
  contains:
    max_connections: {description: The server's setting., type: int, returned: always}
    superuser_reserved: {description: Connections reserved for superusers., type: int, returned: always}
    reserved: {description: Connections reserved for C(pg_use_reserved_connections) (PostgreSQL 16 and newer)., type: int, returned: always}
    limit: {description: Connections for all other roles., type: int, returned: always}
    used: {description: "Sessions of clients, without those of this collection. Null if sessions are hidden from the role.", type: int, returned: always}
    ratio: {description: RV(connections.used) divided by RV(connections.limit)., type: float, returned: always}
  sample: {max_connections: 100, superuser_reserved: 3, reserved: 0, limit: 97, used: 41, ratio: 0.4227}
connection_limits:
  description: Use of all connection limits, including those of databases and roles.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    scope: {description: "V(server), V(database) or V(role).", type: str, returned: always}
    name: {description: Name of the database or role; C(server) for the server., type: str, returned: always}
    limit: {description: The limit., type: int, returned: always}
    used: {description: Sessions that count against it. Null if sessions are hidden from the role., type: int, returned: always}
    ratio: {description: Used part of the limit., type: float, returned: always}
  sample: [{scope: server, name: server, limit: 97, used: 41, ratio: 0.4227}]
pools:
  description: How many connections the O(pools) can open together.
  returned: when O(state=measured)
  type: dict
  contains:
    services:
      description: The pools of each service.
      type: list
      elements: dict
      returned: always
      contains:
        service: {description: Name of the service., type: str, returned: always}
        openable: {description: Connections that its pools can open., type: int, returned: always}
    openable: {description: Connections that all pools can open., type: int, returned: always}
    limit: {description: Connections that the server has for them., type: int, returned: always}
    ratio: {description: RV(pools.openable) divided by RV(pools.limit)., type: float, returned: always}
  sample: {services: [{service: analysis_service, openable: 150}], openable: 150, limit: 97, ratio: 1.546}
closed_databases:
  description: Databases that accept no connections, those with most sessions first. Templates are left out.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    name: {description: Name of the database., type: str, returned: always}
    reason:
      description: V(not_allowed) by C(datallowconn), V(limit) for a connection limit of 0, or V(invalid) after an interrupted C(DROP DATABASE).
      type: str
      returned: always
    sessions: {description: Number of its open sessions., type: int, returned: always}
  sample: [{name: archive, reason: not_allowed, sessions: 0}]
closed_databases_total: {description: Number of such databases., returned: when O(state=measured), type: int, sample: 1}
logins:
  description: Roles with open sessions, the O(service_roles), and roles whose password expires. Those that cannot log in first.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    role: {description: Name of the role., type: str, returned: always}
    in_use: {description: "Whether it has open sessions, or is one of O(service_roles).", type: bool, returned: always}
    sessions: {description: "Number of its open sessions, without those of this collection.", type: int, returned: always}
    may_log_in: {description: Whether it has the attribute C(LOGIN). Null for a role that does not exist., type: bool, returned: always}
    superuser: {description: Whether it is a superuser., type: bool, returned: always}
    connection_limit: {description: Its connection limit. Null without one., type: int, returned: always}
    valid_until: {description: Time when its password expires. Null for never., type: float, returned: always}
    valid_seconds: {description: "Seconds until then, negative for the past. Null for never.", type: float, returned: always}
    logged_in_since:
      description: Whether it is the role of this connection although its password has expired, so that it does not use it.
      type: bool
      returned: always
    denied_databases: {description: Databases in which it has sessions and to which it may not connect., type: list, elements: str, returned: always}
    obstacle:
      description:
        - Why it cannot log in. V(missing) for a role that does not exist, V(no_login), V(limit) for a connection limit of 0, V(connect) for
          RV(logins[].denied_databases), or V(none).
      type: str
      returned: always
  sample:
    - {role: tracktion_user, in_use: true, sessions: 12, may_log_in: true, superuser: false, connection_limit: null, valid_until: 1763900000.0,
       valid_seconds: -86400.5, logged_in_since: false, denied_databases: [], obstacle: none}
logins_total: {description: Number of such roles., returned: when O(state=measured), type: int, sample: 3}
sessions_by_state:
  description: Number of sessions by process type, state and application, largest first. Sessions of this collection are in none of the lists.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    backend_type: {description: "Process type, as in C(pg_stat_activity). Null if hidden from the role.", type: str, returned: always}
    state: {description: State of the session. Null for processes of the server and if hidden from the role., type: str, returned: always}
    application: {description: The session's C(application_name)., type: str, returned: always}
    count: {description: Number of sessions., type: int, returned: always}
  sample: [{backend_type: client backend, state: idle in transaction, application: analysis_service, count: 12}]
sessions_by_state_total: {description: Number of such groups., returned: when O(state=measured), type: int, sample: 1}
sessions_total: {description: Number of sessions and processes of the server., returned: when O(state=measured), type: int, sample: 17}
sessions_hidden:
  description: How many of them are hidden from the role, including processes of the server. RV(unknown) lists what is missing.
  returned: when O(state=measured)
  type: int
  sample: 0
active_queries:
  description: Sessions of clients that run a query, longest first. The fields of sessions are described in docs/measurement.md.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains: &session
    <<: &who
      pid: {description: Process ID., type: int, returned: always}
      backend_start: {description: Start of the session., type: float, returned: always}
      transaction_start: {description: Start of its transaction., type: float, returned: always}
      state_start: {description: Start of its state., type: float, returned: always}
      user: {description: Role., type: str, returned: always}
      database: {description: Database., type: str, returned: always}
      application: {description: C(application_name)., type: str, returned: always}
      client: {description: Address of the client., type: str, returned: always}
    backend_type: {description: Process type., type: str, returned: always}
    state: {description: State., type: str, returned: always}
    wait_event_type: {description: Type of the event that it waits for., type: str, returned: always}
    wait_event: {description: The event that it waits for., type: str, returned: always}
    waits_for:
      description: V(lock), V(disk), V(synchronous standby) or, with a running query, V(client), by that event. Null for other events.
      type: str
      returned: always
    transaction_seconds: {description: Age of its transaction., type: float, returned: always}
    query_seconds: {description: Duration of the running query., type: float, returned: always}
    state_seconds: {description: Time in its state., type: float, returned: always}
    query: {description: The running or last query., type: str, returned: always}
    muted: {description: Whether the query has the comment C(/* no-alert */)., type: bool, returned: always}
    maintenance: {description: Whether it runs a command that maintains tables or indexes., type: bool, returned: always}
    cancel_effect:
      description: What a cancel of its query leaves behind that is not rolled back, such as an invalid index. Null for a plain rollback.
      type: str
      returned: always
  sample: &sessions
    - {pid: 4711, backend_start: 1763900100.25, transaction_start: 1763900200.5, state_start: 1763900200.5, user: tracktion_user,
       database: tracktion, application: analysis_service, client: 172.18.0.5, backend_type: client backend, state: active,
       wait_event_type: null, wait_event: null, waits_for: null, transaction_seconds: 75.1, query_seconds: 75.1, state_seconds: 75.1,
       query: SELECT * FROM tracks ORDER BY random(), muted: false, maintenance: false, cancel_effect: null}
active_queries_total: {description: Number of client sessions that run a query., returned: when O(state=measured), type: int, sample: 1}
transactions:
  description: Sessions of clients with an open transaction, oldest first. The same fields as in RV(active_queries).
  returned: when O(state=measured)
  type: list
  elements: dict
  contains: *session
  sample: *sessions
transactions_total: {description: Number of open transactions of clients., returned: when O(state=measured), type: int, sample: 1}
idle_in_transaction:
  description: Sessions that are idle in transaction, longest first. The same fields as in RV(active_queries).
  returned: when O(state=measured)
  type: list
  elements: dict
  contains: *session
idle_in_transaction_total: {description: Number of sessions that are idle in transaction., returned: when O(state=measured), type: int, sample: 0}
connections_by_application:
  description: Connections of clients by application and role, most first.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    application: {description: The C(application_name). Empty if it is not set., type: str, returned: always}
    user: {description: Role of the connections., type: str, returned: always}
    count: {description: Number of connections., type: int, returned: always}
    active: {description: How many run a query., type: int, returned: always}
    idle: {description: How many are idle., type: int, returned: always}
    idle_in_transaction: {description: "How many are idle in a transaction, aborted or not.", type: int, returned: always}
    waiting_for_lock: {description: How many wait for a lock., type: int, returned: always}
    hidden: {description: How many have a state that is hidden from the role., type: int, returned: always}
    clients: {description: Number of addresses that they come from., type: int, returned: always}
  sample:
    - {application: analysis_service, user: tracktion_user, count: 40, active: 2, idle: 3, idle_in_transaction: 35, waiting_for_lock: 0, hidden: 0, clients: 1}
connections_by_application_total: {description: Number of such groups., returned: when O(state=measured), type: int, sample: 1}
blocking:
  description:
    - Root blockers (sessions that block others and wait for no lock), those with most waiting sessions first. The blockers are those of
      C(pg_blocking_pids()).
    - The fields of RV(active_queries), and those below. Every role can see which session waits for which, and the role and application of a hidden
      blocker.
    - A RV(blocking[].pid) of V(0) stands for a prepared transaction, which has none of the other fields of a session.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    <<: *session
    waiting: {description: "Number of sessions that wait behind it, directly or not.", type: int, returned: always}
    waiting_directly: {description: How many of them wait for a lock that it holds or requests., type: int, returned: always}
    queued:
      description:
        - How many of them wait only because of the requests of RV(lock_queues), which conflict with the lock that is held. They continue when
          these requests are cancelled.
      type: int
      returned: always
    queue_heads: {description: How many sessions with such a request are among them., type: int, returned: always}
    longest_wait_seconds: {description: Longest wait. Null if hidden from the role (before PostgreSQL 14)., type: float, returned: always}
    lock_types:
      description: "Types of the locks for which others wait directly behind it, as in C(pg_locks). V(advisory) may belong to the session."
      type: list
      elements: str
      returned: always
    in_circle: {description: "Whether it represents a cycle of waiting sessions, a deadlock that the server will resolve.", type: bool, returned: always}
    prepared_gids:
      description:
        - If RV(blocking[].pid) is V(0), the prepared transaction that holds the lock. All prepared transactions if that is not known.
      type: list
      elements: str
      returned: always
    safe_action:
      description:
        - The least harmful action that releases the locks. V(cancel) the query; V(terminate) the session, as it runs no query;
          V(resolve) the prepared transaction by a commit or rollback; repair the V(standby) for which its commit waits; V(wait), as it is
          a process of the server or of a replica, or a VACUUM; V(unknown) if the session is hidden from the role or gone.
      type: str
      returned: always
    waiters:
      description: Sessions that wait longest. The fields of RV(active_queries), and those below.
      type: list
      elements: dict
      returned: always
      contains: &waiter
        <<: *session
        wait_seconds:
          description: Duration of the wait (before PostgreSQL 14, of the query). Null if hidden from the role.
          type: float
          returned: always
        lock_type: {description: Type of the lock that it waits for., type: str, returned: always}
        lock_mode: {description: Mode of that lock., type: str, returned: always}
        lock_relation: {description: "Its table or index, with the schema. Null for other locks and other databases.", type: str, returned: always}
        blocked_by: {description: Process IDs of the sessions that block it., type: list, elements: int, returned: always}
blocked_sessions_total: {description: Number of sessions that wait for a lock., returned: when O(state=measured), type: int, sample: 0}
lock_queues:
  description:
    - Sessions that wait for a lock themselves and make others queue behind their request, longest queue first. The others do not conflict with the
      lock that is held, such as readers behind an C(ALTER TABLE) that waits for another reader.
    - The fields of RV(active_queries), and those below.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    <<: *session
    wait_seconds: {description: How long it waits itself. Null if hidden from the role., type: float, returned: always}
    lock_type: {description: Type of the lock that it requests., type: str, returned: always}
    lock_mode: {description: Mode of that lock., type: str, returned: always}
    lock_relation: {description: "Its table or index, with the schema. Null in other databases.", type: str, returned: always}
    waiting: {description: "Number of sessions behind it, directly or not.", type: int, returned: always}
    longest_wait_seconds: {description: Longest wait of these. Null if hidden from the role., type: float, returned: always}
    holders:
      description: Sessions that it waits for.
      type: list
      elements: dict
      returned: always
      contains: *session
    prepared_gids: {description: Prepared transactions that it waits for., type: list, elements: str, returned: always}
    waiters:
      description: Sessions that wait longest behind it. The same fields as in RV(blocking[].waiters).
      type: list
      elements: dict
      returned: always
      contains: *waiter
  sample: []
synchronous_commits:
  description: Commits that wait for a synchronous standby.
  returned: when O(state=measured)
  type: dict
  contains:
    standby_names: {description: The setting C(synchronous_standby_names)., type: str, returned: always}
    by_command_line: {description: "Whether it is set on the command line of the server, so that C(ALTER SYSTEM) has no effect.", type: bool, returned: always}
    waiting: {description: Number of sessions whose commit waits. Null if sessions are hidden from the role., type: int, returned: always}
    longest_seconds: {description: Longest duration of such a statement., type: float, returned: always}
  sample: {standby_names: "", by_command_line: false, waiting: 0, longest_seconds: 0.0}
locks:
  description: Use of the shared lock table.
  returned: when O(state=measured)
  type: dict
  contains:
    held: {description: Entries that are held or waited for., type: int, returned: always}
    capacity:
      description: C(max_locks_per_transaction) times the sum of C(max_connections) and C(max_prepared_transactions).
      type: int
      returned: always
    ratio: {description: RV(locks.held) divided by RV(locks.capacity)., type: float, returned: always}
  sample: {held: 12, capacity: 6400, ratio: 0.0019}
prepared_transactions:
  description: Transactions prepared for a two-phase commit and not yet committed or rolled back, oldest first.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    gid: {description: Its identifier., type: str, returned: always}
    xid: {description: "Its transaction ID, as text.", type: str, returned: always}
    owner: {description: Role that prepared it., type: str, returned: always}
    database: {description: Its database., type: str, returned: always}
    prepared: {description: "Time when it was prepared, in epoch seconds.", type: float, returned: always}
    seconds: {description: Time since then., type: float, returned: always}
prepared_transactions_total: {description: Number of prepared transactions., returned: when O(state=measured), type: int, sample: 0}
matched:
  description: Number of sessions that matched the criteria. Those beyond O(max_sessions) were left alone.
  returned: when O(state=ended)
  type: int
  sample: 1
sessions:
  description: The sessions that were to be ended, at most O(max_sessions). In check mode, those that would be.
  returned: when O(state=ended)
  type: list
  elements: dict
  contains:
    <<: *who
    state: {description: State of the session when it was selected., type: str, returned: always}
    seconds: {description: The age that was compared with O(min_age)., type: float, returned: always}
    query: {description: "The running or last query, cut to O(query_length).", type: str, returned: always}
    cancel_effect: {description: "What the end of its query leaves behind that is not rolled back. Null for a plain rollback.", type: str, returned: always}
    signal:
      description: The last signal that was sent, V(cancel) or V(terminate). In check mode, the first that would be sent. Null for a session left alone.
      type: str
      returned: always
    result:
      description:
        - V(ended) if its transaction is over or it is gone; V(gone) if it did not match any more and no signal was sent;
          V(nothing_to_cancel) for a session that runs no query with O(mode=cancel); V(waits_for_lock), V(waits_for_standby) or V(maintenance) for a
          session that is left alone; V(planned) in check mode; V(not_permitted), also in check mode, and V(remains) make the module fail.
      type: str
      returned: always
    message: {description: Why it could not be ended. Null otherwise., type: str, returned: always}
  sample:
    - {pid: 4711, backend_start: 1763900100.25, transaction_start: 1763900200.5, state_start: 1763900200.5, user: tracktion_user,
       database: tracktion, application: analysis_service, client: 172.18.0.5, state: idle in transaction, seconds: 1215.4,
       query: "UPDATE tracks SET title = ?", cancel_effect: null, signal: terminate, result: ended, message: null}
"""

from functools import partial
from typing import Callable, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_activity as pg_activity
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_end_sessions as pg_end_sessions


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            pg_activity.ARGUMENT_SPEC,
            state={"type": "str", "choices": ["measured", "ended"], "default": "measured"},
            **pg_end_sessions.SPEC,
        ),
        supports_check_mode=True,
    )
    work: Callable[[], Mapping[str, object]] = partial(pg_activity.measure, module.params)
    if module.params["state"] == "ended":
        work = partial(pg_end_sessions.end_sessions, module.params, module.check_mode)
    exit_module(module, work)


if __name__ == "__main__":
    main()
