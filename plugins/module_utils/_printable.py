# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others wrote, as a terminal may show it. Private to this collection."""

from __future__ import annotations

import re

ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]+")


def printable(text):
    """``text`` without colours and without what a terminal would obey. Ends of lines and tabs stay."""
    if "\x1b" in text:
        text = ANSI.sub("", text)
    return UNPRINTABLE.sub("\ufffd", text)
