# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _row_cache
from tests.unit.plugins.plugin_utils.conftest import CHECK, SETTINGS


@pytest.fixture
def cache(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setattr(_row_cache, "directory", lambda: path)
    return path


def test_rows_found_right_are_not_parsed_again(cache, make_area, monkeypatch):
    _checks.load(make_area())
    parsed = []
    monkeypatch.setattr(_checks.Check, "parse_templates", lambda check, _variables: parsed.append(check.id))
    _checks.load(make_area())
    assert parsed == []
    _checks.load(make_area([{**CHECK, "warning": "item.ready > 1"}]))
    assert parsed == ["queues.backlog"]


def test_wrong_rows_are_refused_every_time(cache, make_area):
    area = make_area([{**CHECK, "warning": "item.ready >"}])
    for _time in range(2):
        with pytest.raises(_checks.BadRow):
            _checks.load(area)


def test_a_text_is_parsed_once_for_all_runs(cache):
    calls = []

    def parse(text):
        calls.append(text)
        return {"a": [1, 2.5, None, text]}

    assert _row_cache.parsed("one", parse) == _row_cache.parsed("one", parse) == {"a": [1, 2.5, None, "one"]}
    assert calls == ["one"]
    assert _row_cache.parsed("two", parse)["a"][3] == "two"
    assert [path.name for path in cache.iterdir() if not path.name.startswith("data-")] == []


def test_a_torn_copy_of_a_parsed_text_is_passed_over(cache):
    _row_cache.parsed("one", str.upper)
    for path in cache.iterdir():
        path.write_bytes(b"")
    assert _row_cache.parsed("one", str.upper) == "ONE"


def test_what_cannot_be_kept_is_parsed_every_time(cache):
    day = datetime.date(2026, 11, 24)
    assert _row_cache.parsed("one", lambda _text: day) == _row_cache.parsed("one", lambda _text: day) == day


def test_without_a_writable_place_there_is_no_cache(make_area, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(_row_cache, "directory", lambda: tmp_path / "file" / "below")
    checks, seen = _checks.load(make_area()), []
    checks.scan(checks[0], SETTINGS, [{"ready": 20}], lambda level, _item: seen.append(level))
    assert seen == ["warning"]
    assert _row_cache.parsed("one", str.upper) == "ONE"


def test_what_nobody_used_for_a_month_goes(cache):
    _row_cache.remember("old")
    long_ago = time.time() - _row_cache.KEPT_SECONDS - 10
    os.utime(cache / "right-old", (long_ago, long_ago))
    _row_cache.remember("new")
    assert not _row_cache.is_right("old")
    assert _row_cache.is_right("new")
