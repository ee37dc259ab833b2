# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of roles on one host, resolved and in their types, and what is wrong with them.

Private to this collection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _options, _survey_answers, _variables

PREFIX = "tracktion_"
# Variables of all areas, which the role visit declares: how long rates are watched for, and how long a visit may take.
SHARED = ("tracktion_sample_seconds", "tracktion_visit_timeout")
# Of a variable that no role declares, anything goes.
RAW = {"type": "raw"}
NAME_ONLY = re.compile(r"\{\{ (\w+) \}\}")
NAMES = re.compile(r"\b\w+\b")


@dataclass
class Settings:
    """``values`` by name, and by the name of those that have none ``problems``: ``(message, hint)``."""

    values: dict = field(default_factory=dict)
    problems: dict = field(default_factory=dict)

    def error(self, names: Any = None) -> dict | None:
        """The ``error`` of a measurement that needs these names, or all; None where nothing is wrong with them."""
        found = [self.problems[name] for name in self.problems if names is None or name in names]
        if not found:
            return None
        hint = next((hint for _message, hint in found if hint), None)
        return {"kind": "bad_option", "message": "; ".join(message for message, _hint in found), "hint": hint}


def read(specs: Mapping, defaults: Mapping, variables: Mapping, templar: Any, least: float | None = None) -> Settings:
    """Resolve and check the variables that ``specs`` or ``defaults`` name.

    ``specs`` are the options of argument_specs; a name without one is resolved and not checked. ``variables`` holds the
    host's variables over the defaults, ``least`` is the smallest number allowed. Nothing is raised.
    """
    settings = Settings()
    for name in {**specs, **defaults}:
        try:
            settings.values[name] = _one(name, specs.get(name) or RAW, (variables, defaults), templar, least)
        except _options.BadValue as exc:
            settings.problems[name] = (str(exc), "Correct %s." % name)
        except _variables.Unresolved as exc:
            settings.problems[name] = ("%s: %s" % (name, exc), exc.hint or "Correct %s." % name)
    return settings


def _one(name: str, option: dict, sources: tuple, templar: Any, least: float | None) -> Any:
    """The value from the first of the sources that gives one; None where none does."""
    for source in sources:
        value = _value(source.get(name), templar)
        if _is_given(value, option):
            return _options.checked(name, value, option, least)
    return None


def _value(value: Any, templar: Any) -> Any:
    try:
        return _variables.resolve(templar, value)
    except _variables.Omitted:
        return None


def _is_given(value: Any, option: dict) -> bool:
    """A null is not given; nor is empty text, except where any text will do: in an inventory, ``""`` is meant."""
    any_text = option.get("type", "str") in ("str", "path", "raw") and not option.get("choices")
    return value is not None and (any_text or not _survey_answers.is_empty(value))


def read_one(name: str, area: _areas.Area | None, variables: Mapping, templar: Any) -> Settings:
    """The same for one variable, and the role that declares it."""
    specs = {name: area.argument_spec[name] if area else RAW}
    return read(specs, {name: area.defaults.get(name)} if area else {}, variables, templar, _least(area))


def shared_defaults() -> dict:
    """The defaults of the variables that all areas share."""
    defaults = declared_by(SHARED[0], None).defaults
    return {name: defaults[name] for name in SHARED}


def shared(variables: Mapping, templar: Any) -> Settings:
    """The variables that all areas share."""
    specs = declared_by(SHARED[0], None).argument_spec
    return read({name: specs[name] for name in SHARED}, shared_defaults(), variables, templar)


def of_area(area: _areas.Area, variables: Mapping, templar: Any) -> Settings:
    """The variables of an area role. The templar knows the host's variables over the role's defaults."""
    return read(area.argument_spec, area.defaults, variables, templar, _least(area))


def _least(area: _areas.Area | None) -> float | None:
    """The numbers of this collection's own roles are counts, bytes, seconds and ratios; of others nothing is known."""
    return 0 if area and area.role.startswith(_areas.COLLECTION + ".") else None


def probes(area: _areas.Area, settings: Settings, common: Settings, templar: Any) -> tuple:
    """The area's probes, filled in, and the error that keeps them from being measured: one of them is None.

    Most options of a probe only name a variable, and need no templar.
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
    try:
        return _filled(templar, template, {**common.values, **settings.values}), None
    except (_variables.Unresolved, _variables.Omitted) as exc:
        message = "%s: a probe cannot be filled in: %s" % (area.probes_file, exc)
        return None, {"kind": "bad_option", "message": message, "hint": None}


def name_variables(area: _areas.Area, measurement: Mapping) -> None:
    """Where a module names one of its options, let the area's measurement name the role's variable that fills it."""
    for name, probe in area.probes().items():
        measured = measurement.get(name) or {}
        error = measured.get("error")
        names = {"deadline": "%s_deadline" % area.name, **_variables_by_option(probe)}
        if error and error.get("kind") == "bad_option":
            _rename(error, names)
        for entry in (error, *(measured.get("unknown") or [])):
            if entry and entry.get("hint"):
                entry["hint"] = _renamed(entry["hint"], {name for name in names if "_" in name}, names)


def connection(area: _areas.Area, variables: Mapping, templar: Any) -> Settings:
    """The shared options of the area's probes and remedies, by the name of the option."""
    found = Settings()
    for option, template in area.connection().items():
        name = NAME_ONLY.fullmatch(template).group(1)
        one = read_one(name, area, variables, templar)
        found.problems.update(one.problems)
        found.values[option] = one.values.get(name)
    return found


def _variables_by_option(probe: Mapping) -> dict:
    matches = {option: NAME_ONLY.fullmatch(str(value)) for option, value in probe["options"].items()}
    return {option: match.group(1) for option, match in matches.items() if match}


def _rename(error: dict, names: dict) -> None:
    options = "|".join(map(re.escape, names))
    # At the start, where a module names its option, or quoted, where Ansible does.
    leading = re.compile(r"^(%s)(?=[:.\[])|(?<=')(%s)(?=')" % (options, options))
    error["message"] = leading.sub(lambda found: names[found.group()], error["message"])
    if error.get("hint"):
        error["hint"] = _renamed(error["hint"], names, names)


def _renamed(text: str, options: Iterable, names: dict) -> str:
    """``text`` with the variable in the place of each of the ``options``. One without an underscore may be a word."""
    return re.sub(r"\b(%s)\b" % "|".join(map(re.escape, options)), lambda found: names[found.group()], text)


def is_own(probe: Mapping) -> bool:
    """Whether a probe is measured within the visit, by a module of this collection."""
    return "." not in probe["module"]


def _filled(templar: Any, value: Any, values: Mapping) -> Any:
    if isinstance(value, dict):
        return {key: _filled(templar, inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(templar, inner, values) for inner in value]
    match = NAME_ONLY.fullmatch(value) if isinstance(value, str) and "{" in value else None
    return values[match.group(1)] if match and match.group(1) in values else _variables.resolve(templar, value)


@cache
def declared_by(name: str, role_path: str | None) -> _areas.Area | None:
    """Return the role that declares a variable: one of this collection, else the current one."""
    own = (area for area in _areas.own_roles() if name.startswith((PREFIX, area.name + "_")))
    current = [_areas.Area("", Path(role_path))] if role_path else []
    for area in (*own, *current):
        if area.file("meta", "argument_specs.yml").exists() and name in area.argument_spec:
            return area
    return None
