# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolves, converts and validates the variables of roles on one host. Private to this collection."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _areas,
    _core,
    _options,
    _rows,
    _survey_answers,
    _variables,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

PREFIX = "tracktion_"
# Variables of all areas, which the role visit declares.
SHARED = (
    "tracktion_compose_project",
    "tracktion_docker_daemon_config",
    "tracktion_docker_root",
    "tracktion_sample_seconds",
    "tracktion_visit_timeout",
)
# The option of a variable that no role declares.
RAW: Values = {"type": "raw"}
NAME_ONLY = re.compile(r"\{\{ (\w+) \}\}")
NAMES = re.compile(r"\b\w+\b")
# An option in a hint of a module: `timeout`, `tls: true`, `endpoints[].url`, `delete.pattern`.
OPTION = re.compile(r"(?<=`)\w+(?=(?:[.\[][^` ]*)?(?:: [^`]*)?`)")
# An option in the message of an invalid one. Modules of this collection begin with it; Ansible quotes it.
BAD_OPTION = re.compile(r"^\w+(?=[:.\[])|(?<=')\w+(?=')")


@dataclass
class Settings:
    """``values`` by name, and ``problems`` of invalid variables by name: message and hint."""

    values: Values = field(default_factory=dict)
    problems: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def error(self, names: Collection[str] | None = None) -> ErrorInfo | None:
        """Return the ``error`` of a measurement that needs these variables, or all; None if they are valid."""
        found = [self.problems[name] for name in self.problems if names is None or name in names]
        if not found:
            return None
        hint = next((hint for _message, hint in found if hint), None)
        return {"kind": "bad_option", "message": "; ".join(message for message, _hint in found), "hint": hint}


def read(
    specs: Mapping[str, Values],
    defaults: Mapping[str, Any],
    variables: Mapping[str, Any],
    templar: Any,
    least: float | None = None,
) -> Settings:
    """Resolve and validate the variables that ``specs`` or ``defaults`` name. Nothing is raised.

    ``specs`` are the options of argument_specs; a name without one is resolved and not validated. ``variables`` holds
    the host's variables, which override the defaults; ``least`` is the smallest number allowed.
    """
    settings = Settings()
    for name in {**specs, **defaults}:
        try:
            settings.values[name] = _resolve_one(name, specs.get(name) or RAW, (variables, defaults), templar, least)
        except _options.BadValue as exc:
            settings.problems[name] = (str(exc), "Correct %s." % name)
        except _variables.Unresolved as exc:
            settings.problems[name] = ("%s: %s" % (name, exc), exc.hint or "Correct %s." % name)
    return settings


def _resolve_one(
    name: str, option: Values, sources: Iterable[Mapping[str, Any]], templar: Any, least: float | None
) -> Any:
    """Return the value from the first source that has one; None if none has. Raises BadValue or Unresolved."""
    for source in sources:
        value = _value(source.get(name), templar)
        if _is_set(value, option):
            return _options.checked(name, value, option, least)
    return None


def _value(value: Any, templar: Any) -> Any:
    try:
        return _variables.resolve(templar, value)
    except _variables.Omitted:
        return None


def _is_set(value: Any, option: Values) -> bool:
    """Return whether a value is set: null is not, and empty text only for an option of which any text is valid."""
    any_text = option.get("type", "str") in ("str", "path", "raw") and not option.get("choices")
    return value is not None and (any_text or not _survey_answers.is_empty(value))


def read_one(name: str, area: _areas.Area | None, variables: Mapping[str, Any], templar: Any) -> Settings:
    """Resolve and validate one variable. ``area`` is the role that declares it."""
    specs = {name: area.argument_spec[name] if area else RAW}
    return read(specs, {name: area.defaults.get(name)} if area else {}, variables, templar, _least(area))


def given(area: _areas.Area, variables: Mapping[str, Any]) -> list[str]:
    """Return the variables of an area role that the user has set, also to the value of the default.

    In a play with the role itself, its defaults are variables of the host too: these are known by their file. Ansible
    does not keep that of a boolean, which counts as set if it differs from the default.
    """
    file = _real(area.defaults_file)

    def is_given(name: str) -> bool:
        value = variables.get(name)
        if value is None or isinstance(value, bool):
            return value is not None and value != area.defaults.get(name)
        return _real(_core.file_of(value) or "") != file

    return sorted(filter(is_given, area.argument_spec))


@cache
def _real(path: str) -> str:
    return os.path.realpath(path)


def shared_defaults() -> Values:
    """Return the defaults of the variables that all areas share."""
    defaults = _areas.own_role("visit").defaults
    return {name: defaults[name] for name in SHARED}


def shared(variables: Mapping[str, Any], templar: Any) -> Settings:
    """Resolve and validate the variables that all areas share."""
    specs = _areas.own_role("visit").argument_spec
    return read({name: specs[name] for name in SHARED}, shared_defaults(), variables, templar)


def of_area(area: _areas.Area, variables: Mapping[str, Any], templar: Any) -> Settings:
    """Resolve and validate the variables of an area role. ``templar`` has the host's variables and the defaults."""
    return read(area.argument_spec, area.defaults, variables, templar, _least(area))


def _least(area: _areas.Area | None) -> float | None:
    """Return the smallest number allowed: 0 in roles of this collection, where no number is negative."""
    return 0 if area and is_ours(area) else None


def is_ours(area: _areas.Area) -> bool:
    """Return whether an area is a role of this collection."""
    return area.role.startswith(_areas.COLLECTION + ".")


def probes(
    area: _areas.Area, settings: Settings, common: Settings, variables: Mapping[str, Any], templar: Any
) -> tuple[dict[str, Values] | None, ErrorInfo | None]:
    """Return the area's probes with their options resolved, or the error because of which they cannot run.

    ``variables`` are those of the host. Probes of this collection may name variables of its other areas.
    """
    template = area.probes()
    error = settings.error()
    if common.problems and not error:
        error = common.error({"tracktion_visit_timeout", *NAMES.findall(str(template))})
    deadline = "%s_deadline" % area.name
    if not error and deadline not in settings.values and any(is_own(probe) for probe in template.values()):
        error = {"kind": "bad_option", "message": "%s: the role has no default for it" % deadline, "hint": None}
    if error:
        return None, error
    values = {**common.values, **settings.values}
    if is_ours(area):
        others = _of_other_areas(template, values, variables, templar)
        error = others.error()
        if error:
            return None, error
        values.update(others.values)
    try:
        return _resolved(templar, template, values, is_ours(area)), None
    except (_variables.Unresolved, _variables.Omitted, *_rows.CANNOT_EVALUATE) as exc:
        message = "%s: the options of a probe cannot be resolved: %s" % (area.probes_file, exc)
        return None, {"kind": "bad_option", "message": message, "hint": None}


def _of_other_areas(
    template: Mapping[str, Values], values: Values, variables: Mapping[str, Any], templar: Any
) -> Settings:
    """Return the variables of other areas that probes name."""
    found = Settings()
    for probe in template.values():
        for value in probe["options"].values():
            match = NAME_ONLY.fullmatch(value) if isinstance(value, str) else None
            role = declared_by(match.group(1), None) if match and match.group(1) not in values else None
            if match and role:
                one = read_one(match.group(1), role, variables, templar)
                found.values.update(one.values)
                found.problems.update(one.problems)
    return found


def name_variables(area: _areas.Area, measurement: Mapping[str, Any]) -> None:
    """Replace options in the errors and hints of an area's measurement by the role's variables that set them.

    A hint names an option between backticks, alone or at the beginning: `timeout`, `tls: true`, `endpoints[].url`.
    """
    for name, probe in area.probes().items():
        measured = measurement.get(name) or {}
        error = measured.get("error")
        names = {"deadline": "%s_deadline" % area.name, **_variables_by_option(probe)}
        if error and error.get("kind") == "bad_option":
            error["message"] = _replaced(BAD_OPTION, error["message"], names)
        for entry in _with_hint(measured):
            entry["hint"] = _replaced(OPTION, entry["hint"], names)


def _with_hint(measured: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the mappings of a measurement with a hint: its errors, and those of its parts and of items of lists."""
    for value in measured.values():
        for item in value if isinstance(value, list) else (value,):
            for entry in (item, item.get("error")) if isinstance(item, dict) else ():
                if isinstance(entry, dict) and isinstance(entry.get("hint"), str):
                    yield entry


def connection(area: _areas.Area, variables: Mapping[str, Any], templar: Any) -> Settings:
    """Return the options that the area's probes and remedies share, by the name of the option."""
    found = Settings()
    for option, template in area.connection().items():
        match = NAME_ONLY.fullmatch(template)
        if not match:
            raise AnsibleError("%s: connection.%s: must name one variable" % (area.probes_file, option))
        name = match.group(1)
        one = read_one(name, area, variables, templar)
        found.problems.update(one.problems)
        found.values[option] = one.values.get(name)
    return found


def _variables_by_option(probe: Mapping[str, Any]) -> dict[str, str]:
    matches = {option: NAME_ONLY.fullmatch(str(value)) for option, value in probe["options"].items()}
    return {option: match.group(1) for option, match in matches.items() if match}


def _replaced(pattern: re.Pattern[str], text: str, names: Mapping[str, str]) -> str:
    """Return ``text`` with each option that the pattern finds replaced by its variable, if it has one."""
    return pattern.sub(lambda found: names.get(found.group(), found.group()), text)


def is_own(probe: Mapping[str, Any]) -> bool:
    """Return whether a probe is measured by a module of this collection, within the visit."""
    return "." not in probe["module"]


def _resolved(templar: Any, value: Any, values: Mapping[str, Any], ours: bool) -> Any:
    """Resolve the options of probes.

    An option that only names a variable needs no templar. Other options of our own roles are expressions as in check
    rows, which are compiled once; Ansible compiles a template again for each host.
    """
    if isinstance(value, dict):
        return {key: _resolved(templar, inner, values, ours) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(templar, inner, values, ours) for inner in value]
    match = NAME_ONLY.fullmatch(value) if isinstance(value, str) and "{" in value else None
    if match and match.group(1) in values:
        return values[match.group(1)]
    expression = _rows.expression_in(value) if ours else None
    return _rows.expression(expression, values) if expression else _variables.resolve(templar, value)


def compile_probes(value: Any) -> None:
    """Compile the expressions in the options of probes, for all processes that this one forks."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        compile_probes(inner)
    expression = None if isinstance(value, str) and NAME_ONLY.fullmatch(value) else _rows.expression_in(value)
    if expression:
        _rows.compiled_expression(expression)


@cache
def declared_by(name: str, role_path: str | None) -> _areas.Area | None:
    """Return the role that declares a variable: one of this collection, else the current one."""
    # Roles of areas declare only variables with their own name.
    own = (
        role
        for role in _areas.own_roles()
        if name.startswith(role.name + "_") or (name.startswith(PREFIX) and not role.is_area)
    )
    current = [_areas.Area("", Path(role_path))] if role_path else []
    for area in (*own, *current):
        if area.file("meta", "argument_specs.yml").exists() and name in area.argument_spec:
            return area
    return None
