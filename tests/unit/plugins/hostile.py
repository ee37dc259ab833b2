# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text that does harm where a terminal shows it as it is."""

from __future__ import annotations

import re
import sys
import unicodedata

BAD = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
# All of the kinds of which there are few, and every so many of the private and unassigned ones.
CHARACTERS = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if (kind := unicodedata.category(chr(code))) in BAD and (kind not in ("Co", "Cn", "Cs") or code % 1999 == 0)
] + list("\udc80\ud800\u034f\u115f\u3164\u2800\ufe0f\U000e0100")
COLOUR = re.compile("\033\\[(?:1;3[1-6]|0)m")
FORGED = "FORGED"
# Each attempt to begin a line, alone and after a carriage return, and everything else in between.
TEXT = "a\n%s\r%s\n  %s" % (FORGED, FORGED, FORGED) + "".join(CHARACTERS) + "z" + "\u0301" * 50


def unsafe(text: str) -> set[str]:
    """Return the characters of a text that a terminal obeys or hides; line breaks and our colours are none."""
    text = COLOUR.sub("", text).replace("\n", "")
    found = {character for character in set(text) if unicodedata.category(character) in BAD}
    return found | (set("\u034f\u115f\u3164\u2800\ufe0f\U000e0100") & set(text)) | set(re.findall("\u0301{5,}", text))
