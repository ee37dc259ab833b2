# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Leaves out what only a default of a role expects and what does not belong to the host. Pure.

Private to this collection. A default names the endpoints, queues, services and users of a typical Tracktion. It is
evaluated only if the visit has found that it belongs to the host (``module_utils/_presence.py``). What a user has set
is always evaluated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple, cast
from urllib.parse import urlsplit

from ansible_collections.tracktion.ops.plugins.module_utils._applications import APPLICATIONS
from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache, _rows, _settings
from ansible_collections.tracktion.ops.plugins.plugin_utils._areas import Area
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import FieldType, Row
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import AreaOutcome, Values

# The name of the services of the host in expressions.
HERE = "here"
# Kinds of failures that depend on the login or the protocol, and not on whether the server runs.
OF_LOGIN = frozenset(
    (
        "authentication",
        "certificate",
        "loopback_only",
        "no_database",
        "no_hba_entry",
        "no_such_vhost",
        "permission",
        "pooler",
        "protected_mode",
        "protocol",
        "sentinel",
        "tls",
    )
)
# The project of Tracktion, and the start of the names of its containers: tracktion-postgres.
PREFIX = "tracktion"
SERVERS = ("postgres", "rabbitmq", "redis")
NOT_FOUND_OUT = "the services of this host were not searched"
DEFAULT_PORTS = {"http": 80, "https": 443}


class Here:
    """The services that belong to a host, as expressions of presence rows use them.

    Only those of Tracktion count: in a project with one of its applications or with its name, or in the project that
    ``tracktion_compose_project`` names. ``unknown`` is true if the containers of the host are not known.
    """

    def __init__(self, found: Mapping[str, Any] | None, project: str | None) -> None:
        self.unknown = not (found and found.get("known"))
        self.reason = str((found or {}).get("reason") or NOT_FOUND_OUT)
        self.hint = (found or {}).get("hint")
        services: list[Values] = (found or {}).get("services") or []
        applications = {each["project"] for each in services if _name(each["service"]) in APPLICATIONS}
        wanted = {project} if project else applications - {None}
        self._services = [
            each
            for each in services
            if each["project"] in wanted or (not (project and each["project"]) and _is_of_tracktion(each))
        ]
        self._programs = set((found or {}).get("programs") or ())
        # Whether the project that the user has named has no service here.
        self.lacks_project = bool(project) and not self.unknown and not self._services

    def has(self, *names: str, project: str | None = None) -> bool:
        """Return whether one of these services, of a project if it is named, belongs to the host."""
        if project:
            return any(each["project"] == project for name in names for each in self._of(name))
        return any(self._of(name) or self._is_program(name) for name in names)

    def deploys(self, name: str) -> bool:
        """Return whether a compose file has a service of which there is no container."""
        return any(not each["container"] for each in self._of(name))

    def serves(self, name: str, url: str) -> bool:
        """Return whether a service belongs to the host, and publishes the port of a URL there.

        ``-`` and ``_`` are the same in its name.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            return False
        found = [each for each in self._services if _name(each["service"]) == _name(name)]
        return self._is_program(name) or any(each["host_network"] or port in _ports(each, "host") for each in found)

    def publishes(self, name: str, *ports: int) -> bool:
        """Return whether a service of any name publishes one of these ports, or this one uses the host's network."""
        on_host = any(each["host_network"] for each in self._of(name))
        return on_host or any(not _ports(each, "host").isdisjoint(ports) for each in self._services)

    def configures(self, source: str, target: str) -> bool:
        """Return whether the environment of a service names another."""
        return any(target in each["names"] for each in self._of(source))

    def connects(self, source: str, target: str, port: int) -> bool:
        """Return whether two services belong to the host, and the second, if it is an application, has this port."""
        found = self._of(target)
        is_server = not any(_name(target) == application for application in APPLICATIONS)
        return bool(self._of(source)) and any(is_server or port in _ports(each, "container") for each in found)

    def runs(self, program: str, error: Mapping[str, Any] | None) -> bool:
        """Return whether a server runs outside of containers, or systemd starts it at boot.

        It need not be that of Tracktion: false if ``error`` is about the login to it.
        """
        return program in self._programs and (error or {}).get("kind") not in OF_LOGIN

    def _is_program(self, name: str) -> bool:
        """Return whether an application runs outside of containers."""
        return _name(name) in APPLICATIONS and _name(name) in self._programs

    def _of(self, name: str) -> list[Values]:
        """Return the services of this name, which modules find by the label of compose or the name of the container."""
        names = (name, "%s-%s" % (PREFIX, name), "%s_%s" % (PREFIX, name))
        return [each for each in self._services if each["service"] == name or each["container"] in names]


def _name(service: str) -> str:
    name = service.replace("-", "_")
    return name[len(PREFIX) + 1 :] if name.startswith(PREFIX + "_") else name


def _is_of_tracktion(service: Mapping[str, Any]) -> bool:
    # Of compose files, only those of Tracktion are read.
    if not service["container"]:
        return True
    container = service["container"]
    is_named = container.startswith(PREFIX) and _name(container) in (*APPLICATIONS, *SERVERS)
    return is_named or service["project"] == PREFIX or (not service["project"] and _name(container) in APPLICATIONS)


def _ports(service: Mapping[str, Any], side: str) -> set[int]:
    return {port[side] for port in service["ports"]}


class Presence(Row):
    """One row of ``presence.yml``."""

    FIELDS: ClassVar[Mapping[str, FieldType]] = {
        "id": str,
        "defaults": list,
        "each": str,
        "at": str,
        "when": str,
        "object": str,
        "belongs": str,
        "instead": dict,
        "vars": dict,
    }
    REQUIRED: ClassVar[Sequence[str]] = ("id", "defaults", "belongs")

    defaults: list[str]
    each: str | None
    at: str | None
    when: str | None
    object: str | None
    belongs: str
    instead: dict[str, Any] | None

    def __init__(self, row: Any, source: str) -> None:
        super().__init__(row, source)
        self.path = tuple((self.each or self.at or "").split("."))
        if bool(self.each) == bool(self.at):
            raise self.bad("exactly one of 'each' and 'at' is required")
        if len(self.path) > 1 and self.at and not self.instead:
            raise self.bad("instead: is required for a part of a measurement")
        if not self.object and not (self.each and self.instead):
            raise self.bad("object: is required, as the name of what does not belong to the host")

    def templates(self) -> dict[str, str]:
        wrapped = {field: "{{ %s }}" % self.field(field) for field in ("when", "belongs") if self.field(field)}
        return {**wrapped, **({"object": self.object} if self.object else {})}

    def allowed_names(self, field: str, variables: set[str]) -> frozenset[str]:
        return super().allowed_names(field, variables) | {HERE}


class Left(NamedTuple):
    """What is left of a measurement: ``outcome`` is null if nothing of the area belongs to the host.

    ``absent`` are the names of what does not.
    """

    outcome: AreaOutcome | None
    absent: list[str]


@cache
def load(area: Area) -> list[Presence]:
    """Return the presence rows of an area role. Raises BadRow."""
    data = area.rows("presence")
    rows = [Presence(row, str(area.presence_file)) for row in data]
    variables = {*area.public, *_settings.SHARED}
    key = _row_cache.fingerprint("presence", repr(data), repr(sorted(variables)))
    if rows and not _row_cache.is_valid(key):
        for row in rows:
            unknown = set(row.defaults) - set(area.argument_spec)
            if unknown:
                raise row.bad("defaults: %s is no variable of its role" % ", ".join(sorted(unknown)))
            row.parse_templates(variables)
        _row_cache.remember_valid(key)
    return rows


def applying(rows: Iterable[Presence], given: Collection[str] | None) -> list[Presence]:
    """Return the rows of which the user has set none of the variables; none if that is not known."""
    return [] if given is None else [row for row in rows if not set(row.defaults).intersection(given)]


def apply(rows: Iterable[Presence], outcome: AreaOutcome, found: Mapping[str, Any] | None) -> Left:
    """Return the outcome of an area without what only defaults expect and what does not belong to the host.

    ``found`` are the services of the host (``module_utils/_presence.measure``). If they are not known, what does not
    belong as far as can be seen becomes unknown.
    """
    rows = applying(rows, outcome.get("given"))
    if not rows:
        return Left(outcome, [])
    here = Here(found, outcome["settings"].get("tracktion_compose_project"))
    measurement = dict(outcome["measurement"])
    absent: list[str] = []
    for row in rows:
        probe = measurement.get(row.path[0])
        if not isinstance(probe, dict):
            continue
        context = {**outcome["settings"], "measured": measurement, HERE: here, **row.vars}
        changed = _without(row, probe, context, here, absent)
        if changed is None:
            return Left(None, absent)
        measurement[row.path[0]] = changed
    return Left(cast("AreaOutcome", {**outcome, "measurement": measurement}), absent)


def _without(row: Presence, probe: Values, context: Values, here: Here, absent: list[str]) -> Values | None:
    """Return a measurement as a row leaves it; null if it does not belong to the host at all."""
    value: Any = probe
    for part in row.path[1:]:
        value = value.get(part) if isinstance(value, dict) else None
    if row.each:
        return _with_items(row, probe, value, context, here, absent) if isinstance(value, list) else probe
    if not isinstance(value, dict) or _belongs(row, value, context):
        return probe
    if here.unknown:
        return probe if row.instead else _unknown(probe, here)
    absent.append(_rows.render(row.object or "", {**context, "item": value}))
    return _replaced(probe, row.path[1:], {**value, **row.instead}) if row.instead else None


def _with_items(
    row: Presence, probe: Values, items: list[Any], context: Values, here: Here, absent: list[str]
) -> Values:
    """Return a measurement with the items of a list that belong to the host, all others changed or left out."""
    kept = []
    for item in items:
        if _belongs(row, item, context):
            kept.append(item)
        elif row.instead:
            kept.append({**item, **row.instead})
        elif not here.unknown:
            absent.append(_rows.render(row.object or "", {**context, "item": item}))
    changed = _replaced(probe, row.path[1:], kept)
    if here.unknown and len(kept) < len(items):
        entry = {"part": ".".join(row.path[1:]) + "[...]", "reason": here.reason}
        changed["unknown"] = [*probe["unknown"], {**entry, **({"hint": here.hint} if here.hint else {})}]
    return changed


def _belongs(row: Presence, item: Any, context: Values) -> bool:
    """Return whether an item belongs to the host, or is not concerned by the row. What cannot be evaluated belongs."""
    try:
        context = {**context, "item": item}
        return bool((row.when and not _rows.expression(row.when, context)) or _rows.expression(row.belongs, context))
    except Exception:  # pylint: disable=broad-except
        # A malformed measurement: its checks report that.
        return True


def _replaced(value: Values, path: Sequence[str], new: Any) -> Values:
    """Return a mapping with another value at a path."""
    if not path:
        return cast("Values", new)
    if not isinstance(value, dict):
        return value
    return {**value, path[0]: _replaced(value.get(path[0]) or {}, path[1:], new)}


def _unknown(probe: Values, here: Here) -> Values:
    """Return the measurement of a service of which it is not known whether it belongs to the host."""
    reason = "it is not known whether the service belongs to this host: %s" % here.reason
    message = "; ".join(filter(None, ((probe.get("error") or {}).get("message"), reason)))
    return {**probe, "reachable": None, "error": {"kind": "permission", "message": message, "hint": here.hint}}
