#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_activity
short_description: Measure what a PostgreSQL server is doing, and end sessions
version_added: "0.1.0"
description:
  - Measures the sessions of a PostgreSQL server (12 or newer), their use of its connections, old queries and transactions, who blocks whom,
    the lock table and prepared transactions.
  - With O(state=ended) it ends the sessions that fit all criteria, with the least force that does it. A running query is cancelled first,
    and its session is terminated only when that did not end it.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
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
      - A second run finds the sessions gone and changes nothing, unless O(max_sessions) left some for it or an application has come back.
options:
  state:
    description:
      - V(measured) only measures. A server that cannot be reached is a result then (RV(reachable)), not a failure.
      - V(ended) ends the sessions that fit every criterion that is given. At least O(pids), or O(states) with O(min_age), must be.
      - Only sessions of clients are ended, never the own one, a replication sender or one of the server's own processes.
    type: str
    choices: [measured, ended]
    default: measured
  query_length:
    description: How many characters of a query's text are returned. V(0) returns none. It is cut after its constants are replaced.
    type: int
    default: 300
  show_literals:
    description:
      - Whether the constants and comments of SQL statements are returned. Otherwise each constant is replaced by C(?), and comments are left out,
        as they may hold secrets or personal data.
      - Passwords that follow the word C(PASSWORD) are never returned.
    type: bool
    default: false
  pools:
    description: The connection pools of the services, to find out whether they can ask for more connections than there are.
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
        description: Connections that it may open beyond that.
        type: int
        default: 10
      workers:
        description: Processes that have such a pool, over all replicas of the service.
        type: int
        default: 1
  pids:
    description: The sessions to end. One whose process ID has gone to another session in the meantime is not touched.
    type: list
    elements: dict
    default: []
    suboptions:
      pid:
        description: Process ID of the session.
        type: int
        required: true
      backend_start:
        description: When the session began, as measured (RV(active_queries[].backend_start)).
        type: float
        required: true
      transaction_start:
        description: When its transaction began, as measured. Where it is given, a session that has moved on to another transaction is not touched.
        type: float
      state_start:
        description: When it came into its state, as measured. Where it is given, a session whose query has ended, or that has begun one, is not touched.
        type: float
  states:
    description: End sessions in these states only.
    type: list
    elements: str
    default: []
    choices: [active, fastpath function call, idle, idle in transaction, idle in transaction (aborted)]
  min_age:
    description: End only sessions whose query has run for so many seconds or, where none runs, that have been in their state for so long.
    type: float
  users:
    description: End sessions of these roles only.
    type: list
    elements: str
    default: []
  applications:
    description: End only sessions with one of these values of C(application_name).
    type: list
    elements: str
    default: []
  databases:
    description: End sessions in these databases only.
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
    description: How many sessions one run may end, those first that have gone on for longest.
    type: int
    default: 10
  mode:
    description:
      - V(cancel) cancels running queries and leaves every session connected. Sessions that run nothing are left alone.
      - V(cancel_then_terminate) cancels a running query, and terminates the session when its transaction is not over after O(grace).
        Sessions that run nothing are terminated, as there is nothing to cancel.
      - V(terminate) terminates at once.
    type: str
    choices: [cancel, cancel_then_terminate, terminate]
    default: cancel_then_terminate
  grace:
    description: Seconds to wait for the effect of each signal. They come on top of O(deadline).
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

- name: Stop where the pools do not fit
  ansible.builtin.assert:
    that: activity.pools.openable <= activity.connections.limit
  when: activity.reachable

- name: Show what would be ended of what has been idle in a transaction for a quarter of an hour
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

- name: End the session that blocks most others, if it is still the same and has done nothing since
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
  when: activity.blocking | length > 0
"""

RETURN = r"""
reachable:
  description: Whether the server let us in. Where it did not, every part below is null. Null where there was no time to find out.
  returned: when O(state=measured)
  type: bool
  sample: true
error:
  description:
    - Why the server did not let us in, or null.
    - RV(error.kind) is one of V(refused), V(timeout), V(no_answer), V(no_route), V(name), V(closed), V(protocol), V(tls), V(authentication),
      V(no_hba_entry), V(no_database), V(starting_up), V(too_many_clients), V(failed) and V(deadline), which says nothing about the server.
  returned: when O(state=measured)
  type: dict
  contains:
    kind:
      description: The cause, as a stable word.
      type: str
      returned: when RV(error) is not null
    message:
      description: The cause in the words of the server or of its client library.
      type: str
      returned: when RV(error) is not null
    hint:
      description: What to do about it.
      type: str
      returned: when RV(error) is not null
  sample: null
unknown:
  description: Parts that could not be read, and why.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    part:
      description: Name of the part. C([...]) behind it stands for rows that are missing from a list, C(.*) for fields of its rows.
      type: str
      returned: always
    reason:
      description: Why it could not be read.
      type: str
      returned: always
    hint:
      description: What to do so that it can be read, such as the GRANT that is missing.
      type: str
      returned: where there is something to do
  sample: []
identity:
  description:
    - What tells this server from all others, however it is reached. C(postgresql:) with its system identifier and, for a standby, with the time of its
      start. Null where it cannot be read.
  returned: when O(state=measured)
  type: str
  sample: postgresql:7713304088322195483
server:
  description: The server, and the role that looks at it.
  returned: when O(state=measured)
  type: dict
  contains:
    version:
      description: The server's version.
      type: str
      returned: always
    version_num:
      description: The server's version as a number.
      type: int
      returned: always
    in_recovery:
      description: Whether it is a standby, or still recovering.
      type: bool
      returned: always
    started:
      description: When it was started, in epoch seconds.
      type: float
      returned: always
    role:
      description: The role of the connection.
      type: str
      returned: always
    database:
      description: The database of the connection.
      type: str
      returned: always
    sees_all:
      description: Whether the role may see the sessions of all others (C(pg_read_all_stats), a part of C(pg_monitor)).
      type: bool
      returned: always
    sees_settings:
      description: Whether the role may see all settings (C(pg_read_all_settings), a part of C(pg_monitor)).
      type: bool
      returned: always
    hint:
      description: The command that shows the role the rest. Null if it sees both.
      type: str
      returned: always
  sample:
    {version: "17.6", version_num: 170006, in_recovery: false, started: 1763900000.5, role: monitor, database: tracktion, sees_all: true,
     sees_settings: true, hint: null}
connections:
  description: The use of the connections that an ordinary role may open.
  returned: when O(state=measured)
  type: dict
  contains:
    max_connections:
      description: The server's setting.
      type: int
      returned: always
    superuser_reserved:
      description: How many of them are for superusers only.
      type: int
      returned: always
    reserved:
      description: How many of them are for members of C(pg_use_reserved_connections) only (PostgreSQL 16 and newer).
      type: int
      returned: always
    limit:
      description: What is left for everybody else.
      type: int
      returned: always
    used:
      description: Sessions of clients, without those of this collection. Null where sessions are hidden from the role.
      type: int
      returned: always
    ratio:
      description: RV(connections.used) by RV(connections.limit).
      type: float
      returned: always
  sample: {max_connections: 100, superuser_reserved: 3, reserved: 0, limit: 97, used: 41, ratio: 0.4227}
connection_limits:
  description: The same for every limit there is, those that databases and roles have of their own included.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    scope:
      description: V(server), V(database) or V(role).
      type: str
      returned: always
    name:
      description: Name of the database or role; C(server) for the server.
      type: str
      returned: always
    limit:
      description: The limit.
      type: int
      returned: always
    used:
      description: Sessions that count against it. Null where sessions are hidden from the role.
      type: int
      returned: always
    ratio:
      description: The use of the limit, V(1.0) being all of it.
      type: float
      returned: always
  sample: [{scope: server, name: server, limit: 97, used: 41, ratio: 0.4227}]
pools:
  description: How many connections the O(pools) can open between them.
  returned: when O(state=measured)
  type: dict
  contains:
    services:
      description: For each service, how many connections its pools can open.
      type: list
      elements: dict
      returned: always
      contains:
        service:
          description: Name of the service.
          type: str
          returned: always
        openable:
          description: Connections its pools can open.
          type: int
          returned: always
    openable:
      description: The sum over the services.
      type: int
      returned: always
    limit:
      description: How many connections the server has for them.
      type: int
      returned: always
    ratio:
      description: RV(pools.openable) by RV(pools.limit).
      type: float
      returned: always
  sample: {services: [{service: analysis_service, openable: 150}], openable: 150, limit: 97, ratio: 1.546}
sessions_by_state:
  description: Sessions counted by kind of process, state and application, largest first. Those of this collection are in none of the lists.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    backend_type:
      description: Kind of process, as in C(pg_stat_activity). Null where it is hidden from the role.
      type: str
      returned: always
    state:
      description: State of the session. Null for the server's own processes, and where it is hidden from the role.
      type: str
      returned: always
    application:
      description: The session's C(application_name).
      type: str
      returned: always
    count:
      description: Number of sessions.
      type: int
      returned: always
  sample: [{backend_type: client backend, state: idle in transaction, application: analysis_service, count: 12}]
sessions_by_state_total:
  description: How many such groups there are.
  returned: when O(state=measured)
  type: int
  sample: 1
sessions_total:
  description: How many sessions and processes the server has.
  returned: when O(state=measured)
  type: int
  sample: 17
sessions_hidden:
  description: How many of them are hidden from the role, processes of the server included. RV(unknown) names what is missing below.
  returned: when O(state=measured)
  type: int
  sample: 0
active_queries:
  description: Sessions of clients that run a query, longest first.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains: &session
    pid:
      description: Process ID of the session.
      type: int
      returned: always
    backend_start:
      description: When the session began, in epoch seconds. Only with it does a process ID name a session.
      type: float
      returned: always
    transaction_start:
      description: When its transaction began, in epoch seconds. Null outside a transaction.
      type: float
      returned: always
    state_start:
      description: When it came into its state, in epoch seconds.
      type: float
      returned: always
    user:
      description: Role of the session.
      type: str
      returned: always
    database:
      description: Database of the session.
      type: str
      returned: always
    application:
      description: The session's C(application_name).
      type: str
      returned: always
    client:
      description: Address of the client. Null over a Unix-domain socket.
      type: str
      returned: always
    backend_type:
      description: Kind of process. Null where it is hidden from the role.
      type: str
      returned: always
    state:
      description: State of the session. Null where it is hidden from the role.
      type: str
      returned: always
    wait_event_type:
      description: What kind of thing it waits for, or null.
      type: str
      returned: always
    wait_event:
      description: What it waits for, or null.
      type: str
      returned: always
    transaction_seconds:
      description: Age of its transaction. Null outside a transaction.
      type: float
      returned: always
    query_seconds:
      description: For how long its query has been running. Null where none runs.
      type: float
      returned: always
    state_seconds:
      description: For how long it has been in its state.
      type: float
      returned: always
    query:
      description: Its query, or the last one it ran, without constants, cut to O(query_length). Null for sessions that are idle or hidden.
      type: str
      returned: always
    muted:
      description: Whether a comment in the query asks not to be warned about it (C(/* no-alert */)).
      type: bool
      returned: always
  sample: &sessions
    - pid: 4711
      backend_start: 1763900100.25
      transaction_start: 1763900200.5
      state_start: 1763900200.5
      user: tracktion_user
      database: tracktion
      application: analysis_service
      client: 172.18.0.5
      backend_type: client backend
      state: active
      wait_event_type: null
      wait_event: null
      transaction_seconds: 75.1
      query_seconds: 75.1
      state_seconds: 75.1
      query: SELECT * FROM tracks ORDER BY random()
      muted: false
active_queries_total:
  description: How many sessions of clients run a query.
  returned: when O(state=measured)
  type: int
  sample: 1
transactions:
  description: Sessions of clients with an open transaction, oldest first. The same fields as in RV(active_queries).
  returned: when O(state=measured)
  type: list
  elements: dict
  contains: *session
  sample: *sessions
transactions_total:
  description: How many open transactions clients have.
  returned: when O(state=measured)
  type: int
  sample: 1
idle_in_transaction:
  description: Sessions that are idle in a transaction, longest first. The same fields as in RV(active_queries).
  returned: when O(state=measured)
  type: list
  elements: dict
  contains: *session
  sample: []
idle_in_transaction_total:
  description: How many sessions are idle in a transaction.
  returned: when O(state=measured)
  type: int
  sample: 0
blocking:
  description:
    - The sessions at the root of every wait for a lock, those first that hold up most others. They wait for no lock themselves.
    - The fields of RV(active_queries), and those below. The blockers are those that C(pg_blocking_pids()) names.
    - Who waits for whom is visible to every role. Of a blocker that is hidden from the role, its role and application are.
    - A RV(blocking[].pid) of V(0) stands for a prepared transaction, which has none of the other fields of a session.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    <<: *session
    waiting:
      description: How many sessions wait behind it, directly or behind one another.
      type: int
      returned: always
    waiting_directly:
      description: How many of them wait for a lock that it holds or asks for itself.
      type: int
      returned: always
    longest_wait_seconds:
      description: For how long the first of them has been waiting. Null where that is hidden from the role (before PostgreSQL 14).
      type: float
      returned: always
    in_circle:
      description: Whether it stands for a circle of sessions that wait for one another, which the server is about to break.
      type: bool
      returned: always
    prepared_gids:
      description: Where RV(blocking[].pid) is V(0), the prepared transactions there are. One of them holds the lock.
      type: list
      elements: str
      returned: always
    safe_action:
      description:
        - What frees the others with the least harm. V(cancel) the query; V(terminate) the session, as it runs nothing that could be cancelled;
          V(resolve) the prepared transaction, by committing it or rolling it back; V(wait), as it is a process of the server or of a replica;
          V(unknown) where the session is hidden from the role, or gone.
      type: str
      returned: always
    waiters:
      description: Those that wait longest. The fields of RV(active_queries), and those below.
      type: list
      elements: dict
      returned: always
      contains:
        <<: *session
        wait_seconds:
          description: For how long it has been waiting (before PostgreSQL 14, since its query began). Null where that is hidden from the role.
          type: float
          returned: always
        lock_type:
          description: Kind of thing it wants to lock.
          type: str
          returned: always
        lock_mode:
          description: Mode of the lock it wants.
          type: str
          returned: always
        lock_relation:
          description: The table or index it wants to lock, with its schema. Null for locks of other kinds and in other databases.
          type: str
          returned: always
        blocked_by:
          description: Process IDs of those it waits for.
          type: list
          elements: int
          returned: always
  sample: []
blocked_sessions_total:
  description: How many sessions wait for a lock that another one holds or asks for.
  returned: when O(state=measured)
  type: int
  sample: 0
locks:
  description: Entries in the shared lock table, against the number it is made for.
  returned: when O(state=measured)
  type: dict
  contains:
    held:
      description: Entries that are held or waited for.
      type: int
      returned: always
    capacity:
      description: C(max_locks_per_transaction) times the sum of C(max_connections) and C(max_prepared_transactions).
      type: int
      returned: always
    ratio:
      description: RV(locks.held) by RV(locks.capacity).
      type: float
      returned: always
  sample: {held: 12, capacity: 6400, ratio: 0.0019}
prepared_transactions:
  description: Transactions that wait for C(COMMIT PREPARED) or C(ROLLBACK PREPARED), oldest first.
  returned: when O(state=measured)
  type: list
  elements: dict
  contains:
    gid:
      description: Its name.
      type: str
      returned: always
    owner:
      description: The role that prepared it.
      type: str
      returned: always
    database:
      description: Its database.
      type: str
      returned: always
    prepared:
      description: When it was prepared, in epoch seconds.
      type: float
      returned: always
    seconds:
      description: Its age since then.
      type: float
      returned: always
  sample: []
prepared_transactions_total:
  description: How many prepared transactions there are.
  returned: when O(state=measured)
  type: int
  sample: 0
matched:
  description: How many sessions fitted the criteria. Those beyond O(max_sessions) were left alone.
  returned: when O(state=ended)
  type: int
  sample: 1
sessions:
  description: The sessions that were to be ended, at most O(max_sessions). In check mode, those that would be.
  returned: when O(state=ended)
  type: list
  elements: dict
  contains:
    pid:
      description: Process ID of the session.
      type: int
      returned: always
    backend_start:
      description: When the session began, in epoch seconds.
      type: float
      returned: always
    transaction_start:
      description: When its transaction began, in epoch seconds, or null.
      type: float
      returned: always
    state_start:
      description: When it came into its state, in epoch seconds.
      type: float
      returned: always
    user:
      description: Role of the session.
      type: str
      returned: always
    database:
      description: Database of the session.
      type: str
      returned: always
    application:
      description: The session's C(application_name).
      type: str
      returned: always
    client:
      description: Address of the client, or null.
      type: str
      returned: always
    state:
      description: State of the session when it was chosen.
      type: str
      returned: always
    seconds:
      description: The age that O(min_age) was compared with.
      type: float
      returned: always
    query:
      description: Its query, or the last one it ran, cut to O(query_length).
      type: str
      returned: always
    signal:
      description: The last signal it was sent, V(cancel) or V(terminate). In check mode, the first it would be sent. Null where it gets none.
      type: str
      returned: always
    result:
      description:
        - V(ended) when its transaction is over or it is gone; V(gone) when it no longer fitted as the signal was to go out, so that none did;
          V(nothing_to_cancel) for a session that runs nothing with O(mode=cancel); V(not_permitted) and V(remains) make the module fail;
          V(planned) in check mode.
      type: str
      returned: always
    message:
      description: What the server said, or null.
      type: str
      returned: always
  sample:
    - pid: 4711
      backend_start: 1763900100.25
      transaction_start: 1763900200.5
      state_start: 1763900200.5
      user: tracktion_user
      database: tracktion
      application: analysis_service
      client: 172.18.0.5
      state: idle in transaction
      seconds: 1215.4
      query: UPDATE tracks SET title = ?
      signal: terminate
      result: ended
      message: null
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_activity as pg_activity
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_end_sessions as pg_end_sessions


def act(params, check_mode):
    """What the state asks for. Raises CannotMeasure and, where sessions are to end, CannotConnect and QueryFailed."""
    if params["state"] == "ended":
        return pg_end_sessions.end_sessions(params, check_mode)
    return pg_activity.measure(params)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            pg_activity.ARGUMENT_SPEC,
            state={"type": "str", "choices": ["measured", "ended"], "default": "measured"},
            **pg_end_sessions.SPEC,
        ),
        supports_check_mode=True,
    )
    exit_module(module, partial(act, module.params, module.check_mode))


if __name__ == "__main__":
    main()
