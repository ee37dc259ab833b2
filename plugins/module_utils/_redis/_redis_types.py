# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types that the Redis modules share. Private to this collection."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Tuple, TypedDict, Union

# One word of a command, and a command.
Word = Union[bytes, str, int]
Command = Sequence[Word]
# A reply as hiredis parses it: bytes, int, None, a list of replies or, in a pipeline, a ReplyError.
Reply = Any

# Name -> text: the fields of INFO, or the settings of CONFIG GET.
Fields = Dict[str, str]
# The same, or the fields of a client in CLIENT LIST, whose values are bytes.
AnyFields = Mapping[str, Union[str, bytes]]

# One end of a TCP connection: the IP address, and the port.
End = Tuple[str, int]

# The keys of one prefix and type: database, prefix, type (null if TYPE is denied).
GroupKey = Tuple[int, bytes, Optional[bytes]]
# Column (``bytes``, ``ttl`` in milliseconds, ``type``) -> one answer for each name.
Answers = Mapping[str, Iterable[Any]]


class Ping(TypedDict):
    """The answer to the first PING. ``status`` is null if the ACL denies PING; ``seconds`` includes the log-in."""

    status: str | None
    message: str | None
    seconds: float


class KernelSettings(TypedDict):
    """Settings of the kernel on which Redis depends, null where unknown."""

    transparent_hugepage: str | None
    overcommit_memory: int | None


class Database(TypedDict):
    """A database that holds keys. ``expiring_count``: its keys with a time to live."""

    database: int
    key_count: int
    expiring_count: int
    average_ttl_seconds: float
