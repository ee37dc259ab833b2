#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A diagnosis of ssh hosts of which eight fail for eight reasons, compared with a playbook that only pings them.

    python tests/bench/bench_bad_fleet.py [--hosts 50] [--rounds 1] [--timeout 30]

The hosts are containers, which share the cores with the controller.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import hosts as lab_hosts  # noqa: E402
from tests.lab.bad_hosts import bad_hosts  # noqa: E402
from tests.lab.stack import Stack  # noqa: E402

BAD = ("refused", "unresolved", "wrong_password", "python36", "hung", "banner", "killed", "readonly")
AREAS = ["database", "cache", "message_queue", "file_watching"]
PING = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.ping": None, "ignore_unreachable": True, "failed_when": False, "timeout": 30}],
    }
]


def measured(playbook, inventory, reports, hosts, timeout):
    """Run a playbook; return seconds, CPU seconds of the controller, exit status and output."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(playbook), "-i", str(inventory)]
    command += ["-f", str(hosts), "-e", json.dumps({"tracktion_areas": AREAS, "tracktion_visit_timeout": timeout})]
    environment = {**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
    before, started = cpu(), time.monotonic()
    done = subprocess.run(
        [*command, "-e", "tracktion_report_dir=%s" % reports],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return time.monotonic() - started, cpu() - before, done.returncode, done.stdout


def cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=60, help="tracktion_visit_timeout, in seconds")
    arguments = parser.parse_args()
    stack = Stack()
    stack.up()
    with tempfile.TemporaryDirectory() as folder, bad_hosts("bench", ("users", "readonly")) as bad:
        inventory = yaml.safe_load(lab_hosts.scale(stack, arguments.hosts - len(BAD)).read_text())
        inventory["bad"] = {"hosts": {name: bad.variables[name] for name in BAD}}
        path, ping = Path(folder, "hosts.yml"), Path(folder, "ping.yml")
        path.write_text(yaml.safe_dump(inventory))
        ping.write_text(yaml.safe_dump(PING))
        try:
            print("%-10s %8s %14s %12s %8s" % ("playbook", "wall s", "controller s", "exit status", "lines"))
            for _round in range(arguments.rounds):
                for name, playbook in (("ping", ping), ("diagnose", ROOT / "playbooks" / "diagnose.yml")):
                    wall, used, code, output = measured(playbook, path, folder, arguments.hosts, arguments.timeout)
                    lines = output.count("\n")
                    print("%-10s %8.1f %14.1f %12d %8d" % (name, wall, used, code, lines))
            shown = output[output.index("TASK [Evaluate and report") :].count("\n")
            print("lines of the report itself: %d" % shown)
            report = json.loads(Path(folder, "report.json").read_text())
            for finding in report["findings"]:
                if finding["host"] in BAD and finding["area"] == "host":
                    print("%-16s %-20s %s" % (finding["host"], finding["id"], finding["observed"]["cause"]))
            print("hosts in the report: %d" % len(report["hosts"]))
            # The host ends the processes of the visit a second after the controller's time limit, and kills them two
            # seconds later. The module of the ping playbook still runs on the host whose interpreter hangs.
            time.sleep(5)
            left = [line for kind in bad.containers for line in bad.processes(kind) if "timeout -k" in line]
            print("\n  ".join(["processes of the visit left on the bad hosts: %d" % len(left), *left]))
        finally:
            lab_hosts.scale(stack, 0)


if __name__ == "__main__":
    main()
