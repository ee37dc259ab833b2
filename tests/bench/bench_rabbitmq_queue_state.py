#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time to measure 1,000 queues: this collection against rabbitmqctl, on one broker.

    python tests/bench/bench_rabbitmq_queue_state.py [--queues 1000] [--rounds 5] [--suite trixie]

"the list" corresponds to rabbitmqctl: name, state, ready, unacked and total of every queue. "measure" is the whole
measurement of a visit: the list, and rates, consumers and ages of the queues that matter. The rounds are interleaved,
so that a noisy minute affects all of them alike. The management API caches replies for a moment, so each run waits two
seconds first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline  # noqa: E402
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _rabbitmq_queue_state  # noqa: E402
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq, _rabbitmq_queues  # noqa: E402
from tests.integration.rabbitmq import broker, forget_connections  # noqa: E402

COLUMNS = ("name", "state", "messages_ready", "messages_unacknowledged", "messages")


def declare(found, queues):
    """Declare durable queues; every tenth holds a message."""
    with found.amqp() as connection:
        channel = connection.channel()
        for number in range(queues):
            channel.queue_declare("bench.%06d" % number, durable=True)
            if number % 10 == 0:
                channel.basic_publish("", "bench.%06d" % number, b"{}")


def candidates(found, queues, top):
    """Return what is compared: name -> function."""
    spec = _rabbitmq_queue_state.ARGUMENT_SPEC
    options = {**{name: about.get("default") for name, about in spec.items()}, **found.login(top=top)}

    def read_list():
        forget_connections()
        listed = _rabbitmq_queues.read_list(_rabbitmq.management(options, Deadline(15)), queues)
        assert len(listed) == queues
        assert all(queue["ready"] is not None for queue in listed)

    def measure():
        forget_connections()
        result = _rabbitmq_queue_state.measure(options)
        assert (result["totals"]["queues"], result["unknown"]) == (queues, [])

    def passive():
        with found.amqp() as connection:
            channel = connection.channel()
            for number in range(queues):
                channel.queue_declare("bench.%06d" % number, passive=True)

    def rabbitmqctl():
        output = found.server.exec("rabbitmqctl", "--quiet", "list_queues", *COLUMNS)
        assert output.count("bench.") == queues

    return {
        "rabbitmqctl list_queues (in its container)": rabbitmqctl,
        "the list, connecting included": read_list,
        "measure, top %d" % top: measure,
        "passive declare of every queue": passive,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queues", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--suite", default="trixie")
    parser.add_argument("--top", type=int, default=20)
    arguments = parser.parse_args()
    with broker(arguments.suite) as found:
        declare(found, arguments.queues)
        time.sleep(10)
        compared = candidates(found, arguments.queues, arguments.top)
        took = {name: [] for name in compared}
        for _round in range(arguments.rounds):
            for name, run in compared.items():
                time.sleep(2)
                began = time.perf_counter()
                run()
                took[name].append(time.perf_counter() - began)
    anchor = statistics.median(next(iter(took.values())))
    print(
        "%d queues, RabbitMQ of %s, median of %d (min to max)" % (arguments.queues, arguments.suite, arguments.rounds)
    )
    for name, seconds in took.items():
        median = statistics.median(seconds)
        row = (name, median * 1000, min(seconds) * 1000, max(seconds) * 1000, anchor / median)
        print("  %-44s %7.0f ms  (%.0f to %.0f)  %5.1f x" % row)


if __name__ == "__main__":
    main()
