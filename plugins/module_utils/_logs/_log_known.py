# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Known messages: which of many regular expressions matches an event. Private to this collection.

A regular expression that ignores case is slow to search. Nearly all of them need one of a few texts, which are fast to
find: the others are not searched.
"""

from __future__ import annotations

import re
from typing import Pattern, Sequence

# Shorter texts are in most events.
SHORTEST = 4
SPECIAL = frozenset(".^$*+?{}[]|()")
QUANTIFIERS = frozenset("*?{")


def needed(pattern: str) -> list[str] | None:
    """Return texts in lower case of which one is in everything that matches a pattern; null if there are none."""
    found = []
    for branch in branches(pattern):
        longest = max(literals(branch), key=len, default="")
        if len(longest) < SHORTEST:
            return None
        found.append(longest.lower())
    return found


def branches(pattern: str) -> list[str]:
    """Return the alternatives of a pattern, without the contents of its groups and classes."""
    found, depth, position = [""], 0, 0
    while position < len(pattern):
        char = pattern[position]
        step = 1
        if char == "\\":
            step = 2
        elif char == "[":
            # A bracket right after the start is a member of the class.
            end = pattern.index("]", position + (3 if pattern[position + 1] == "^" else 2))
            step, char = end + 1 - position, "["
        if depth == 0 and char not in "()|[":
            found[-1] += pattern[position : position + step]
        elif depth == 0 and char == "|":
            found.append("")
        elif depth == 0:
            # Stands for a class or a group.
            found[-1] += "."
        depth += (char == "(") - (char == ")")
        position += step
    return found


def literals(branch: str) -> list[str]:
    """Return the runs of characters that a branch without groups and classes needs."""
    runs, position = [""], 0
    while position < len(branch):
        char, step = branch[position], 1
        is_literal = char not in SPECIAL
        if char == "\\":
            char, step = branch[position + 1 : position + 2], 2
            is_literal = not char.isalnum()
        following = branch[position + step : position + step + 1]
        if char == "{" and not is_literal:
            step = branch.index("}", position) + 1 - position
        if is_literal and following not in QUANTIFIERS:
            runs[-1] += char
        else:
            runs.append("")
        if is_literal and following == "+":
            runs.append("")
        position += step
    return runs


class Message:
    """The pattern of a known message."""

    __slots__ = ("needed", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern: Pattern[str] = re.compile(pattern, re.IGNORECASE)
        try:
            # Flags may change the meaning of what follows.
            self.needed = None if pattern.startswith("(?") and pattern[2:3] not in ":=!<" else needed(pattern)
        except (IndexError, ValueError):
            self.needed = None


class Messages:
    """The patterns of known messages, in order."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self.messages = [Message(pattern) for pattern in patterns]
        self._needed = [(text, number) for number, message in enumerate(self.messages) for text in message.needed or ()]
        self._always = [number for number, message in enumerate(self.messages) if message.needed is None]

    def first_match(self, text: str) -> int | None:
        """Return the number of the first message that matches an event; null for none."""
        lowered = text.lower()
        candidates = {number for needed_text, number in self._needed if needed_text in lowered}
        for number in sorted(candidates.union(self._always)):
            if self.messages[number].pattern.search(text):
                return number
        return None

    def line_of(self, number: int, lines: Sequence[str]) -> str:
        """Return the first of the lines that matches a message; the first two if none does by itself."""
        pattern = self.messages[number].pattern
        return next((line for line in lines if pattern.search(line)), " ".join(lines[:2]))

    def names(self, number: int, text: str) -> dict[str, str]:
        """Return what the named groups of a message match in an event: by name, without those that match nothing."""
        found = self.messages[number].pattern.search(text)
        return {name: value for name, value in found.groupdict().items() if value} if found else {}
