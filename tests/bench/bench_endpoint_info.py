#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares requests to many slow endpoints with curl, one by one and 20 in parallel.

    python tests/bench/bench_endpoint_info.py [--endpoints 20] [--seconds 0.2] [--rounds 5]

The server is a separate process. "measure" times each phase of the answers and reads their bodies; curl checks only the
status. The rounds are interleaved, so that load on the host affects all variants.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator  # noqa: E402
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _endpoint_info  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.integration.http_servers import page, serving  # noqa: E402

CURL = ["curl", "--fail", "--silent", "--output", "/dev/null", "--max-time", "5"]


def serve(seconds, port, stop):
    with serving({"/": page(seconds=seconds)}) as served:
        port.put(served.port)
        stop.wait()


def variants(url, endpoints):
    """Return the functions to compare, by name."""
    arguments = {"endpoints": [{"name": str(number), "url": url} for number in range(endpoints)]}
    options = ArgumentSpecValidator(_endpoint_info.ARGUMENT_SPEC).validate(arguments).validated_parameters

    def one_by_one():
        for _number in range(endpoints):
            subprocess.run([*CURL, url], check=True)

    def twenty_in_parallel():
        urls = "\n".join([url] * endpoints)
        subprocess.run(["xargs", "-P", "20", "-n", "1", *CURL], input=urls, text=True, check=True)

    def measure():
        assert _endpoint_info.measure(options)["totals"]["ok"] == endpoints

    return {"curl, one by one": one_by_one, "curl, 20 in parallel (xargs -P)": twenty_in_parallel, "measure": measure}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    port, stop = multiprocessing.Queue(), multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(arguments.seconds, port, stop), daemon=True)
    server.start()
    compared = variants("http://127.0.0.1:%d/" % port.get(), arguments.endpoints)
    took = {name: [] for name in compared}
    for _round in range(arguments.rounds):
        for name, variant in compared.items():
            began = time.perf_counter()
            variant()
            took[name].append(time.perf_counter() - began)
    stop.set()
    server.join()
    anchor = statistics.median(next(iter(took.values())))
    print(
        "%d endpoints of %g s each, median of %d (min to max)"
        % (arguments.endpoints, arguments.seconds, arguments.rounds)
    )
    for name, seconds in took.items():
        median = statistics.median(seconds)
        row = (name, median * 1000, min(seconds) * 1000, max(seconds) * 1000, anchor / median)
        print("  %-30s %7.0f ms  (%.0f to %.0f)  %5.1f x" % row)
    goals = Goals()
    # All endpoints take as long as the slowest, not as long as their sum.
    goals.check("measure / the time of one endpoint", statistics.median(took["measure"]) / arguments.seconds, at_most=2)
    goals.exit()


if __name__ == "__main__":
    main()
