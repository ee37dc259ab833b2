# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is unknown without a right, and with which hint, in the areas that look at a host."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import docker as sdk
import pytest
import yaml

from tests.integration.areas import diagnose
from tests.integration.inotify_faults import OTHER_UID, become, call, libc
from tests.integration.network_faults import without_capability
from tests.integration.reduced_rights import (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_NET_ADMIN,
    CAP_SYS_ADMIN,
    CAP_SYS_PTRACE,
    become_member,
    closed,
    filtered_engine,
    hide_processes,
    kernel_log_restricted,
)
from tests.lab.inventory import variables
from tests.rights import containers, file_watching, host_resources, logs, network

# The engine is asked by many tests at the same time, and nothing in here is about how long it takes.
CALM = {
    "tracktion_sample_seconds": 0.1,
    "containers_disk_seconds": 20,
    "containers_timeout": 20,
    "containers_deadline": 60,
    "logs_kernel_log": "/dev/kmsg",
    # Other tests make the kernel kill processes in containers that are gone by now.
    "logs_oom_kills_warning": 1000000,
}
PR_CAPBSET_DROP = 24
# Their files are where only root may read: a process without privilege has to have them before.
LIBRARIES = (sdk, yaml)

unprivileged = partial(become, OTHER_UID)
member = partial(become_member, "docker")


def without(*capabilities):
    """Root without capabilities, which the programs that it starts do not get either."""
    for number in capabilities:
        call(libc.prctl, PR_CAPBSET_DROP, number, 0, 0, 0)
        without_capability(number)


@pytest.fixture(scope="module")
def settings(lab):
    lab.wait_healthy()
    return {**variables(lab), **CALM}


@pytest.fixture
def folder():
    """A directory that any user can reach."""
    path = Path(tempfile.mkdtemp(prefix="tracktion-rights-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def missing(rights, findings, also=()):
    """Assert that just the checks of these rights are unknown, with their hints, and that nothing else is found."""
    found = {}
    for finding in (each for listed in findings.values() for each in listed):
        if finding["status"] == "unknown":
            found.setdefault(finding["id"], []).append(finding["hint"])
        else:
            assert finding["id"] in also, finding
    assert set(found) == set().union(*(right.checks for right in rights))
    for check, hints in found.items():
        grants = {right.grant for right in rights if check in right.checks}
        for hint in hints:
            assert any(grant in (hint or "") for grant in grants), (check, hint)
            # A command is between backticks, and starts with a program.
            assert "--become" not in hint or "`ansible-playbook tracktion.ops.diagnose --become" in hint


# Containers


def test_without_the_socket_nothing_is_known_of_containers(settings):
    missing([containers.SOCKET], diagnose("containers", settings, before=unprivileged))


def test_a_member_of_the_group_docker_sees_all_but_closed_files(settings):
    missing([containers.COMPOSE, containers.FILES], diagnose("containers", settings, before=member))


def test_hidden_processes_hide_what_containers_use(settings):
    findings = diagnose("containers", settings, before=partial(hide_processes, 2, member))
    missing([containers.COMPOSE, containers.PROCESSES, containers.FILES], findings)


def test_closed_configuration_and_paths(settings, lab, folder):
    mine = {**settings, "tracktion_docker_daemon_config": str(folder / "closed" / "daemon.json")}
    (folder / "closed").mkdir(mode=0o700)
    home = str(Path(variables(lab)["file_watching_directories"][0]).parent)
    findings = diagnose("containers", mine, before=partial(closed, [home], member))
    missing([containers.COMPOSE, containers.CONFIGURATION, containers.PATHS, containers.FILES], findings)


@pytest.mark.parametrize(
    ("forbidden", "right"),
    [
        ("^/info", containers.INFO),
        ("^/containers/.+/json", containers.INSPECT),
        ("^/system/df", containers.DISK),
        ("^/containers/json", None),
    ],
)
def test_a_filter_before_the_engine(settings, tmp_path, forbidden, right):
    with filtered_engine(tmp_path / "s", forbidden) as url:
        mine = {**settings, "containers_docker_host": url, "containers_live_restore_wanted": True}
        findings = diagnose("containers", mine)
    if right is None:
        # Without the list there is nothing: as without the socket, with another hint.
        assert {finding["id"] for listed in findings.values() for finding in listed} == containers.SOCKET.checks
        assert {"Allow this request" in listed[0]["hint"] for listed in findings.values()} == {True}
    else:
        missing([right], findings, also=("containers.live_restore",))


# Logs


def test_without_files_and_socket_nothing_is_known_of_logs(settings):
    with kernel_log_restricted():
        findings = diagnose("logs", settings, before=unprivileged)
    missing([logs.CONTAINERS, logs.KERNEL], findings)


def test_a_member_of_the_group_docker_reads_what_the_engine_hands_out(settings):
    # Without what tests before this one have made the stack log.
    now = {**settings, "logs_since": time.time()}
    with kernel_log_restricted():
        missing([logs.KERNEL], diagnose("logs", now, before=member))


def test_a_filter_that_keeps_logs_back(settings, tmp_path):
    with filtered_engine(tmp_path / "s", "^/containers/.+/logs") as url:
        # The log of the kernel has what tests of any other process have caused.
        mine = {**settings, "logs_docker_host": url, "logs_kernel_log": ""}
        missing([logs.REQUEST], diagnose("logs", mine))


def test_files_and_a_journal_that_are_closed(settings, folder):
    for name in ("app.log", "system.journal"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o600)
    quiet = {**settings, "logs_containers": False, "logs_kernel_log": ""}
    missing([logs.FILES], diagnose("logs", {**quiet, "logs_files": [str(folder / "app.log")]}, before=unprivileged))
    journal = {"logs_journal_units": ["*"], "logs_journal_directory": str(folder)}
    missing([logs.JOURNAL], diagnose("logs", {**quiet, **journal}, before=unprivileged))


# Network


def test_without_root_no_way_is_gone(settings, folder):
    (folder / "closed").mkdir(mode=0o700)
    mine = {**settings, "tracktion_docker_daemon_config": str(folder / "closed" / "daemon.json")}
    findings = diagnose("network", mine, before=unprivileged)
    missing([network.FILES, network.SOCKET, network.CONFIGURATION], findings)
    missing([network.FILES], diagnose("network", settings, before=member))


@pytest.mark.parametrize(("capability", "right"), [(CAP_SYS_ADMIN, network.NAMESPACES), (CAP_NET_ADMIN, network.RULES)])
def test_root_without_a_capability(settings, capability, right):
    missing([right], diagnose("network", settings, before=partial(without, capability)))


def test_a_filter_that_keeps_networks_back(settings, tmp_path):
    with filtered_engine(tmp_path / "s", "^/networks") as url:
        missing([network.REQUEST], diagnose("network", {**settings, "network_docker_host": url}))


# File watching


UNPRIVILEGED = ("file_watching.unprivileged",)


@pytest.mark.parametrize(
    ("before", "right"),
    [
        (unprivileged, file_watching.PROCESSES),
        (partial(hide_processes, 1, unprivileged), file_watching.HIDDEN),
        (partial(hide_processes, 2, unprivileged), file_watching.HIDDEN),
        (partial(without, CAP_SYS_PTRACE), file_watching.DESCRIPTORS),
    ],
)
def test_processes_that_are_hidden_are_not_counted_as_none(settings, before, right):
    missing([right], diagnose("file_watching", settings, before=before), also=UNPRIVILEGED)


def test_a_directory_that_is_closed_is_not_missing(folder):
    (folder / "closed").mkdir(mode=0o700)
    os.chown(folder / "closed", OTHER_UID, OTHER_UID)
    mine = {"file_watching_directories": [str(folder / "closed" / "music")], "file_watching_watcher_service": ""}
    before = partial(without, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)
    findings = diagnose("file_watching", mine, before=before)
    # Neither are the descriptors of others open to this root.
    for name in ("watches_used", "instances_used"):
        assert {finding["status"] for finding in findings.pop("file_watching." + name)} == {"unknown"}
    missing([file_watching.DIRECTORIES], findings, also=UNPRIVILEGED)


def test_settings_that_are_closed(folder):
    (folder / "etc").mkdir()
    (folder / "etc" / "sysctl.d").mkdir(mode=0o700)
    mine = {"file_watching_sysctl_root": str(folder), "file_watching_watcher_service": ""}
    findings = diagnose("file_watching", mine, before=unprivileged)
    for name in ("watches_used", "instances_used"):
        assert {finding["status"] for finding in findings.pop("file_watching." + name)} == {"unknown"}
    missing([file_watching.SYSCTL], findings, also=UNPRIVILEGED)


# Host resources


def test_the_users_of_a_host_are_unknown_if_they_are_hidden(settings):
    findings = diagnose("host_resources", settings, before=partial(hide_processes, 2, unprivileged))
    missing([host_resources.HIDDEN], findings)
    # What the kernel counts for the whole host is open to all.
    missing([host_resources.PROCESSES], diagnose("host_resources", settings, before=unprivileged))
