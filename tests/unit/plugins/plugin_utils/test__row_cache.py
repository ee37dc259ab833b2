# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import marshal
import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _row_cache, _rows
from tests.unit.plugins.plugin_utils.conftest import CHECK, SETTINGS
from tests.users import UNPRIVILEGED, shared_directory


@pytest.fixture
def cache(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setattr(_row_cache, "directory", lambda: path)
    return path


def test_rows_found_valid_are_not_parsed_again(cache, make_area, monkeypatch):
    _checks.load(make_area())
    parsed = []
    monkeypatch.setattr(_checks.Check, "parse_templates", lambda check, _variables: parsed.append(check.id))
    _checks.load(make_area())
    assert parsed == []
    _checks.load(make_area([{**CHECK, "warning": "item.ready > 1"}]))
    assert parsed == ["queues.backlog"]


def test_invalid_rows_are_rejected_every_time(cache, make_area):
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


def test_an_incomplete_cache_entry_is_ignored(cache):
    _row_cache.parsed("one", str.upper)
    for path in cache.iterdir():
        path.write_bytes(b"")
    assert _row_cache.parsed("one", str.upper) == "ONE"


def test_data_that_cannot_be_cached_is_parsed_every_time(cache):
    day = datetime.date(2026, 11, 24)
    assert _row_cache.parsed("one", lambda _text: day) == _row_cache.parsed("one", lambda _text: day) == day


def test_without_a_writable_directory_there_is_no_cache(make_area, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(_row_cache, "directory", lambda: tmp_path / "file" / "below")
    (status_of,) = _checks.load(make_area()).status_functions(SETTINGS)
    assert status_of({"ready": 20}) == "warning"
    assert _row_cache.parsed("one", str.upper) == "ONE"


def test_entries_not_used_for_a_month_are_removed(cache):
    _row_cache.remember_valid("old")
    long_ago = time.time() - _row_cache.KEPT_SECONDS - 10
    os.utime(cache / "valid-old", (long_ago, long_ago))
    _row_cache.remember_valid("new")
    assert not _row_cache.is_valid("old")
    assert _row_cache.is_valid("new")


def test_a_directory_that_others_can_write_is_not_used(monkeypatch):
    """Entries are code: marshal and byte code can run anything."""
    with shared_directory(0o777) as shared:
        monkeypatch.setattr(_row_cache, "directory", lambda: shared)
        (shared / ("data-" + _row_cache.fingerprint("one"))).write_bytes(marshal.dumps("forged"))
        (shared / "valid-one").touch()
        assert _row_cache.parsed("one", str.upper) == "ONE"
        assert not _row_cache.is_valid("one")
        assert not _row_cache.is_valid("two"), "nothing is written there either"


@pytest.mark.parametrize("what", ["owner", "mode", "link", "fifo"])
def test_a_file_that_others_can_change_is_not_read(cache, tmp_path, what):
    _row_cache.parsed("one", str.upper)
    (path,) = cache.iterdir()
    forged = marshal.dumps("forged")
    path.write_bytes(forged)
    if what == "owner":
        os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    elif what == "mode":
        path.chmod(0o666)
    else:
        path.unlink()
        (tmp_path / "forged").write_bytes(forged)
        os.mkfifo(path) if what == "fifo" else path.symlink_to(tmp_path / "forged")
    assert _row_cache.parsed("one", str.upper) == "ONE"
    assert path.is_file(), "and it is replaced"
    assert (tmp_path / "forged").exists() is (what in ("link", "fifo"))


def test_compiled_templates_of_another_user_are_not_run(cache):
    source = "{{ 20 + 3 }}"
    assert _rows.Expressions().compiled(source).render() == "23"
    (path,) = cache.iterdir()
    forged = path.read_bytes().replace(b"23", b"66")
    path.write_bytes(forged)
    assert _rows.Expressions().compiled(source).render() == "66", "what is read back is run"
    os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    assert _rows.Expressions().compiled(source).render() == "23"
    assert path.stat().st_uid == 0


def test_the_key_of_plans_is_not_part_of_the_cache(cache):
    _row_cache.remember_valid("old")
    long_ago = time.time() - _row_cache.KEPT_SECONDS - 10
    (cache / "plan.key").write_text("key")
    os.utime(cache / "plan.key", (long_ago, long_ago))
    _row_cache.remember_valid("new")
    assert (cache / "plan.key").exists()


def test_expressions_and_texts_are_compiled_once_for_all_runs(cache):
    for _run in range(2):
        _rows.compiled_expression.cache_clear()
        _rows.EXPRESSIONS.cache.clear()
        assert _rows.expression("item.a + 1", {"item": {"a": 1}}) == 2
        assert _rows.expression("item.b", {"item": {}}) is None
        assert len(list(cache.glob("template-*"))) == 2
