#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A diagnosis of all areas and of four, compared with a playbook that only pings and with the commands of the runbook.

    python tests/bench/bench_diagnose.py [--hosts 20] [--rounds 5]

On one host (the lab's stack, this machine) and over a fleet of ssh hosts (containers, which share the cores with the
controller). The rounds of all commands are interleaved, so that other load affects all; the least of each figure
counts. The commands of the runbook are those of the four areas.
"""

from __future__ import annotations

import argparse
import contextlib
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

from tests.bench.goals import Goals  # noqa: E402
from tests.lab import hosts as lab_hosts  # noqa: E402
from tests.lab.engine import compose_command, docker  # noqa: E402
from tests.lab.shell import SEARCH_PATH  # noqa: E402
from tests.lab.stack import Stack  # noqa: E402

# Commands of the troubleshooting guide for these areas, with the names and columns of this stack, without those that do
# not end (redis-cli monitor) or wait a minute for a file (the watchdog script).
AREAS = ["database", "cache", "message_queue", "file_watching"]
PSQL = "exec -T postgres psql -U postgres -d tracktion -c"
CONNECT = "import os, psycopg2; psycopg2.connect(os.environ['DATABASE_DSN']).cursor().execute('SELECT 1')"
RUNBOOK = (
    "ps",
    "exec -T postgres pg_isready -U tracktion_user",
    (PSQL, "SELECT state, count(*) FROM pg_stat_activity WHERE datname='tracktion' GROUP BY state"),
    (PSQL, "SELECT pid, now() - query_start AS duration, query FROM pg_stat_activity WHERE state = 'active' "
           "AND now() - query_start > interval '5 seconds' ORDER BY duration DESC"),
    (PSQL, "SELECT query, mean_exec_time, calls FROM pg_stat_statements ORDER BY mean_exec_time DESC LIMIT 10"),
    (PSQL, "SELECT schemaname, tablename, attname, n_distinct, correlation FROM pg_stats "
           "WHERE tablename IN ('tracks', 'artists', 'albums') ORDER BY n_distinct DESC"),
    (PSQL, "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del, n_live_tup, n_dead_tup FROM pg_stat_user_tables "
           "ORDER BY n_live_tup DESC"),
    (PSQL, "SELECT query, calls, total_exec_time, mean_exec_time, rows FROM pg_stat_statements WHERE calls > 100 "
           "ORDER BY mean_exec_time DESC LIMIT 10"),
    (PSQL, "SELECT blocked.pid, blocking.pid FROM pg_locks blocked JOIN pg_locks blocking "
           "ON blocking.locktype = blocked.locktype AND blocking.transactionid IS NOT DISTINCT FROM "
           "blocked.transactionid AND blocking.relation IS NOT DISTINCT FROM blocked.relation "
           "AND blocking.pid != blocked.pid WHERE NOT blocked.granted"),
    (PSQL, "SELECT schemaname, tablename, attname, n_distinct, correlation FROM pg_stats "
           "WHERE n_distinct > 100 AND correlation < 0.1 ORDER BY n_distinct DESC"),
    ("exec -T tracklist_service python3 -c", CONNECT),
    "logs tracklist_service",
    "exec -T redis redis-cli ping",
    "exec -T redis redis-cli info server",
    "exec -T redis redis-cli info memory",
    "exec -T redis redis-cli info stats",
    "exec -T redis redis-cli --scan --pattern *",
    "exec -T redis redis-cli info memory",
    "exec -T redis redis-cli memory usage key_name",
    "exec -T rabbitmq rabbitmqctl status",
    "exec -T rabbitmq rabbitmqctl list_queues name messages consumers",
    "exec -T rabbitmq rabbitmqctl list_queues",
    "exec -T rabbitmq rabbitmqctl list_queues name messages",
    "exec -T rabbitmq rabbitmqctl list_bindings",
    "exec -T rabbitmq rabbitmqctl list_queues name messages_ready messages_unacknowledged",
    "exec -T rabbitmq rabbitmqctl list_consumers",
    "exec -T rabbitmq df -h",
    "exec -T file_watcher cat /proc/sys/fs/inotify/max_user_watches",
    "exec -T file_watcher cat /proc/sys/fs/inotify/max_user_instances",
    "exec -T file_watcher df -i",
    "logs --tail=100 file_watcher",
    "logs file_watcher",
)  # fmt: skip

PING = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Ping", "ansible.builtin.ping": None}]}]


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cpu_of_containers(names):
    """Return the CPU seconds of these containers, from their cgroups (v1 or v2)."""
    total = 0.0
    for container in docker("inspect", "--format", "{{.Id}}", *names).split() if names else []:
        for path, unit in (
            ("/sys/fs/cgroup/cpuacct/docker/%s/cpuacct.usage" % container, 1e9),
            ("/sys/fs/cgroup/system.slice/docker-%s.scope/cpu.stat" % container, 1e6),
            ("/sys/fs/cgroup/docker/%s/cpu.stat" % container, 1e6),
        ):
            with contextlib.suppress(OSError):
                total += int(Path(path).read_text().split()[-1 if unit == 1e9 else 1]) / unit
                break
    return total


def measure(command, containers=(), **options):
    """Run a command; return seconds, CPU seconds of it and its children, and CPU seconds of the containers."""
    remote, local, started = cpu_of_containers(containers), cpu_of_children(), time.perf_counter()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options
    )
    wall = time.perf_counter() - started
    if done.returncode:
        sys.exit("%s failed:\n%s" % (" ".join(map(str, command)), done.stdout.decode()[-3000:]))
    return wall, cpu_of_children() - local, cpu_of_containers(containers) - remote


def playbook(path, inventory, reports, forks, interval, areas=None):
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), str(path), "-i", str(inventory), "-f", str(forks)]
    command += ["-e", json.dumps({"tracktion_areas": areas})] if areas else []
    return [*command, "-e", "tracktion_report_dir=%s" % reports, "-e", "tracktion_sample_seconds=%g" % interval]


def runbook(stack):
    commands = []
    for words in RUNBOOK:
        line, argument = (words, None) if isinstance(words, str) else words
        command = [*compose_command(), *stack.compose_options(), *line.split(), *([argument] if argument else [])]
        if "redis-cli" in command:
            position = command.index("redis-cli") + 1
            command[position:position] = ["--no-auth-warning", "-a", stack.passwords["redis"]]
        commands.append(command)
    return commands


def least(rounds):
    return tuple(min(column) for column in zip(*rounds, strict=True))


def diagnoses(inventory, reports, forks, interval):
    """Return the commands by the number of areas."""
    path = ROOT / "playbooks" / "diagnose.yml"
    return {
        "all areas": playbook(path, inventory, reports, forks, interval),
        "four areas": playbook(path, inventory, reports, forks, interval, AREAS),
    }


def row(title, tasks, wall, controller, remote=None):
    remote = "%10.2f" % remote if remote is not None else "%10s" % "-"
    print("%-44s %5s %9.2f %12.2f %s" % (title, tasks, wall, controller, remote))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--interval", type=float, default=1.0, help="sampling interval of the diagnosis, in seconds")
    arguments = parser.parse_args()

    goals = Goals()
    stack = Stack()
    stack.up()
    environment = {**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "PATH": SEARCH_PATH}
    environment["PATH"] = "%s:%s" % (Path(sys.executable).parent, environment["PATH"])
    # With it, Python reads a piped module byte by byte, which takes a tenth of a second.
    environment.pop("PYTHONUNBUFFERED", None)
    where = {"cwd": ROOT, "env": environment}
    head = "%-44s %5s %9s %12s %10s" % ("", "tasks", "wall s", "controller s", "hosts s")
    with tempfile.TemporaryDirectory() as folder:
        ping_playbook = Path(folder, "ping.yml")
        ping_playbook.write_text(yaml.safe_dump(PING))
        one = stack.inventory
        commands = {
            "ping": playbook(ping_playbook, one, folder, 5, arguments.interval),
            **diagnoses(one, folder, 5, arguments.interval),
        }
        rounds = {name: [] for name in (*commands, "runbook")}
        for _round in range(arguments.rounds):
            for name, command in commands.items():
                rounds[name].append(measure(command, **where))
            rounds["runbook"].append(tuple(map(sum, zip(*(measure(c, **where) for c in runbook(stack)), strict=True))))
        found = {name: least(rounds[name]) for name in rounds}
        ping, by_hand = found.pop("ping"), found.pop("runbook")
        print("One host, least of %d rounds (CPU of controller and host together)" % arguments.rounds)
        print(head)
        row("ping playbook", 1, *ping[:2])
        for name, diagnose in found.items():
            row("diagnose, %s (interval %g s)" % (name, arguments.interval), 4, *diagnose[:2])
        row("the runbook's %d commands, one after the other" % len(RUNBOOK), "-", *by_hand[:2])
        for name, diagnose in found.items():
            seconds = diagnose[0] - arguments.interval
            goals.check("%s less the interval / ping, wall" % name, seconds / ping[0], at_most=1.6)
            goals.check("%s / ping, CPU" % name, diagnose[1] / ping[1])
            goals.check("runbook / %s less the interval, wall" % name, by_hand[0] / seconds, at_least=4)
            goals.check("runbook / %s with the interval, wall" % name, by_hand[0] / diagnose[0])

        if not arguments.hosts:
            goals.exit()
            return
        fleet = lab_hosts.scale(stack, arguments.hosts)
        containers = ["%s-%s" % (stack.project, name) for name in lab_hosts.running(stack)]
        commands = {
            "ping": playbook(ping_playbook, fleet, folder, arguments.hosts, arguments.interval),
            **diagnoses(fleet, folder, arguments.hosts, arguments.interval),
        }
        try:
            measure(commands["ping"], **where)  # opens the ssh connections for all rounds
            rounds = {name: [] for name in commands}
            for _round in range(arguments.rounds):
                for name, command in commands.items():
                    rounds[name].append(measure(command, containers, **where))
        finally:
            lab_hosts.scale(stack, 0)
        found = {name: least(rounds[name]) for name in rounds}
        ping = found.pop("ping")
        print("\n%d ssh hosts on the controller's own cores, least of %d rounds" % (arguments.hosts, arguments.rounds))
        print(head)
        row("ping playbook", 1, *ping)
        for name, diagnose in found.items():
            row("diagnose, %s (interval %g s)" % (name, arguments.interval), 4, *diagnose)
            goals.check("%s: controller CPU, diagnose / ping" % name, diagnose[1] / ping[1], at_most=1.6)
            seconds = diagnose[0] - arguments.interval
            goals.check("%s: wall less the interval / ping" % name, seconds / ping[0], at_most=3)
    goals.exit()


if __name__ == "__main__":
    main()
