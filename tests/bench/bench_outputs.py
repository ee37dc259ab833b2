#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Outputs and history of 500 hosts with 200 checks and 20 findings each: CPU time, bytes, memory; and the cost of HTML.

python tests/bench/bench_outputs.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils import _history_store  # noqa: E402
from ansible_collections.tracktion.ops.plugins.plugin_utils import _history_file, _outputs, _report_file  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.unit.plugins.plugin_utils import sample_report  # noqa: E402

# What a diagnosis of one host pays for HTML: a process that has imported the rest of the report.
ONE_PAGE = """
import sys, time
sys.path[:0] = {paths}
from ansible_collections.tracktion.ops.plugins.plugin_utils import _fleet, _outputs, _report, _report_file
from tests.unit.plugins.plugin_utils import sample_report
report = sample_report.of_one_host()
began = time.process_time()
_outputs.write(_outputs.make(report, ["html"], print), {folder}, print)
print(time.process_time() - began)
"""


def main():
    goals = Goals()
    report = sample_report.of_fleet(500, 20)
    with tempfile.TemporaryDirectory() as folder:
        print("500 hosts, %d findings, %d incidents" % (len(report["findings"]), len(report["incidents"])))
        seconds = {}
        seconds["report.json"] = timed(lambda: _report_file.write(report, os.path.join(folder, "report.json")))
        for name, output in _outputs.NAMES.items():
            seconds[output.file] = timed(
                lambda name=name: _outputs.write(_outputs.make(report, [name], print), folder, print)
            )
        for name, took in seconds.items():
            print("  %-20s %6.2f s %9d bytes" % (name, took, os.path.getsize(os.path.join(folder, name))))
        limits = _history_store.Limits()
        for turn in ("first", "second", "tenth"):
            for _run in range(8 if turn == "tenth" else 1):
                took = timed(lambda: _history_file.take_part(report, folder + "/history", None, limits, print))
            print("  %-20s %6.2f s %9d bytes" % ("history, %s run" % turn, took, newest(folder + "/history")))
        goals.check("all outputs with report.json, seconds of one CPU", sum(seconds.values()), at_most=10)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        goals.check("memory of the process with the report, MiB", memory, at_most=500)
        goals.check("page of the fleet, MB", os.path.getsize(folder + "/report.html") / 1e6, at_most=2)
        print("One host")
        pages = [one_page(folder, os.path.join(folder, "home")) for _turn in range(6)]
        goals.check("page of one host, kB", os.path.getsize(folder + "/report.html") / 1e3, at_most=150)
        goals.check("HTML in a run without a cache, CPU seconds", pages[0])
        goals.check("HTML in a run, CPU seconds (median of 5)", sorted(pages[1:])[2], at_most=0.15)
    goals.exit()


def one_page(folder, home):
    paths = [str(ROOT), str(ROOT / "playbooks" / "collections")]
    code = ONE_PAGE.format(paths=repr(paths), folder=repr(folder))
    environment = {**os.environ, "ANSIBLE_HOME": home}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def newest(folder):
    return os.path.getsize(max(Path(folder).glob("*.jsonl")))


def timed(function):
    """Return the seconds of CPU time that a call takes: other processes do not count."""
    began = time.process_time()
    function()
    return time.process_time() - began


if __name__ == "__main__":
    main()
