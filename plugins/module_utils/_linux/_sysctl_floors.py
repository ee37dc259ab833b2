# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Raises kernel parameters to floors, now and for the next boot. Private to this collection.

A plan is made before anything is touched, so that check mode and the diff are exact.
"""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _kernel_parameters as kernel
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes, _sysctl
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotMeasure

GREATEST = (1 << 63) - 1
HEADER = "# Floors kept by tracktion.ops.%s. Raised only, never lowered."
READ_ONLY = (
    "%s is read-only here, as in every ordinary container: kernel parameters belong to the host and have to be "
    "raised there."
)
NAMESPACE = (
    "%s belongs to the host, and this is a container with users of its own, whose root may not set it: raise it on "
    "the host."
)


class CannotRaise(CannotMeasure):
    """The parameters cannot be raised. The message says what to do about it."""

    kind = "cannot_raise"


class Plan:
    """What has to change so that each key of ``floors`` is at least its floor.

    ``runtime`` maps keys to new values, ``text`` is the new text of the drop-in or null. ``overridden`` lists the
    settings of other files that would undo a floor at the next boot. ``skipped_reason`` says why there is nothing to
    do here: the kernel is that of the host around us. ``module`` is who keeps the drop-in. ``by_itself(key)`` is what a
    boot brings where no file sets the key, 0 where that is not known.
    """

    def __init__(self, floors, path, root, module, by_itself=lambda key: 0):
        self.floors = floors
        self.path = path
        self.root = root
        self._by_itself = by_itself
        self.runtime = {}
        self.text = None
        self.old_text = ""
        self.overridden = []
        self.skipped_reason = next((READ_ONLY % kernel.PROC for key in floors if kernel.read_only(key)), None)
        self.before = {key: self.current(key) for key in floors}
        if not self.skipped_reason:
            self.runtime = {key: floor for key, floor in floors.items() if self.before[key] < floor}
            self.skipped_reason = belongs_to_the_host(self.runtime)
        configuration = self._configuration()
        self.persisted_before = {key: persisted(configuration, key) for key in floors}
        if self.skipped_reason:
            self.runtime = {}
        self.after = {**self.before, **self.runtime}
        if not self.skipped_reason:
            configuration = self._plan_drop_in(configuration, HEADER % module)
        self.persisted_after = {key: persisted(configuration, key) for key in floors}
        self.files = {key: file_of(configuration, key) for key in floors}

    def _plan_drop_in(self, configuration, header):
        """Decide on the text of the drop-in; returns what the files will say then."""
        self.old_text = self._read_drop_in()
        # What a boot would set must lower nothing either: not the floor, and not what holds now.
        wanted = {
            key: max(floor, self.after[key])
            for key, floor in self.floors.items()
            if self._at_boot(configuration, key) < floor and not self._drop_in_holds(configuration, key, floor)
        }
        if wanted:
            self.text = _sysctl.with_values(self.old_text, wanted, header)
            configuration = self._configuration(instead={self.path: self.text})
        self.overridden = [
            overriding(configuration, key, floor, self.path)
            for key, floor in self.floors.items()
            if self._at_boot(configuration, key) < floor
        ]
        return configuration

    @property
    def changed(self):
        return bool(self.runtime) or self.text is not None

    def diff(self):
        """Runtime values and the drop-in, before and after."""
        before = "".join("%s = %d\n" % (key, self.before[key]) for key in sorted(self.runtime))
        after = "".join("%s = %d\n" % (key, self.after[key]) for key in sorted(self.runtime))
        parts = [_part("kernel", before, after)]
        if self.text is not None:
            parts.append(_part(self.path, printable(self.old_text), printable(self.text)))
        return [part for part in parts if part["before"] != part["after"]]

    def as_data(self, name_of=str):
        """The part ``raised`` of the module's result, under the names that ``name_of`` gives the keys."""

        def named(values):
            return {name_of(key): value for key, value in values.items()}

        return {
            "path": self.path,
            "before": named(self.before),
            "after": named(self.after),
            "persisted_before": named(self.persisted_before),
            "persisted_after": named(self.persisted_after),
            "files": named(self.files),
            "overridden": self.overridden,
            "skipped_reason": self.skipped_reason,
        }

    def check_possible(self):
        """Raise CannotRaise, before anything is touched, where this cannot be done."""
        for key in self.runtime:
            if not kernel.writable(key):
                raise CannotRaise("%s can be raised by root only: run this task with become: true." % key)
        if self.text is None:
            return
        if os.path.realpath(self.target) == os.devnull:
            raise CannotRaise("path: %s is a link to /dev/null, which masks it: name another file." % self.path)
        folder = kernel.existing_parent(self.target)
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            raise CannotRaise("path: %s is on a read-only file system: name a file that can be written." % folder)
        if not os.access(folder, os.W_OK):
            raise CannotRaise("path: %s is not writable for us: run this task with become: true." % folder)
        self._check_safe()

    def _check_safe(self):
        """Raise CannotRaise where another user could redirect what is written."""
        try:
            _safe_files.check_place(_sysctl.below(self.root, self.path), follow=True)
        except OSError as exc:
            raise CannotRaise("path: %s" % (exc.strerror or exc))

    @property
    def target(self):
        """The drop-in as it is called from here; a link is followed, not replaced."""
        return os.path.realpath(_sysctl.below(self.root, self.path))

    def carry_out(self, replace):
        """Raise what holds now, then write the drop-in, and look at what came of it."""
        try:
            self._raise_runtime()
            if self.text is not None:
                self._write_drop_in(replace)
        except OSError as exc:
            raise CannotRaise("path: %s cannot be written: %s" % (self.path, exc))
        self.look_again()

    def look_again(self):
        """Ask kernel and files what holds now. Returns whether that is other than before."""
        configuration = self._configuration()
        self.after = {key: self.current(key) for key in self.floors}
        self.persisted_after = {key: persisted(configuration, key) for key in self.floors}
        self.files = {key: file_of(configuration, key) for key in self.floors}
        return (self.after, self.persisted_after) != (self.before, self.persisted_before)

    def _raise_runtime(self):
        for key, value in self.runtime.items():
            try:
                kernel.write(key, value)
            except OSError as exc:
                raise CannotRaise("The kernel refused %s = %d: %s" % (key, value, exc.strerror))
            now = self.current(key)
            if now < value:
                raise CannotRaise("%s was set to %d, and the kernel says %d." % (key, value, now))

    def _write_drop_in(self, replace):
        """Write the new text beside the drop-in and hand both names to ``replace(source, destination)``."""
        directory, name = _safe_files.linked(_sysctl.below(self.root, self.path), make=True, mode=0o755)
        with directory:
            # Hidden and without .conf: no boot reads it if we die in between.
            temporary = ".%s.%d" % (name, os.getpid())
            directory.check(name)
            directory.remove(temporary)
            try:
                with os.fdopen(directory.create(temporary, 0o644), "wb") as stream:
                    stream.write(self.text.encode("utf-8", "surrogateescape"))
                    stream.flush()
                    os.fsync(stream.fileno())
                # Ansible's own way to do it keeps what SELinux says of the file; no other user can change these paths.
                replace(directory.file(temporary), directory.file(name))
                # It goes by the umask, and by the mode of the file that was there.
                os.chmod(name, 0o644, dir_fd=directory.descriptor)
            finally:
                directory.remove(temporary)

    def current(self, key):
        """What the kernel says now; null for what a container does not have."""
        try:
            return kernel.current(key)
        except kernel.Unusable as exc:
            # A container lacks many parameters of its host, which is no fault of whoever names them.
            if self.skipped_reason:
                return None
            raise BadOption("floors: %s: %s" % (key, exc))

    def _configuration(self, instead=None):
        return _sysctl.read(self.floors, self.root, instead=instead)

    def _read_drop_in(self):
        try:
            return _sysctl.text_of(_sysctl.below(self.root, self.path))
        except FileNotFoundError:
            return ""
        except OSError as exc:
            raise BadOption("path: %s cannot be read: %s" % (self.path, exc.strerror))

    def _drop_in_holds(self, configuration, key, floor):
        mine = [setting for setting in configuration.settings(key) if setting.file == self.path]
        return bool(mine) and (mine[-1].value or 0) >= floor

    def _at_boot(self, configuration, key):
        """What the next boot brings at the least: by a file, else by the kernel itself."""
        if configuration.winner(key):
            return persisted(configuration, key) or 0
        return self._by_itself(key)


def enforce(module, plan, name_of=str):
    """Carry out the plan, or in check mode only tell it; a result for exit_module()."""
    if plan.skipped_reason:
        module.warn("Nothing was raised: %s" % plan.skipped_reason)
    try:
        plan.check_possible()
        if plan.changed and not module.check_mode:
            plan.carry_out(module.atomic_move)
    except CannotRaise as exc:
        # Not what was planned: what came of it.
        return {"changed": plan.look_again(), "raised": plan.as_data(name_of), "failed": True, "msg": str(exc)}
    result = {"changed": plan.changed, "raised": plan.as_data(name_of), "diff": plan.diff()}
    if plan.overridden:
        result.update(failed=True, msg="The floors would not survive a reboot: %s." % "; ".join(plan.overridden))
    return result


def named_floors(asked):
    """Floors by key, out of what the option ``floors`` says. Raises BadOption."""
    if not asked:
        raise BadOption("floors: names no parameter")
    floors = {}
    for name, floor in asked.items():
        try:
            key = kernel.normal(str(name))
        except kernel.Unusable as exc:
            raise BadOption("floors: %s: %s" % (name, exc))
        number = None if isinstance(floor, (bool, float)) else _sysctl.whole_number(str(floor))
        if number is None or not 1 <= number <= GREATEST:
            raise BadOption("floors: %s: %s is not a whole number between 1 and %d" % (name, floor, GREATEST))
        if key in floors:
            raise BadOption("floors: %s is named twice, in two spellings" % key)
        floors[key] = number
    return floors


def belongs_to_the_host(keys):
    """Why root of a user namespace cannot raise these, null where that is not the matter."""
    foreign = next((key for key in keys if not kernel.writable(key)), None)
    if foreign and os.geteuid() == 0 and not _processes.in_initial_user_namespace():
        return NAMESPACE % foreign
    return None


def persisted(configuration, key):
    winner = configuration.winner(key)
    return winner.value if winner else None


def file_of(configuration, key):
    winner = configuration.winner(key)
    return winner.file if winner else None


def overriding(configuration, key, floor, path):
    """Why a floor would not survive the next boot, and what to do about it."""
    winner = configuration.winner(key)
    if winner is None or winner.file == path:
        return "%s: %s is not among the files read at boot" % (key, path)
    return "%s: line %d of %s sets %s, and is read after %s; remove that line, or raise it to %d" % (
        key,
        winner.line,
        winner.file,
        "no whole number" if winner.value is None else winner.value,
        path,
        floor,
    )


def printable(text):
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _part(header, before, after):
    return {"before_header": header, "after_header": header, "before": before, "after": after}
