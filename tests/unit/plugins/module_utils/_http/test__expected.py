# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparison of answers with expected values."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._http import _expected


def test_path_through_mappings_and_lists():
    document = {"a": [{"b": None}, {"b": 2}], "0": "zero"}
    assert _expected.follow(document, "a.1.b") == 2
    assert _expected.follow(document, "0") == "zero"
    for path in ("a.2", "a.b", "a.0.b", "a.0.b.c", "c"):
        assert _expected.follow(document, path) is None


def test_only_differences_are_mismatches():
    text = '{"status": "healthy", "count": 1, "ok": true}'
    assert _expected.mismatches(text, {"status": "healthy", "count": 1, "ok": True}) == []
    assert [found["path"] for found in _expected.mismatches(text, {"count": True, "ok": 1, "x": 0})] == [
        "count",
        "ok",
        "x",
    ]
    assert _expected.mismatches("no json", {}) == []
    # A missing value is null, and a document that cannot be parsed is not JSON.
    assert _expected.mismatches(text, {"version": 2})[0]["found"] is None
    assert _expected.mismatches("[" * 100000, {"version": 2})[0]["expected"] == "JSON"


def test_mismatch_hides_values_with_the_name_of_a_secret():
    shown = _expected.redacted({"path": "db.password", "expected": '"x"', "found": '"hunter2"'}, [])
    assert (shown["expected"], shown["found"]) == ("***", "***")
    shown = _expected.redacted({"path": "note", "expected": '"x"', "found": '"of hunter2"'}, ["hunter2"])
    assert shown["found"] == '"of ***"'
    assert _expected.redacted({"path": "note", "expected": "1", "found": None}, [])["found"] is None
