# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes an unused network. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker, _docker_networks
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROTECTED_LABEL
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

ARGUMENT_SPEC = dict(
    _docker.SPEC,
    name={"type": "str", "required": True},
    id={"type": "str", "required": True},
    project={"type": "str", "required": True},
    timeout={"type": "float", "default": 10.0},
)
# Status of the engine for a network in use, by its version.
IN_USE = (403, 409)


class CannotRemove(Failure):
    """The network must not be removed, or could not be."""

    kind = "cannot_remove"


def remove(options: Options, check: bool) -> Part:
    """Return what the module tracktion.ops.docker_unused_network returns. Raises CannotRemove."""
    try:
        return _remove(_docker.Client(options, Deadline(float("inf"))), options, check)
    except CannotConnect as exc:
        raise CannotRemove(str(exc), exc.hint) from exc


def _remove(client: _docker.Client, options: Options, check: bool) -> Part:
    network = find(client, options["id"])
    if network is None:
        return _result(None, None, None, "the network no longer exists")
    check_identity(network, options)
    before = look(client, network)
    if before["containers"]:
        return _result(before, before, network, "it is in use by %s" % ", ".join(before["containers"][:5]))
    if check:
        return _result(before, None, network)
    try:
        client.call("remove_network", options["id"])
    except _docker.Rejected as exc:
        if exc.status == _docker.NOT_FOUND:
            return _result(None, None, None, "the network no longer exists")
        if exc.status in IN_USE:
            return _result(before, before, network, "the engine rejects it: %s" % exc.reply)
        raise
    if find(client, options["id"]):
        raise CannotRemove("The Docker engine accepted the removal of %s, but it still exists" % options["name"])
    return _result(before, None, network)


def find(client: _docker.Client, identity: str) -> Mapping[str, Any] | None:
    """Return the inspection of a network by its id, null if there is none."""
    try:
        network = client.call("inspect_network", identity)
    except _docker.Rejected as exc:
        if exc.status == _docker.NOT_FOUND:
            return None
        raise
    # The engine accepts names and prefixes of ids, too.
    return network if network["Id"] == identity else None


def check_identity(network: Mapping[str, Any], options: Options) -> None:
    """Raise CannotRemove if the network is another one than the options name, or must not be removed."""
    described = _docker_networks.describe(network, {})
    if network["Name"] != options["name"]:
        raise CannotRemove("The network with this id is named %s, not %s" % (network["Name"], options["name"]))
    if not described["removable"]:
        raise CannotRemove("%s was created by the engine, or is not a network of this host alone" % network["Name"])
    if described["project"] != options["project"]:
        whose = "project %s" % described["project"] if described["project"] else "no compose project"
        raise CannotRemove("%s belongs to %s, not to %s" % (network["Name"], whose, options["project"]))
    if described["protected"]:
        raise CannotRemove("%s has the label %s" % (network["Name"], PROTECTED_LABEL))


def look(client: _docker.Client, network: Mapping[str, Any]) -> Part:
    """Return the network with all containers that are attached to it, stopped ones included."""
    users = _docker_networks.attached(client.call("containers", all=True))
    return _docker_networks.describe(network, users)


def _result(
    before: Part | None, after: Part | None, network: Mapping[str, Any] | None, skipped_reason: str | None = None
) -> Part:
    """Return the result. ``network`` is the inspection that the undo command is made from, null for none."""
    changed = before is not None and after is None
    undo = _docker_networks.create_command(network) if network else None
    return {
        "changed": changed,
        "before": before,
        "after": after,
        "undo": undo,
        "undo_options": _docker_networks.create_options(network) if network else None,
        "skipped_reason": skipped_reason,
        "diff": {"before": "%s\n" % undo if before else "", "after": "%s\n" % undo if after else ""},
    }
