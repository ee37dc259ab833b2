# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the queues of a RabbitMQ broker. Private to this collection."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine, _service_state
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    MissingLibrary,
    Unknown,
    cut,
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
    CONNECTION_SPEC,
    Management,
    ReplyError,
    hint_of,
    management,
    missing_permissions,
    missing_tag,
    start_deadline,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import (
    Declared,
    ListedQueue,
    QueueName,
    QueueProblem,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC = dict(
    CONNECTION_SPEC,
    vhosts={"type": "list", "elements": "str", "default": []},
    include={"type": "list", "elements": "str", "default": []},
    exclude={"type": "list", "elements": "str", "default": []},
    expected_queues={
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "vhost": {"type": "str"},
            "min_consumers": {"type": "int", "default": 0},
        },
    },
    consumed_queues={"type": "list", "elements": "str", "default": []},
    services={"type": "list", "elements": "str", "default": []},
    project={"type": "str", "default": ""},
    docker_host=_engine.SPEC["docker_host"],
    **_service_state.SPEC,
    sample_seconds={"type": "float", "default": 1.0},
    ack_timeout_seconds={"type": "float", "default": 0.0},
)

PARTS = ("rates_mode", "totals", "queues", "families", "expected", "hidden_vhosts", "services")

# Lists without the items of vhosts that the user may not see.
BY_VHOST = ("queues", "families")

# Queues without statistics are declared one by one over AMQP (0.5 ms each): a bound for brokers that keep none at all.
MOST_DECLARED = 200

# consumer_timeout of RabbitMQ since 3.8.17, if it is not configured.
DEFAULT_ACK_TIMEOUT_SECONDS = 1800.0

# Channels of one queue whose limit is read, queues of one family that are reported one by one, and families returned.
MOST_CHANNELS = 5
MOST_LISTED = 10
MOST_FAMILIES = 20

# Items of the part ``queues``, and replies to passive declares.
Items = Dict[QueueName, Part]
Replies = Mapping[QueueName, Declared]


class Existence(NamedTuple):
    """Whether an expected queue exists (null: not known), and the reason and the hint if not."""

    exists: bool | None
    problem: QueueProblem | None
    hint: str | None = None


# Looks for a queue that was not found: vhost, name, and the problem that AMQP reported or null.
LookUp = Callable[[str, str, "QueueProblem | None"], Existence]


def measure(options: Options) -> Measurement:
    """Measure the queues. The module rabbitmq_queue_state documents the result."""
    deadline = start_deadline(options)
    unknown = Unknown()
    expected = expectations(options)
    try:
        client = management(options, deadline)
    except CannotConnect as exc:
        return _by_amqp_alone(options, deadline, expected, None, exc)
    try:
        listed = _rabbitmq_queues.read_queues(client, options)
    except (CannotConnect, ReplyError) as exc:
        return _by_amqp_alone(options, deadline, expected, client.overview, exc)

    selected = [
        queue
        for queue in listed
        if _rabbitmq_queues.is_selected(queue, options["vhosts"], options["include"], options["exclude"])
    ]
    by_name = {(queue["vhost"], queue["name"]): queue for queue in listed}
    shown = {
        (queue["vhost"], queue["name"]): queue for queue in _rabbitmq_queues.select_worst(selected, options["top"])
    }
    shown.update((name, by_name[name]) for name in expected if name in by_name)
    items = _read_details(client, list(shown.values()), options, unknown)
    _add_histories(client, items, options["top"], unknown)
    _add_channel_limits(client, items)
    _add_roles(client, items, options, unknown)

    vhosts = _Vhosts(client, options, unknown)
    young = [
        name for name, item in items.items() if item["consumers"] is None and not _rabbitmq_queues.out_of_order(item)
    ][:MOST_DECLARED]
    # A consumer that has just started is not in the statistics.
    idle = [name for name, item in items.items() if item["consumers"] == 0 and item["ready"]][:MOST_DECLARED]
    # The broker's statistics are up to five seconds old. A passive declare of the queues that matter most is exact.
    declared, failure = _declare(
        options, deadline, _declarable(client, options, items, {**dict.fromkeys(young + idle), **expected})
    )
    for name in young + idle:
        if name in declared:
            _add_declared(items, name, declared[name])
    if failure is not None and young:
        unknown.add("queues.consumers", "queues too new for statistics could not be read over AMQP: %s" % failure)
    _add_growth(options, deadline, items, _declarable(client, options, items, items))
    _add_ack_timeouts(client, items, options)
    found = _expected(expected, items, declared, _look_up_by_api(client, vhosts, options), unknown)
    return reached(
        {
            "rates_mode": client.overview.get("rates_mode"),
            "totals": totals(selected, items, vanished=len(shown) - len(items)),
            "queues": sorted(items.values(), key=lambda item: (-(item["total"] or 0), item["vhost"], item["name"])),
            "families": _families(selected, items),
            "expected": found,
            "hidden_vhosts": vhosts.hidden,
            "services": _services(options, deadline, unknown),
        },
        unknown,
    )


class _Vhosts:
    """The vhosts of the broker, and those whose queues the API lists.

    ``visible`` and ``all`` are sets of names, null if they are not known. ``hidden`` lists ``{"name"}`` of the selected
    vhosts whose queues are not shown; the missing queues are added to ``unknown``.
    """

    def __init__(self, client: Management, options: Options, unknown: Unknown) -> None:
        self.visible: set[str] | None = None
        self.all: set[str] | None = None
        self.hidden: list[Part] | None = None
        reason: tuple[Any, str | None]
        try:
            self.visible = _rabbitmq_topology.visible_vhosts(client)
            if client.is_monitor:
                self.all = {entry["name"] for entry in client.get("vhosts", columns="name")}
                selected = self.all.intersection(options["vhosts"]) if options["vhosts"] else self.all
                hidden = sorted(selected - self.visible)
                self.hidden = [{"name": name} for name in hidden]
                if hidden:
                    for part in BY_VHOST:
                        unknown.add(part + "[...]", *missing_permissions(hidden, options))
                return
            reason = missing_tag(client, options)
        except (CannotConnect, ReplyError) as exc:
            reason = exc, hint_of(exc, options)
        for part in (*(part + "[...]" for part in BY_VHOST), "hidden_vhosts"):
            unknown.add(part, *reason)


def _declarable(client: Management, options: Options, items: Items, names: Iterable[QueueName]) -> list[QueueName]:
    """Return the queues of which a passive declare succeeds: the broker logs an error for each that it rejects."""
    open_vhosts = _rabbitmq_topology.open_vhosts(client, options)
    return [
        name
        for name in names
        if name in items
        and not (items[name]["exclusive"] or _rabbitmq_queues.out_of_order(items[name]))
        and (open_vhosts is None or name[0] in open_vhosts)
    ]


def expectations(options: Options) -> dict[QueueName, int]:
    """Return ``{(vhost, name): least number of consumers}`` of the queues that must exist."""
    return {
        (options["vhost"] if entry["vhost"] is None else entry["vhost"], entry["name"]): entry["min_consumers"]
        for entry in options["expected_queues"]
    }


def totals(selected: Sequence[ListedQueue], items: Items, vanished: int) -> Part:
    """Return sums over all selected queues, whether they are returned or not."""
    left_out = [queue for queue in selected if (queue["vhost"], queue["name"]) not in items]
    return {
        "queues": len(selected),
        "ready": sum(queue["ready"] or 0 for queue in selected),
        "unacked": sum(queue["unacked"] or 0 for queue in selected),
        "total": sum(queue["total"] or 0 for queue in selected),
        "out_of_order": sum(1 for queue in selected if _rabbitmq_queues.out_of_order(queue)),
        "left_out": max(0, len(left_out) - vanished),
        "left_out_messages": sum(queue["total"] or 0 for queue in left_out),
        "vanished": vanished,
    }


def _read_details(client: Management, queues: Iterable[ListedQueue], options: Options, unknown: Unknown) -> Items:
    """Return ``{(vhost, name): item}``, without queues that were deleted since the list was read."""
    with_rates = client.overview.get("rates_mode") != "none"
    items: Items = {}
    # The reason by vhost; for all of them by None.
    failed: dict[str | None, tuple[Any, ...]] = {}
    for queue in queues:
        name = (queue["vhost"], queue["name"])
        detail = None
        try:
            if name[0] not in failed and None not in failed:
                detail = _rabbitmq_queues.read_detail(client, name)
        except ReplyError as exc:
            if exc.kind == "not_found":
                continue
            failed[name[0]] = (exc, missing_permissions([name[0]], options)[1])
        except CannotConnect as exc:
            # The broker no longer answers: do not wait for it once per queue.
            failed[None] = (exc,)
        items[name] = _rabbitmq_queues.describe(queue, detail, time.time(), with_rates)
    for reason in failed.values():
        unknown.add("queues.details", *reason)
    return items


def _add_histories(client: Management, items: Items, top: int, unknown: Unknown) -> None:
    """Add what only the past of a queue shows, to the ``top`` queues of each kind.

    The age of the oldest unacknowledged message, whether clients poll a queue without consumers, and the messages that
    a queue with a maximum length has dropped.
    """
    if client.overview.get("rates_mode") == "none":
        return
    holding = sorted((item for item in items.values() if item["unacked"]), key=lambda item: -item["unacked"])
    limited = [item for item in items.values() if item["full"] is not None]
    waiting = [item for item in items.values() if item["consumers"] == 0 and item["ready"]]
    try:
        for item in _distinct(holding[:top], limited[:top], waiting[:top]):
            _add_history(client, item)
    except CannotConnect as exc:
        for field in ("unacked_age_seconds", "dropped", "polled"):
            unknown.add("queues.%s" % field, exc)


def _distinct(*lists: Iterable[Part]) -> list[Part]:
    return list({(item["vhost"], item["name"]): item for items in lists for item in items}.values())


def _add_history(client: Management, item: Part) -> None:
    for seconds, resolution in _rabbitmq_queues.HISTORIES:
        try:
            history = client.get(
                "queues",
                item["vhost"],
                item["name"],
                columns=_rabbitmq_queues.HISTORY_COLUMNS,
                msg_rates_age=seconds,
                msg_rates_incr=resolution,
                lengths_age=seconds,
                lengths_incr=resolution,
            )
        except ReplyError:
            # The queue was deleted in the meantime.
            return
        age = _rabbitmq_queues.unacked_age(history, item["unacked"], time.time())
        item["unacked_age_seconds"] = age
        item["no_ack_seconds"] = _rabbitmq_queues.no_ack_seconds(history, age)
        item["slowest_ack_seconds"] = _rabbitmq_queues.slowest_ack_seconds(history)
        if item["polled"] is None:
            # What happened in the shorter history counts: a client that no longer polls is not polling.
            item["polled"] = item["consumers"] == 0 and _rabbitmq_queues.polled(history)
            item["dropped"] = None if item["full"] is None else _rabbitmq_queues.dropped(history, item)
        if age is None or age < seconds - 2 * resolution:
            return


def _add_channel_limits(client: Management, items: Items) -> None:
    """Correct the consumers without a prefetch limit: their channels may have one for all consumers together."""
    if not client.is_monitor:
        return
    for name, item in items.items():
        if not item["unlimited_consumers"] or not item["unacked"]:
            continue
        consumers = _rabbitmq_queues.read_detail(client, name).get("consumer_details") or []
        channels = [
            entry["channel_details"].get("name")
            for entry in consumers
            if entry.get("ack_required") and not entry.get("prefetch_count")
        ]
        for channel in channels[:MOST_CHANNELS]:
            try:
                limit = client.get("channels", channel, columns="global_prefetch_count").get("global_prefetch_count")
            except (ReplyError, CannotConnect):
                # The channel was closed in the meantime.
                continue
            if limit:
                item["unlimited_consumers"] -= 1


def _add_roles(client: Management, items: Items, options: Options, unknown: Unknown) -> None:
    """Add the role of each queue, and of the names that they share with many others."""
    try:
        roles = _rabbitmq_roles.read_roles(client, options, Unknown())
        for name, item in items.items():
            item["role"] = roles.role(name)
            item["receives_dead_letters"] = name in roles.receivers
    except (ReplyError, CannotConnect) as exc:
        unknown.add("queues.role", exc, hint_of(exc, options))


def _add_ack_timeouts(client: Management, items: Items, options: Options) -> None:
    """Add the acknowledgement timeout of each queue: its own, or that of the broker."""
    broker = _assumed_timeout(options)
    if not options["ack_timeout_seconds"] and any(
        item["unacked_age_seconds"] is not None and item["ack_timeout_seconds"] is None for item in items.values()
    ):
        broker = _timeout_of_broker(client) or broker
    for item in items.values():
        _rabbitmq_queues.add_ack_timeout(item, *broker)


def _assumed_timeout(options: Options) -> tuple[float, str]:
    """Return the timeout that the option sets, else RabbitMQ's default, and which of them it is."""
    given = options["ack_timeout_seconds"]
    return (given, "option") if given else (DEFAULT_ACK_TIMEOUT_SECONDS, "assumed")


def _timeout_of_broker(client: Management) -> tuple[float, str] | None:
    """Return the shortest consumer_timeout of the nodes on this host; null if their files cannot be read.

    Since RabbitMQ 3.12 or so, the API shows the timeout of each consumer.
    """
    if not client.is_monitor:
        return None
    try:
        entries = client.get("nodes", columns="name,os_pid,uptime,config_files")
        connected = client.get_long("connections", columns="node,host,port,peer_host,peer_port")
    except (ReplyError, CannotConnect):
        return None
    found = []
    for entry in entries:
        process = _rabbitmq_memory.process_of(entry, connected)
        seconds = _rabbitmq_memory.consumer_timeout(process, entry.get("config_files") or ())
        if seconds is not None:
            found.append(DEFAULT_ACK_TIMEOUT_SECONDS if seconds < 0 else seconds)
    return (min(found), "configuration") if found else None


def _services(options: Options, deadline: Deadline, unknown: Unknown) -> list[Part] | None:
    """Return the part ``services``."""
    if not options["services"]:
        return []
    try:
        return _service_state.service_states(options, options["services"], deadline)
    except CannotConnect as exc:
        unknown.add("services", exc, exc.hint)
        return None


def _families(selected: Sequence[ListedQueue], items: Items) -> list[Part]:
    """Return the groups of many queues with similar names, those with the most messages first.

    Sets ``family`` of the items that are in a group of which most measured queues have messages and no consumer: one
    cause, which is one finding.
    """
    result: list[Part] = []
    for (vhost, pattern), members in _rabbitmq_queues.families(selected).items():
        measured = [items[(vhost, queue["name"])] for queue in members if (vhost, queue["name"]) in items]
        waiting = [item for item in measured if item["consumers"] == 0 and item["ready"] and is_work(item)]
        if len(waiting) >= MOST_LISTED:
            for item in waiting:
                item["family"] = pattern
        result.append(
            {
                "vhost": vhost,
                "pattern": pattern,
                "queues": len(members),
                "ready": sum(queue["ready"] or 0 for queue in members),
                "unacked": sum(queue["unacked"] or 0 for queue in members),
                "with_messages": sum(1 for queue in members if queue["total"]),
                "measured": len(measured),
                "without_consumers": len(waiting),
            }
        )
    result.sort(key=lambda family: (-family["ready"], -family["queues"], family["vhost"], family["pattern"]))
    return result[:MOST_FAMILIES]


def is_work(item: Part) -> bool:
    """Return whether a queue needs a consumer."""
    return not item["polled"] and item["role"] in (None, _rabbitmq_roles.WORK)


def _declare(
    options: Options, deadline: Deadline, names: Sequence[QueueName]
) -> tuple[Replies, CannotConnect | MissingLibrary | None]:
    """Return ``(replies, failure)`` of a passive declare of each queue; the failure if AMQP is not available at all."""
    if not names:
        return {}, None
    try:
        return _rabbitmq_amqp.declare_passive(options, deadline, names), None
    except (CannotConnect, MissingLibrary) as exc:
        return {}, exc


def _add_declared(items: Items, name: QueueName, reply: Declared) -> None:
    if reply["error"] and reply["error"]["kind"] == "not_found":
        del items[name]
        return
    items[name].update(_rabbitmq_queues.fields_of_declare(reply))


def _add_growth(options: Options, deadline: Deadline, items: Items, names: Iterable[QueueName]) -> None:
    """Add growth, from two passive declares, to the queues whose growth the API does not report (yet)."""
    names = [name for name in names if items[name]["growth_rate"] is None and items[name]["ready"] is not None]
    names = names[:MOST_DECLARED]
    seconds = options["sample_seconds"]
    if not names or seconds <= 0 or deadline.remaining() <= seconds:
        return
    began = time.monotonic()
    before = _declare(options, deadline, names)[0]
    time.sleep(seconds)
    after = _declare(options, deadline, names)[0]
    elapsed = time.monotonic() - began
    for name in names:
        first, second = (replies[name]["ready"] if name in replies else None for replies in (before, after))
        if first is not None and second is not None:
            items[name].update(_rabbitmq_queues.growth(items[name], (second - first) / elapsed, None, "samples"))


def _by_amqp_alone(
    options: Options,
    deadline: Deadline,
    expected: Mapping[QueueName, int],
    overview: Part | None,
    cause: ReplyError | CannotConnect,
) -> Measurement:
    """Return the measurement without the list of queues: the expected queues over AMQP, and the sums of the overview.

    ``overview`` is null if the management API does not answer at all.
    """
    replies, failure = _declare(options, deadline, list(expected))
    if overview is None and not replies and isinstance(cause, CannotConnect):
        return unreachable(PARTS, cause)
    unknown = Unknown()
    items: Items = {}
    for name, reply in replies.items():
        if not reply["error"] or reply["error"]["kind"] in ("exclusive", "down"):
            items[name] = _rabbitmq_queues.from_amqp(name[0], name[1], reply)
            _rabbitmq_queues.add_ack_timeout(items[name], *_assumed_timeout(options))
    _add_growth(options, deadline, items, items)
    parts: Part = dict.fromkeys(PARTS)
    parts["queues"] = list(items.values()) or None
    parts["services"] = _services(options, deadline, unknown)
    if overview is not None:
        parts.update(rates_mode=overview.get("rates_mode"), totals=totals_of_overview(overview, len(items)))
    reason, hint = "the list of queues cannot be read: %s" % cause, hint_of(cause, options)
    parts["expected"] = _expected(expected, items, replies, _look_up_by_amqp(options, failure), unknown)
    if items:
        unknown.add("queues[...]", "only the expected queues are known, over AMQP; %s" % reason, hint)
    for part in ("queues", "families", "rates_mode", "totals", "hidden_vhosts"):
        if parts[part] is None:
            unknown.add(part, reason, hint)
    return reached(parts, unknown)


def totals_of_overview(overview: Part, shown: int) -> Part | None:
    """Return the broker's own sums, or null if it does not report them."""
    objects, messages = overview.get("object_totals") or {}, overview.get("queue_totals") or {}
    if "queues" not in objects:
        return None
    return {
        "queues": objects["queues"],
        "ready": messages.get("messages_ready"),
        "unacked": messages.get("messages_unacknowledged"),
        "total": messages.get("messages"),
        "out_of_order": None,
        "left_out": max(0, objects["queues"] - shown),
        "left_out_messages": None,
        "vanished": 0,
    }


def _expected(
    expected: Mapping[QueueName, int], items: Items, declared: Replies, look_up: LookUp, unknown: Unknown
) -> list[Part]:
    """Return the part ``expected``. Queues of which it is not known whether they exist are added to ``unknown``."""
    result = []
    for (vhost, name), min_consumers in expected.items():
        item = items.get((vhost, name))
        reply = declared.get((vhost, name))
        problem = reply["error"] if reply else None
        now: Any = reply if reply and not problem else item
        if problem and problem["kind"] in ("not_found", "no_such_vhost"):
            found = Existence(False, problem)
        elif problem and problem["kind"] == "exclusive":
            found = Existence(True, problem)
        elif item is None:
            found = look_up(vhost, name, problem)
        else:
            # The API lists it, whatever AMQP reports.
            found = Existence(True, None)
        if found.exists is None and found.problem:
            unknown.add("expected.%s %s" % (vhost, name), found.problem["message"], found.hint)
        result.append(
            {
                "vhost": vhost,
                "name": name,
                "exists": found.exists,
                "ready": now and now["ready"],
                "consumers": now and now["consumers"],
                "min_consumers": min_consumers,
                "error": found.problem,
            }
        )
    return result


def _look_up_by_api(client: Management, vhosts: _Vhosts, options: Options) -> LookUp:
    """Return how to look for a queue that is not in the list: one more request, as it may be new."""

    def look_up(vhost: str, name: str, _problem: QueueProblem | None) -> Existence:
        if vhosts.all is not None and vhost not in vhosts.all:
            return Existence(False, _queue_problem("no_such_vhost", "there is no vhost %s" % vhost))
        if vhosts.visible is not None and vhost not in vhosts.visible:
            reason, hint = missing_permissions([vhost], options)
            return Existence(None, _queue_problem("permission", reason), hint)
        try:
            client.get("queues", vhost, name, disable_stats="true", columns="name")
            return Existence(True, None)
        except ReplyError as exc:
            exists = False if exc.kind == "not_found" else None
            return Existence(exists, _queue_problem(exc.kind, exc), hint_of(exc, options))
        except CannotConnect as exc:
            return Existence(None, _queue_problem(exc.kind, exc), exc.hint)

    return look_up


def _look_up_by_amqp(options: Options, failure: CannotConnect | MissingLibrary | None) -> LookUp:
    """Return how to explain that AMQP does not report a queue."""

    def look_up(vhost: str, _name: str, problem: QueueProblem | None) -> Existence:
        if problem:
            hint = missing_permissions([vhost], options)[1] if problem["kind"] == "permission" else None
            return Existence(None, problem, hint)
        return Existence(
            None, _queue_problem(getattr(failure, "kind", "failed"), failure), getattr(failure, "hint", None)
        )

    return look_up


def _queue_problem(kind: str, message: object) -> QueueProblem:
    return {"kind": kind, "message": cut(str(message), 300)}
