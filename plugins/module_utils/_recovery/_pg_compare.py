# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares the contents of a restored database with those of the original. Pure. Private to this collection."""

from __future__ import annotations

from typing import Any, Collection, Iterable, Iterator, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import Difference

# Differences that are listed. The total counts all.
MOST = 50
LONGEST = 300
# Values that may hold secrets: only their names are shown.
SECRET_SECTIONS = ("settings", "security_labels")
# PostgreSQL 17 has one privilege on relations more than its predecessors, which GRANT ALL includes.
MAINTAIN_SINCE = 170000
NOT_COMPARED_OF_DATABASE = ("name",)


def compare(
    expected: Mapping[str, Any], found: Mapping[str, Any], ignore: Collection[str] = ()
) -> tuple[list[Difference], int]:
    """Return the first differences of two ``Contents``, and the number of all.

    ``ignore`` names sections that are not compared, such as ``tablespaces``. A part that is null in ``expected`` was
    not read and is not compared; one that is null only in ``found`` is a difference.
    """
    older = expected["version_num"] < MAINTAIN_SINCE <= found["version_num"]
    listed: list[Difference] = []
    total = 0
    for difference in _differences(expected, found, ignore, older):
        total += 1
        if len(listed) < MOST:
            listed.append(difference)
    return listed, total


def _differences(
    expected: Mapping[str, Any], found: Mapping[str, Any], ignore: Collection[str], older: bool
) -> Iterator[Difference]:
    if "database" not in ignore:
        wanted = {name: value for name, value in expected["database"].items() if name not in NOT_COMPARED_OF_DATABASE}
        if "collation_versions" in ignore:
            wanted.pop("collation_version", None)
        yield from _of_section("database", wanted, found["database"], _keys(wanted))
    for section in ("rows", "hashes"):
        if section not in ignore:
            yield from _of_section(section, expected[section], found[section])
    yield from _of_sequences(expected["sequences"], found["sequences"])
    wanted = {name: value for name, value in expected["large_objects"].items() if value is not None}
    yield from _of_section("large_objects", wanted, found["large_objects"], _keys(wanted))
    for section, items in expected["sections"].items():
        if section not in ignore:
            strip = older and section in ("objects", "default_privileges", "columns")
            mine, others = items, found["sections"].get(section)
            if strip:
                mine, others = _without_maintain(mine), _without_maintain(others)
            yield from _of_section(section, mine, others)


def _keys(items: Mapping[str, Any]) -> list[str]:
    return list(items)


def _of_section(
    section: str, expected: Mapping[str, Any] | None, found: Mapping[str, Any] | None, keys: Iterable[str] | None = None
) -> Iterator[Difference]:
    """Yield the differences of two mappings: items that are missing, that differ, and that are only in ``found``."""
    if expected is None:
        return
    if found is None:
        yield {"item": section, "expected": "%d items" % len(expected), "found": None}
        return
    for item in sorted(set(expected) | set(found)) if keys is None else keys:
        if item not in expected or item not in found or expected[item] != found[item]:
            yield {
                "item": "%s: %s" % (section, item or "(all roles)"),
                "expected": _shown(section, expected.get(item)),
                "found": _shown(section, found.get(item)),
            }


def _of_sequences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted(set(expected) | set(found)):
        mine, other = expected.get(name), found.get(name)
        if mine is None or other is None or not _same_sequence(mine, other):
            yield {"item": "sequences: %s" % name, "expected": _shown("", mine), "found": _shown("", other)}


def _same_sequence(expected: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Return whether the restored sequence has a value that the original had during the dump."""
    if expected["options"] != found["options"]:
        return False
    if expected["last_value"] == found["last_value"]:
        # The first value is used once: is_called changes before the value does.
        return expected["is_called"] == found["is_called"] or (expected["until"] is not None and found["is_called"])
    if expected["until"] is None:
        return False
    least, most = sorted((expected["last_value"], expected["until"]))
    cycles = expected["options"][5]
    return bool(found["is_called"]) and (least <= found["last_value"] <= most or bool(cycles))


def _without_maintain(items: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a section without the privilege MAINTAIN (``m``) in its access lists."""
    if items is None:
        return None
    return {name: _stripped(value) for name, value in items.items()}


def _stripped(value: Any) -> Any:
    if isinstance(value, dict) and value.get("acl"):
        return dict(value, acl=[_entry(each) for each in value["acl"]])
    return [_entry(each) for each in value] if isinstance(value, list) else value


def _entry(text: str) -> str:
    """Return ``grantee=privileges/grantor`` without MAINTAIN. A name may hold either sign, privileges hold neither."""
    head, equal, tail = text.rpartition("=")
    privileges, slash, grantor = tail.partition("/")
    return head + equal + privileges.replace("m*", "").replace("m", "") + slash + grantor


def _shown(section: str, value: Any) -> Any:
    """Return a value for a report: short, and without what may be a secret."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if section in SECRET_SECTIONS:
        return [each.partition("=")[0] for each in value] if isinstance(value, list) else "set"
    if isinstance(value, dict):
        value = ", ".join("%s: %s" % pair for pair in sorted(value.items()) if pair[1] not in (None, False, [], ""))
    text = value if isinstance(value, str) else ", ".join(str(each) for each in value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\u2026"
