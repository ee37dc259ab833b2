# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The area audio_processing on the stack of the lab: healthy, and with each of its faults."""

from __future__ import annotations

import pytest

from tests.integration.areas import diagnose, fired
from tests.integration.followed_hints import AUDIO_PROCESSING
from tests.integration.following import Operator, follow
from tests.lab.faults import every
from tests.lab.inventory import variables

FAULTS = {name: fault for name, fault in every().items() if fault.area == "audio_processing"}


@pytest.fixture
def settings(lab):
    return variables(lab)


def test_a_healthy_stack_is_quiet(settings):
    findings = diagnose("audio_processing", settings)
    assert not findings, findings


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_stack_fires_its_checks(lab, settings, name):
    with lab.fault(name):
        findings = diagnose("audio_processing", settings)
        for check_id in FAULTS[name].fires:
            assert fired(findings, check_id), (check_id, findings)
        operator = Operator(directory=lab.directory)
        follow(operator, AUDIO_PROCESSING[name], findings, lambda: diagnose("audio_processing", settings))
    after = diagnose("audio_processing", settings)
    for check_id in FAULTS[name].fires:
        assert not fired(after, check_id), after


def test_the_database_and_the_statistics_of_the_stack(lab, settings):
    """Files without rows, rows that wait, and the hash of a service that fails often, each at its server."""
    music = [lab.watched_directory / ("silent-%d.ogg" % number) for number in range(3)]
    query = """SELECT 'pending' AS state, 1 AS rows, 7200.0 AS oldest_seconds
               UNION ALL SELECT 'done', 0, NULL"""
    asked = {
        **settings,
        "audio_processing_query": query,
        "audio_processing_statistics_key": "lab:analysis:stats",
        **{name: settings[name] for name in settings if name.startswith(("database_login", "cache_login"))},
    }
    client = lab.redis()
    try:
        # Not of an extension that the file watcher reports.
        for path in music:
            path.write_bytes(b"OggS")
        client.hset("lab:analysis:stats", mapping={"total_failed": 30, "total_completed": 20})
        findings = diagnose("audio_processing", asked)
        (missing,) = fired(findings, "audio_processing.not_in_database", "warning")
        assert "3 audio files in the library, 1 rows in the database (1 pending, 0 done)" in missing["summary"]
        (waits,) = fired(findings, "audio_processing.pending_old", "warning")
        assert "the oldest for 2 h" in waits["summary"]
        assert fired(findings, "audio_processing.failures_counted", "critical")
        client.hset("lab:analysis:stats", mapping={"total_failed": 4, "total_completed": 2000})
        right = {**asked, "audio_processing_query": "SELECT 'done' AS state, 3 AS rows"}
        assert not diagnose("audio_processing", right)
        # A query or a key that does not fit is unknown, with the next step.
        wrong = {
            **asked,
            "audio_processing_query": "SELECT 1 AS one",
            "audio_processing_statistics_key": "lab:not-there",
        }
        findings = diagnose("audio_processing", wrong)
        assert {each["status"] for entries in findings.values() for each in entries} == {"unknown"}
        assert "not state and rows" in findings["audio_processing.not_in_database"][0]["summary"]
        assert "no numbers in total_failed" in findings["audio_processing.failures_counted"][0]["summary"]
    finally:
        client.delete("lab:analysis:stats")
        client.close()
        for path in music:
            path.unlink(missing_ok=True)
