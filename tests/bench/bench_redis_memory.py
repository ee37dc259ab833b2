#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare redis_memory with redis-cli --memkeys on a keyspace of 1,000,000 keys.

    python tests/bench/bench_redis_memory.py [--keys 1000000] [--rounds 3] [--suite bookworm]

`polite` is a sample with the defaults of max_calls and max_load, `sampled` one of 30,000 keys without pauses, `whole`
all keys without pauses. The last lines show the number of commands for each key, and the load of the server.

Rounds are interleaved, so that noise of the machine affects all of them. Each runs twice: once for its duration, and
once while another process sends a PING every millisecond. The PINGs take a share of the cores and keep them awake,
which makes redis-cli faster (it waits for a reply for each ten keys): so `with pings` is a separate duration. The
longest PING is an upper bound for the latency of any client. It includes the noise of the machine, which the line
`nothing` shows; `server` is the longest command by Redis' own slow log, in wall-clock time. If the load is above the
number of cores, all of these are mostly time spent waiting for a core.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _redis_memory  # noqa: E402
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis  # noqa: E402
from tests.bench import redis_keyspace  # noqa: E402
from tests.integration.redis_lab import Cache  # noqa: E402
from tests.lab.servers import redis_server  # noqa: E402


def ping(login, over, waits):
    """Send a PING every millisecond, and put the seconds of each reply into the queue ``waits``."""
    client = connected(login)
    found = []
    while not over.is_set():
        client.deadline = _redis.Deadline(60)
        started = time.monotonic()
        client.ask("PING")
        found.append(time.monotonic() - started)
        time.sleep(0.001)
    waits.put(found)


@contextlib.contextmanager
def pinging(login):
    """Yield a list that contains the seconds of each PING, sorted, after the context."""
    over, waits, found = multiprocessing.Event(), multiprocessing.Queue(), []
    process = multiprocessing.Process(target=ping, args=(login, over, waits), daemon=True)
    process.start()
    time.sleep(0.2)
    yield found
    over.set()
    found.extend(sorted(waits.get(timeout=60)))
    process.join(10)


def options(login, **changed):
    chosen = {name: spec.get("default") for name, spec in _redis_memory.ARGUMENT_SPEC.items()}
    return {**chosen, **login, "deadline": 120.0, **changed}


def connected(login):
    _redis._connections.clear()
    return _redis.connect(options(login))


def measure(login, mode, **changed):
    _redis._connections.clear()
    return _redis_memory.measure(options(login, distribution=mode, **changed))["distribution"]


# Ways to read the keys: options of redis_memory.
WAYS = {
    "polite": {"mode": "sampled"},
    "sampled": {"mode": "sampled", "max_calls": 90000, "max_load": 1.0},
    "whole": {"mode": "whole", "max_load": 1.0},
}
INSPECTING = ("scan", "memory|usage", "pttl", "type")


def cost(client, login, keys):
    """Print the number of commands of each way, and the share of the time that the server spent in them."""
    for way, chosen in WAYS.items():
        client.config_resetstat()
        found = measure(login, **chosen)
        statistics = client.info("commandstats")
        rows = [statistics["cmdstat_" + name] for name in INSPECTING if "cmdstat_" + name in statistics]
        calls = sum(row["calls"] for row in rows)
        print(
            "%-8s %8d commands, %.3f for each of %d keys; %.2f s, %.0f %% of them in commands"
            % (
                way,
                calls,
                calls / keys,
                keys,
                found["seconds"],
                sum(row["usec"] for row in rows) / 1e4 / found["seconds"],
            )
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1000000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suite", default="bookworm", choices=["bookworm", "trixie"])
    arguments = parser.parse_args()
    with redis_server(arguments.suite, "--slowlog-log-slower-than", "1000", "--slowlog-max-len", "1000") as server:
        bench(Cache(server), arguments)


def bench(found, arguments):
    server = found.server
    # Not the published port: its proxy would be measured too, and redis-cli runs inside the container.
    login = found.login(login_host=server.address, login_port=6379)
    redis_keyspace.fill(server.host, server.port, arguments.keys, password=server.password)
    client = found.redis()
    print(
        "Redis %s, %d keys, %.0f MB; %d cores, load %.1f"
        % (
            client.info()["redis_version"],
            client.dbsize(),
            client.info()["used_memory"] / 1e6,
            os.cpu_count(),
            os.getloadavg()[0],
        )
    )
    results = {}
    ways = {
        "nothing": lambda: time.sleep(2),
        **{way: lambda way=way: results.setdefault(way, []).append(measure(login, **WAYS[way])) for way in WAYS},
        "redis-cli --memkeys": lambda: server.exec(
            "sh", "-c", "REDISCLI_AUTH=%s redis-cli --memkeys >/dev/null" % server.password, timeout=300
        ),
    }
    seconds, pinged, waits, longest = ({way: [] for way in ways} for _column in range(4))
    for _round in range(arguments.rounds):
        for way, run in ways.items():
            started = time.monotonic()
            run()
            seconds[way].append(time.monotonic() - started)
            client.slowlog_reset()
            with pinging(login) as found_waits:
                started = time.monotonic()
                run()
                pinged[way].append(time.monotonic() - started)
            waits[way].append(found_waits)
            longest[way].append(max((entry["duration"] for entry in client.slowlog_get(1000)), default=0) / 1e6)
    heads = ("", "median s [range]", "keys/s", "with pings s", "ping p99 ms", "ping max ms", "server ms")
    print("%-20s %19s %8s %12s %12s %12s %10s" % heads)
    for way in ways:
        times = sorted(seconds[way])
        pings = sorted(wait for each in waits[way] for wait in each)
        print(
            "%-20s %19s %8s %12.2f %12.1f %12.1f %10.1f"
            % (
                way,
                "%.2f [%.2f-%.2f]" % (statistics.median(times), times[0], times[-1]),
                "%d" % (arguments.keys / statistics.median(times)) if way != "nothing" else "",
                statistics.median(pinged[way]),
                pings[int(len(pings) * 0.99)] * 1000,
                pings[-1] * 1000,
                max(longest[way]) * 1000,
            )
        )
    ratios = tuple(
        statistics.median(times["redis-cli --memkeys"]) / statistics.median(times["whole"])
        for times in (seconds, pinged)
    )
    print("whole is %.1f times as fast as redis-cli --memkeys, %.1f times with pings" % ratios)
    for way in ("polite", "sampled"):
        accuracy(way, results[way], results["whole"][-1])
    cost(client, login, arguments.keys)


def accuracy(way, samples, whole):
    """Print the errors of the samples, and how many intervals contain the true value."""
    truth = {(row["prefix"], row["type"]): row["bytes"] for row in whole["prefixes"]}
    off, held, rows = [], 0, 0
    for sample in samples:
        for row in sample["prefixes"]:
            size = truth[row["prefix"], row["type"]]
            if size > whole["bytes"] / 100:
                off.append((abs(row["bytes"] / size - 1), row["prefix"]))
            held += row["bytes_low"] <= size <= row["bytes_high"]
            rows += 1
    print(
        "%s: %d keys read; bytes of prefixes with 1 %% and more at most %.1f %% off (%s); "
        "%d of %d intervals (95 %%) contain the true value"
        % (way, samples[0]["seen_count"], max(off)[0] * 100, max(off)[1], held, rows)
    )


if __name__ == "__main__":
    main()
