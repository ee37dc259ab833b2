# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each remedy of the area, run with the evidence of its finding, makes the finding disappear."""

from __future__ import annotations

import contextlib
import json

import psycopg2

from tests.integration.followed_hints import shows
from tests.integration.following import Operator, follow
from tests.integration.pasting import commands
from tests.integration.playbooks import LOCAL, inventory, play
from tests.integration.postgresql import Database, session
from tests.integration.remedies import carry_out
from tests.lab.servers import postgres_server

REMEDIES = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: tracktion.ops.database
        tasks_from: "{{ item.tasks }}"
      vars:
        tracktion_remedy: "{{ item.vars }}"
      loop: "{{ remedies }}"
      loop_control:
        label: "{{ item.id }}"
"""

# Instead of a day.
AT_ONCE = {"database_vacuum_overdue_warning": 0, "database_analyze_overdue_warning": 0}

EXPECTED = {
    ("database.analyze_overdue", "public.tracks"): "database.analyze",
    ("database.dead_tuples", "public.tracks"): "database.vacuum",
    ("database.vacuum_overdue", "public.tracks"): "database.vacuum",
    ("database.invalid_index", "public.lab_interrupted_id"): "database.reindex",
}


def offered(pg, **settings):
    """Return the proposed remedy by finding."""
    return {
        (finding["id"], finding["object"]): finding["remedy"]
        for finding in pg.diagnose({**AT_ONCE, **settings})
        if finding["remedy"]
    }


@contextlib.contextmanager
def faults(pg):
    with pg.fault("dead-tuples"), pg.fault("interrupted-index"):
        yield


def remedies_of(pg):
    """Return the proposed remedies, each once; VACUUM last, because it also analyzes."""
    found = offered(pg)
    assert {finding: proposal["id"] for finding, proposal in found.items()} == EXPECTED
    assert all(proposal["problem"] is None for proposal in found.values())
    proposals = {proposal["id"]: proposal for proposal in found.values()}
    assert len({json.dumps(proposal) for proposal in found.values()}) == len(proposals)
    return [proposals[name] for name in sorted(proposals)]


def runner(pg, folder):
    """Return a function that runs remedies on the server."""
    hosts = inventory(folder / "inventory.yml", {"here": LOCAL}, **pg.settings())

    def run(remedies, *arguments):
        output = play(REMEDIES, hosts, folder, "-e", json.dumps({"remedies": remedies}), *arguments)
        assert not any(password in output for password in pg.passwords.values())
        return output

    return run


def test_each_remedy_fixes_its_finding(pg17, tmp_path):
    run = runner(pg17, tmp_path)
    with faults(pg17):
        remedies = remedies_of(pg17)
        assert "changed=3 " in run(remedies, "--check", "--diff")
        assert remedies_of(pg17) == remedies
        assert "changed=3 " in run(remedies)
        assert offered(pg17) == {}
        assert "changed=0 " in run(remedies)


def test_each_remedy_fixes_its_finding_on_the_older_version(pg15, tmp_path):
    with faults(pg15):
        assert "changed=3 " in runner(pg15, tmp_path)(remedies_of(pg15))
        assert offered(pg15) == {}


def test_description_and_limits_of_each_remedy(pg17):
    with faults(pg17):
        by_id = {proposal["id"]: proposal for proposal in offered(pg17, database_maintenance_max=2).values()}
        denied = offered(pg17, database_maintenance_deny=["public.tracks"])
    assert {name: (proposal["risk"], proposal["cap"]) for name, proposal in by_id.items()} == {
        "database.analyze": ("safe", 2),
        "database.vacuum": ("disruptive", 2),
        "database.reindex": ("disruptive", 2),
    }
    assert by_id["database.vacuum"]["does"].startswith('runs `VACUUM (ANALYZE) "public"."tracks"`, unless')
    assert by_id["database.vacuum"]["target"] == by_id["database.analyze"]["target"] == "public.tracks"
    assert 'INDEX CONCURRENTLY "public"."lab_interrupted_id"` of lab_interrupted' in by_id["database.reindex"]["does"]
    assert {finding: proposal["denied"] for finding, proposal in denied.items()} == {
        finding: finding[1] == "public.tracks" for finding in EXPECTED
    }


def test_an_index_left_behind_by_reindex_is_not_rebuilt(pg17):
    pg17.psql("select pg_stat_reset()")
    with pg17.fault("interrupted-reindex"):
        (finding,) = [found for found in pg17.diagnose() if found["id"] == "database.left_behind_index"]
        assert not [found for found in pg17.diagnose() if found["id"] == "database.invalid_index"]
        assert finding["remedy"] is None
        assert finding["hint"].startswith('Drop it: `DROP INDEX CONCURRENTLY "public"."lab_rebuilt_id_ccnew";`')
        pg17.psql(finding["hint"].split("`")[1])
        assert pg17.diagnose() == []


# On servers in the state in which the remedy is needed most.


@contextlib.contextmanager
def without_connections(pg):
    """No connection is left but those that are reserved for superusers."""
    held = []
    try:
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                held.append(pg.postgres(application_name="lab leak"))
        yield
    finally:
        for connection in held:
            connection.close()


def by_check(pg, **login):
    found = {}
    for finding in pg.diagnose({"database_idle_in_transaction_warning": 0}, **login):
        found.setdefault(finding["id"], []).append(finding)
    return found


def idle_sessions(pg):
    return pg.psql("select count(*) from pg_stat_activity where application_name = 'lab forgetful'")


def test_a_session_is_ended_when_no_connection_is_left(pg17):
    update = "update artists set name = name where id = 9"
    with session(pg17, update, application_name="lab forgetful"), without_connections(pg17):
        unreachable = by_check(pg17)
        (finding,) = unreachable["database.unreachable"]
        assert finding["summary"].startswith("too_many_connections: ")
        # Its hint is for a superuser, who has connections of his own.
        follow(Operator(psql=pg17.psql), {"database.unreachable": shows("lab leak")}, unreachable, dict)
        findings = by_check(pg17, role="superuser")
        assert [each["object"] for each in findings["database.connections_used"]] == ["server server"]
        (finding,) = findings["database.idle_in_transaction"]
        for check in (True, False):
            rejected = carry_out(finding["remedy"], pg17.login(), check)
            assert (rejected["failed"], rejected["kind"]) == (True, "too_many_connections")
        assert idle_sessions(pg17) == "1"
        planned, done, again = (carry_out(finding["remedy"], pg17.login("superuser"), each) for each in (1, 0, 0))
        assert [each["changed"] for each in (planned, done, again)] == [True, True, False]
        assert [each["pid"] for each in planned["sessions"]] == [each["pid"] for each in done["sessions"]]
        assert idle_sessions(pg17) == "0"
        # The operator can connect again.
        assert "database.unreachable" not in by_check(pg17)


def test_maintenance_of_a_locked_table_says_so_in_check_mode_too(pg17):
    with faults(pg17):
        proposals = remedies_of(pg17)
        with session(pg17, "lock table tracks, lab_interrupted in access exclusive mode", application_name="lab lock"):
            for proposal in proposals:
                for check in (True, False):
                    locked = carry_out(proposal, pg17.login(), check)
                    assert (locked["failed"], locked["changed"]) == (True, False), (proposal["id"], check)
                    assert "lab lock" in locked["msg"]
        # It helps as soon as the lock is gone.
        for proposal in proposals:
            planned, done, again = (carry_out(proposal, pg17.login(), check) for check in (True, False, False))
            assert [each["changed"] for each in (planned, done, again)] == [True, True, False], proposal["id"]
        assert offered(pg17) == {}


# Hints of failures and of what is missing


def test_the_library_of_the_statement_statistics_is_loaded_and_the_extension_created():
    with postgres_server("trixie", owner="database") as server:
        pg = Database(server)
        pg.psql("drop extension if exists pg_stat_statements")
        (finding,) = by_check(pg)["database.statements_off"]
        preload, create = commands(finding["hint"])
        operator = Operator(psql=pg.psql)
        operator.run(preload)
        # "Restart the server, then"
        pg.connection.close()
        server.stop()
        server.start()
        pg.connection = pg.postgres(superuser=True)
        pg.connection.autocommit = True
        assert "database.statements_off" in by_check(pg)
        operator.run(create)
        assert "database.statements_off" not in by_check(pg)


def test_a_right_to_end_sessions_that_is_missing_is_granted_by_the_command(pg17):
    with session(pg17, "select txid_current()", application_name="lab forgetful"):
        (finding,) = by_check(pg17)["database.idle_in_transaction"]
        for check in (True, False):
            denied = carry_out(finding["remedy"], pg17.login("monitor"), check)
            assert denied["failed"] is True
        (grant,) = commands(denied["msg"])
        Operator(psql=pg17.psql).run(grant)
        try:
            assert carry_out(finding["remedy"], pg17.login("monitor"), False)["changed"] is True
        finally:
            pg17.psql('revoke pg_signal_backend from "tracktion_monitor"')
        assert idle_sessions(pg17) == "0"
