# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A measurement without time left reports that, and neither a timeout of a service nor a dead mount."""

from __future__ import annotations

import os
import re
import socket
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _bounded, _measurement, _programs
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._host_visit import probes_of
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, OutOfTime
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_activity, _redis_health_info
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis

NOT_MEASURED = r"not measured \(0\.\d s of the deadline left\)"


def defaults(spec):
    return {name: option.get("default") for name, option in spec.items()}


def test_a_step_gets_the_rest_of_the_deadline_or_raises():
    assert 0.9 < Deadline(1).step() <= 1
    assert Deadline(5).step(0.01) == 0.01
    for seconds in (0, 0.01, -1):
        with pytest.raises(OutOfTime, match=NOT_MEASURED):
            Deadline(seconds).step()
        with pytest.raises(OutOfTime, match=NOT_MEASURED):
            Deadline(seconds).step(3)


def test_reachable_is_null_without_time_to_find_out():
    measurement = _measurement.unreachable(("part",), OutOfTime())
    assert measurement["reachable"] is None
    assert measurement["error"]["kind"] == "deadline"


@pytest.fixture
def silent():
    """The port of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("connect", "module"), [(_postgresql.connect, _pg_activity), (_redis.connect, _redis_health_info)]
)
def test_a_server_without_time_to_answer_is_not_reported_as_silent(silent, connect, module):
    options = {**defaults(module.ARGUMENT_SPEC), "login_host": "127.0.0.1", "login_port": silent}
    for deadline in (0.0001, 0.05):
        with pytest.raises(OutOfTime, match=NOT_MEASURED):
            connect({**options, "deadline": deadline})
    # A failure for lack of time is not cached for the next probe.
    with pytest.raises(_measurement.CannotConnect) as caught:
        connect({**options, "timeout": 0.3, "deadline": 5})
    assert caught.value.kind in ("timeout", "no_answer")


def test_the_management_api_and_the_engine_without_time_to_answer(silent, tmp_path):
    credentials = {"login_user": "u", "login_password": "p"}
    management = _rabbitmq.Management({**credentials, "login_host": "127.0.0.1", "login_port": silent, "timeout": 3})
    management.deadline = Deadline(0)
    with pytest.raises(OutOfTime, match=NOT_MEASURED):
        management.get("overview")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "engine"))
        listener.listen()
        for deadline in (0, 0.05):
            with pytest.raises(OutOfTime, match=NOT_MEASURED):
                DockerApi(str(tmp_path / "engine"), 3, Deadline(deadline)).read("info")


def test_a_mount_is_not_reported_as_dead_nor_a_program_as_slow():
    with pytest.raises(_bounded.NotMeasured, match=NOT_MEASURED) as caught:
        _bounded.within(Deadline(0), 3, os.stat, "/")
    assert not isinstance(caught.value, _bounded.Hung)
    with pytest.raises(_programs.Failed, match=r"true was not run \(0\.0 s of the deadline left\)"):
        _programs.output(["true"], 0)


def test_a_probe_after_one_that_used_all_the_time_is_not_measured():
    probes = probes_of(
        {"deadline": 0.2, "probes": {name: {"module": "redis_health_info", "options": {}} for name in "ab"}}
    )
    time.sleep(0.25)
    for probe in probes.values():
        measurement = probe()
        assert measurement["reachable"] is None
        assert re.fullmatch(NOT_MEASURED, measurement["error"]["message"])
