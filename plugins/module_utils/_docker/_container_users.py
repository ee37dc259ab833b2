# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The user and the groups that a container runs as, also by name. Private to this collection.

Names are those of /etc/passwd and /etc/group in the container, read from the layers of its image, also while it is
down.
"""

from __future__ import annotations

import os
from typing import Any, Iterator, Mapping, NamedTuple

MAX_BYTES = 1 << 20
MAX_LAYERS = 128


class User(NamedTuple):
    """A user by number, with all groups."""

    uid: int
    gids: frozenset[int]


def user_of(data: Mapping[str, Any]) -> User | None:
    """Return the user of the container with this inspection; null if its name cannot be resolved from here."""
    name, _colon, group = ((data.get("Config") or {}).get("User") or "0").partition(":")
    added = (data.get("HostConfig") or {}).get("GroupAdd") or []
    if name.isdigit() and group.isdigit() and all(each.isdigit() for each in added):
        return User(int(name), frozenset(int(each) for each in (group, *added)))
    roots = list(layers(data))
    users = fields(roots, "passwd")
    groups = fields(roots, "group")
    if name.isdigit():
        # The group of a user without an entry is that of root.
        row = next((row for row in users or [] if row[2] == name), ["", "", name, "0"])
    else:
        found = next((row for row in users or [] if row[0] == name), None)
        if found is None:
            return None
        row = found
    gids = {number_of(group, groups)} if group else {number_of(row[3], groups)}
    gids |= {number_of(each, groups) for each in added}
    if not group:
        gids |= {number_of(each[2], groups) for each in groups or [] if row[0] and row[0] in each[3].split(",")}
    numbers = frozenset(each for each in gids if each is not None)
    return User(int(row[2]), numbers) if len(numbers) == len(gids) and row[2].isdigit() else None


def number_of(group: str, groups: list[list[str]] | None) -> int | None:
    """Return the number of a group, given by name or number; null if ``groups`` (rows of /etc/group) lack it."""
    if group.isdigit():
        return int(group)
    number = next((row[2] for row in groups or [] if row[0] == group), "")
    return int(number) if number.isdigit() else None


def layers(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the directories that make up the files of a container, the one that wins first."""
    stored = (data.get("GraphDriver") or {}).get("Data") or {}
    if stored.get("UpperDir"):
        yield stored["UpperDir"]
        yield from (stored.get("LowerDir") or "").split(":")[:MAX_LAYERS]
    pid = (data.get("State") or {}).get("Pid")
    if pid:
        yield "/proc/%d/root" % pid


def fields(roots: list[str], name: str) -> list[list[str]] | None:
    """Return the rows of a file in /etc of the container; null if it cannot be read."""
    for root in roots:
        text = read(root, name)
        if text is not None:
            rows = [line.split(":") for line in text.splitlines()]
            return [row for row in rows if len(row) >= 4]
    return None


def read(root: str, name: str) -> str | None:
    """Return a file in /etc below ``root``. Links are not followed: they would lead to files of the host."""
    try:
        directory = os.open(os.path.join(root, "etc"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        finally:
            os.close(directory)
        with os.fdopen(file, encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_BYTES)
    except OSError:
        return None
