# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Without time for a measurement, a check is unknown: no engine is reported as down, no mount as dead."""

from __future__ import annotations

import os
import socket
from functools import partial

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _network_path
from tests.integration.areas import diagnose
from tests.integration.containers import silent
from tests.integration.inotify_faults import dead_mount

# Long enough to detect a hang, and used up.
SPENT = {"timeout": 8, "deadline": 1.5}


def summaries(findings, check_id):
    (finding,) = findings[check_id]
    assert finding["status"] == "unknown", finding
    return finding["summary"]


def test_an_engine_without_time_to_answer_is_unknown(tmp_path):
    with silent(tmp_path / "docker.sock") as host:
        settings = {"containers_%s" % name: value for name, value in SPENT.items()}
        findings = diagnose("containers", {"containers_docker_host": host, **settings})
    assert {finding["status"] for listed in findings.values() for finding in listed} == {"unknown"}
    assert "of the deadline left)" in summaries(findings, "containers.unreachable")


def test_a_directory_without_time_to_read_it_is_unknown(tmp_path):
    path = str(tmp_path / "music")
    os.mkdir(path)
    settings = {"file_watching_%s" % name: value for name, value in SPENT.items()}
    settings.update(file_watching_directories=[path], file_watching_watcher_service="")
    findings = diagnose("file_watching", settings, before=partial(dead_mount, path))
    # Reading the inodes of its file system before has used up the time.
    assert summaries(findings, "file_watching.directory_not_answering") == "not measured (0.0 s of the deadline left)"
    assert summaries(findings, "file_watching.directory_missing") == "not measured (0.0 s of the deadline left)"


@pytest.mark.parametrize(("timeout", "deadline", "failure"), [(0.4, 9, "no_answer"), (9, 0.6, None)])
def test_a_connection_without_time_to_test_it_is_unknown(timeout, deadline, failure):
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = _network_path.Target("http://127.0.0.1:%d/" % server.getsockname()[1])
        result = _network_path.follow(target, _dns.Configuration(), timeout, Deadline(deadline))
    assert result["failure"] == failure
    if failure is None:
        assert (result["ok"], result["error"]) == (None, None)
        assert result["reason"].startswith("not measured (0.")
