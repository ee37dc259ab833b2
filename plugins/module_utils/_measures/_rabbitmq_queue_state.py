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
    cut,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import (
    _rabbitmq_amqp,
    _rabbitmq_queues,
    _rabbitmq_topology,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import (
    CONNECTION_SPEC,
    ReplyError,
    hint_of,
    management,
    needs_permissions,
    needs_tag,
    started,
)

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
    items = _details(client, list(shown.values()), options, unknown)
    _ages(client, items, options["top"], unknown)

    vhosts = _Vhosts(client, options, unknown)
    young = [
        name for name, item in items.items() if item["consumers"] is None and not _rabbitmq_queues.out_of_order(item)
    ][:MOST_DECLARED]
    # The broker's statistics are up to five seconds old. Of the queues that matter most, the queue itself is asked.
    asked = _may_be_declared(client, options, items, {**dict.fromkeys(young), **expected})
    declared, failure = _declare(options, deadline, asked)
    for name in young:
        if name in declared:
            _add_declared(items, name, declared[name])
    if failure is not None and young:
        unknown.add("queues.consumers", "queues too young for statistics could not be asked over AMQP: %s" % failure)
    _sample(options, deadline, items, _may_be_declared(client, options, items, items))
    for item in items.values():
        _rabbitmq_queues.settle_timeout(item, options["ack_timeout_seconds"])
    found, not_found = _expected(expected, items, declared, _absent_by_api(client, vhosts, options))
    for entry in not_found:
        unknown.add(*entry)
    return reached(
        {
            "rates_mode": client.overview.get("rates_mode"),
            "totals": totals(looked_at, items, vanished=len(shown) - len(items)),
            "queues": sorted(items.values(), key=lambda item: (-(item["total"] or 0), item["vhost"], item["name"])),
            "expected": found,
            "hidden_vhosts": vhosts.hidden,
        },
        unknown,
    )


class _Vhosts:
    """Which vhosts there are, and whose queues the API lists.

    ``visible`` and ``all`` are sets of names, null where they are not known; ``hidden`` lists ``{"name"}`` of the
    wanted vhosts whose queues are not shown. Notes that the list of queues lacks theirs.
    """

    def __init__(self, client, options, unknown):
        self.visible = self.all = self.hidden = None
        try:
            self.visible = _rabbitmq_topology.visible_vhosts(client)
            if client.monitors:
                self.all = {entry["name"] for entry in client.get("vhosts", columns="name")}
                self._find_hidden(options, unknown)
                return
            why = needs_tag(client, options)
        except (CannotConnect, ReplyError) as exc:
            why = exc, hint_of(exc, options)
        for part in ("queues[...]", "hidden_vhosts"):
            unknown.add(part, *why)

    def _find_hidden(self, options, unknown):
        wanted = [name for name in self.all if not options["vhosts"] or name in options["vhosts"]]
        hidden = sorted(set(wanted) - self.visible)
        self.hidden = [{"name": name} for name in hidden]
        if hidden:
            unknown.add("queues[...]", *needs_permissions(hidden, options))


def _may_be_declared(client, options, items, names):
    """The queues of which a passive declare succeeds: the broker logs an error for each that it rejects."""
    open_vhosts = _rabbitmq_topology.open_vhosts(client, options)
    return [
        name
        for name in names
        if name in items
        and not (items[name]["exclusive"] or _rabbitmq_queues.out_of_order(items[name]))
        and (open_vhosts is None or name[0] in open_vhosts)
    ]


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


def _details(client, queues, options, unknown):
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
            closed_vhosts[name[0]] = (exc, *needs_permissions([name[0]], options)[1:])
        except CannotConnect as exc:
            # The broker has stopped answering: no use in waiting for it once per queue.
            closed_vhosts[None] = (exc,)
        items[name] = _rabbitmq_queues.described(queue, detail, time.time(), with_rates)
    for why in closed_vhosts.values():
        unknown.add("queues.details", *why)
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


def _add_declared(items, name, answer):
    if answer["error"] and answer["error"]["kind"] == "not_found":
        del items[name]
        return
    items[name].update(_rabbitmq_queues.declared_by_amqp(answer))


def _sample(options, deadline, items, names):
    """Adds growth, from two passive declares, to the queues ``names`` whose growth the API does not know (yet)."""
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
        if not answer["error"] or answer["error"]["kind"] in ("exclusive", "down"):
            items[name] = _rabbitmq_queues.from_amqp(name[0], name[1], answer)
            _rabbitmq_queues.settle_timeout(items[name], options["ack_timeout_seconds"])
    _sample(options, deadline, items, list(items))
    parts = dict.fromkeys(PARTS)
    parts["queues"] = list(items.values()) or None
    if overview is not None:
        parts.update(rates_mode=overview.get("rates_mode"), totals=totals_of_overview(overview, len(items)))
    why, hint = "the list of queues cannot be read: %s" % cause, hint_of(cause, options)
    parts["expected"], not_found = _expected(expected, items, answers, _absent_by_amqp(options, failure))
    for entry in not_found:
        unknown.add(*entry)
    if items:
        unknown.add("queues[...]", "only the expected queues are known, by AMQP; %s" % why, hint)
    for part in ("queues", "rates_mode", "totals", "hidden_vhosts"):
        if parts[part] is None:
            unknown.add(part, why, hint)
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


def _expected(expected, items, declared, absent):
    """What became of the queues that must exist, and why that of some is not known.

    ``absent(vhost, name, problem)`` says of a queue that was not found ``(exists, problem, hint)``. Returns
    ``(result, unknown)``: the part ``expected``, and ``(part, reason, hint)`` of each whose ``exists`` is null.
    """
    result, unknown = [], []
    for (vhost, name), min_consumers in expected.items():
        item = items.get((vhost, name))
        answer = declared.get((vhost, name)) or {}
        problem = answer.get("error")
        now = answer if answer and not problem else item
        exists, hint = item is not None or None, None
        if problem and problem["kind"] in ("not_found", "no_such_vhost"):
            exists = False
        elif problem and problem["kind"] == "exclusive":
            exists = True
        elif item is None:
            exists, problem, hint = absent(vhost, name, problem)
        else:
            # The API has told what AMQP may not.
            problem = None
        if exists is None:
            unknown.append(("expected.%s %s" % (vhost, name), problem["message"], hint))
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
    return result, unknown


def _absent_by_api(client, vhosts, options):
    """Of a queue that is not in the list: whether it is missing. Asked once more, as it may be new."""

    def absent(vhost, name, problem):
        if vhosts.all is not None and vhost not in vhosts.all:
            return False, _problem("no_such_vhost", "there is no vhost %s" % vhost), None
        if vhosts.visible is not None and vhost not in vhosts.visible:
            why, hint = needs_permissions([vhost], options)
            return None, _problem("permission", why), hint
        try:
            client.get("queues", vhost, name, disable_stats="true", columns="name")
            return True, None, None
        except ReplyError as exc:
            missing = exc.kind == "not_found"
            return False if missing else None, _problem(exc.kind, exc), hint_of(exc, options)
        except CannotConnect as exc:
            return None, _problem(exc.kind, exc), exc.hint

    return absent


def _absent_by_amqp(options, failure):
    """Of a queue that AMQP does not tell of: why."""

    def absent(vhost, _name, problem):
        if problem:
            return None, problem, needs_permissions([vhost], options)[1] if problem["kind"] == "permission" else None
        return None, _problem(getattr(failure, "kind", "failed"), failure), getattr(failure, "hint", None)

    return absent


def _problem(kind, message):
    return {"kind": kind, "message": cut(str(message), 300)}
