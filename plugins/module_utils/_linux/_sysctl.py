# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file sets a kernel parameter when the machine boots. Private to this collection.

The rules are those of sysctl.d(5), which systemd-sysctl and ``sysctl --system`` (procps) share: of files with the
same name the one in the first directory counts, files are read in the order of their names whatever their directory,
the last assignment wins, an assignment by name wins over one by a pattern. They differ in /etc/sysctl.conf: procps
reads it, after everything else; systemd-sysctl does not, unless a link in /etc/sysctl.d leads to it.
"""

from __future__ import annotations

import errno
import fnmatch
import os

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut

DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
CONF = "/etc/sysctl.conf"
SYSTEMD = "systemd-sysctl"
PROCPS = "sysctl --system"
MAX_BYTES = 1 << 20
LINE_LENGTH = 120


class Setting:
    """One line of one file that sets a key we ask about: ``value`` is a whole number, null where it is none."""

    __slots__ = ("file", "key", "line", "value")

    def __init__(self, key, value, file, line):
        self.key = key
        self.value = value
        self.file = file
        self.line = line

    def as_data(self):
        return {"file": self.file, "line": self.line, "value": self.value}


class Configuration:
    """What the files say about some keys.

    ``broken`` lists the lines that cannot be used and ``unreadable`` the files that could not be read, both as
    ``{file, line, text, reason}``.
    """

    def __init__(self, keys):
        self._keys = tuple(keys)
        self._named = {key: [] for key in keys}
        self._patterns = []
        self._excluded = set()
        self.broken = []
        self.unreadable = []

    def settings(self, key):
        """Every assignment by name of ``key``, in the order they are read at boot."""
        return list(self._named[key])

    def winner(self, key):
        """The assignment that stands at the end of a boot, or null."""
        if self._named[key]:
            return self._named[key][-1]
        if key in self._excluded:
            return None
        matching = [setting for setting in self._patterns if matches(setting.key, key)]
        return matching[-1] if matching else None

    def describe(self, key):
        """What a module returns about the files that set ``key``."""
        winner = self.winner(key)
        values = [setting.value for setting in self._named[key] if setting.value is not None]
        return {
            "persisted": winner.value if winner else None,
            "file": winner.file if winner else None,
            "line": winner.line if winner else None,
            "highest_persisted": max(values, default=None),
            "settings": [setting.as_data() for setting in self._named[key]],
        }

    def read(self, file, text):
        """Take in the text of a file."""
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip()
            if line and line[0] not in "#;":
                self._read_line(file, number, line)

    def _read_line(self, file, number, line):
        key, equals, value = line.partition("=")
        optional = key.startswith("-")
        key = dotted(key[1:] if optional else key)
        if not equals and not optional:
            self._break(file, number, line, "it is not an assignment")
        elif not key or (equals and any(character.isspace() for character in key)):
            self._break(file, number, line, "it does not name a kernel parameter")
        elif not equals:
            self._excluded.add(key)
        elif key in self._named or any(character in key for character in "*?["):
            setting = Setting(key, whole_number(value), file, number)
            if key in self._named:
                self._named[key].append(setting)
            elif any(matches(key, ours) for ours in self._keys):
                self._patterns.append(setting)
            else:
                return
            if setting.value is None:
                self._break(file, number, line, "the value is not a whole number")

    def _break(self, file, number, line, reason):
        self.broken.append({"file": file, "line": number, "text": cut(line, LINE_LENGTH), "reason": reason})


def read(keys, root="/", reader=None, instead=None):
    """The configuration that ``reader`` (see ``boot_reader``) finds below ``root``.

    ``instead`` maps a file to the text it is to be taken for: what a file that is not written yet would change.
    File names are given as they are called below ``root``.
    """
    instead = instead or {}
    found = Configuration(keys)
    for name in files(root, reader or boot_reader(root), instead):
        if name in instead:
            found.read(name, instead[name])
            continue
        try:
            found.read(name, text_of(below(root, name)))
        except OSError as exc:
            # A dangling link masks as an empty file does.
            if exc.errno != errno.ENOENT:
                found.unreadable.append({"file": name, "line": None, "text": None, "reason": exc.strerror})
    return found


def files(root, reader, more=()):
    """The files that are read at boot, in their order. ``more`` names files to be taken for existing."""
    first = {}
    for directory in DIRECTORIES:
        try:
            names = os.listdir(below(root, directory))
        except OSError:
            names = []
        names += [os.path.basename(name) for name in more if os.path.dirname(name) == directory]
        for name in names:
            if name.endswith(".conf") and not name.startswith("."):
                first.setdefault(name, "%s/%s" % (directory, name))
    order = [first[name] for name in sorted(first)]
    if reader == PROCPS and (CONF in more or os.path.exists(below(root, CONF))):
        order.append(CONF)
    return order


def boot_reader(root="/"):
    """Which of the two reads the files at boot."""
    running = os.path.isdir(below(root, "/run/systemd/system"))
    # Nothing runs in a mounted image.
    installed = root != "/" and os.path.exists(below(root, "/usr/lib/systemd/systemd-sysctl"))
    return SYSTEMD if running or installed else PROCPS


def below(root, path):
    """``path`` as it is called from outside of ``root``."""
    return os.path.join(root, path.lstrip("/"))


def text_of(path):
    """The text of a file; bytes that are not UTF-8 survive a rewrite. Raises OSError, also for what is no file."""
    # A link to it masks a file of the same name.
    if os.path.realpath(path) == os.devnull:
        return ""
    return _safe_files.read_regular(path, MAX_BYTES).decode("utf-8", "surrogateescape")


def dotted(key):
    """A key with dots as separators. Where the first separator is a slash, dots and slashes trade places."""
    key = key.strip()
    first = next((character for character in key if character in "./"), ".")
    return key.translate(str.maketrans("./", "/.")) if first == "/" else key


def matches(pattern, key):
    """Whether a pattern means a key. As in a path, ``*`` stops at the separator."""
    patterns, parts = pattern.split("."), key.split(".")
    return len(patterns) == len(parts) and all(map(fnmatch.fnmatchcase, parts, patterns))


def whole_number(text):
    try:
        return int(text.strip())
    except ValueError:
        return None


def with_values(text, values, header):
    """``text`` with each key of ``values`` set once: in the place of its last assignment, else at the end.

    Everything else in the file stays as it is. ``header`` opens a file that was empty.
    """
    lines = text.rstrip("\n").split("\n") if text else [header]
    for key, value in values.items():
        assignment = "%s = %d" % (key, value)
        places = [number for number, line in enumerate(lines) if _assigns(line, key)]
        if places:
            lines[places[-1]] = assignment
            for number in reversed(places[:-1]):
                del lines[number]
        else:
            lines.append(assignment)
    return "\n".join(lines) + "\n"


def _assigns(line, key):
    line = line.strip()
    name, equals, _value = line.partition("=")
    return bool(equals) and line[0] not in "#;" and dotted(name.lstrip("-")) == key
