#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time of audio_probe_info in a container with real Essentia, against the commands of the guide, run one by one.

    python tests/bench/bench_audio_probe.py [--runs 15] [--files 2000]

The container has a library of empty files and a log of 5,000 lines. "cheap" is the default, "deep" imports the library,
decodes five formats and runs the detectors. The rounds are interleaved, so that other load affects all variants.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _audio_probe_info  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.integration.audio_services import SERVICE, start, write_detectors  # noqa: E402
from tests.lab.engine import docker, ensure  # noqa: E402
from tests.lab.shell import wait_until  # noqa: E402
from tests.lab.throwaway import project  # noqa: E402

TALK = """
import time
for number in range(5000):
    print("2026-11-25 08:24:16,614 INFO analysis_service completed /music/%d.mp3 in 0.3 s" % number)
print("done", flush=True)
time.sleep(99999)
"""
GUIDE = (
    ("exec", "df", "-h", "/tmp"),
    ("exec", "ls", "-la", "/music"),
    ("exec", "python3", "-c", "import essentia; print('Essentia OK')"),
    ("stats", "--no-stream"),
)


def guide(container):
    for verb, *arguments in GUIDE:
        words = [container, *arguments] if verb == "exec" else [*arguments, container]
        subprocess.run(["docker", verb, *words], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--files", type=int, default=2000)
    arguments = parser.parse_args()
    ensure()
    goals = Goals()
    with tempfile.TemporaryDirectory() as folder, project("bench") as services:
        Path(folder).chmod(0o755)
        music = Path(folder) / "music"
        for number in range(arguments.files):
            path = music / ("artist-%d" % (number % 100)) / ("%d.mp3" % number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        detectors = write_detectors(Path(folder) / "detectors")
        container = start(services, music, detectors, command=("python3", "-c", TALK))
        wait_until(lambda: "done" in docker("logs", "--tail", "1", container), "the log", 30)
        options = {name: option.get("default") for name, option in _audio_probe_info.ARGUMENT_SPEC.items()}
        options.update(service=SERVICE, project=services.name, directories=["/music"], deadline=120.0)
        found = _audio_probe_info.measure(options)
        assert found["music"][0]["files"] == arguments.files, found["music"]
        assert (found["logs"][0]["completed"], found["unknown"]) == (5000, []), found
        variants = {
            "cheap": lambda: _audio_probe_info.measure(options),
            "deep": lambda: _audio_probe_info.measure({**options, "deep": True}),
            "guide": lambda: guide(container),
        }
        times = {name: [] for name in variants}
        for number in range(arguments.runs):
            for name, run in variants.items():
                if name == "cheap" or number < 5:
                    began = time.monotonic()
                    run()
                    times[name].append(time.monotonic() - began)
    print("%d files, 5000 lines of log; seconds, median (least, most)" % arguments.files)
    for name, values in times.items():
        print(
            "  %-6s %.3f (%.3f, %.3f), %d runs"
            % (name, statistics.median(values), min(values), max(values), len(values))
        )
    goals.check("the default, median in seconds", statistics.median(times["cheap"]), at_most=0.2)
    goals.exit()


if __name__ == "__main__":
    main()
