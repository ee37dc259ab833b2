# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the file that sets a kernel parameter at boot. Private to this collection.

The rules are those of sysctl.d(5), which systemd-sysctl and ``sysctl --system`` (procps) share: of files with the same
name, the one in the first directory counts; files are read in the order of their names, whatever their directory; the
last assignment wins; an assignment by name wins over one by pattern. They differ in /etc/sysctl.conf: procps reads it
after all other files; systemd-sysctl does not, unless a link in /etc/sysctl.d leads to it. They differ in a line with a
dash and without a value, too: for systemd-sysctl it withdraws earlier assignments of the key.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from typing import Iterable, Mapping, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
CONF = "/etc/sysctl.conf"
SYSTEMD = "systemd-sysctl"
PROCPS = "sysctl --system"
MAX_BYTES = 1 << 20
LINE_LENGTH = 120
# Numbers as the kernel reads them: decimal, octal after 0, hexadecimal after 0x.
NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
# The directory of the files of the administrator.
OF_ADMINISTRATOR = "/etc/"


class Problem(TypedDict):
    """A line that cannot be used, or (with ``line`` and ``text`` null) a file that cannot be read."""

    file: str
    line: int | None
    text: str | None
    reason: str


class Setting:
    """One line of a file that sets one of the requested keys; ``value`` is null if it is not a whole number."""

    __slots__ = ("file", "key", "line", "value")

    def __init__(self, key: str, value: int | None, file: str, line: int) -> None:
        self.key = key
        self.value = value
        self.file = file
        self.line = line

    def as_result(self) -> Part:
        """Return the entry of a result: ``file``, ``line`` (from 1) and ``value``."""
        return {"file": self.file, "line": self.line, "value": self.value}


class Configuration:
    """The settings of some keys in all files. ``broken`` lists invalid lines, ``unreadable`` unreadable files."""

    def __init__(self, keys: Iterable[str], reader: str = PROCPS) -> None:
        self._keys = tuple(keys)
        self._reader = reader
        self._named: dict[str, list[Setting]] = {key: [] for key in self._keys}
        self._patterns: list[Setting] = []
        # Key -> number of its assignments before the last line that excludes it.
        self._excluded: dict[str, int] = {}
        self.broken: list[Problem] = []
        self.unreadable: list[Problem] = []

    @property
    def keys(self) -> tuple[str, ...]:
        """The requested keys."""
        return self._keys

    def settings(self, key: str) -> list[Setting]:
        """Return every assignment by name of ``key``, in the order in which they are read at boot."""
        return list(self._named[key])

    def winner(self, key: str) -> Setting | None:
        """Return the assignment that is in effect after a boot, or null."""
        withdrawn = self._excluded.get(key, 0) if self._reader == SYSTEMD else 0
        if self._named[key][withdrawn:]:
            return self._named[key][-1]
        if key in self._excluded:
            return None
        matching = [setting for setting in self._patterns if matches(setting.key, key)]
        return matching[-1] if matching else None

    def describe(self, key: str) -> Part:
        """Return the fields that a module reports about the files that set ``key``."""
        winner = self.winner(key)
        values = [setting.value for setting in self._named[key] if setting.value is not None]
        return {
            "persisted": winner.value if winner else None,
            "file": winner.file if winner else None,
            "line": winner.line if winner else None,
            "by_pattern": bool(winner and winner.key != key),
            "highest_persisted": max(values, default=None),
            "settings": [setting.as_result() for setting in self._named[key]],
        }

    def read(self, file: str, text: str) -> None:
        """Add the settings in the text of a file."""
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip()
            if line and line[0] not in "#;":
                self._read_line(file, number, line)

    def _read_line(self, file: str, number: int, line: str) -> None:
        key, equals, value = line.partition("=")
        optional = key.startswith("-")
        key = dotted(key[1:] if optional else key)
        if not equals and not optional:
            self._add_broken(file, number, line, "it is not an assignment")
        elif not key or (equals and any(character.isspace() for character in key)):
            self._add_broken(file, number, line, "it does not name a kernel parameter")
        elif not equals:
            self._excluded[key] = len(self._named.get(key, ()))
        elif key in self._named or any(character in key for character in "*?["):
            setting = Setting(key, whole_number(value), file, number)
            if key in self._named:
                self._named[key].append(setting)
            elif any(matches(key, requested) for requested in self._keys):
                self._patterns.append(setting)
            else:
                return
            if setting.value is None:
                self._add_broken(file, number, line, "the value is not a whole number")

    def _add_broken(self, file: str, number: int, line: str, reason: str) -> None:
        self.broken.append({"file": file, "line": number, "text": cut(line, LINE_LENGTH), "reason": reason})


def read(
    keys: Iterable[str], root: str = "/", reader: str | None = None, instead: Mapping[str, str] | None = None
) -> Configuration:
    """Read the settings of ``keys`` from the files below ``root``.

    ``reader`` is the program that reads them at boot, by default that of ``boot_reader``. ``instead`` maps files to the
    text that is used in place of their content, to see the effect of a file that is not written yet. File names are
    relative to ``root`` and absolute in form.
    """
    instead = instead or {}
    reader = reader or boot_reader(root)
    found = Configuration(keys, reader)
    for name in files(root, reader, instead):
        if name in instead:
            found.read(name, instead[name])
            continue
        try:
            found.read(name, read_text(under_root(root, name)))
        except OSError as exc:
            # A dangling link masks other files like an empty file.
            if exc.errno != errno.ENOENT:
                reason = exc.strerror or str(exc)
                found.unreadable.append({"file": name, "line": None, "text": None, "reason": reason})
    return found


def files(root: str, reader: str, more: Iterable[str] = ()) -> list[str]:
    """Return the files that are read at boot, in order. The files in ``more`` are treated as existing."""
    more = tuple(more)
    first: dict[str, str] = {}
    for directory in DIRECTORIES:
        try:
            names = os.listdir(under_root(root, directory))
        except OSError:
            names = []
        names += [os.path.basename(name) for name in more if os.path.dirname(name) == directory]
        for name in names:
            if name.endswith(".conf") and not name.startswith("."):
                first.setdefault(name, "%s/%s" % (directory, name))
    order = [first[name] for name in sorted(first)]
    if reader == PROCPS and (CONF in more or os.path.exists(under_root(root, CONF))):
        order.append(CONF)
    return order


def unread(keys: Iterable[str], root: str, reader: str) -> list[Setting]:
    """Return the settings of ``keys`` in files of the administrator that no boot reads, in the order of their names.

    These are /etc/sysctl.conf for systemd-sysctl, unless a link leads to it, and files in /etc/sysctl.d whose names do
    not end in .conf.
    """
    directory = DIRECTORIES[0]
    try:
        listed = sorted(os.listdir(under_root(root, directory)))
    except OSError:
        listed = []
    names = ["%s/%s" % (directory, name) for name in listed if not name.endswith(".conf") and name != "README"]
    read_at_boot = {os.path.realpath(under_root(root, name)) for name in files(root, reader)}
    found = Configuration(keys)
    for name in [*names, CONF]:
        path = under_root(root, name)
        if os.path.realpath(path) not in read_at_boot:
            try:
                found.read(name, read_text(path))
            except OSError:
                continue
    return [setting for key in found.keys for setting in found.settings(key)]


def file_read_after(file: str) -> str:
    """Return the name of a drop-in of the administrator that is read after a file of sysctl.d."""
    return "%s/%s_local.conf" % (DIRECTORIES[0], os.path.basename(file)[: -len(".conf")])


def boot_reader(root: str = "/") -> str:
    """Return the program that reads the files at boot, ``SYSTEMD`` or ``PROCPS``."""
    running = os.path.isdir(under_root(root, "/run/systemd/system"))
    # In a mounted root file system, nothing runs.
    installed = root != "/" and os.path.exists(under_root(root, "/usr/lib/systemd/systemd-sysctl"))
    return SYSTEMD if running or installed else PROCPS


def under_root(root: str, path: str) -> str:
    """Return the path from here of the file that is ``path`` below ``root``."""
    return os.path.join(root, path.lstrip("/"))


def read_text(path: str) -> str:
    """Return the text of a regular file; bytes that are not UTF-8 are kept. Raises OSError."""
    # A link to /dev/null masks files of the same name.
    if os.path.realpath(path) == os.devnull:
        return ""
    return _safe_files.read_regular(path, MAX_BYTES).decode("utf-8", "surrogateescape")


def dotted(key: str) -> str:
    """Return a key with dots as separators. If its first separator is a slash, dots and slashes are exchanged."""
    key = key.strip()
    first = next((character for character in key if character in "./"), ".")
    return key.translate(str.maketrans("./", "/.")) if first == "/" else key


def matches(pattern: str, key: str) -> bool:
    """Return whether a pattern matches a key. As in a path, ``*`` does not match a separator."""
    patterns, parts = pattern.split("."), key.split(".")
    return len(patterns) == len(parts) and all(map(fnmatch.fnmatchcase, parts, patterns))


def whole_number(text: str) -> int | None:
    """Return the number in the text of a setting, as the kernel reads it; null for other text."""
    text = text.strip()
    if not NUMBER.fullmatch(text):
        return None
    digits = text.lstrip("+-")
    is_octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
    return int(text, 8 if is_octal else 0)


def set_values(text: str, values: Mapping[str, int], header: str) -> str:
    """Return ``text`` with each key of ``values`` assigned once: in place of its last assignment, else at the end.

    Other lines are kept. An empty file starts with ``header``.
    """
    lines = text.rstrip("\n").split("\n") if text else [header]
    for key, value in values.items():
        assignment = "%s = %d" % (key, value)
        found = [number for number, line in enumerate(lines) if _assigns(line, key)]
        if found:
            lines[found[-1]] = assignment
            for number in reversed(found[:-1]):
                del lines[number]
        else:
            lines.append(assignment)
    return "\n".join(lines) + "\n"


def _assigns(line: str, key: str) -> bool:
    line = line.strip()
    name, equals, _value = line.partition("=")
    return bool(equals) and line[0] not in "#;" and dotted(name.lstrip("-")) == key
