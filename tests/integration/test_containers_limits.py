# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containers run out of: space in their own file systems, open files and processes; and logs without a limit."""

from __future__ import annotations

import secrets
from functools import partial

import pytest

from tests.integration.containers import look, own_project, sound
from tests.integration.reduced_rights import become_member
from tests.lab.engine import docker
from tests.lab.faults.containers import HEALTHY, SOUND
from tests.lab.shell import attempt, wait_until
from tests.lab.throwaway import healthcheck, inspect
from tests.rights import containers


@pytest.fixture
def app(tmp_path):
    """A separate project."""
    with own_project(tmp_path) as found:
        yield found


@pytest.fixture
def volume():
    """A volume of one MiB."""
    name = "tracktion-lab-%s" % secrets.token_hex(4)
    options = ("type=tmpfs", "device=tmpfs", "o=size=1m")
    docker("volume", "create", *(word for each in options for word in ("--opt", each)), name)
    yield name
    attempt("docker", "volume", "rm", "--force", name)


def filled(path):
    return ("sh", "-c", "dd if=/dev/zero of=%s/fill bs=64k count=100; touch /tmp/done; exec sleep infinity" % path)


DONE = healthcheck("test -e /tmp/done")


def test_a_full_file_system_of_a_container_is_not_the_disk_of_the_host(app, volume):
    full = {
        "shm": app.run("shm", *filled("/dev/shm"), options=(*SOUND, *DONE, "--shm-size", "1m")),
        "tmpfs": app.run("tmpfs", *filled("/cache"), options=(*SOUND, *DONE, "--tmpfs", "/cache:size=1m")),
        "volume": app.run("volume", *filled("/data"), options=(*SOUND, *DONE, "--volume", volume + ":/data")),
        # Another container that uses it.
        "reader": app.run("reader", options=(*SOUND, *HEALTHY, "--volume", volume + ":/other")),
    }
    app.run("well", options=(*SOUND, *HEALTHY, "--tmpfs", "/cache:size=1m"))
    for name in full.values():
        wait_until(lambda name=name: inspect(name)["State"]["Health"]["Status"] == "healthy", name, 30)
    found = look(app)
    assert set(found) == {"containers.filesystem_full"}
    by_path = {each["object"].split()[-1]: each for each in sound(found["containers.filesystem_full"])}
    assert len(by_path) == 3
    assert "shared memory of the container" in by_path["/dev/shm"]["summary"]
    assert "shm_size" in by_path["/dev/shm"]["hint"]
    assert "tmpfs" in by_path["/cache"]["hint"]
    (shared,) = (each for path, each in by_path.items() if path in ("/data", "/other"))
    assert full["volume"] in shared["summary"]
    assert full["reader"] in shared["summary"]
    assert {each["status"] for each in by_path.values()} == {"critical"}
    # The command of the hint shows it.
    command = shared["hint"].split("`")[1].split()
    assert "100%" in docker(*command[1:])


def test_read_only_files_on_purpose_are_the_cause(app, volume):
    write = ("sh", "-c", "touch /var/state; exit 1")
    loop = app.run("loop", *write, options=(*SOUND, "--read-only"))
    wait_until(lambda: inspect(loop)["RestartCount"] >= 4, "restarts", 30)
    (finding,) = sound(look(app)["containers.crash_loop"])
    assert "Read-only file system" in finding["summary"]
    assert "Mount a volume or a tmpfs" in finding["hint"]
    app.remove()
    stuck = app.run(
        "stuck",
        "sh",
        "-c",
        "dd if=/dev/zero of=/data/fill bs=64k count=100; exit 1",
        options=("--memory", "64m", "--volume", volume + ":/data"),
    )
    wait_until(lambda: inspect(stuck)["State"]["Status"] == "exited", "an exit", 20)
    (finding,) = sound(look(app, containers_expected_services=["stuck"])["containers.stopped"])
    assert "No space left on device" in finding["summary"]


# Sixteen children that end, for which the parent does not wait.
ZOMBIES = """
import os, time
for number in range(16):
    if not os.fork():
        os._exit(0)
open('/tmp/done', 'w').close()
time.sleep(1e6)
"""
FILES = """
import time
files = [open('/dev/null') for number in range(60)]
open('/tmp/done', 'w').close()
time.sleep(1e6)
"""


def test_zombies_and_open_files(app):
    zombie = app.run("zombie", "python3", "-c", ZOMBIES, options=(*SOUND, *DONE, "--init=false"))
    reaped = app.run("parent", "python3", "-c", ZOMBIES, options=(*SOUND, *DONE))
    opened = app.run("opened", "python3", "-c", FILES, options=(*SOUND, *DONE, "--ulimit", "nofile=70:70"))
    app.run("well", options=(*SOUND, *HEALTHY))
    for name in (zombie, reaped, opened):
        wait_until(lambda name=name: inspect(name)["State"]["Health"]["Status"] == "healthy", name, 30)
    found = look(app)
    assert set(found) == {"containers.zombies", "containers.open_files_near_limit"}
    by_name = {each["object"]: each for each in sound(found["containers.zombies"])}
    assert "no init process" in by_name[zombie]["summary"]
    assert "init: true" in by_name[zombie]["hint"]
    # An init process waits for orphans only: the fault is in the program.
    assert "does not wait for its children" in by_name[reaped]["hint"]
    (finding,) = sound(found["containers.open_files_near_limit"])
    assert finding["object"] == opened
    assert "of 70 open files" in finding["summary"]


def test_logs_without_rotation_are_one_finding(app):
    write = ("sh", "-c", "for n in 1 2 3 4 5 6 7 8; do echo $n; done; touch /tmp/done; exec sleep infinity")
    unlimited = app.run("unlimited", *write, options=(*SOUND, *DONE))
    app.run("limited", *write, options=(*SOUND, *DONE, "--log-opt", "max-size=10m"))
    app.run("local", *write, options=(*SOUND, *DONE, "--log-driver", "local"))
    wait_until(lambda: inspect(unlimited)["State"]["Health"]["Status"] == "healthy", unlimited, 30)
    assert "containers.log_not_rotated" not in look(app)
    (finding,) = sound(look(app, containers_log_bytes_info=100)["containers.log_not_rotated"])
    assert finding["summary"].startswith("1 container log without a maximum size holds")
    assert unlimited in finding["summary"]
    assert '"max-size": "10m"' in finding["hint"]
    (finding,) = look(app, before=partial(become_member, "docker"))["containers.log_not_rotated"]
    assert finding["status"] == "unknown"
    assert containers.LOGS.grant in finding["hint"]
