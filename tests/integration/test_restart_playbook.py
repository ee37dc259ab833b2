# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""playbooks/restart.yml: its report, its exit status, and what a kill of the controller or of the module leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations
from tests.integration.playbooks import LOCAL, ROOT, inventory, playbook_command, run_playbook
from tests.integration.stacks import needs, running, states
from tests.lab.shell import wait_until
from tests.lab.throwaway import healthcheck, inspect, project, wait_for
from tests.slack import SLACK

# The one that ends slowly gives the time to kill something.
SLOW = ("python3", "-c", "import signal,time; signal.signal(15, lambda *_: (time.sleep(3), exit())); time.sleep(600)")


@pytest.fixture(scope="module")
def stack():
    with project("restart") as found:
        found.store = found.run("store", options=healthcheck("true"))
        found.api = found.run("api", *SLOW, labels=needs("store:service_healthy:false"), options=healthcheck("true"))
        found.web = found.run("web", labels=needs("api:service_healthy:false"), options=healthcheck("true"))
        for name in (found.store, found.api, found.web):
            wait_for(name, "healthy", lambda state: state["Health"]["Status"] == "healthy")
        yield found


@pytest.fixture
def settings(stack, tmp_path):
    """Return the arguments of a run: playbook, inventory, directory of the report, and variables."""
    hosts = inventory(
        tmp_path / "hosts.yml",
        {"box": LOCAL},
        tracktion_compose_project=stack.name,
        containers_expected_services=[],
        tracktion_areas=["containers"],
        tracktion_state_dir=str(tmp_path / "state"),
        restart_settle_seconds=0,
    )
    return "restart", hosts, tmp_path / "reports"


def test_check_mode_and_a_restart(stack, settings, tmp_path):
    before = states(stack)
    planned = run_playbook(*settings, "--check")
    assert planned.code == 0, planned.output
    lines = re.findall(r"box: restart: (\d/6 \w+) \S+-(\w+)-\w+", planned.output)
    assert lines == [
        ("1/6 stop", "web"), ("2/6 stop", "api"), ("3/6 stop", "store"),
        ("4/6 start", "store"), ("5/6 start", "api"), ("6/6 start", "web"),
    ]  # fmt: skip
    assert "in check mode: nothing was changed" in planned.output
    assert states(stack) == before
    assert not (tmp_path / "state").exists()

    done = run_playbook(*settings)
    assert done.code == 0, done.output
    assert re.findall(r"box: restart: (\d/6 \w+) \S+-(\w+)-\w+:", done.output) == lines
    assert "DONE  recovery.restart [box %s]" % stack.name in done.output
    assert "Restarts all services (project %s)" % stack.name in done.output
    assert re.search(r"Before and after:|No finding before or after", done.output)
    (action,) = done.report["remediation"]["actions"]
    assert (action["remedy"], action["outcome"], action["target"]) == ("recovery.restart", "changed", stack.name)
    log = [json.loads(line) for line in (tmp_path / "reports" / "audit.jsonl").read_text().splitlines()]
    assert [(entry["event"], entry["outcome"], entry["host"]) for entry in log] == [("outcome", "changed", "box")]


def test_a_run_that_cannot_restart_fails(stack, settings):
    before = states(stack)
    unknown = run_playbook(*settings, extra={"restart_services": ["wbe"]})
    assert unknown.code == 2
    assert "has no container of wbe (its services: api, store, web)" in unknown.output
    assert "FAILED  recovery.restart [box %s]" % stack.name in unknown.output
    assert states(stack) == before
    unmatched = run_playbook(*settings, extra={"tracktion_hosts": "no-such-group"})
    assert unmatched.code == 2, unmatched.output


def started(settings, stack):
    """Start a restart; return its process when it has stopped the first container."""
    command = playbook_command(*settings)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks" / "collections")}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    wait_until(lambda: not inspect(stack.web)["State"]["Running"], "web to be stopped", 60 * SLACK)
    return process


def test_the_restart_goes_on_if_the_controller_is_killed(stack, settings, tmp_path):
    process = started(settings, stack)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    state = str(tmp_path / "state")
    assert _operations.read(state)[0][0]["target"] == stack.name
    wait_until(lambda: _operations.read(state) == ([], []), "the restart to end", 60 * SLACK)
    assert running(stack) == {"store", "api", "web"}


def test_the_next_run_goes_on_if_the_module_is_killed(stack, settings, tmp_path):
    process = started(settings, stack)
    state = str(tmp_path / "state")
    ((record,), _interrupted) = _operations.read(state)
    os.kill(record["pid"], signal.SIGKILL)
    assert process.wait(60 * SLACK) == 2
    assert stack.web in [each["name"] for each in _operations.read(state)[1][0]["stopped"]]
    done = run_playbook(*settings, extra={"restart_state": "started"})
    assert done.code == 0, done.output
    assert running(stack) == {"store", "api", "web"}
    assert _operations.read(state) == ([], [])
