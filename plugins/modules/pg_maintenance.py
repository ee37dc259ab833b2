#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_maintenance
short_description: Analyze, vacuum and reindex what is named in PostgreSQL, in nobody's way
version_added: "0.1.0"
description:
  - Runs ANALYZE, VACUUM or REINDEX on the named tables or indexes of a PostgreSQL server (12 or newer), one after the other, where they still
    need it, and asks the server afterwards what came of it.
  - Nothing waits for it. A table that somebody has locked is left alone, and one that is being vacuumed, analyzed or indexed already is left to
    those who do it. It never takes an ACCESS EXCLUSIVE lock, so that queries read and write all the time.
  - Each object has a RV(objects[].result) of its own. What one of them runs into does not keep it from the others.
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
      - Where O(action=reindex) is to build a unique index, the table is read to find out whether it can be built.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A second run finds nothing that needs it, unless O(max_objects) left some for it or rows have changed meanwhile.
options:
  action:
    description:
      - V(analyze) collects new statistics for the planner (C(ANALYZE)).
      - V(vacuum) removes dead rows and collects statistics (C(VACUUM (ANALYZE, TRUNCATE false\))). Room is given back to the table, not to
        the disk, which would lock readers out. It is never a C(VACUUM FULL).
      - V(reindex) builds indexes anew that are invalid (C(REINDEX INDEX CONCURRENTLY)). One that is valid is left alone.
    type: str
    choices: [analyze, vacuum, reindex]
    required: true
  tables:
    description: The tables and materialized views to analyze or to vacuum. Their names are taken as they are, and quoted.
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
          - When it was last analyzed, as measured (RV(tracktion.ops.pg_health_info#module:tables[].analyzed)), V(0) for never.
          - With O(action=analyze), a table that has been analyzed since is left alone.
        type: float
      vacuumed:
        description:
          - When it was last vacuumed, as measured (RV(tracktion.ops.pg_health_info#module:tables[].vacuumed)), V(0) for never.
          - With O(action=vacuum), a table that has been vacuumed since, by autovacuum say, is left alone.
        type: float
  indexes:
    description: The indexes to build anew.
    type: list
    elements: dict
    default: []
    suboptions:
      schema:
        description: Schema of the index, which is that of its table.
        type: str
        default: public
      name:
        description: Name of the index.
        type: str
        required: true
  min_changed_rows:
    description:
      - With O(action=analyze), a table where fewer rows have changed since it was analyzed is left alone. One that was never analyzed is not.
      - V(0) analyzes every table that is named.
    type: int
    default: 1
  min_dead_rows:
    description:
      - With O(action=vacuum), a table with fewer dead rows is left alone.
      - V(0) vacuums every table that is named.
    type: int
    default: 1
  max_objects:
    description: How many tables or indexes one run may work on, those first that are named first.
    type: int
    default: 10
  max_wait:
    description:
      - Seconds that a REINDEX may wait, each time, for transactions that were open before it. It has to, or it fails.
      - Where one that it would wait for has been open for that long already, nothing is begun. Without C(pg_monitor), the age of others'
        transactions cannot be seen.
    type: float
    default: 30.0
  cost_delay:
    description:
      - Milliseconds that VACUUM and ANALYZE rest after each portion of work, so as to leave the disk to others. The default is that of autovacuum.
      - V(0) works at full speed.
    type: float
    default: 2.0
  deadline:
    description:
      - Seconds for all of it. What runs then is cut off by the server. To look at what came of it takes at most O(timeout) and 1.5 seconds more.
      - A REINDEX that is cut off leaves a second invalid index behind (RV(objects[].left_behind)). Give it time.
    type: float
    default: 600.0
notes:
  - ANALYZE and VACUUM take the owner of the table or of the database or, from PostgreSQL 17 on, the privilege C(MAINTAIN) (or membership in
    C(pg_maintain)). REINDEX takes the owner of the table, or C(MAINTAIN). All take C(USAGE) of the schema.
  - These commands do not go through a pooler that hands on sessions after each transaction. Connect to the server itself.
  - Nothing is dropped. What an unfinished REINDEX left behind is named, with the command that removes it.
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

- name: Show what a VACUUM of the table with most dead rows would be about
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

- name: Collect statistics of a table that was just loaded, unless autovacuum was faster
  tracktion.ops.pg_maintenance:
    login_host: 127.0.0.1
    login_user: operator
    login_password: "{{ operator_password }}"
    login_db: tracktion
    action: analyze
    tables:
      - {schema: public, name: tracks}

- name: Build what a failed CREATE INDEX CONCURRENTLY left invalid
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
  description: The tables or indexes that were named, in their order.
  returned: when the server let us in
  type: list
  elements: dict
  contains:
    schema:
      description: Schema of the object.
      type: str
      returned: always
    name:
      description: Name of the object.
      type: str
      returned: always
    table:
      description: The table, or that of the index. Null where there is none.
      type: str
      returned: always
    result:
      description:
        - V(done) when it was done and the server shows it, V(planned) in check mode.
        - V(not_needed) when fewer rows are dead or changed than asked for, when it has been done since, or when the index is valid.
        - V(already_running) when somebody, autovacuum mostly, is at it.
        - V(gone) when there is no such object.
        - V(beyond_limit) when O(max_objects) others came before it.
        - V(locked), V(not_permitted), V(timeout), V(failed); V(unsuitable) for what cannot be maintained in this way; V(duplicates) for a
          unique index that the rows of the table contradict; and V(held) when dead rows remain because somebody may still see them.
          These make the module fail, after all objects have had their turn.
      type: str
      returned: always
    message:
      description: Why, and what to do about it. Null where there is nothing to say.
      type: str
      returned: always
    need:
      description: What made it necessary. Null where nothing did, or where it could not be done.
      type: str
      returned: always
    command:
      description: The command that was run or, in check mode, would be. Null where there is none.
      type: str
      returned: always
    changed:
      description: Whether it has, or in check mode would have, an effect. A VACUUM that was cut off has.
      type: bool
      returned: always
    seconds:
      description: How long the command took. Null where none was run.
      type: float
      returned: always
    progress:
      description: How far it had come when it was last looked at, which is once a second, over a connection of its own. Null before that.
      type: dict
      returned: always
      contains:
        phase:
          description: What it was doing, in the server's words.
          type: str
          returned: always
        ratio:
          description: The part of the table that it had read. Null in phases that read nothing.
          type: float
          returned: always
    before:
      description: The object as it was. Null where there was none. What tables alone have is null for indexes, and the reverse.
      type: dict
      returned: always
      contains: &state
        rows:
          description: Estimated number of rows in the catalog (C(reltuples)). Null where it was never counted. Tables only.
          type: float
          returned: always
        bytes:
          description: Size in the catalog (C(relpages)).
          type: float
          returned: always
        live_rows:
          description: Live rows, as the statistics count them. Tables only.
          type: int
          returned: always
        dead_rows:
          description: Dead rows that wait to be vacuumed. Tables only.
          type: int
          returned: always
        changed_rows:
          description: Rows changed since the last analyze. Tables only.
          type: int
          returned: always
        vacuumed:
          description: When it was last vacuumed, in epoch seconds. Null for never. Tables only.
          type: float
          returned: always
        analyzed:
          description: When it was last analyzed, in epoch seconds. Null for never. Tables only.
          type: float
          returned: always
        valid:
          description: Whether queries can use it. Indexes only.
          type: bool
          returned: always
    after:
      description: The object as the server shows it afterwards. Null where no command was run. The same fields as in RV(objects[].before).
      type: dict
      returned: always
      contains: *state
    left_behind:
      description:
        - Invalid indexes of the table, by quoted name, that an unfinished REINDEX CONCURRENTLY has left behind, this one or an earlier one.
          They slow down writes and are of no use. C(DROP INDEX CONCURRENTLY) removes them. Empty where no index was to be built.
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


def main():
    module = AnsibleModule(argument_spec=pg_maintenance.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(pg_maintenance.maintain, module.params, module.check_mode))


if __name__ == "__main__":
    main()
