# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Raises inotify limits to floors, now and for the next boot. Private to this collection.

A plan is made before anything is touched, so that check mode and the diff are exact.
"""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils import _inotify, _sysctl
from ansible_collections.tracktion.ops.plugins.module_utils._inotify_limits import (
    kernel_default,
    key_of,
    read_configuration,
    total_memory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption

GREATEST = (1 << 31) - 1
HEADER = "# Floors for file watching, kept by tracktion.ops.inotify_limits. Raised only, never lowered."


class CannotRaise(Exception):
    """The limits cannot be raised here. ``harmless`` means that there is nothing to do here: the host has to do it."""

    def __init__(self, message, harmless=False):
        super().__init__(message)
        self.harmless = harmless


class Plan:
    """What has to change: ``runtime`` maps limits to new values, ``text`` is the drop-in's new text or null.

    ``overridden`` lists the settings of other files that would undo a floor at the next boot.
    """

    def __init__(self, options):
        self.path = options["path"]
        self.root = options["sysctl_root"]
        floors = check_floors(options)
        configuration = read_configuration(options)
        self.before = {name: _inotify.limit(name) for name in floors}
        self.persisted_before = {name: persisted(configuration, name) for name in floors}
        self.runtime = {name: floor for name, floor in floors.items() if self.before[name] < floor}
        self.after = {**self.before, **self.runtime}
        self.old_text = self._read_drop_in()
        # What a boot would set must lower nothing either: not the floor, and not what holds now.
        wanted = {
            name: max(floor, self.after[name])
            for name, floor in floors.items()
            if at_boot(configuration, name) < floor and not self._drop_in_holds(configuration, name, floor)
        }
        self.text = None
        if wanted:
            values = {key_of(name): value for name, value in wanted.items()}
            self.text = _sysctl.with_values(self.old_text, values, HEADER)
            configuration = read_configuration(options, instead={self.path: self.text})
        self.persisted_after = {name: persisted(configuration, name) for name in floors}
        self.overridden = [
            overriding(configuration, name, floor, self.path)
            for name, floor in floors.items()
            if at_boot(configuration, name) < floor
        ]

    @property
    def changed(self):
        return bool(self.runtime) or self.text is not None

    def diff(self):
        """Runtime values and the drop-in, before and after."""
        before, after = [], []
        for name in sorted(self.runtime):
            before.append("%s = %d" % (key_of(name), self.before[name]))
            after.append("%s = %d" % (key_of(name), self.after[name]))
        parts = [_part("kernel", _lines(before), _lines(after))]
        if self.text is not None:
            parts.append(_part(self.path, printable(self.old_text), printable(self.text)))
        return [part for part in parts if part["before"] != part["after"]]

    def check_possible(self):
        """Raise CannotRaise, before anything is touched, where this cannot be done."""
        if not self.changed:
            return
        if os.statvfs(_inotify.LIMITS_DIRECTORY).f_flag & os.ST_RDONLY:
            raise CannotRaise(
                "%s is read-only here, as in every ordinary container: inotify limits belong to the host "
                "and have to be raised there." % _inotify.LIMITS_DIRECTORY,
                harmless=True,
            )
        for name in self.runtime:
            if not os.access("%s/%s" % (_inotify.LIMITS_DIRECTORY, name), os.W_OK):
                raise CannotRaise("%s can be raised by root only: run this task with become: true." % key_of(name))
        if self.text is not None:
            if os.path.realpath(self.target) == os.devnull:
                raise CannotRaise("path: %s is a link to /dev/null, which masks it: name another file." % self.path)
            folder = existing_parent(self.target)
            if not os.access(folder, os.W_OK):
                raise CannotRaise("path: %s is not writable for us: run this task with become: true." % folder)

    @property
    def target(self):
        """The drop-in as it is called from here; a link is followed, not replaced."""
        return os.path.realpath(_sysctl.below(self.root, self.path))

    def raise_runtime(self):
        """Raise what holds now, and ask the kernel what it made of it."""
        for name, value in self.runtime.items():
            try:
                with open("%s/%s" % (_inotify.LIMITS_DIRECTORY, name), "w", encoding="utf-8") as stream:
                    stream.write("%d\n" % value)
            except OSError as exc:
                raise CannotRaise("The kernel refused %s = %d: %s" % (key_of(name), value, exc)) from exc
            now = _inotify.limit(name)
            if now < value:
                raise CannotRaise("%s was set to %d, and the kernel says %d." % (key_of(name), value, now))

    def write_drop_in(self, replace):
        """Write the new text beside the drop-in and hand both names to ``replace(source, destination)``."""
        folder, name = os.path.split(self.target)
        os.makedirs(folder, mode=0o755, exist_ok=True)
        # Hidden and without .conf: no boot reads it if we die in between.
        temporary = os.path.join(folder, ".%s.%d" % (name, os.getpid()))
        try:
            with open(temporary, "wb") as stream:
                stream.write(self.text.encode("utf-8", "surrogateescape"))
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            replace(temporary, self.target)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)

    def _read_drop_in(self):
        try:
            return _sysctl.text_of(_sysctl.below(self.root, self.path))
        except FileNotFoundError:
            return ""
        except OSError as exc:
            raise BadOption("path: %s cannot be read: %s" % (self.path, exc.strerror)) from exc

    def _drop_in_holds(self, configuration, name, floor):
        mine = [setting for setting in configuration.settings(key_of(name)) if setting.file == self.path]
        return bool(mine) and (mine[-1].value or 0) >= floor


def check_floors(options):
    floors = {name: options[name] for name in _inotify.LIMITS if options.get(name) is not None}
    if not floors:
        raise BadOption("state=raised needs at least one of the floors %s" % ", ".join(_inotify.LIMITS))
    for name, floor in floors.items():
        if not 1 <= floor <= GREATEST:
            raise BadOption("%s: %d is not between 1 and %d" % (name, floor, GREATEST))
    return floors


def persisted(configuration, name):
    winner = configuration.winner(key_of(name))
    return winner.value if winner else None


def at_boot(configuration, name):
    """What the next boot brings at the least: by a file, else by the kernel itself."""
    if configuration.winner(key_of(name)):
        return persisted(configuration, name) or 0
    return kernel_default(name, 0, total_memory()) or 0


def overriding(configuration, name, floor, path):
    """Why a floor would not survive the next boot, and what to do about it."""
    winner = configuration.winner(key_of(name))
    if winner is None or winner.file == path:
        return "%s: %s is not among the files read at boot" % (key_of(name), path)
    return "%s: line %d of %s sets %s, and is read after %s; remove that line, or raise it to %d" % (
        key_of(name),
        winner.line,
        winner.file,
        winner.value,
        path,
        floor,
    )


def existing_parent(path):
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def printable(text):
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _part(header, before, after):
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def _lines(lines):
    return "".join(line + "\n" for line in lines)
