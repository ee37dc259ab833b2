# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Raises kernel parameters to floors, now and for the next boot. Private to this collection.

The plan is complete before anything is changed, so that check mode and the diff are exact.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Iterable, Mapping, Optional

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _kernel_parameters as kernel
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes, _sysctl
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotMeasure
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

GREATEST = (1 << 63) - 1
HEADER = "# Floors kept by tracktion.ops.%s. Raised only, never lowered."
READ_ONLY = (
    "%s is read-only here, as in every ordinary container: kernel parameters belong to the host. Raise them there."
)
NAMESPACE = "root of this user namespace may not set %s, which belongs to the host: raise it on the host."

# Key -> value, null if the kernel has no such parameter or no file sets it.
Values = Dict[str, Optional[int]]


class CannotRaise(CannotMeasure):
    """The parameters cannot be raised. The message says how to correct that."""

    kind = "cannot_raise"


class Plan:
    """The changes that bring each key of ``floors`` to its floor.

    ``runtime`` maps keys to new values. ``text`` is the new text of the drop-in ``path``, null if it stays as it is.
    ``overridden`` lists the settings of other files that would undo a floor at the next boot. ``skipped_reason`` says
    why nothing can be changed here: the kernel belongs to the host of this container. ``module`` is named in the
    drop-in. ``kernel_default(key)`` returns the value after a boot if no file sets the key, 0 if that is not known.
    """

    def __init__(
        self,
        floors: Mapping[str, int],
        path: str,
        root: str,
        module: str,
        kernel_default: Callable[[str], int] = lambda key: 0,
    ) -> None:
        self.floors = floors
        self.path = path
        self.root = root
        self._kernel_default = kernel_default
        self.runtime: dict[str, int] = {}
        self.text: str | None = None
        self.old_text = ""
        self.overridden: list[str] = []
        self.skipped_reason = next((READ_ONLY % kernel.PROC for key in floors if kernel.read_only(key)), None)
        self.before: Values = {key: self.current(key) for key in floors}
        if not self.skipped_reason:
            self.runtime = {key: floor for key, floor in floors.items() if (self.before[key] or 0) < floor}
            self.skipped_reason = _namespace_reason(self.runtime)
        configuration = self._configuration()
        self.persisted_before = self._persisted(configuration)
        if self.skipped_reason:
            self.runtime = {}
        self.after: Values = {**self.before, **self.runtime}
        if not self.skipped_reason:
            configuration = self._plan_drop_in(configuration, HEADER % module)
        self.persisted_after = self._persisted(configuration)
        self.files = self._files(configuration)

    def _plan_drop_in(self, configuration: _sysctl.Configuration, header: str) -> _sysctl.Configuration:
        """Set the text of the drop-in; return the configuration with that text."""
        self.old_text = self._read_drop_in()
        # A boot must lower neither the floor nor the current value.
        wanted = {
            key: max(floor, self.after[key] or 0)
            for key, floor in self.floors.items()
            if self._value_at_boot(configuration, key) < floor and not self._drop_in_holds(configuration, key, floor)
        }
        if wanted:
            self.text = _sysctl.set_values(self.old_text, wanted, header)
            configuration = self._configuration(instead={self.path: self.text})
        self.overridden = [
            _override(configuration, key, floor, self.path)
            for key, floor in self.floors.items()
            if self._value_at_boot(configuration, key) < floor
        ]
        return configuration

    @property
    def changed(self) -> bool:
        """Whether the running kernel or the drop-in is to be changed."""
        return bool(self.runtime) or self.text is not None

    def diff(self) -> list[dict[str, str]]:
        """Return the runtime values and the drop-in, before and after."""
        before = "".join("%s = %d\n" % (key, self.before[key] or 0) for key in sorted(self.runtime))
        after = "".join("%s = %d\n" % (key, self.runtime[key]) for key in sorted(self.runtime))
        parts = [_diff_part("kernel", before, after)]
        if self.text is not None:
            parts.append(_diff_part(self.path, _printable(self.old_text), _printable(self.text)))
        return [part for part in parts if part["before"] != part["after"]]

    def as_result(self, name_of: Callable[[str], str] = str) -> Part:
        """Return the part ``raised`` of the module's result. ``name_of`` maps a key to its name in the result."""

        def named(values: Mapping[str, Any]) -> Part:
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

    def check_possible(self) -> None:
        """Raise CannotRaise, before anything is changed, if the plan cannot be applied."""
        for key in self.runtime:
            if not kernel.writable(key):
                raise CannotRaise("%s can be raised by root only: run this task with become: true." % key)
        if self.text is None:
            return
        if os.path.realpath(self.target) == os.devnull:
            raise CannotRaise("path: %s is a link to /dev/null, which masks it: use another file." % self.path)
        folder = kernel.existing_parent(self.target)
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            raise CannotRaise("path: %s is on a read-only file system: use a file that can be written." % folder)
        if not os.access(folder, os.W_OK):
            raise CannotRaise("path: %s is not writable by this user: run this task with become: true." % folder)
        # Another user must not be able to redirect the write.
        try:
            _safe_files.check_place(_sysctl.under_root(self.root, self.path), follow=True)
        except OSError as exc:
            raise CannotRaise("path: %s" % (exc.strerror or exc))

    @property
    def target(self) -> str:
        """The path of the drop-in from here. A link is followed, not replaced."""
        return os.path.realpath(_sysctl.under_root(self.root, self.path))

    def apply(self, replace: Callable[[str, str], object]) -> None:
        """Raise the runtime values, then write the drop-in, then read both back. Raises CannotRaise."""
        try:
            self._raise_runtime()
            if self.text is not None:
                self._write_drop_in(self.text, replace)
        except OSError as exc:
            raise CannotRaise("path: %s cannot be written: %s" % (self.path, exc))
        self.reread()

    def reread(self) -> bool:
        """Read the current values of kernel and files. Return whether any differs from before."""
        configuration = self._configuration()
        self.after = {key: self.current(key) for key in self.floors}
        self.persisted_after = self._persisted(configuration)
        self.files = self._files(configuration)
        return (self.after, self.persisted_after) != (self.before, self.persisted_before)

    def _raise_runtime(self) -> None:
        for key, value in self.runtime.items():
            try:
                kernel.write(key, value)
            except OSError as exc:
                raise CannotRaise("The kernel rejected %s = %d: %s" % (key, value, exc.strerror))
            now = self.current(key) or 0
            if now < value:
                raise CannotRaise("%s was set to %d, but the kernel reports %d." % (key, value, now))

    def _write_drop_in(self, text: str, replace: Callable[[str, str], object]) -> None:
        """Write the text to a temporary file beside the drop-in and call ``replace(source, destination)``."""
        directory, name = _safe_files.linked(_sysctl.under_root(self.root, self.path), make=True, mode=0o755)
        with directory:
            # Hidden and without .conf: no boot reads it if this process is killed before the rename.
            temporary = ".%s.%d" % (name, os.getpid())
            directory.check(name)
            directory.remove(temporary)
            try:
                with os.fdopen(directory.create(temporary, 0o644), "wb") as stream:
                    stream.write(text.encode("utf-8", "surrogateescape"))
                    stream.flush()
                    os.fsync(stream.fileno())
                # Ansible's atomic_move() keeps the SELinux context. No other user can change these paths.
                replace(directory.file(temporary), directory.file(name))
                # atomic_move() applies the umask, or the mode of the previous file.
                os.chmod(name, 0o644, dir_fd=directory.descriptor)
            finally:
                directory.remove(temporary)

    def current(self, key: str) -> int | None:
        """Return the current value in the kernel; null for a parameter that this container does not have."""
        try:
            return kernel.current(key)
        except kernel.InvalidParameter as exc:
            # A container lacks many parameters of its host.
            if self.skipped_reason:
                return None
            raise BadOption("floors: %s: %s" % (key, exc))

    def _configuration(self, instead: Mapping[str, str] | None = None) -> _sysctl.Configuration:
        return _sysctl.read(self.floors, self.root, instead=instead)

    def _read_drop_in(self) -> str:
        try:
            return _sysctl.read_text(_sysctl.under_root(self.root, self.path))
        except FileNotFoundError:
            return ""
        except OSError as exc:
            raise BadOption("path: %s cannot be read: %s" % (self.path, exc.strerror))

    def _drop_in_holds(self, configuration: _sysctl.Configuration, key: str, floor: int) -> bool:
        own = [setting for setting in configuration.settings(key) if setting.file == self.path]
        return bool(own) and (own[-1].value or 0) >= floor

    def _value_at_boot(self, configuration: _sysctl.Configuration, key: str) -> int:
        """Return the least value after the next boot: from a file, else the default of the kernel."""
        winner = configuration.winner(key)
        return winner.value or 0 if winner else self._kernel_default(key)

    def _persisted(self, configuration: _sysctl.Configuration) -> Values:
        winners = {key: configuration.winner(key) for key in self.floors}
        return {key: winner.value if winner else None for key, winner in winners.items()}

    def _files(self, configuration: _sysctl.Configuration) -> dict[str, str | None]:
        winners = {key: configuration.winner(key) for key in self.floors}
        return {key: winner.file if winner else None for key, winner in winners.items()}


def enforce(module: Any, plan: Plan, name_of: Callable[[str], str] = str) -> Part:
    """Apply the plan, or in check mode only report it. Return the result for exit_module()."""
    if plan.skipped_reason:
        module.warn("Nothing was raised: %s" % plan.skipped_reason)
    try:
        plan.check_possible()
        if plan.changed and not module.check_mode:
            plan.apply(module.atomic_move)
    except CannotRaise as exc:
        # Report what was changed, not what was planned.
        return {"changed": plan.reread(), "raised": plan.as_result(name_of), "failed": True, "msg": str(exc)}
    result = {"changed": plan.changed, "raised": plan.as_result(name_of), "diff": plan.diff()}
    if plan.overridden:
        result.update(failed=True, msg="The floors would not survive a reboot: %s." % "; ".join(plan.overridden))
    return result


def parse_floors(requested: Mapping[Any, Any]) -> dict[str, int]:
    """Return the option ``floors`` with canonical keys and whole numbers. Raises BadOption."""
    if not requested:
        raise BadOption("floors: names no parameter")
    floors: dict[str, int] = {}
    for name, floor in requested.items():
        try:
            key = kernel.normalize(str(name))
        except kernel.InvalidParameter as exc:
            raise BadOption("floors: %s: %s" % (name, exc))
        number = None if isinstance(floor, (bool, float)) else _sysctl.whole_number(str(floor))
        if number is None or not 1 <= number <= GREATEST:
            raise BadOption("floors: %s: %s is not a whole number between 1 and %d" % (name, floor, GREATEST))
        if key in floors:
            raise BadOption("floors: %s is given twice, in two spellings" % key)
        floors[key] = number
    return floors


def _namespace_reason(keys: Iterable[str]) -> str | None:
    """Return why root of this user namespace cannot raise the keys; null if it can, or if there is another cause."""
    foreign = next((key for key in keys if not kernel.writable(key)), None)
    if foreign and os.geteuid() == 0 and not _processes.in_initial_user_namespace():
        return NAMESPACE % foreign
    return None


def _override(configuration: _sysctl.Configuration, key: str, floor: int, path: str) -> str:
    """Return why a floor would not survive the next boot, and how to correct that."""
    winner = configuration.winner(key)
    if winner is None or winner.file == path:
        return "%s: %s is not among the files read at boot" % (key, path)
    return "%s: line %d of %s sets %s and is read after %s; set it to %d there%s" % (
        key,
        winner.line,
        winner.file,
        "no whole number" if winner.value is None else winner.value,
        path,
        floor,
        "" if winner.file == _sysctl.CONF else ", or in %s" % _sysctl.file_read_after(winner.file),
    )


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _diff_part(header: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before, "after": after}
