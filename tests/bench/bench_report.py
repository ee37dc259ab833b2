#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of 300 hosts with 8 areas: seconds to build and to render it, and lines, by host and grouped.

python tests/bench/bench_report.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.plugin_utils import _fleet, _lines, _report_file, _terminal  # noqa: E402
from tests.unit.plugins.plugin_utils import fleet  # noqa: E402

CHECKS = tuple("check_%d" % number for number in range(20)) + ("full", "slow")


def main():
    names = fleet.names(300)
    gone = {"unreachable": True, "msg": "ssh: connect to host 10.0.0.1 port 22: Connection refused"}
    mixed = {name: {} for name in names} | fleet.shared_database(names[:104]) | fleet.all_different(names[200:205])
    fleets = {
        "all ok": {name: {} for name in names},
        "one bad database on 104 hosts; 10 unreachable hosts": mixed | dict.fromkeys(names[210:220], gone),
        "one bad database with an identity": fleet.shared_database(names, identity="postgresql:1"),
        "8 different findings on each host": fleet.all_different(names, 1),
    }
    print("%-52s %9s %6s %6s %7s %7s %7s" % ("", "findings", "build", "json", "by host", "grouped", "lines"))
    with tempfile.TemporaryDirectory() as folder:
        made = fleet.Fleet(Path(folder), CHECKS)
        for name, hosts in fleets.items():
            report, *seconds = timed(made.report, hosts)
            outputs = [
                timed(each, report) for each in (_report_file.as_json, _terminal.render, _fleet.render, _lines.render)
            ]
            seconds += [took for _output, took in outputs]
            print("%-52s %9d %6.2f %6.2f %7.2f %7.2f %7.2f" % (name, len(report["findings"]), *seconds))
            print(
                "%-52s %9s %6s %6s %7d %7d %7d"
                % ("  lines", "", "", "", *(text.count("\n") + 1 for text, _seconds in outputs[1:]))
            )


def timed(function, *arguments):
    started = time.perf_counter()
    return function(*arguments), time.perf_counter() - started


if __name__ == "__main__":
    main()
