# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Format names of keys, users and clients for reports. Pure functions. Private to this collection."""

from __future__ import annotations

import hashlib

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import readable

# The name of a key can have 512 MB.
NAME_LENGTH = 200


def shown(name: bytes, length: int = NAME_LENGTH) -> str:
    """Return a name as text: unprintable characters escaped, cut, and without secrets."""
    return cut(redact(readable(name[: 4 * length])), length)


# Stands for the hash tag of a cluster in a prefix: what is between the braces names one object.
HASH_TAG = b"{*}"


def prefix_of(name: bytes, separator: bytes) -> bytes:
    """Return the prefix of a name, the part before the separator; empty if it has none.

    A hash tag is replaced: ``{user:1}:cart:5`` has the prefix ``{*}:cart``, ``{user:1}:cart`` too, ``cart{7}:5`` has
    ``cart{*}``. A part with digits and no separator after it is taken for the name of one object.
    """
    opened = name.find(b"{")
    closed = name.find(b"}", opened) if opened >= 0 else -1
    head, found, rest = name.partition(separator)
    if closed <= opened + 1 or (found and len(head) <= opened):
        return head if found else b""
    head, found, rest = (name[:opened] + HASH_TAG + name[closed + 1 :]).partition(separator)
    if found and head == HASH_TAG:
        part, more, _rest = rest.partition(separator)
        return head + separator + part if part and (more or not _has_digit(part)) else head
    return head if found or not _has_digit(head) else b""


def _has_digit(text: bytes) -> bool:
    return any(0x30 <= byte <= 0x39 for byte in text)


def key_name(name: bytes, separator: bytes, show: bool) -> str:
    """Return the name of a key as text or, if ``show`` is false, its prefix and a hash of the name."""
    if show:
        return shown(name)
    prefix = prefix_of(name, separator)
    digest = hashlib.sha256(name).hexdigest()[:12]
    return "%s#%s" % (shown(prefix + separator) if prefix else "", digest)


def is_plain(name: bytes) -> bool:
    """Return whether ``shown()`` returns the name unchanged."""
    try:
        return shown(name) == name.decode("utf-8")
    except UnicodeDecodeError:
        return False


def printf_format(name: bytes, show: bool) -> str | None:
    """Return the format with which ``printf`` of any shell prints a name that is not plain.

    Null for a plain name, and for a name that must not be shown: hidden, too long, or with a secret in it.
    """
    if not show or is_plain(name) or len(name) > NAME_LENGTH or redact(readable(name)) != readable(name):
        return None
    return "".join(chr(byte) if _is_word(byte) else "\\%03o" % byte for byte in name)


def _is_word(byte: int) -> bool:
    return byte < 0x80 and (chr(byte).isalnum() or chr(byte) in "_:.-/")
