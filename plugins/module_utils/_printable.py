# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text of logs and file names in a form that can be sent and shown. Private to this collection."""

from __future__ import annotations

import re

ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]+")


def printable(text: str) -> str:
    """Return ``text`` without colours and control characters. Line breaks and tabs stay."""
    if "\x1b" in text:
        text = ANSI.sub("", text)
    return UNPRINTABLE.sub("\ufffd", text)


def shown(path: str) -> str:
    """Return a path as valid Unicode: a byte that is not UTF-8 becomes ``\\xf6``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def raw(path: str) -> str | None:
    """Return the bytes of a path in hexadecimal if ``shown`` loses some of them; else null."""
    data = path.encode("utf-8", "surrogateescape")
    return None if path.isascii() or _is_utf8(data) else data.hex()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
