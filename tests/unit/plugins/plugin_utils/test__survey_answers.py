# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _survey_answers


@pytest.mark.parametrize("value", ["", " ", "\n", "\t \r\n", "\u00a0"])
def test_text_without_a_visible_character_is_an_empty_answer(value):
    assert _survey_answers.is_empty(value)


@pytest.mark.parametrize("value", ["0", "false", "none", [], {}, 0, False, None])
def test_everything_else_is_an_answer(value):
    assert not _survey_answers.is_empty(value)


@pytest.mark.parametrize(
    "value",
    [
        ["containers", "cache"],
        ("containers", "cache"),
        "containers,cache",
        "containers, cache",
        "containers\ncache",
        "  containers\r\n\r\n cache \n",
        "containers,\ncache,",
        '["containers", "cache"]',
        "['containers', 'cache']",
    ],
)
def test_a_list_is_read_in_many_forms(value):
    assert _survey_answers.listed(value) == ["containers", "cache"]


def test_an_empty_text_is_an_empty_list():
    assert _survey_answers.listed(" \n") == []


def test_the_elements_of_a_list_are_unchanged():
    assert _survey_answers.listed(["", "a, b"]) == ["", "a, b"]


def test_a_number_is_a_list_of_one():
    assert _survey_answers.listed(7) == [7]


@pytest.mark.parametrize("value", ["[a, b", "[1] + [2]", "[" * 5000])
def test_a_text_that_only_starts_like_a_list_is_rejected(value):
    with pytest.raises(ValueError, match=r"neither JSON|not a list"):
        _survey_answers.listed(value)
