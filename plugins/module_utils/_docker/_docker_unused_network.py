# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes a network that nobody uses. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker, _docker_networks
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROTECTED_LABEL
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure

ARGUMENT_SPEC = dict(
    _docker.SPEC,
    name={"type": "str", "required": True},
    id={"type": "str", "required": True},
    project={"type": "str", "required": True},
    timeout={"type": "float", "default": 10.0},
)
# What the engine answers for a network that got a container meanwhile, by its version.
IN_USE = (403, 409)


class CannotRemove(Failure):
    """The network must not, or could not, be removed."""

    kind = "cannot_remove"


def remove(options, check):
    """What the module tracktion.ops.docker_unused_network returns."""
    try:
        return _remove(_docker.Client(options, Deadline(float("inf"))), options, check)
    except CannotConnect as exc:
        raise CannotRemove(str(exc), exc.hint) from exc


def _remove(client, options, check):
    network = find(client, options["id"])
    if network is None:
        return _result(None, None, None, "the network is gone already")
    refuse(network, options)
    before = look(client, network)
    if before["containers"]:
        return _result(before, before, network, "it is in use by %s" % ", ".join(before["containers"][:5]))
    if check:
        return _result(before, None, network)
    try:
        client.call("remove_network", options["id"])
    except _docker.Rejected as exc:
        if exc.status == _docker.NOT_FOUND:
            return _result(None, None, None, "the network is gone already")
        if exc.status in IN_USE:
            return _result(before, before, network, "the engine does not let it go: %s" % exc.reply)
        raise
    if find(client, options["id"]):
        raise CannotRemove("The Docker engine accepted the removal of %s, and still has it" % options["name"])
    return _result(before, None, network)


def find(client, identity):
    """The network of an id as the engine describes it, null where there is none."""
    try:
        network = client.call("inspect_network", identity)
    except _docker.Rejected as exc:
        if exc.status == _docker.NOT_FOUND:
            return None
        raise
    # The engine takes names and the beginnings of ids as well.
    return network if network["Id"] == identity else None


def refuse(network, options):
    """Raise CannotRemove for a network that is not the one that is meant, or none that we may remove."""
    described = _docker_networks.describe(network, {})
    if network["Name"] != options["name"]:
        raise CannotRemove("The network with this id is named %s, not %s" % (network["Name"], options["name"]))
    if not described["removable"]:
        raise CannotRemove("%s is no network of this host that a person has made" % network["Name"])
    if described["project"] != options["project"]:
        whose = "project %s" % described["project"] if described["project"] else "no compose project"
        raise CannotRemove("%s belongs to %s, not to %s" % (network["Name"], whose, options["project"]))
    if described["protected"]:
        raise CannotRemove("%s carries the label %s" % (network["Name"], PROTECTED_LABEL))


def look(client, network):
    """The network with all containers that are attached to it, the stopped ones too."""
    users = _docker_networks.attached(client.call("containers", all=True))
    return _docker_networks.describe(network, users)


def _result(before, after, network, skipped_reason=None):
    """``network``: what the undo command would make again, as the engine describes it; null for none."""
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
