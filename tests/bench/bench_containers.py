#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One measurement of many containers against what a person types for the same numbers.

    python tests/bench/bench_containers.py [--containers 50] [--rounds 5]

These are `docker stats --no-stream` and `docker inspect` of every container, and tell less: neither OOM kills nor
throttling. A measurement waits a second between two readings, as all areas of a visit do at the same time: it is given
with and without that. The rounds are interleaved, so that a noisy minute meets all of them.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "playbooks" / "collections"))

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator  # noqa: E402
from tests.lab.throwaway import Project, project  # noqa: E402

MODULE = "ansible_collections.tracktion.ops.plugins.module_utils._measures._container_state_info"


def measured(name: str, **options: object) -> dict:
    """What the module returns for the containers of a project."""
    module = importlib.import_module(MODULE)
    validated = ArgumentSpecValidator(module.ARGUMENT_SPEC).validate({"project": name, **options})
    return module.measure(validated.validated_parameters)


def typed(found: Project) -> None:
    """What a person types."""
    for command in (["docker", "stats", "--no-stream"], ["docker", "inspect"]):
        subprocess.run([*command, *found.containers], stdout=subprocess.DEVNULL, check=True)


def seconds(work) -> float:
    """How long it takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def main() -> None:
    """Compare, and say by how much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with project("bench") as found:
        for number in range(arguments.containers):
            found.run(f"service{number}", options=("--memory", "64m"))
        kept = measured(found.name)["containers"]
        assert len(kept) == arguments.containers
        assert all(container["memory_bytes"] for container in kept)
        ways = {
            "container_state_info": lambda: measured(found.name),
            "  without its second of waiting": lambda: measured(found.name, sample_seconds=0),
            "docker stats + inspect": lambda: typed(found),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _round in range(arguments.rounds):
            for name, work in ways.items():
                times[name].append(seconds(work))
    print(f"{arguments.containers} containers, median of {arguments.rounds} rounds [fastest - slowest], in seconds")
    for name, all_times in times.items():
        print(f"{name:32} {statistics.median(all_times):6.2f}  [{min(all_times):.2f} - {max(all_times):.2f}]")
    whole, work, theirs = (statistics.median(all_times) for all_times in times.values())
    print(f"factor {theirs / whole:.1f}, without the second of waiting {theirs / work:.1f}")


if __name__ == "__main__":
    main()
