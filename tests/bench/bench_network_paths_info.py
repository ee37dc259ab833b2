#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time of network_paths_info for nine paths between services, against `docker compose exec` for each path.

LAB_NAME=... python tests/bench/bench_network_paths_info.py [--runs 5]

The stack of the lab has to be up. Its images contain Python, unlike most, and not the ping and curl of the guide.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _network_paths_info  # noqa: E402
from tests.lab.engine import compose_command  # noqa: E402
from tests.lab.inventory import PATHS  # noqa: E402
from tests.lab.stack import Stack  # noqa: E402

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
REQUEST = "import urllib.request, sys; urllib.request.urlopen(sys.argv[1], timeout=3).read()"
ALONE = (
    "import json, sys; sys.path.insert(0, %r); "
    "from ansible_collections.tracktion.ops.plugins.module_utils._measures import _network_paths_info as m; "
    "m.measure(json.loads(sys.argv[1]))"
) % str(ROOT / "playbooks" / "collections")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    stack = Stack()
    options = {name: option.get("default") for name, option in _network_paths_info.ARGUMENT_SPEC.items()}
    paths = [{"method": "GET", "validate_certs": True, **path} for path in PATHS]
    options.update(project=stack.project, paths=paths, check_resolver=False)
    measured = _network_paths_info.measure(options)
    if [path["ok"] for path in measured["paths"]] != [True] * len(PATHS):
        raise SystemExit("the stack is not healthy: %s" % [path["error"] for path in measured["paths"]])

    contenders = {
        "network_paths_info, whole measurement": lambda: _network_paths_info.measure(options),
        "network_paths_info, with the start of Python": lambda: command(
            sys.executable, "-c", ALONE, json.dumps(options)
        ),
        "docker compose exec, path by path": lambda: one_by_one(stack),
    }
    times = {name: [] for name in contenders}
    # In turns, so that other load of the machine affects all of them.
    for _run in range(arguments.runs):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            times[name].append(time.perf_counter() - started)
    print("%d paths; %d runs" % (len(PATHS), arguments.runs))
    first = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        median = statistics.median(seconds)
        spread = (min(seconds), max(seconds))
        print("%-46s median %.3f s (%.3f to %.3f), %.1f times the first" % (name, median, *spread, median / first))


def one_by_one(stack):
    for path in PATHS:
        program = [CONNECT, *path["to"].split(":")] if "://" not in path["to"] else [REQUEST, path["to"]]
        command(*compose_command(), *stack.compose_options(), "exec", "-T", path["from"], "python3", "-c", *program)


def command(*words):
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
