#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_maintenance
short_description: Analyze, vacuum or reindex tables and indexes of PostgreSQL without blocking others
version_added: 0.2.0
description:
  - Runs ANALYZE, VACUUM or REINDEX on the named tables or indexes of a PostgreSQL server (12 or newer), one after the other, if they need it, and
    verifies the effect.
  - Other sessions do not wait for it. It skips a table that is locked, and one that is being vacuumed, analyzed or indexed already. It never
    takes an ACCESS EXCLUSIVE lock, so that reads and writes go on.
  - Each object has its own RV(objects[].result). A failure of one does not stop the others.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._postgresql
attributes:
  check_mode:
    support: full
    details:
      - Before O(action=reindex) on a unique index, the table is read to find duplicates.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A second run changes nothing, unless O(max_objects) left objects over or rows have changed.
options:
  action:
    description:
      - V(analyze) collects new statistics for the planner (C(ANALYZE)).
      - V(vacuum) removes dead rows and collects statistics (C(VACUUM (ANALYZE, TRUNCATE false\))). The space is reused by the table and
        not returned to the operating system, which would lock out readers. It never runs C(VACUUM FULL).
      - V(reindex) rebuilds invalid indexes (C(REINDEX INDEX CONCURRENTLY)). Valid indexes are left alone.
    type: str
    choices: [analyze, vacuum, reindex]
    required: true
  tables:
    description: The tables and materialized views to analyze or vacuum. Names are case-sensitive and get quoted.
    type: list
    elements: dict
    default: []
    suboptions:
      schema:
        description: Schema of the table.
        type: str
        default: public
      name:
        description: Name of the table.
        type: str
        required: true
      analyzed:
        description:
          - Time of its last analyze, as measured (RV(tracktion.ops.pg_health_info#module:tables[].analyzed)), V(0) for never.
          - With O(action=analyze), a table that has been analyzed since then is left alone.
        type: float
      vacuumed:
        description:
          - Time of its last vacuum, as measured (RV(tracktion.ops.pg_health_info#module:tables[].vacuumed)), V(0) for never.
          - With O(action=vacuum), a table that has been vacuumed since then, for example by autovacuum, is left alone.
        type: float
  indexes:
    description: The indexes to rebuild.
    type: list
    elements: dict
    default: []
    suboptions:
      schema:
        description: Schema of the index and its table.
        type: str
        default: public
      name:
        description: Name of the index.
        type: str
        required: true
  min_changed_rows:
    description:
      - With O(action=analyze), a table with fewer changed rows since its last analyze is left alone, unless it was never analyzed.
      - V(0) analyzes every named table.
    type: int
    default: 1
  min_dead_rows:
    description:
      - With O(action=vacuum), a table with fewer dead rows is left alone.
      - V(0) vacuums every named table.
    type: int
    default: 1
  max_objects:
    description: Maximum number of tables or indexes to work on in one run, in the given order.
    type: int
    default: 10
  max_wait:
    description:
      - Seconds that REINDEX may wait, each time, for transactions that were open before it. Beyond that it fails.
      - If such a transaction has been open for that long already, REINDEX is not started. Without C(pg_monitor), the age of other roles'
        transactions is hidden.
    type: float
    default: 30.0
  max_holder_seconds:
    description:
      - With O(action=vacuum), no table is vacuumed while a transaction has been open for this number of seconds that may still read the dead rows, such
        as a session, a prepared transaction or a standby with feedback. VACUUM would remove none of them. The result is V(held).
      - A younger transaction counts only if it is older than the last VACUUM of the table.
    type: float
    default: 1.0
  max_holder_xids:
    description: The same in transactions, for a standby, or a slot with a consumer, whose age in seconds is not known.
    type: int
    default: 1000
  cost_delay:
    description:
      - C(vacuum_cost_delay) in milliseconds, the pause of VACUUM and ANALYZE after each portion of work. The default is that of autovacuum.
      - V(0) runs at full speed.
    type: float
    default: 2.0
  deadline:
    description:
      - Seconds for all objects. A command that runs longer is cancelled. Reading the result takes at most O(timeout) and 1.5 seconds more.
      - A REINDEX that is cancelled leaves a second invalid index behind (RV(objects[].left_behind)), so allow it enough time.
    type: float
    default: 600.0
notes:
  - ANALYZE and VACUUM require ownership of the table or of the database or, in PostgreSQL 17 and newer, the privilege C(MAINTAIN) (or membership
    in C(pg_maintain)). REINDEX requires ownership of the table, or C(MAINTAIN). All require C(USAGE) on the schema.
  - The module fails if the connection goes through a pooler. Connect to the server itself.
  - Nothing is dropped. An index that an interrupted REINDEX left behind is returned with the command that drops it.
seealso:
  - module: tracktion.ops.pg_health_info
"""

EXAMPLES = r"""
- name: Measure
  tracktion.ops.pg_health_info:
    login_host: 127.0.0.1
    login_user: operator
    login_password: "{{ operator_password }}"
    login_db: tracktion
  register: health

- name: Show whether the table with most dead rows would be vacuumed
  tracktion.ops.pg_maintenance:
    login_host: 127.0.0.1
    login_user: operator
    login_password: "{{ operator_password }}"
    login_db: tracktion
    action: vacuum
    tables:
      - schema: "{{ worst.schema }}"
        name: "{{ worst.name }}"
        vacuumed: "{{ worst.vacuumed or 0 }}"
    min_dead_rows: 10000
  vars:
    worst: "{{ health.tables | sort(attribute='dead_rows') | last }}"
  check_mode: true
  diff: true

- name: Collect statistics of a new table, unless autovacuum has done it
  tracktion.ops.pg_maintenance:
    login_host: 127.0.0.1
    login_user: operator
    login_password: "{{ operator_password }}"
    login_db: tracktion
    action: analyze
    tables:
      - {schema: public, name: tracks}

- name: Rebuild an index that a failed CREATE INDEX CONCURRENTLY left invalid
  tracktion.ops.pg_maintenance:
    login_host: 127.0.0.1
    login_user: operator
    login_password: "{{ operator_password }}"
    login_db: tracktion
    action: reindex
    indexes:
      - {schema: public, name: tracks_artist_id}
    deadline: 3600
"""

RETURN = r"""
objects:
  description: The named tables or indexes, in the given order.
  returned: when the server could be reached
  type: list
  elements: dict
  contains:
    schema: {description: Schema of the object., type: str, returned: always}
    name: {description: Name of the object., type: str, returned: always}
    table: {description: "The table, or the table of the index. Null if it does not exist.", type: str, returned: always}
    result:
      description:
        - V(done) if the effect was verified, V(planned) in check mode.
        - V(not_needed) if fewer rows are dead or changed than required, it was done since, or the index is valid.
        - V(already_running) if another session, mostly autovacuum, is doing it.
        - V(gone) if the object does not exist.
        - V(beyond_limit) if O(max_objects) are done.
        - V(locked), V(not_permitted), V(timeout), V(failed); V(unsuitable) for an object that cannot be maintained this way; V(duplicates)
          for a unique index that rows of the table violate; V(held) if a transaction may still read the dead rows, before VACUUM or after it.
          With these the module fails, after all objects have been processed.
      type: str
      returned: always
    message: {description: "The reason, and what to do about it. Null if there is none.", type: str, returned: always}
    need: {description: Why it was needed. Null if it was not needed or not possible., type: str, returned: always}
    command: {description: "The command that was run or, in check mode, would be run. Null if none.", type: str, returned: always}
    changed: {description: "Whether it had or, in check mode, would have an effect. A cancelled VACUUM has one.", type: bool, returned: always}
    seconds: {description: Duration of the command. Null if none was run., type: float, returned: always}
    progress:
      description: Last progress of the command. It is read every second over a second connection. Null for a command that took less.
      type: dict
      returned: always
      contains:
        phase: {description: "Its phase, as the server names it.", type: str, returned: always}
        ratio: {description: The part of the table that was read. Null in other phases., type: float, returned: always}
    before:
      description: The object before the command. Null if it does not exist. Fields of tables are null for indexes, and the reverse.
      type: dict
      returned: always
      contains: &state
        rows: {description: Estimated number of rows of a table (C(reltuples)). Null if never counted., type: float, returned: always}
        bytes: {description: Size in the catalog (C(relpages))., type: float, returned: always}
        live_rows: {description: "Live rows of a table, from the statistics.", type: int, returned: always}
        dead_rows: {description: "Dead rows of a table, from the statistics.", type: int, returned: always}
        changed_rows: {description: Rows of a table changed since the last analyze., type: int, returned: always}
        vacuumed: {description: "Time of the last vacuum of a table, in epoch seconds. Null for never.", type: float, returned: always}
        analyzed: {description: "Time of the last analyze of a table, in epoch seconds. Null for never.", type: float, returned: always}
        valid: {description: Whether queries can use an index., type: bool, returned: always}
    after:
      description: The object after the command. Null if none was run. The same fields as in RV(objects[].before).
      type: dict
      returned: always
      contains: *state
    left_behind:
      description:
        - Quoted names of invalid indexes of the table that this or an earlier interrupted REINDEX CONCURRENTLY left behind. They slow down writes.
          Drop them with C(DROP INDEX CONCURRENTLY). Empty for tables.
      type: list
      elements: str
      returned: always
  sample:
    - schema: public
      name: tracks
      table: tracks
      result: done
      message: null
      need: 24000 rows are dead
      command: VACUUM (ANALYZE, SKIP_LOCKED, TRUNCATE false) "public"."tracks"
      changed: true
      seconds: 3.41
      progress: {phase: vacuuming heap, ratio: 1.0}
      before: {rows: 8000.0, bytes: 3276800.0, live_rows: 8000, dead_rows: 24000, changed_rows: 24000, vacuumed: null, analyzed: null, valid: null}
      after:
        {rows: 8000.0, bytes: 3276800.0, live_rows: 8000, dead_rows: 0, changed_rows: 0, vacuumed: 1763900000.5, analyzed: 1763900000.6, valid: null}
      left_behind: []
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_maintenance as pg_maintenance


def main() -> None:
    module = AnsibleModule(argument_spec=pg_maintenance.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(pg_maintenance.maintain, module.params, module.check_mode))


if __name__ == "__main__":
    main()
