# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""playbooks/tune_inotify.yml with fleets: each host has a network namespace of its own, or is a container."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess

import pytest

from tests.integration import inotify_faults as faults
from tests.integration.kernels import kernel
from tests.integration.playbooks import LOCAL, inventory, run_playbook
from tests.lab.images import ensure_image

BACKLOG = "net.core.somaxconn"
FLOOR = 5000
DROP_IN = "60-tracktion-sysctl.conf"
# Below the default of any kernel: the limits of this machine apply to all tests and are not changed.
LOW = {
    "tune_inotify_max_user_watches": 8192,
    "tune_inotify_max_user_instances": 128,
    "tune_inotify_max_queued_events": 16384,
}
UNREACHABLE = {"ansible_host": "127.0.0.1", "ansible_port": 1}


@pytest.fixture
def fleet(tmp_path):
    """Yield a function that makes hosts by name, each with its own kernel; ``before`` maps hosts to a first command."""
    with contextlib.ExitStack() as stack:

        def make(*names, **before):
            hosts = {}
            for name in names:
                mine = stack.enter_context(kernel(tmp_path))
                interpreter = mine.interpreter(tmp_path, before.get(name, "true").format(root=mine.root))
                hosts[name] = (mine, {**LOCAL, "ansible_python_interpreter": interpreter})
                hosts[name][1]["tune_inotify_sysctl_root"] = str(mine.root)
            return hosts

        yield make


@pytest.fixture
def box(tmp_path):
    """Yield a host that is an ordinary container, reached without ssh."""
    name = "tracktion-test-tune-%d" % os.getpid()
    script = tmp_path / "python-in-container"
    script.write_text('#!/bin/sh\nexec docker exec -i %s python3 "$@"\n' % name)
    script.chmod(0o755)
    image = ensure_image("trixie")
    subprocess.run(["docker", "run", "--rm", "--detach", "--init", "--name", name, image, "sleep", "600"], check=True)
    yield {**LOCAL, "ansible_python_interpreter": str(script)}
    subprocess.run(["docker", "rm", "--force", name], stdout=subprocess.DEVNULL, check=True, timeout=30)


@pytest.fixture
def tune(tmp_path):
    """Return a function that runs the playbook on hosts and returns the run with its ``report``."""

    def run(hosts, *arguments, **extra):
        path = inventory(tmp_path / "hosts.yml", hosts, tune_inotify_sysctls={BACKLOG: FLOOR}, **LOW)
        found = run_playbook(
            "tune_inotify",
            path,
            tmp_path / "reports",
            *arguments,
            extra=extra,
            environment={"ANSIBLE_SHOW_CUSTOM_STATS": "1"},
        )
        report = tmp_path / "reports" / "tune_inotify.json"
        found.report = json.loads(report.read_text()) if report.exists() else None
        return found

    return run


def statuses(run):
    return {host["name"]: host["status"] for host in run.report["hosts"]}


def backlogs(run):
    """Return the reported values of the parameter by host."""
    return {
        host["name"]: entry
        for host in run.report["hosts"]
        for entry in host["parameters"]
        if entry["key"] == BACKLOG and host["status"] != "skipped"
    }


def state(mine):
    """Return the value in the kernel and the files of a host."""
    files = {path.name: path.read_text() for path in sorted(mine.file(".").iterdir())}
    return mine.get(BACKLOG), files


def test_check_mode_change_and_second_run_of_a_fleet(fleet, box, tune):
    made = fleet("web-1", "web-2")
    kernels = [mine for mine, _variables in made.values()]
    # This one is above the floor, with a file that sets the value.
    kernels[1].set(BACKLOG, 9000)
    kernels[1].file("50-theirs.conf").write_text(BACKLOG + " = 9000\n")
    hosts = {"box": box, **{name: variables for name, (_mine, variables) in made.items()}}
    before = [state(mine) for mine in kernels]

    first = tune(hosts, "--check", "--diff")
    assert first.code == 0, first.output
    assert [state(mine) for mine in kernels] == before
    assert "-%s = 4096" % BACKLOG in first.output
    assert "+%s = %d" % (BACKLOG, FLOOR) in first.output
    assert "Planned changes:" in first.output

    second = tune(hosts)
    assert second.code == 0, second.output
    assert [kernel_value for kernel_value, _files in map(state, kernels)] == [FLOOR, 9000]
    assert "%s = %d\n" % (BACKLOG, FLOOR) in state(kernels[0])[1][DROP_IN]
    assert state(kernels[1]) == before[1]
    assert "Changes:" in second.output
    # The planned changes are the changes made.
    assert (first.report["check_mode"], second.report["check_mode"]) == (True, False)
    assert backlogs(first) == backlogs(second)

    after = [state(mine) for mine in kernels]
    for arguments in (["--check"], []):
        again = tune(hosts, *arguments)
        assert again.code == 0
        assert statuses(again) == {"web-1": "ok", "web-2": "ok", "box": "skipped"}
        assert "changed=1" not in again.output
    assert [state(mine) for mine in kernels] == after

    assert statuses(second) == {"web-1": "changed", "web-2": "ok", "box": "skipped"}
    reported = {host["name"]: host for host in second.report["hosts"]}
    assert "read-only" in reported["box"]["reason"]
    assert backlogs(second)["web-1"] == {
        "key": BACKLOG,
        "before": 4096,
        "after": FLOOR,
        "persisted_before": None,
        "persisted_after": FLOOR,
        "file": "/etc/sysctl.d/" + DROP_IN,
    }
    assert {"fs.inotify.max_user_watches", BACKLOG} <= {entry["key"] for entry in reported["web-2"]["parameters"]}
    assert second.report["complete"] is True


def test_the_run_stops_at_the_first_failed_host_and_lists_the_unvisited(fleet, tune):
    # The files of one host are on a read-only file system.
    made = fleet("web-1", "web-2", "web-3", "web-4", **{"web-2": "mount -t tmpfs -o ro none {root}/etc"})
    run = tune({name: variables for name, (_mine, variables) in made.items()})
    assert run.code == 2
    assert statuses(run) == {
        "web-1": "changed",
        "web-2": "failed",
        "web-3": "not_visited",
        "web-4": "not_visited",
    }
    assert {name: state(mine)[0] for name, (mine, _variables) in made.items()} == {
        "web-1": FLOOR,
        "web-2": 4096,
        "web-3": 4096,
        "web-4": 4096,
    }
    assert state(made["web-3"][0])[1] == {}
    assert run.report["complete"] is False
    assert "read-only file system" in next(host["reason"] for host in run.report["hosts"] if host["name"] == "web-2")
    assert "NOT VISITED  web-3, web-4" in run.output
    # The statistics are set before the run fails.
    stats = run.output[run.output.index("CUSTOM STATS") :]
    assert '"not_visited": [' in stats
    assert '"tracktion_tuned"' in stats


FIRST = {
    "a read-only file system": ("mount -t tmpfs -o ro none {root}/etc", {}, "read-only file system"),
    "a directory of another user": ("chown 65534 {root}/etc/sysctl.d", {}, "belongs to nobody, who can"),
    "a link of another user": (
        "ln -sf /etc/passwd {root}/etc/sysctl.d/%s && chown -h 65534 {root}/etc/sysctl.d/%s" % (DROP_IN, DROP_IN),
        {},
        "is a symbolic link of nobody",
    ),
    "a value that the kernel rejects": ("true", {BACKLOG: 1 << 40}, "The kernel rejected %s" % BACKLOG),
}


@pytest.mark.parametrize("fault", FIRST)
def test_if_the_first_host_fails_no_other_is_changed(fleet, tune, fault):
    before, floors, reason = FIRST[fault]
    made = fleet("web-1", "web-2", "web-3", **{"web-1": before})
    hosts = {name: variables for name, (_mine, variables) in made.items()}
    if floors:
        hosts["web-1"]["tune_inotify_sysctls"] = floors
    run = tune(hosts)
    assert run.code == 2
    assert statuses(run) == {"web-1": "failed", "web-2": "not_visited", "web-3": "not_visited"}
    assert reason in run.report["hosts"][0]["reason"]
    assert {name: mine.get(BACKLOG) for name, (mine, _variables) in made.items()} == dict.fromkeys(made, 4096)
    assert [state(made[name][0])[1] for name in ("web-2", "web-3")] == [{}, {}]
    assert "NOT VISITED  web-2, web-3" in run.output


def test_an_unreachable_host_stops_the_run(fleet, tune):
    ((mine, variables),) = fleet("web").values()
    run = tune({"down": UNREACHABLE, "web": variables})
    assert run.code == 2
    assert statuses(run) == {"down": "unreachable", "web": "not_visited"}
    assert state(mine) == (4096, {})


def test_all_hosts_of_one_batch_are_tuned(fleet, tune):
    ((mine, variables),) = fleet("web").values()
    run = tune({"down": UNREACHABLE, "web": variables}, "-e", "tune_inotify_serial=2")
    assert run.code == 2
    assert statuses(run) == {"down": "unreachable", "web": "changed"}
    assert mine.get(BACKLOG) == FLOOR


def test_a_run_without_a_host_fails(tune):
    run = tune({"web": LOCAL}, "-e", "tracktion_hosts=nosuch")
    assert run.code == 2
    assert "No host was tuned" in run.output
    assert run.report is None


def test_other_parameters_only(fleet, tune):
    ((mine, variables),) = fleet("web").values()
    none = {"tune_inotify_max_user_watches": 0, "tune_inotify_max_user_instances": "0"}
    run = tune({"web": variables}, **none, tune_inotify_max_queued_events=0)
    assert run.code == 0, run.output
    ((host,),) = [run.report["hosts"]]
    assert [entry["key"] for entry in host["parameters"]] == [BACKLOG]
    assert mine.get(BACKLOG) == FLOOR


def test_automatic_limits_are_computed(tmp_path, tune):
    hosts = {"here": {**LOCAL, "tune_inotify_sysctl_root": str(tmp_path)}}
    limit = faults.LIMITS / "max_user_instances"
    with faults.limits_put_back():
        used = int(limit.read_text()) // 2 + 1
        with faults.watching([], faults.OTHER_UID, instances=used):
            run = tune(hosts, tune_inotify_max_user_instances="auto", tune_inotify_sysctls={})
        after = int(limit.read_text())
    assert run.code == 0, run.output
    assert after >= 2 * used
    (entry,) = [entry for entry in run.report["hosts"][0]["parameters"] if entry["key"].endswith("max_user_instances")]
    assert (entry["after"], entry["persisted_after"]) == (after, after)
    drop_in = tmp_path / "etc/sysctl.d/60-tracktion-inotify.conf"
    assert "fs.inotify.max_user_instances = %d\n" % after in drop_in.read_text()
