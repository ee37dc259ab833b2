# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of engines and runtimes, also of versions that the lab does not have."""

from __future__ import annotations

import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _container_facts,
    _last_words,
    _obstacles,
)

TASK = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
)
START = TASK + "unable to start container process: "


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (START + 'exec: "x": executable file not found in $PATH: unknown', "command", 'exec: "x": executable file not'),
        ("exec /app: exec format error", "command", "exec /app: exec format error"),
        (
            START + "error during container init: error setting rlimit type 7: operation not permitted: unknown",
            "limit",
            "error s",
        ),
        (
            START + "unable to apply cgroup configuration: mkdir /x: read-only",
            "cgroup",
            "unable to apply cg",
        ),
        ("unknown or invalid runtime name: nvidia", "runtime", "unknown or invalid runtime"),
        ("Unknown runtime specified nvidia", "runtime", "Unknown runtime"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', "driver", "could not select"),
        ("No such image: web:1", "image", "No such image"),
        ("Minimum memory limit allowed is 6MB", "memory", "Minimum memory limit"),
        ("failed to initialize logging driver: dial tcp: connection refused", "log_driver", "failed to initialize"),
        ("network shared_net not found", "network", "network shared_net"),
        ("cannot join network namespace of a non running container: db", "shared", "cannot join"),
        (
            "driver failed programming external connectivity on endpoint web (0123456789a): Bind for 0.0.0.0:80 failed:"
            " port is already allocated",
            "port",
            "Bind for 0.0.0.0:80",
        ),
        (
            'error while mounting volume "/x": failed to mount local volume: no such device',
            "mount",
            "error while mount",
        ),
        ("something new", "engine", "something new"),
    ],
)
def test_errors_of_the_engine(error, kind, reason):
    data = {
        "Name": "/web",
        "State": {"Status": "created", "Error": error, "ExitCode": 128},
        "HostConfig": {},
        "Config": {},
    }
    around = _obstacles.Surroundings([], None, (), True, (), "docker")
    found = _obstacles.find(data, around, [])
    assert found.kind == kind
    assert _container_facts.reason_of(error).startswith(reason)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("/bin/sh: 1: curl: not found", True),
        ("sh: curl: not found\n", True),
        ("/bin/bash: line 1: wget: command not found", True),
        ("python3: can't open file '/check.py': [Errno 2] No such file or directory", True),
        ('OCI runtime exec failed: exec failed: exec: "curl": executable file not found in $PATH: unknown', True),
        ("NOAUTH Authentication required.", True),
        ('psql: error: FATAL:  password authentication failed for user "monitor"', True),
        ("curl: (22) The requested URL returned error: 401", True),
        ("HTTP 404: page not found", False),
        ("curl: (22) The requested URL returned error: 500", False),
        ("curl: (7) Failed to connect to localhost port 80: Connection refused", False),
        ("ERROR: relation tracks not found", False),
    ],
)
def test_a_health_check_that_a_restart_does_not_help(output, expected):
    state = {"Status": "running", "Health": {"Status": "unhealthy", "Log": [{"ExitCode": 1, "Output": output}]}}
    found = _obstacles.healthcheck(state, "apply it")
    assert (found is not None) is expected


def at(seconds):
    """The time of the engine so many seconds ago."""
    moment = time.time() - seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + ("%.3f" % (moment % 1))[1:] + "Z"


@pytest.mark.parametrize(
    ("state", "known", "expected"),
    [
        # It has just started after a wait of 13 s: the engine doubles the wait from 0.1 s.
        ({"Status": "running", "FinishedAt": 20, "StartedAt": 6}, 0, 7),
        # It runs for long.
        ({"Status": "running", "FinishedAt": 8000, "StartedAt": 7990}, 0, 0),
        # One crash after a long time.
        ({"Status": "running", "FinishedAt": 5, "StartedAt": 4.8}, 0, 1),
        ({"Status": "running", "FinishedAt": 5, "StartedAt": 4.8}, 4, 4),
        ({"Status": "restarting", "FinishedAt": 5, "StartedAt": 6}, 0, 9),
    ],
)
def test_restarts_within_the_window(state, known, expected):
    """The times are seconds before the test, ``known`` is the number of exits that the engine's events show."""
    state = {name: value if name == "Status" else at(value) for name, value in state.items()}
    ends = _last_words.Ends([time.time()] * known, [3] * known) if known else None
    data = {"State": state, "RestartCount": 9, "Created": at(90000)}
    assert abs(_last_words.recent_restarts(data, ends, 300) - expected) <= (1 if expected == 7 else 0)
