# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_known import Message, Messages


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("No space left|ENOSPC", ["no space left", "enospc"]),
        (r"too many connections for (?:role|database)", ["too many connections for "]),
        (r"(?:queue|channel) limit \(\d+\) is reached", [") is reached"]),
        (r"colou?r of errors+ x", ["r of errors"]),
        (r"errors{0,3} here", ["error"]),
        (r"[]|a] bracket|[^|] bar", [" bracket", " bar"]),
        (r"can't open file '", ["can't open file '"]),
        # No text, or one that is too short.
        (r"\b(?:SyntaxError|TabError)\b", None),
        (r"a|No space", None),
        (r"(?i)abcdef", None),
        (r"(?<!x)abcdef", ["abcdef"]),
    ],
)
def test_texts_that_a_pattern_needs(pattern, expected):
    assert Message(pattern).needed == expected


def test_the_first_message_that_matches_counts():
    messages = Messages(["no space left on device", r"\bspace\b", "(?:x|y)"])
    assert messages.first_match("OSError: No SPACE left on device") == 0
    assert messages.first_match("no space") == 1
    assert messages.first_match("zzY") == 2
    assert messages.first_match("nothing") is None
