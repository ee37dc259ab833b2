# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the queues of a RabbitMQ broker. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    MissingLibrary,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_amqp, _rabbitmq_queues
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import (
    CONNECTION_SPEC,
    ReplyError,
    management,
    reason,
    started,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_topology import no_access

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
    sample_seconds={"type": "float", "default": 1.0},
    ack_timeout_seconds={"type": "float", "default": 1800.0},
)

PARTS = ("rates_mode", "totals", "queues", "expected", "hidden_vhosts")

# Queues without statistics are asked for one by one over AMQP (0.5 ms each): a bound for brokers that keep none at all.
MOST_DECLARED = 200


def measure(options):
    """The queues, as documented in the module rabbitmq_queue_state."""
    deadline = started(options)
    unknown = Unknown()
    expected = expectations(options)
    try:
        client = management(options, deadline)
    except CannotConnect as exc:
        return _by_amqp_alone(options, deadline, expected, None, exc)
    try:
        listed = client.remember("queues", lambda: _rabbitmq_queues.read_list(client, options["max_queues"]))
    except (CannotConnect, ReplyError) as exc:
        return _by_amqp_alone(options, deadline, expected, client.overview, exc)

    looked_at = [
        queue
        for queue in listed
        if _rabbitmq_queues.wanted(queue, options["vhosts"], options["include"], options["exclude"])
    ]
    by_name = {(queue["vhost"], queue["name"]): queue for queue in listed}
    shown = {(queue["vhost"], queue["name"]): queue for queue in _rabbitmq_queues.worst(looked_at, options["top"])}
    shown.update((name, by_name[name]) for name in expected if name in by_name)
    items = _details(client, list(shown.values()), unknown)
    _ages(client, items, options["top"], unknown)

    young = [
        name for name, item in items.items() if item["consumers"] is None and not _rabbitmq_queues.out_of_order(item)
    ][:MOST_DECLARED]
    # The broker's statistics are up to five seconds old. Of the queues that matter most, the queue itself is asked.
    asked = young + [name for name in expected if name not in young and not _broken(items.get(name))]
    declared, failure = _declare(options, deadline, asked)
    for name in young:
        if name in declared:
            _add_declared(items, name, declared[name])
    if failure is not None and young:
        unknown.add("queues.consumers", "queues too young for statistics could not be asked over AMQP: %s" % failure)
    _sample(options, deadline, items)
    for item in items.values():
        _rabbitmq_queues.settle_timeout(item, options["ack_timeout_seconds"])
    return reached(
        {
            "rates_mode": client.overview.get("rates_mode"),
            "totals": totals(looked_at, items, vanished=len(shown) - len(items)),
            "queues": sorted(items.values(), key=lambda item: (-(item["total"] or 0), item["vhost"], item["name"])),
            "expected": _expected(expected, items, declared, failure),
            "hidden_vhosts": _hidden_vhosts(client, listed, unknown),
        },
        unknown,
    )


def _hidden_vhosts(client, listed, unknown):
    """Vhosts whose queues the API leaves out of its lists, because the user has no permission in them.

    Looked for only where the broker has more queues than it listed. Null where that cannot be found out.
    """
    known = (client.overview.get("object_totals") or {}).get("queues")
    if known is not None and known <= len(listed):
        return []
    seen = {queue["vhost"] for queue in listed}
    hidden = []
    try:
        for vhost in [entry["name"] for entry in client.get("vhosts", columns="name")][:MOST_DECLARED]:
            try:
                if vhost not in seen:
                    client.get("queues", vhost, page=1, page_size=1, disable_stats="true", columns="name")
            except ReplyError as exc:
                if exc.kind == "permission":
                    hidden.append({"name": vhost})
    except (CannotConnect, ReplyError) as exc:
        unknown.add("hidden_vhosts", reason(exc))
        return None
    return hidden


def expectations(options):
    """``{(vhost, name): least number of consumers}`` of the queues that must exist."""
    return {
        (options["vhost"] if entry["vhost"] is None else entry["vhost"], entry["name"]): entry["min_consumers"]
        for entry in options["expected_queues"]
    }


def totals(looked_at, items, vanished):
    """Sums over every queue that was looked at, whether it is shown or not."""
    left_out = [queue for queue in looked_at if (queue["vhost"], queue["name"]) not in items]
    return {
        "queues": len(looked_at),
        "ready": sum(queue["ready"] or 0 for queue in looked_at),
        "unacked": sum(queue["unacked"] or 0 for queue in looked_at),
        "total": sum(queue["total"] or 0 for queue in looked_at),
        "out_of_order": sum(1 for queue in looked_at if _rabbitmq_queues.out_of_order(queue)),
        "left_out": max(0, len(left_out) - vanished),
        "left_out_messages": sum(queue["total"] or 0 for queue in left_out),
        "vanished": vanished,
    }


def _details(client, queues, unknown):
    """``{(vhost, name): item}``; a queue that has gone since the list was read is left out."""
    with_rates = client.overview.get("rates_mode") != "none"
    items = {}
    closed_vhosts = {}
    for queue in queues:
        name = (queue["vhost"], queue["name"])
        detail = None
        try:
            if name[0] not in closed_vhosts and None not in closed_vhosts:
                detail = client.get(
                    "queues", *name, columns=_rabbitmq_queues.DETAIL_COLUMNS, **_rabbitmq_queues.RATE_SAMPLES
                )
        except ReplyError as exc:
            if exc.kind == "not_found":
                continue
            closed_vhosts[name[0]] = no_access(name[0], exc)
        except CannotConnect as exc:
            # The broker has stopped answering: no use in waiting for it once per queue.
            closed_vhosts[None] = str(exc)
        items[name] = _rabbitmq_queues.described(queue, detail, time.time(), with_rates)
    for why in closed_vhosts.values():
        unknown.add("queues.details", why)
    return items


def _ages(client, items, top, unknown):
    """Adds how long the oldest unacknowledged message has been out, for the ``top`` queues with the most of them."""
    holding = sorted((item for item in items.values() if item["unacked"]), key=lambda item: -item["unacked"])
    for item in holding[:top]:
        try:
            for seconds, resolution in _rabbitmq_queues.HISTORIES:
                history = client.get(
                    "queues",
                    item["vhost"],
                    item["name"],
                    columns=_rabbitmq_queues.HISTORY_COLUMNS,
                    msg_rates_age=seconds,
                    msg_rates_incr=resolution,
                )
                age = _rabbitmq_queues.unacked_age(history, item["unacked"], time.time())
                item["unacked_age_seconds"] = age
                item["no_ack_seconds"] = _rabbitmq_queues.no_ack_seconds(history, age, time.time())
                if age is None or age < seconds - 2 * resolution:
                    break
        except ReplyError:
            # It has gone meanwhile.
            continue
        except CannotConnect as exc:
            unknown.add("queues.unacked_age_seconds", exc)
            return


def _declare(options, deadline, names):
    """``(answers, failure)`` of a passive declare of each queue; the failure where AMQP as a whole is out of reach."""
    if not names:
        return {}, None
    try:
        return _rabbitmq_amqp.declare_passive(options, deadline, names), None
    except (CannotConnect, MissingLibrary) as exc:
        return {}, exc


def _broken(item):
    return item is not None and _rabbitmq_queues.out_of_order(item)


def _add_declared(items, name, answer):
    if answer["error"] and answer["error"]["kind"] == "not_found":
        del items[name]
        return
    items[name].update(_rabbitmq_queues.declared_by_amqp(answer))


def _sample(options, deadline, items):
    """Adds growth, from two passive declares, to the queues whose growth the API does not know (yet)."""
    names = [name for name, item in items.items() if item["growth_rate"] is None and item["ready"] is not None][
        :MOST_DECLARED
    ]
    seconds = options["sample_seconds"]
    if not names or seconds <= 0 or deadline.remaining() <= seconds:
        return
    began = time.monotonic()
    before = _declare(options, deadline, names)[0]
    time.sleep(seconds)
    after = _declare(options, deadline, names)[0]
    elapsed = time.monotonic() - began
    for name in names:
        counts = [answers.get(name, {}).get("ready") for answers in (before, after)]
        if None not in counts:
            items[name].update(_rabbitmq_queues.growth(items[name], (counts[1] - counts[0]) / elapsed, "samples"))


def _by_amqp_alone(options, deadline, expected, overview, cause):
    """Where the list of queues cannot be read: the expected queues by passive declares, and what the API sums up.

    ``overview`` is null where the management API does not answer at all.
    """
    answers, failure = _declare(options, deadline, list(expected))
    if overview is None and not answers:
        return unreachable(PARTS, cause)
    unknown = Unknown()
    items = {}
    for name, answer in answers.items():
        if not answer["error"] or answer["error"]["kind"] != "not_found":
            items[name] = _rabbitmq_queues.from_amqp(name[0], name[1], answer)
            _rabbitmq_queues.settle_timeout(items[name], options["ack_timeout_seconds"])
    _sample(options, deadline, items)
    parts = dict.fromkeys(PARTS)
    parts.update(expected=_expected(expected, items, answers, failure), queues=list(items.values()) or None)
    if overview is not None:
        parts.update(rates_mode=overview.get("rates_mode"), totals=totals_of_overview(overview, len(items)))
    why = "the list of queues cannot be read: %s" % reason(cause)
    unknown.add("queues", "only the expected queues are known, by AMQP; %s" % why if items else why)
    for part in ("rates_mode", "totals", "hidden_vhosts"):
        if parts[part] is None:
            unknown.add(part, why)
    return reached(parts, unknown)


def totals_of_overview(overview, shown):
    """The broker's own sums, or null where it does not tell them."""
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


def _expected(expected, items, declared, failure):
    """What became of the queues that must exist; ``exists`` is null where nobody could tell."""
    result = []
    for (vhost, name), min_consumers in expected.items():
        item = items.get((vhost, name))
        answer = declared.get((vhost, name)) or {}
        problem = answer.get("error")
        now = answer if answer and not problem else item
        exists = None
        if problem and problem["kind"] == "not_found":
            exists = False
        elif item is not None or (problem and problem["kind"] == "exclusive"):
            exists = True
            if now is item and problem and problem["kind"] != "exclusive":
                # The API has told what AMQP may not.
                problem = None
        elif problem is None and failure is not None:
            problem = {"kind": getattr(failure, "kind", "failed"), "message": str(failure)}
        result.append(
            {
                "vhost": vhost,
                "name": name,
                "exists": exists,
                "ready": now and now["ready"],
                "consumers": now and now["consumers"],
                "min_consumers": min_consumers,
                "error": problem,
            }
        )
    return result
