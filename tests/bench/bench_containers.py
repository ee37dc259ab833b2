#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare one measurement of many containers to the commands for the same numbers.

    python tests/bench/bench_containers.py [--containers 50] [--rounds 5]

The commands are `docker stats --no-stream` and `docker inspect` of every container, which report neither OOM kills nor
throttling. A measurement waits between two readings: for its `sample_seconds`, or in a visit for the second that all
areas share. The error of the short wait is measured, too: some containers need a whole core and have a limit of a
fifth, so their CPU use is known. The rounds are interleaved, so that load of the machine affects all equally.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "playbooks" / "collections"))

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.lab.throwaway import Project, docker, project  # noqa: E402

MODULE = "ansible_collections.tracktion.ops.plugins.module_utils._measures._container_state_info"
# So many containers need a whole core, and each has this limit.
BUSY = 3
SHARE = 0.2


def measured(name: str, **options: object) -> dict:
    """Return the measurement of the containers of a project."""
    module = importlib.import_module(MODULE)
    validated = ArgumentSpecValidator(module.ARGUMENT_SPEC).validate({"project": name, **options})
    return module.measure(validated.validated_parameters)


def typed(found: Project) -> str:
    """Run the commands; return the CPU use."""
    used = docker("stats", "--no-stream", "--format", "{{.CPUPerc}}", *found.containers)
    docker("inspect", *found.containers)
    return used


def ratios(measurement: dict) -> list[float]:
    """Return the CPU use of each container, as a part of one core."""
    return [container["cpu_ratio"] for container in measurement["containers"]]


def main() -> None:
    """Compare, and print the factors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with project("bench") as found:
        for number in range(arguments.containers):
            busy = ("sh", "-c", "while :; do :; done") if number < BUSY else ()
            found.run(f"service{number}", *busy, options=("--memory", "64m", "--cpus", str(SHARE)))
        kept = measured(found.name)["containers"]
        assert len(kept) == arguments.containers
        assert all(container["memory_bytes"] for container in kept)
        ways = {
            "container_state_info": lambda: ratios(measured(found.name)),
            "  with the second of a visit": lambda: ratios(measured(found.name, sample_seconds=1)),
            "  without waiting": lambda: ratios(measured(found.name, sample_seconds=0)),
            "docker stats + inspect": lambda: [float(line.rstrip("%")) / 100 for line in typed(found).splitlines()],
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        errors: dict[str, list[float]] = {name: [] for name in ways}
        for _round in range(arguments.rounds):
            for name, work in ways.items():
                began = time.monotonic()
                seen = work()
                times[name].append(time.monotonic() - began)
                errors[name] += [abs(ratio - SHARE) / SHARE for ratio in sorted(seen)[-BUSY:]]
    print(f"{arguments.containers} containers, median of {arguments.rounds} rounds [fastest - slowest], in seconds")
    for name, all_times in times.items():
        wrong = statistics.median(errors[name])
        spread = f"[{min(all_times):.2f} - {max(all_times):.2f}]"
        print(f"{name:30} {statistics.median(all_times):6.2f}  {spread:15}  CPU is {wrong:4.0%} off (median)")
    own, visit, work, theirs = (statistics.median(all_times) for all_times in times.values())
    goals = Goals()
    goals.check("docker stats + inspect / container_state_info", theirs / own, at_least=5)
    goals.check("docker stats + inspect / with the second of a visit", theirs / visit)
    goals.check("docker stats + inspect / without waiting", theirs / work)
    goals.exit()


if __name__ == "__main__":
    main()
