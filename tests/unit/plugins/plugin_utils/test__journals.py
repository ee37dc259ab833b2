# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import os
import random

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _journal
from ansible_collections.tracktion.ops.plugins.plugin_utils import _journals, _outcome, _runs
from tests.mutations import mutated

LOCK = {"run": "one", "who": "a@b", "since": 900.0, "until": 2e6, "boot_id": "", "controller": "c", "pid": 5,
        "pid_start": 7, "stale": None}  # fmt: skip
ENTRY = {"event": "outcome", "run": "one", "who": "a@b", "action": "1", "remedy": "queues.purge", "target": "a",
         "host": "web", "time": 900.0, "changed": True, "does": "empties a"}  # fmt: skip
INTENT = {**ENTRY, "event": "intent", "run": "two"}
ANSWER = {"lock": LOCK, "done": [ENTRY], "unfinished": [INTENT], "error": None, "changed": False}


def test_a_valid_result_is_used():
    journal = _journals.from_result(ANSWER)
    assert (journal["error"], journal["lock"]["run"]) == (None, "one")
    assert [entry["target"] for entry in journal["done"] + journal["unfinished"]] == ["a", "a"]
    assert _journals.from_result({**ANSWER, "lock": {**LOCK, "stale": "its lease is over"}})["lock"] is None
    assert _journals.from_result({**ANSWER, "lock": None})["lock"] is None
    assert _journals.from_result({**ANSWER, "problems": ["a lock", None, 5]})["problems"] == ["a lock"]
    gone = _journals.from_result({"unreachable": True, "msg": "timed out"})
    assert gone["error"] == "its audit log cannot be read: timed out"


@pytest.mark.parametrize(
    "bad",
    [
        {"lock": "x"}, {"lock": []}, {"lock": {}}, {"lock": {**LOCK, "until": "soon"}},
        {"lock": {**LOCK, "until": 1e300}},
        {"done": None}, {"done": {}}, {"done": [None]}, {"done": [{}]}, {"done": [{**ENTRY, "time": "x"}]},
        {"done": [{**ENTRY, "action": []}]}, {"done": [{k: v for k, v in ENTRY.items() if k != "host"}]},
        {"done": [ENTRY] * (_journal.MOST + 1)}, {"unfinished": "x"}, {"unfinished": [{**INTENT, "time": 1e300}]},
        {"error": {}}, {"error": 5},
    ],
)  # fmt: skip
def test_a_malformed_result_is_an_error_of_its_host(bad):
    assert _journals.from_result({**ANSWER, **bad}) == {
        "lock": None,
        "done": [],
        "unfinished": [],
        "error": _journals.MALFORMED,
        "problems": [],
    }


def test_no_mutation_of_a_result_stops_a_plan():
    chance = random.Random(20261128)
    refused = 0
    for _turn in range(500):
        journal = _journals.from_result(mutated(ANSWER, chance))
        json.dumps(journal, allow_nan=False)
        refused += journal["error"] is not None
        for entry in _journals.left_unfinished({"web": journal}, {("web", "queues"): "web"}):
            _outcome.clock(entry["time"])
        if journal["lock"]:
            _outcome.locked(journal["lock"])
        _journal.cooling_until(journal["done"], ENTRY, 60, 1000.0)
        answer = mutated({"go": False, "reason": "locked", "lock": LOCK, "until": None}, chance)
        if isinstance(answer, dict):
            _journals.refusal(answer, {"target": "a", "cooldown": 60})
    assert 200 < refused < 500


def test_a_journal_counts_for_its_own_hosts():
    journal = {**copy.deepcopy(_journals.from_result({**ANSWER, "lock": None}))}
    journal["unfinished"] = [{**INTENT, "host": host} for host in ("web", "db", "renamed")]
    probe_hosts = {("web", "queues"): "web", ("web", "database"): "probe", ("db", "database"): "probe"}

    def hosts(probe_host):
        return [entry["host"] for entry in _journals.left_unfinished({probe_host: journal}, probe_hosts)]

    assert hosts("web") == ["web", "renamed"]
    assert hosts("probe") == ["web", "db", "renamed"]


@pytest.mark.parametrize(
    "line",
    [
        b"null", b"[]", b"{", b"\xff", b"{}", b"[" * 100000, b'{"action": "1", "outcome": 5}',
        b'{"action": "1", "outcome": "changed"}', b'{"action": "1", "outcome": "refused"}',
        b'{"action": "1", "outcome": "failed", "host": "web", "time": "x", "settle": 0}',
        b'{"action": "1", "outcome": "failed", "host": "web", "time": 1, "settle": 1e300}',
    ],
)  # fmt: skip
def test_a_malformed_outcome_is_ignored(tmp_path, monkeypatch, line):
    monkeypatch.setattr(_runs.C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    good = {"action": "1", "outcome": "changed", "host": "web", "time": 1.0, "settle": 0}
    _runs.note_outcome(good)
    with open(tmp_path / _runs.OUTCOMES, "ab") as stream:
        stream.write(line + b"\n")
    _runs.note_outcome({"action": "2", "outcome": "refused", "reason": "locked"})
    warnings = []
    assert [entry["action"] for entry in _runs.outcomes(warnings.append)] == ["1", "2"]
    assert len(warnings) == 1


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
@pytest.mark.parametrize("before", [None, 0o666])
def test_the_logs_of_the_controller_are_private(tmp_path, monkeypatch, umask, before):
    monkeypatch.setattr(_runs.C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    path = tmp_path / "reports" / "audit.jsonl"
    names = [path, path.with_name("audit.jsonl.guard"), tmp_path / _runs.OUTCOMES]
    if before:
        path.parent.mkdir(mode=0o750)
        for name in names:
            name.touch()
            name.chmod(before)
    old = os.umask(umask)
    try:
        _runs.audit(str(path), [])
        assert path.read_text() == ""
        _runs.audit(str(path), [ENTRY])
        _runs.note_outcome(ENTRY)
    finally:
        os.umask(old)
    assert [name.stat().st_mode & 0o777 for name in names] == [0o600] * 3
    assert path.parent.stat().st_mode & 0o777 == (0o750 if before else 0o700)
