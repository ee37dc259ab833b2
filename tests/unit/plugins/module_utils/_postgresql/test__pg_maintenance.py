# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_maintenance
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_maintenance_actions as actions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import QueryFailed

OPTIONS = {"min_changed_rows": 100, "min_dead_rows": 100, "max_wait": 30.0, "max_objects": 10}
TIME = 1763900000.123456


def action(kind, version=170000):
    """Return an action without a server."""
    return kind(SimpleNamespace(connection=SimpleNamespace(server_version=version)), OPTIONS)


@pytest.mark.parametrize(
    ("found", "evidence", "needed"),
    [
        ({"analyzed": TIME, "changed_rows": 100}, None, True),
        ({"analyzed": TIME, "changed_rows": 99}, None, False),
        ({"analyzed": None, "changed_rows": 0}, None, True),
        ({"analyzed": None, "changed_rows": 0}, 0.0, True),
        ({"analyzed": TIME, "changed_rows": 5000}, 0.0, False),
        # A number after JSON and a template.
        ({"analyzed": TIME, "changed_rows": 5000}, float("1763900000.1234560"), True),
        ({"analyzed": TIME + 0.01, "changed_rows": 5000}, TIME, False),
        # Statistics were reset since.
        ({"analyzed": None, "changed_rows": 5000}, TIME, True),
    ],
)
def test_when_a_table_needs_analyze(found, evidence, needed):
    reason = action(actions.Analyze).reason_not_needed({"analyzed": evidence}, found)
    assert (reason is None) is needed


@pytest.mark.parametrize(
    ("found", "evidence", "needed"),
    [
        ({"vacuumed": TIME, "dead_rows": 100}, None, True),
        ({"vacuumed": None, "dead_rows": 99}, None, False),
        ({"vacuumed": TIME, "dead_rows": 5000}, 0.0, False),
        ({"vacuumed": TIME, "dead_rows": 5000}, TIME, True),
    ],
)
def test_when_a_table_needs_vacuum(found, evidence, needed):
    reason = action(actions.Vacuum).reason_not_needed({"vacuumed": evidence}, found)
    assert (reason is None) is needed


@pytest.mark.parametrize(
    ("before", "after", "succeeded"),
    [(None, TIME, True), (TIME, TIME + 1, True), (TIME, TIME, False), (None, None, False), (TIME, None, False)],
)
def test_success_is_a_newer_time_in_the_statistics(before, after, succeeded):
    vacuum = action(actions.Vacuum)
    assert vacuum.succeeded({"vacuumed": before}, {"vacuumed": after}) is succeeded


@pytest.mark.parametrize(("before", "after"), [(5000, 0), (5000, 99), (5000, 2500), (0, 0)])
def test_newly_dead_rows_are_not_a_failure(before, after):
    assert action(actions.Vacuum).shortcoming({"dead_rows": before}, {"dead_rows": after}) is None


@pytest.mark.parametrize(
    ("sqlstate", "before_deadline", "outcome"),
    [
        ("55P03", True, "locked"),
        ("57014", False, "timeout"),
        ("57014", True, "failed"),
        ("42P01", True, "gone"),
        ("23505", True, "duplicates"),
        ("53100", True, "failed"),
        (None, True, "failed"),
    ],
)
def test_result_of_a_failed_command(sqlstate, before_deadline, outcome):
    found = {"quoted": "public.i", "quoted_table": "public.t"}
    failed = QueryFailed("no answer", sqlstate, "message of the server" if sqlstate else None)
    result, message = actions.classify_failure(failed, action(actions.Reindex), found, before_deadline)
    assert result == outcome
    assert message


PRIVILEGES = {
    "quoted_schema": "public",
    "quoted_table": 'public."T"',
    "owner": "tracktion_user",
    "role": "keeper",
    "reaches_schema": True,
    "permitted": False,
    "superuser_owns": False,
}


@pytest.mark.parametrize(
    ("found", "version", "hint"),
    [
        ({"permitted": True}, 170000, None),
        ({"reaches_schema": False, "permitted": True}, 120000, "GRANT USAGE ON SCHEMA public TO keeper;"),
        ({}, 170000, 'GRANT MAINTAIN ON public."T" TO keeper;'),
        ({}, 160000, "GRANT tracktion_user TO keeper;"),
        ({"superuser_owns": True, "owner": "postgres"}, 170000, "GRANT MAINTAIN"),
        # The role must not become a superuser.
        ({"superuser_owns": True, "owner": "postgres"}, 160000, "login_user"),
    ],
)
def test_a_missing_privilege_is_reported_with_its_grant(found, version, hint):
    message = actions.missing_privilege(action(actions.Vacuum, version), {**PRIVILEGES, **found})
    assert message is None if hint is None else hint in message
    assert "GRANT postgres" not in (message or "")


HOLDER = {
    "pid": 7,
    "mode": "AccessExclusiveLock",
    "granted": True,
    "backend_type": "client backend",
    "user": "tracktion_user",
    "application": "migration",
    "state": "active",
    "seconds": 12.3,
    "maintains": False,
}


@pytest.mark.parametrize(
    ("holder", "outcome", "text"),
    [
        ({}, "locked", "pid 7 (tracktion_user, migration, active) holds AccessExclusiveLock for 12 s"),
        ({"granted": False}, "locked", "waits for AccessExclusiveLock"),
        ({"maintains": True}, "already_running", "pid 7"),
        # It waits itself.
        ({"maintains": True, "granted": False}, "locked", "waits for"),
        ({"backend_type": "autovacuum worker", "user": None, "application": "", "maintains": True},
         "already_running", "pid 7 (autovacuum worker, active)"),
        # Hidden from a role without pg_monitor.
        ({"backend_type": None, "user": None, "application": None, "state": None, "seconds": None}, "locked",
         "pid 7 holds AccessExclusiveLock: "),
        ({"pid": None, "maintains": None}, "locked", "a prepared transaction holds AccessExclusiveLock"),
    ],
)  # fmt: skip
def test_outcome_for_a_locked_object(holder, outcome, text):
    result, message = actions.describe_lock({**HOLDER, **holder})
    assert result == outcome
    assert text in message


def test_outcome_if_the_lock_is_released_again():
    assert actions.describe_lock(None, "WARNING: skipping") == ("locked", "WARNING: skipping")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"action": "vacuum", "tables": [{"schema": "s", "name": "t"}] * 2, "indexes": []}, 1),
        ({"action": "reindex", "tables": [], "indexes": [{"schema": "s", "name": "i"}]}, 1),
        ({"action": "reindex", "tables": [{"schema": "s", "name": "t"}], "indexes": []}, None),
        ({"action": "analyze", "tables": [], "indexes": []}, None),
        ({"action": "analyze", "tables": [{}], "indexes": [{}]}, None),
    ],
)
def test_named_objects_must_fit_the_action(options, named):
    if named is None:
        with pytest.raises(BadOption):
            _pg_maintenance.named_objects(options)
    else:
        assert len(_pg_maintenance.named_objects(options)) == named


def entry(result, **fields):
    found = {"schema": "public", "name": "t", "need": "is invalid", "command": "REINDEX", "message": "why"}
    return {**found, "result": result, "changed": False, "left_behind": [], **fields}


@pytest.mark.parametrize("outcome", ["done", "planned", "not_needed", "already_running", "gone", "beyond_limit"])
def test_results_that_are_no_failure(outcome):
    assert "failed" not in _pg_maintenance.as_result([entry(outcome)])


@pytest.mark.parametrize("outcome", _pg_maintenance.FAILURES)
def test_a_failure_has_its_reason_and_the_commands_for_what_it_left_behind(outcome):
    done = entry("done", name="other", changed=True)
    result = _pg_maintenance.as_result([done, entry(outcome, left_behind=["public.t_ccnew"])])
    assert result["failed"]
    assert result["changed"]
    assert result["msg"].startswith("1 of 2 objects: public.t: %s: why" % outcome)
    assert "DROP INDEX CONCURRENTLY public.t_ccnew;" in result["msg"]
    assert result["diff"] == {"before": {"public.other": "is invalid"}, "after": {"public.other": "REINDEX"}}
