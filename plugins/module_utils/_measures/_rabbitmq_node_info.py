# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the nodes of a RabbitMQ cluster, its connections and its topology. Private to this collection."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any, Callable, Iterable, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _containers
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    MissingLibrary,
    OutOfTime,
    Unknown,
    cut,
    error,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import (
    _rabbitmq_amqp,
    _rabbitmq_memory,
    _rabbitmq_queues,
    _rabbitmq_roles,
    _rabbitmq_topology,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import (
    CLIENT_NAME,
    CONNECTION_SPEC,
    OVERVIEW,
    Management,
    ReplyError,
    hint_of,
    management,
    missing_permissions,
    missing_tag,
    start_deadline,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import ApiEntry
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC = dict(
    CONNECTION_SPEC,
    memory_limit_bytes={"type": "int", "default": 0},
    consumed_queues={"type": "list", "elements": "str", "default": []},
)

# Read from the management API, null if it does not answer.
API_PARTS = (
    "identity",
    "server",
    "nodes",
    "listeners",
    "vhosts",
    "connections",
    "limits",
    "queue_counts",
    "unroutable",
    "exchanges",
    "dead_letters",
)

# Parts that the management API shows only to users who may see the whole broker.
FOR_MONITORS = ("nodes", "listeners", "connections", "limits", "queue_counts", "unroutable")
# Lists without the items of vhosts that the user may not see.
BY_VHOST = ("exchanges.without_binding", "dead_letters.queues", "dead_letters.lost", "dead_letters.cycles")

CONNECTION_COLUMNS = (
    "name,user,user_provided_name,vhost,peer_host,node,state,channels,channel_max,connected_at,"
    "client_properties.connection_name,host,port,peer_port"
)
HELD_BACK = ("blocked", "blocking")

# Queues created and deleted. Without all three ranges, the API leaves out their samples.
CHURN: dict[str, Any] = {"columns": "churn_rates"}
for _range in ("lengths", "msg_rates", "data_rates"):
    CHURN.update({_range + "_age": OVERVIEW["msg_rates_age"], _range + "_incr": OVERVIEW["msg_rates_incr"]})

# Ratio of the watermark from which on the memory of a node is broken down: that takes the node some milliseconds.
NEAR_WATERMARK = 0.8
# Parts of the memory that shrink with messages and connections, beside the processes of queues and connections.
FREEABLE = ("binary", "msg_index", "stream_queue_procs", "stream_queue_replica_reader_procs")


def measure(options: Options) -> Measurement:
    """Measure the broker. The module rabbitmq_node_info documents the result."""
    deadline = start_deadline(options)
    unknown = Unknown()
    began = time.monotonic()
    try:
        client = management(options, deadline)
    except CannotConnect as exc:
        return _without_management(_amqp(options, deadline, unknown), exc, unknown)
    api = {"reachable": True, "seconds": round(time.monotonic() - began, 4), "error": None}
    parts: Part = dict.fromkeys(API_PARTS)
    parts.update(management=api, server=server(client.overview))

    def read(part: str, function: Callable[[], Any]) -> Any:
        if part in FOR_MONITORS and not client.is_monitor:
            # A request would leave a warning in the broker's log.
            unknown.add(part, *missing_tag(client, options))
            return None
        try:
            parts[part] = function()
        except (CannotConnect, ReplyError) as exc:
            parts[part] = None
            unknown.add(part, exc, hint_of(exc, options))
        return parts[part]

    read("unroutable", lambda: unroutable(client.overview))
    # Without statistics, the reply is an empty list.
    read(
        "queue_counts",
        lambda: queue_counts({**client.overview, **(client.get("overview", **CHURN) or {})}, time.time()),
    )
    read("listeners", lambda: [listener(entry) for entry in client.overview.get("listeners") or []])
    read("vhosts", lambda: [vhost(entry) for entry in client.get("vhosts", columns="name,cluster_state")])
    entries = read("connections", lambda: client.get_long("connections", columns=CONNECTION_COLUMNS))
    read("nodes", lambda: nodes(client, entries or (), options, unknown))
    read("limits", lambda: limits(client, entries, options))
    if entries is not None:
        entries = [entry for entry in entries if not is_own(entry)]
        parts["connections"] = connections(entries, options["top"])
    read("identity", lambda: identity(client, entries))
    topology = read("exchanges", lambda: _Topology(client, options, unknown))
    if topology:
        _add_hidden(client, parts["vhosts"], options, unknown)
    read("exchanges", lambda: topology and topology.exchanges_without_binding())
    read("dead_letters", lambda: topology and topology.dead_letters())
    names = parts["vhosts"] and [entry["name"] for entry in parts["vhosts"]]
    failure = _expected_login_failure(client, names, options)
    parts["amqp"] = _login_failed(failure) if failure else _amqp(options, deadline, unknown)
    return reached(parts, unknown)


def _add_hidden(client: Management, vhosts: Sequence[Part] | None, options: Options, unknown: Unknown) -> None:
    """Add the parts that lack items of vhosts which the user may not see to ``unknown``."""
    if not client.is_monitor:
        # The API hides the names of the vhosts as well.
        for part in ("vhosts", *BY_VHOST):
            unknown.add(part + "[...]", *missing_tag(client, options))
        return
    visible = _rabbitmq_topology.visible_vhosts(client)
    hidden = None if vhosts is None else sorted({entry["name"] for entry in vhosts} - visible)
    if hidden is None or hidden:
        for part in BY_VHOST:
            unknown.add(
                part + "[...]", *(missing_permissions(hidden, options) if hidden else ["the vhosts are not known"])
            )


def _expected_login_failure(client: Management, names: Sequence[str] | None, options: Options) -> CannotConnect | None:
    """Return the failure of a login that cannot succeed, as the management API shows, else null.

    The login is not tried: the broker would log an error. ``names`` are all vhosts, null if they are not known.
    """
    name = options["vhost"]
    if client.is_monitor and names is not None and name not in names:
        return _rabbitmq_amqp.no_such_vhost("vhost %s not found" % name, options)
    try:
        may_enter = _rabbitmq_topology.open_vhosts(client, options)
    except (CannotConnect, ReplyError):
        return None
    if may_enter is None or name in may_enter:
        return None
    message = "the user %s has no permissions in vhost %s" % (options["login_user"], name)
    return _rabbitmq_amqp.no_permission(options, name, message)


def _login_failed(exc: CannotConnect) -> Part:
    return {"reachable": False, "seconds": None, "error": error(exc)}


def identity(client: Management, entries: Iterable[ApiEntry] | None) -> str | None:
    """Return a text that identifies the broker, the same from every host; null if there is none.

    The API shows the id of the cluster to administrators and policymakers only. The default name of a cluster is that
    of its first host, which containers often share. So for other users the name is completed with the oldest
    connection, its time in milliseconds and the port of its client; the text is stable while that connection lasts.
    """
    name = client.overview.get("cluster_name")
    if client.tags & {"administrator", "policymaker"}:
        for entry in client.get("global-parameters"):
            if entry.get("name") == "internal_cluster_id":
                return "rabbitmq:%s/%s" % (name, entry["value"])
    known = [(entry["connected_at"], entry["name"]) for entry in entries or () if entry.get("connected_at")]
    if not known:
        return None
    return "rabbitmq:%s/%s" % (name, hashlib.sha256(repr(min(known)).encode("utf-8")).hexdigest()[:16])


def is_own(entry: ApiEntry) -> bool:
    """Return whether a connection is one of this collection."""
    return _client_name(entry) == CLIENT_NAME


def _amqp(options: Options, deadline: Deadline, unknown: Unknown) -> Part | None:
    """Return the part ``amqp``: whether a client can log in. ``seconds`` is the time to connect and log in."""
    began = time.monotonic()
    try:
        _rabbitmq_amqp.session(options, deadline)
        return {"reachable": True, "seconds": round(time.monotonic() - began, 4), "error": None}
    except OutOfTime as exc:
        unknown.add("amqp.reachable", exc)
    except CannotConnect as exc:
        return _login_failed(exc)
    except MissingLibrary as exc:
        unknown.add("amqp.reachable", exc)
    return None


def _without_management(amqp: Part | None, exc: CannotConnect, unknown: Unknown) -> Measurement:
    """Return the measurement without the management API: whether clients can log in."""
    reachable = None if isinstance(exc, OutOfTime) else False
    management_part = {"reachable": reachable, "seconds": None, "error": error(exc)}
    if amqp is not None and amqp["reachable"]:
        for part in API_PARTS:
            unknown.add(part, "the management API is not available: %s" % exc, exc.hint)
        return reached(dict(dict.fromkeys(API_PARTS), amqp=amqp, management=management_part), unknown)
    measurement = unreachable(API_PARTS, exc, {"amqp": amqp, "management": management_part})
    measurement["unknown"] = unknown.parts
    if amqp is not None:
        # The broker itself matters more; the failure of the API is in the part ``management``.
        measurement["reachable"], measurement["error"] = False, amqp["error"]
    return measurement


def server(overview: Part) -> Part:
    """Return the part ``server``: versions and settings."""
    return {
        "version": overview.get("rabbitmq_version") or overview.get("management_version"),
        "erlang_version": overview.get("erlang_version"),
        "cluster_name": overview.get("cluster_name"),
        "rates_mode": overview.get("rates_mode"),
        "statistics": not overview.get("disable_stats", False),
    }


def listener(entry: ApiEntry) -> Part:
    """Return an entry of ``listeners``."""
    port = entry.get("port")
    return {
        "node": entry.get("node"),
        "protocol": entry.get("protocol"),
        "address": entry.get("ip_address"),
        "port": port if isinstance(port, int) else None,
    }


def vhost(entry: ApiEntry) -> Part:
    """Return an entry of ``vhosts``; ``down_on`` lists the nodes on which it does not run."""
    states = entry.get("cluster_state")
    states = states if isinstance(states, dict) else {}
    return {
        "name": entry["name"],
        "down_on": sorted(name for name, state in states.items() if state != "running"),
    }


def unroutable(overview: Part) -> Part:
    """Return the messages that reached no queue: dropped, or returned to a publisher that requested it (mandatory).

    A broker that keeps rates and shows them to the user has no counter before the first message: that is 0.
    """
    stats = overview.get("message_stats")
    stats = stats if isinstance(stats, dict) else {}
    counted = overview.get("rates_mode") != "none" and not overview.get("disable_stats") and "listeners" in overview
    none_yet = 0 if counted else None
    return {
        "window_seconds": OVERVIEW["msg_rates_age"],
        "dropped": _recent(stats, "drop_unroutable", none_yet),
        "returned": _recent(stats, "return_unroutable", none_yet),
        "dropped_total": stats.get("drop_unroutable", none_yet),
        "returned_total": stats.get("return_unroutable", none_yet),
    }


def _recent(stats: ApiEntry, name: str, none_yet: int | None) -> int | None:
    """Return the increase of a counter over its samples."""
    details = stats.get(name + "_details")
    samples = (details.get("samples") if isinstance(details, dict) else None) or []
    counts = [sample["sample"] for sample in samples]
    return max(counts) - min(counts) if counts else none_yet


def queue_counts(overview: Part, now: float) -> Part:
    """Return the number of queues, and how it has changed: created and deleted within the last minutes."""
    churn = overview.get("churn_rates")
    churn = churn if isinstance(churn, dict) else {}
    counted = not overview.get("disable_stats") and bool(churn)
    none_yet = 0 if counted else None
    created, deleted = (_past_samples(churn.get("queue_%s_details" % name), now) for name in ("created", "deleted"))
    numbers = [count - deleted.get(when, 0) for when, count in sorted(created.items())]
    growing = 0
    while growing + 1 < len(numbers) and numbers[-1 - growing] > numbers[-2 - growing]:
        growing += 1
    return {
        "total": (overview.get("object_totals") or {}).get("queues"),
        "window_seconds": OVERVIEW["msg_rates_age"],
        "created": max(created.values()) - min(created.values()) if created else none_yet,
        "deleted": max(deleted.values()) - min(deleted.values()) if deleted else none_yet,
        "grown": numbers[-1] - numbers[0] if numbers else none_yet,
        "growing_seconds": growing * OVERVIEW["msg_rates_incr"] if numbers else none_yet,
    }


def _past_samples(details: Any, now: float) -> dict[int, int]:
    samples = (details.get("samples") if isinstance(details, dict) else None) or []
    return {sample["timestamp"]: sample["sample"] for sample in samples if sample["timestamp"] <= now * 1000}


def limits(client: Management, entries: Sequence[ApiEntry] | None, options: Options) -> list[Part]:
    """Return the limits of vhosts and users and how much of each is in use, fullest first."""
    found = []
    for entry in client.get("vhost-limits"):
        found += [_limit("vhost", entry["vhost"], entry["value"], name) for name in sorted(entry["value"])]
    for entry in client.get("user-limits"):
        found += [_limit("user", entry["user"], entry["value"], name) for name in sorted(entry["value"])]
    # A negative limit is none.
    found = [each for each in found if each["value"] >= 0]
    for each in found:
        used = _used(client, each, entries, options)
        each.update(used=used, ratio=1.0 if each["value"] == 0 else _ratio(used, each["value"]))
    found.sort(key=lambda each: (-(each["ratio"] or 0), each["scope"], each["name"], each["limit"]))
    return found[: options["top"]]


def _limit(scope: str, name: str, definition: ApiEntry, limit: str) -> Part:
    return {"scope": scope, "name": name, "limit": limit, "value": definition[limit], "definition": definition}


def _used(client: Management, limit: Part, entries: Sequence[ApiEntry] | None, options: Options) -> int | None:
    """Return how much of a limit is in use; null if it is not known."""
    if limit["limit"] == "max-queues":
        queues = _rabbitmq_queues.read_queues(client, options)
        if limit["name"] not in _rabbitmq_topology.visible_vhosts(client):
            return None
        return sum(1 for queue in queues if queue["vhost"] == limit["name"])
    if entries is None:
        return None
    own = [entry for entry in entries if entry.get(limit["scope"]) == limit["name"]]
    if limit["limit"] == "max-channels":
        return sum(entry.get("channels") or 0 for entry in own)
    return len(own) if limit["limit"] == "max-connections" else None


def nodes(client: Management, entries: Iterable[ApiEntry], options: Options, unknown: Unknown) -> list[Part]:
    """Return the part ``nodes``."""
    found = []
    for entry in client.get("nodes"):
        process = _rabbitmq_memory.process_of(entry, entries)
        each = node(entry, process, options["memory_limit_bytes"])
        memory = each["memory"]
        if memory and (memory["alarm"] or (memory["ratio"] or 0) >= NEAR_WATERMARK):
            try:
                reply = client.get("nodes", each["name"], "memory")
                memory["base_bytes"] = base_bytes(memory["used_bytes"], reply.get("memory"))
            except ReplyError as exc:
                unknown.add("nodes.memory.base_bytes", exc, hint_of(exc, options))
        if memory and memory["limit_source"] == "unknown":
            unknown.add(
                "nodes.memory.watermark_ratio",
                "%d processes of brokers on this host could be the node" % process.candidates,
                "Set `memory_limit_bytes`.",
            )
        found.append(each)
    return found


def node(entry: ApiEntry, process: _rabbitmq_memory.NodeProcess, memory_limit_bytes: int = 0) -> Part:
    """Return one node. Its resources are null if it is down, or if the broker keeps no statistics."""
    known: Part = dict.fromkeys(("memory", "disk", "files", "sockets", "processes"))
    disk_bytes, device = _rabbitmq_memory.disk_of_node(process, entry.get("db_dir"))
    if entry.get("running") and "mem_limit" in entry:
        known = {
            "memory": _memory(entry, process, memory_limit_bytes),
            "disk": {
                "alarm": bool(entry.get("disk_free_alarm")),
                "free_bytes": _number(entry.get("disk_free")),
                "limit_bytes": _number(entry.get("disk_free_limit")),
                "total_bytes": disk_bytes,
                "device": device,
            },
            "files": _use(entry.get("fd_used"), entry.get("fd_total")),
            # RabbitMQ 4 has no separate limit for sockets.
            "sockets": _use(entry.get("sockets_used"), entry.get("sockets_total")),
            "processes": _use(entry.get("proc_used"), entry.get("proc_total")),
        }
    return dict(
        known,
        name=entry["name"],
        container=_containers.container_name(int(os.path.basename(process.path))) if process.path else None,
        running=bool(entry.get("running")),
        type=entry.get("type"),
        uptime_seconds=_rabbitmq_memory.uptime_of(entry),
        being_drained=entry.get("being_drained"),
        partitions=list(entry.get("partitions") or []),
        run_queue=entry.get("run_queue"),
        processors=entry.get("processors"),
    )


def _memory(entry: ApiEntry, process: _rabbitmq_memory.NodeProcess, limit_bytes: int) -> Part:
    """Return the memory in use, the watermark of the alarm, and the limit at which the kernel ends the node."""
    limit: int | None = limit_bytes
    source: str | None = "option"
    if not limit:
        limit, source = _rabbitmq_memory.limit_of_node(process)
        if limit is None and process.candidates > 1:
            source = "unknown"
    watermark = _number(entry.get("mem_limit"))
    return {
        "alarm": bool(entry.get("mem_alarm")),
        "used_bytes": _number(entry.get("mem_used")),
        "watermark_bytes": watermark,
        "ratio": _ratio(entry.get("mem_used"), watermark),
        "limit_bytes": limit,
        "limit_source": source,
        "watermark_ratio": _ratio(watermark, limit),
        "base_bytes": None,
    }


def base_bytes(used: int | None, breakdown: Any) -> int | None:
    """Return the memory that a node uses beside its queues, messages and connections; null if it is not known."""
    if used is None or not isinstance(breakdown, dict) or "total" not in breakdown:
        return None
    parts = [
        count
        for name, count in breakdown.items()
        if isinstance(count, int) and (name.startswith(("connection_", "queue_", "quorum_queue_")) or name in FREEABLE)
    ]
    return max(0, used - sum(parts))


def _use(used: Any, limit: Any) -> Part | None:
    """Return the use of a limited resource; null if there is no limit."""
    used, limit = _number(used), _number(limit)
    return {"used": used, "limit": limit, "ratio": _ratio(used, limit)} if limit else None


def _number(value: Any) -> Any:
    """Return a number, or null: a node reports ``disk_free_monitoring_disabled`` or ``unknown`` if there is none."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _ratio(part: Any, whole: Any) -> float | None:
    part, whole = _number(part), _number(whole)
    return round(part / whole, 4) if part is not None and whole else None


def connections(entries: Iterable[ApiEntry], top: int) -> Part:
    """Return the part ``connections``: counts, those blocked by an alarm, and those with the most channels."""
    known = [connection(entry) for entry in entries]
    held_back = [entry for entry in known if entry["state"] in HELD_BACK]
    counts: dict[str, int] = {}
    for entry in known:
        counts[entry["state"] or "unknown"] = counts.get(entry["state"] or "unknown", 0) + 1
    return {
        "total": len(known),
        "states": [{"state": state, "connections": counts[state]} for state in sorted(counts)],
        "held_back": sorted(held_back, key=lambda entry: entry["name"])[:top],
        "held_back_total": len(held_back),
        "most_channels": sorted(
            (entry for entry in known if entry["channels"] is not None),
            key=lambda entry: (-entry["channels"], entry["name"]),
        )[:top],
        "channels": sum(entry["channels"] or 0 for entry in known),
    }


def _client_name(entry: ApiEntry) -> Any:
    properties = entry.get("client_properties")
    return entry.get("user_provided_name") or (
        properties.get("connection_name") if isinstance(properties, dict) else None
    )


def connection(entry: ApiEntry) -> Part:
    """Return an entry of ``connections``. A ``channel_max`` of 0 (no limit) is null."""
    name = _client_name(entry)
    return {
        "name": cut(str(entry.get("name")), 120),
        "client": cut(name, 80) if isinstance(name, str) else None,
        "user": entry.get("user"),
        "vhost": entry.get("vhost"),
        "peer": entry.get("peer_host"),
        "node": entry.get("node"),
        "state": entry.get("state"),
        "channels": entry.get("channels"),
        "channel_max": entry.get("channel_max") or None,
    }


class _Topology:
    """Exchanges, bindings, policies and roles of queues, for the parts that need them."""

    def __init__(self, client: Management, options: Options, unknown: Unknown) -> None:
        self._client = client
        self._options = options
        self._unknown = unknown
        self._exchanges = _rabbitmq_roles.read_exchanges(client, unknown)
        self._policies = _rabbitmq_roles.read_policies(client)

    def exchanges_without_binding(self) -> Part:
        """Return the part ``exchanges``. Raises CannotConnect, ReplyError."""
        found, total, checked = self._exchanges.unbound(self._policies, self._options["top"])
        return {
            "total": len(self._exchanges.by_name),
            "checked": checked,
            "without_binding": found,
            "without_binding_total": total,
        }

    def dead_letters(self) -> Part:
        """Return the part ``dead_letters``. Raises CannotConnect, ReplyError."""
        roles = _rabbitmq_roles.read_roles(self._client, self._options, self._unknown)
        return roles.dead_letters(self._options["top"], self._unknown, self._options)
