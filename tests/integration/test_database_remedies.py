# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each remedy of the area, run with the evidence of its finding, makes the finding disappear."""

from __future__ import annotations

import contextlib
import json

from tests.integration.playbooks import LOCAL, inventory, play

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
