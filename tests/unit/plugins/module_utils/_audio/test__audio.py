# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dotted paths, faults of files, results of references, kept results, lines of logs and requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _measures
from ansible_collections.tracktion.ops.plugins.module_utils._audio import (
    _decoding,
    _failed_files,
    _inside,
    _last_result,
    _pipeline,
    _program,
    _requests,
    _results,
    _session,
    _surroundings,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, Deadline

SPEC = _measures.load("audio_probe_info").ARGUMENT_SPEC


def options(**given):
    return {**{name: option.get("default") for name, option in SPEC.items()}, **given}


# Dotted paths


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("os.path.join", os.path.join),
        ("os.sep", os.sep),
        ("decimal.Decimal.from_float", None),
        ("json.decoder.JSONDecoder.decode", None),
        ("os.getpid()", None),
        ("collections.OrderedDict().__len__()", 0),
    ],
)
def test_a_dotted_path_leads_to_a_value(path, value):
    found = _decoding.resolve(path)
    assert found == value if value is not None else found is not None


@pytest.mark.parametrize("path", ["", "os..path", "os.path.join(1)", "os;path", "__import__('os')", "os.path-join"])
def test_other_text_is_rejected(path):
    with pytest.raises(_decoding.BadPath, match="is not a dotted path"):
        _decoding.resolve(path)


def test_a_path_that_leads_nowhere_names_the_step():
    with pytest.raises(_decoding.BadPath, match=r"there is no os\.path\.nothing"):
        _decoding.resolve("os.path.nothing.more")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        _decoding.resolve("no_such_module.Class.method")


# Files


@pytest.mark.parametrize(
    ("part", "incomplete", "fault"),
    [
        ({}, False, "none"),
        ({"decoded_seconds": 50.0}, False, "truncated"),
        # Encoders add frames, and a header may round.
        ({"decoded_seconds": 99.0}, False, "none"),
        ({"decoded_seconds": 120.0}, None, "none"),
        ({"stated_seconds": None}, True, "truncated"),
        ({"stated_seconds": None}, None, "none"),
        ({"peak": 0.00005}, False, "silent"),
        ({"peak": None}, False, "none"),
        ({"sample_rate": 48000}, False, "sample_rate"),
        ({"sample_rate": None}, False, "none"),
        ({"decoded_seconds": 50.0, "peak": 0.0, "sample_rate": 8000}, False, "truncated"),
    ],
)
def test_the_fault_of_a_decoded_file(part, incomplete, fault):
    good = {"stated_seconds": 100.0, "decoded_seconds": 100.0, "peak": 0.9, "sample_rate": 44100}
    request = _requests.program(options(), 10, False)
    assert _decoding._fault({**good, **part}, incomplete, request) == fault


# References


@pytest.mark.parametrize(
    ("value", "octave", "error"),
    [(90.0, 1.0, 0.0), (180.5, 2.0, 0.0028), (45.0, 0.5, 0.0), (187.0, 2.0, 0.0389), (738.28, 2.0, 3.1016)],
)
def test_a_tempo_is_compared_with_the_nearest_octave(value, octave, error):
    found = _results.tempo({"reference": 90, "value": value, "state": "ok", "took": 1, "confidence": 0.8})
    assert (found["octave"], found["error"]) == (octave, error)


@pytest.mark.parametrize("value", [None, 0.0, -1.0, float("nan")])
def test_a_tempo_that_is_none_has_no_octave(value):
    found = _results.tempo({"reference": 90, "value": value, "state": "ok", "took": 1})
    assert (found["octave"], found["error"]) == (None, None)


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ("C major", True),
        ("c Major", True),
        ("C", True),
        ("C minor", False),
        ("Cm", False),
        ("A minor", False),
        ("G major", False),
        (None, None),
    ],
)
def test_a_key_is_compared(value, matches):
    found = _results.key({"reference": "C major", "value": value, "state": "ok", "took": 1})
    assert found["matches"] is matches


def test_flats_and_sharps_are_the_same_key():
    found = _results.key({"reference": "Eb major", "value": "D# major", "state": "ok", "took": 1})
    assert found["matches"] is True


@pytest.mark.parametrize(("seconds", "measured"), [(60, 205e6), (1200, 812e6), (7200, 4e9)])
def test_the_rule_of_memory_is_that_which_was_measured(seconds, measured):
    found = _results.memory({"limit": None, "used": 1}, 1 << 30, seconds)
    assert found["needed"] == pytest.approx(measured, rel=0.04)
    assert found["limit"] == 1 << 30


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        (0.7, "0.70", True),
        ("44100", "44100.0", True),
        (True, "true", True),
        ("INFO", "info", True),
        (0.8, "0.7", False),
    ],
)
def test_settings_are_compared_as_numbers_or_text(value, expected, same):
    assert _results.same(value, expected) is same


def test_the_value_of_a_secret_is_hidden():
    wanted = [{"name": "api_password", "environment": "X", "path": "", "expected": "1"}]
    (found,) = _results.settings([{"value": "s3cr3t", "error": None}], wanted)
    assert "s3cr3t" not in str(found)
    assert found["matches"] is False


# Kept results

DEEP = {name: [] for name in _results.DEEP}
OF = {"container": "abc"}


def kept(**changed):
    return {"version": 1, "time": 1000.0, "of": OF, "deep": DEEP, **changed}


def test_a_kept_result_has_its_age():
    assert _last_result.parse(kept(), OF, 1060.0, 3600) == {**DEEP, "age_seconds": 60.0}


@pytest.mark.parametrize(
    "content",
    [
        kept(version=2),
        kept(of={"container": "other"}),
        kept(time=None),
        kept(time=True),
        kept(time=9999.0),
        kept(time=-9999.0),
        kept(deep={}),
        kept(deep={**DEEP, "imports": None}),
        kept(deep=[]),
        [],
        None,
        "text",
    ],
)
def test_a_kept_result_of_another_kind_is_none(content):
    assert _last_result.parse(content, OF, 1060.0, 3600) is None


def test_a_file_that_is_cut_a_link_or_too_large_is_no_result(tmp_path):
    path = tmp_path / "folder" / "state.json"
    _last_result.write(str(path), OF, 1000.0, DEEP)
    assert _last_result.read(str(path), OF, 1010.0, 60)["age_seconds"] == 10.0
    text = path.read_text()
    for content in (text[: len(text) // 2], "", "\0" * 10, text + " " * _last_result.MAX_BYTES):
        path.write_text(content)
        assert _last_result.read(str(path), OF, 1010.0, 60) is None
    path.unlink()
    path.symlink_to(tmp_path / "else")
    assert _last_result.read(str(path), OF, 1010.0, 60) is None
    with pytest.raises(OSError, match="symbolic link"):
        _last_result.write(str(path), OF, 1000.0, DEEP)


# Lines of logs


def count(*lines, **changed):
    failed, completed = _failed_files.compiled(options(**changed))
    return _failed_files.count(["1795447000.5 " + line for line in lines], failed, completed, Deadline(10), 20)


def test_files_that_failed_are_counted():
    found = count(
        "2026-11-25 ERROR analysis_service BPM detection failed for /music/a b.mp3: RuntimeError",
        '{"level": "error", "event": "cannot decode", "file": "/music/\xfc.flac", "n": 1}',
        "ERROR analysis_service Error detecting key for /music/a b.mp3: x",
        "INFO completed /music/c.mp3",
        "INFO completed /music/d.mp3 with 0 errors",
        "ERROR lost the broker",
    )
    assert (found["failed"], found["completed"], found["failed_ratio"]) == (3, 2, 0.6)
    assert [(each["path"], each["count"]) for each in found["failed_files"]] == [
        ("/music/a b.mp3", 2),
        ("/music/\xfc.flac", 1),
    ]
    assert found["failed_files"][0]["last_seen"] == 1795447000.5


def test_lines_are_data():
    found = count("ERROR password=s3cr3t \x1b[31mfailed for /music/\x07a.mp3 password=s3cr3t", "x" * 100000)
    assert "s3cr3t" not in str(found)
    assert "\x1b" not in str(found)


def test_a_line_made_to_harm_costs_little():
    began = time.monotonic()
    count(*["error " + "/a" * 5000, "error" * 5000, "error " + "/x.mp" * 900] * 200)
    assert time.monotonic() - began < 5


def test_the_group_of_a_pattern_is_optional():
    assert count("boom", failed_patterns=["boom"])["failed_files"] == []
    with pytest.raises(BadOption, match="failed_patterns"):
        count("", failed_patterns=["("])


# The pipeline


def test_files_are_compared_with_rows():
    music = [{"files": 12, "complete": True}]
    assert _pipeline.compare({"rows": 10}, music)["missing"] == 2
    assert _pipeline.compare({"rows": 30}, music)["missing"] == 0
    for unknown in (None, [], [{"files": 12, "complete": False}], [{"files": None, "complete": None}]):
        assert _pipeline.compare({"rows": 10}, unknown)["missing"] is None


def test_numbers_of_a_query():
    assert [_pipeline._number(value) for value in (Decimal(3), Decimal("1.5"), 2, True, "x", None)] == [
        3,
        1.5,
        2,
        None,
        None,
        None,
    ]


# The program


def test_the_program_runs_as_one_argument():
    request = {
        **_requests.program(options(library="json", directories=["/nowhere"]), 10, False),
        "failed": ["/nowhere"],
    }
    argv = _requests.argv(sys.executable, request)
    done = subprocess.run(argv, capture_output=True, cwd="/", check=False)
    found = _requests.answer(done.stdout, done.returncode)
    assert found["library"]["installed"]
    assert found["music"][0]["exists"] is False
    argv = _requests.argv(sys.executable, {"look": ["/nowhere", "/etc/passwd"], "seconds": 10})
    done = subprocess.run(argv, capture_output=True, cwd="/", check=False)
    gone, there = _requests.answer(done.stdout, done.returncode)["failed"]
    assert (gone, there[0], there[1] > 0) == ([False, None], True, True)


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"Traceback\nImportError: no password=s3cr3t\n",
        b"\xff\xfe" * 100,
        _program.MARK.encode() + b"[1]\n",
        _program.MARK.encode() + b"{cut",
        _program.MARK.encode() + json.dumps({"too_large": 9}).encode(),
    ],
)
def test_an_output_without_an_answer_is_a_failure(output):
    with pytest.raises(CannotConnect, match="exit code 1") as caught:
        _requests.answer(output, 1)
    assert "s3cr3t" not in str(caught.value)


def test_a_request_that_is_too_long_is_rejected():
    files = ["/" + os.urandom(4000).hex() for _number in range(50)]
    request = _requests.program(options(files=files), 10, True)
    with pytest.raises(CannotConnect, match="the request has"):
        _requests.argv("python3", request)


def test_leftovers_are_old_closed_files(tmp_path):
    for name in ("tracktion_old", "tracktion_open", "tracktion_new", "other_old"):
        (tmp_path / name).write_text("x" * 5000)
    (tmp_path / "tracktion_folder").mkdir()
    (tmp_path / "tracktion_link").symlink_to("/etc/passwd")
    for name in ("tracktion_old", "tracktion_open", "other_old", "tracktion_folder"):
        os.utime(tmp_path / name, (0, 0))
    wanted = _requests.program(options(temporary_directory=str(tmp_path)), 10, False)["temporary"]
    with open(tmp_path / "tracktion_open", encoding="utf-8"):
        found = _surroundings.temporary(wanted)["leftovers"]
    assert (found["total"], found["old"], found["open"]) == (5, 1, 1)
    assert found["examples"] == [str(tmp_path / "tracktion_old")]
    assert found["old_bytes"] >= 5000


def test_names_that_are_not_utf_8(tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/b\xf6se")
    with open(os.fsencode(tmp_path) + b"/b\xf6se/a\n.MP3", "wb"):
        pass
    wanted = _requests.program(options(directories=[os.fsdecode(os.fsencode(tmp_path) + b"/b\xf6se")]), 10, False)
    (found,) = _surroundings.library(wanted["music"])
    assert (found["files"], found["complete"], found["empty"]) == (1, True, False)
    assert found["path"].endswith("/b\\xf6se")


def test_a_walk_ends_in_time_and_says_so(tmp_path):
    for number in range(50):
        (tmp_path / str(number)).mkdir()
    wanted = {**_requests.program(options(directories=[str(tmp_path)]), 10, False)["music"], "walk_seconds": 0.0}
    (found,) = _surroundings.library(wanted)
    assert found["complete"] is False


def test_a_library_that_hangs_costs_only_itself(monkeypatch):
    monkeypatch.setattr(_surroundings, "library", lambda _wanted: time.sleep(600))
    monkeypatch.setattr(_program, "GRACE_SECONDS", 0.5)
    found = _program.answer(_requests.program(options(), 10, False))
    assert found["music"] is None
    assert "does not answer" in found["music_error"]
    assert found["temporary"]["exists"]


def test_a_step_without_its_time_proves_nothing(tmp_path):
    request = {**_requests.program(options(step_seconds=20.0, load_call="time.sleep"), 10, False)}
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_decoding, "decode", lambda _path, _request: time.sleep(60))
        assert _decoding.examine(str(path), request, 0.5)["fault"] is None
        assert _decoding.examine(str(path), {**request, "step_seconds": 0.5}, 0.5)["fault"] == "hang"
        step = _session._step(lambda _path, _request: time.sleep(60), bytes, request, 0.5)
        assert step["state"] is None
    assert not _session.has_time(time.monotonic() + 1, 20)
    assert _session.has_time(time.monotonic() + 1.5, 1)


def test_a_path_of_the_host_is_translated():
    target = _inside.Target("c", "i", None, "python3", None, [("/srv/music", "/music"), ("/srv", "/data")], None)
    assert _inside.inside(target, "/srv/music/a.mp3") == "/music/a.mp3"
    assert _inside.inside(target, "/srv/other/a.mp3") == "/data/other/a.mp3"
    assert _inside.inside(target, "/music/a.mp3") == "/music/a.mp3"
