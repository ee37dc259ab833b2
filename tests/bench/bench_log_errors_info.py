#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares the search for errors in 1 GB of a container's log with the guide's grep.

    python tests/bench/bench_log_errors_info.py [--megabytes 1000] [--rounds 3] [--suite bookworm]

A container writes the log through the engine (json-file), one error in 200 lines, all of it within the window.
"measure" reads the newest part within its budget and reports what it left out; "whole" has a budget for all of it. The
command of the guide is `docker compose logs | grep -i error | tail -20`. The rounds are interleaved, so that load on
the host affects all variants.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _log_errors_info  # noqa: E402
from tests.lab.engine import docker, ensure  # noqa: E402
from tests.lab.images import ensure_image  # noqa: E402
from tests.lab.servers import LABEL  # noqa: E402
from tests.lab.shell import attempt, run  # noqa: E402

NAME = "tracktion-lab-bench-log"
TALK = """
import sys, time
number = size = 0
while size < int(sys.argv[1]) * 1000000:
    now = time.strftime("%%Y-%%m-%%d %%H:%%M:%%S")
    lines = []
    for number in range(number, number + 5000):
        level, text = ("ERROR", "cannot decode") if number %% %d == 0 else ("INFO", "completed")
        values = (now, number %% 1000, level, text, number)
        lines.append("%%s,%%03d %%s analysis_service %%s /music/incoming/file-%%d.mp3 in 0.3 s, bpm 128\\n" %% values)
    text = "".join(lines)
    size += len(text) + 75 * len(lines)
    sys.stdout.write(text)
"""


def talk(suite, megabytes, every):
    """Run a container that logs about this many megabytes, and return the size of its log file."""
    attempt("docker", "rm", "--force", "--volumes", NAME)
    began = time.monotonic()
    command = ["python3", "-c", TALK % every, str(megabytes)]
    options = ["--detach", "--name", NAME, "--label", LABEL + "=server", "--log-driver", "json-file"]
    run("docker", "run", *options, ensure_image(suite), *command)
    docker("wait", NAME, timeout=900)
    path = docker("inspect", "--format", "{{.LogPath}}", NAME).strip()
    size = Path(path).stat().st_size
    print("%.2f GB of log, an error in %d lines, written in %.0f s" % (size / 1e9, every, time.monotonic() - began))
    return size


def measure(**wanted):
    options = {name: about.get("default") for name, about in _log_errors_info.ARGUMENT_SPEC.items()}
    options.update(services=[NAME], kernel_log="", minutes=60.0, progress={NAME: "completed"}, **wanted)
    (entry,) = _log_errors_info.measure(options)["services"]
    assert entry["error"] is None, entry
    return "%d errors in %.0f s of log, %.0f MB read, %.0f MB left out (%s)" % (
        entry["errors"],
        entry["covered_seconds"],
        entry["bytes_read"] / 1e6,
        entry["bytes_skipped"] / 1e6,
        entry["left_out"],
    )


def guide():
    command = "docker logs %s 2>&1 | grep -i error | tail -20" % NAME
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    return "%d lines, without a count" % done.stdout.count("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--every", type=int, default=200)
    arguments = parser.parse_args()
    ensure()
    variants = {
        "guide: docker logs | grep -i error | tail -20": guide,
        "measure, the role's budget (32 MiB, 5 s)": measure,
        "the same through the engine's API": lambda: measure(docker_root="/nonexistent", timeout=60.0, deadline=60.0),
        "measure, whole": lambda: measure(max_bytes=1 << 40, max_total_bytes=1 << 40, timeout=600.0, deadline=600.0),
    }
    took, results = {name: [] for name in variants}, {}
    try:
        size = talk(arguments.suite, arguments.megabytes, arguments.every)
        for _round in range(arguments.rounds):
            for name, variant in variants.items():
                began = time.perf_counter()
                results[name] = variant()
                took[name].append(time.perf_counter() - began)
    finally:
        attempt("docker", "rm", "--force", "--volumes", NAME)
    for name, seconds in took.items():
        median = statistics.median(seconds)
        print("  %-46s %6.2f s (%.2f to %.2f): %s" % (name, median, min(seconds), max(seconds), results[name]))
    print("  whole: %.0f MB/s" % (size / 1e6 / statistics.median(took["measure, whole"])))


if __name__ == "__main__":
    main()
