# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts of compose files with variables."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_text

ENVIRONMENT = {"TAG": "7", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis:${TAG}", "redis:7"),
        ("redis:$TAG-alpine", "redis:7-alpine"),
        ("${NONE:-redis}:${TAG:-6}", "redis:7"),
        ("${EMPTY:-full}${EMPTY-full}", "full"),
        ("${TAG:+tagged}${NONE:+tagged}${EMPTY:+x}${EMPTY+y}", "taggedy"),
        ("${NONE:-${EMPTY:-${TAG:-6}}}", "7"),
        ("${NONE:-a$TAG}", "a7"),
        ("cost: $$5 $${TAG}", "cost: $5 ${TAG}"),
        ("${TAG:?say which}", "7"),
        ("${NONE}", ""),
        ("${NONE:?say which}", None),
        ("${EMPTY:?say which}", None),
        ("${EMPTY?say which}", ""),
        ("${", None),
        ("${TAG", None),
        ("${TAG=1}", None),
        ("plain", "plain"),
    ],
)
def test_a_text_is_filled_as_by_compose(text, expected):
    assert _compose_text.filled(text, ENVIRONMENT) == expected


@pytest.mark.parametrize(
    "text", ["$X", "${X}", "${X:-d}", "${X-d}", "${X:?e}", "${X?e}", "${X:+a}", "${X+a}", "${Y:-${X}}", "${Y:+$X}", "$"]
)
def test_a_text_with_a_variable_is_not_certain(text):
    assert _compose_text.certain("a" + text) is None
    assert _compose_text.fits("a%sc" % text, "abc")
    assert not _compose_text.fits("a%sc" % text, "bc")
    assert "X" in _compose_text.names(text) or text == "$"


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("a$$b", "a$b", True),
        ("a${X}a", "a", False),
        ("${X}-mid-${Y}", "one-mid-two", True),
        ("${X}-mid-${Y}", "one-two", False),
        ("${X}ab${Y}ab", "ab", False),
        ("${X}ab${Y}ab", "abab", True),
        ("", "", True),
    ],
)
def test_fixed_parts_are_certain(text, value, expected):
    assert _compose_text.fits(text, value) is expected


def test_separators_in_variables_do_not_count():
    assert _compose_text.split("${A:-b:c}:[::1]:80", ":") == ["${A:-b:c}", "[::1]", "80"]
