# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check of file watching fires on its fault and stays quiet without it."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.integration import inotify_faults as faults
from tests.integration.areas import diagnose, fired
from tests.integration.followed_hints import FILE_WATCHING
from tests.integration.following import Operator, follow
from tests.integration.inotify_faults import OTHER_UID
from tests.integration.playbooks import ROOT, run_playbook
from tests.lab.faults import every
from tests.lab.inventory import variables

FAULTS = {name: fault for name, fault in every().items() if fault.area == "file_watching"}
# Floors that every kernel meets, for tests that are not about floors.
LOW = {"file_watching_max_user_watches": 1, "file_watching_max_user_instances": 1, "file_watching_max_queued_events": 1}
# The files in which the checks of this area fire.
HERE = ("file_watching_checks", "file_watcher_causes", "inotify_attribution")
# Findings that depend on other users of the machine; a machine may hide processes even from root.
OF_MACHINE = {"file_watching.watches_used", "file_watching.instances_used", "file_watching.unprivileged"}


@pytest.fixture
def settings(lab):
    return {**variables(lab), **LOW}


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield name


def is_quiet(findings):
    return not {name for name in findings if fired(findings, name)} - OF_MACHINE


def test_a_healthy_stack_is_quiet(settings):
    findings = diagnose("file_watching", settings)
    assert is_quiet(findings), findings
    # Only the use of users with hidden processes may be unknown.
    assert set(findings) <= OF_MACHINE
    assert not fired(findings, "file_watching.watches_used")
    assert not fired(findings, "file_watching.instances_used")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_stack_fires_its_checks(lab, settings, name):
    # Hints change limits.
    with faults.limits_put_back(), lab.fault(name):
        findings = diagnose("file_watching", settings)
        for check_id in FAULTS[name].fires:
            assert fired(findings, check_id), (check_id, findings)
        operator = Operator(directory=lab.directory)
        follow(operator, FILE_WATCHING[name], findings, lambda: diagnose("file_watching", settings))
    after = diagnose("file_watching", settings)
    for check_id in FAULTS[name].fires:
        assert not fired(after, check_id)


# Faults in the mount namespace of the measuring process only: other processes that list mounts must not block.


@pytest.mark.parametrize(
    ("prepare", "check_id", "status"),
    [
        (faults.dead_mount, "file_watching.directory_not_answering", "critical"),
        (faults.fuse_mount, "file_watching.no_events_file_system", "warning"),
        (faults.overlay, "file_watching.no_events_file_system", "info"),
        (partial(faults.fill_inodes, inodes=20000, used=18500), "file_watching.inode_use", "warning"),
        (partial(faults.fill_inodes, inodes=20000, used=19900), "file_watching.inode_use", "critical"),
    ],
)
def test_a_bad_mount_fires_its_check(folder, prepare, check_id, status):
    mine = {
        **LOW,
        "file_watching_directories": [folder],
        "file_watching_timeout": 0.4,
        "file_watching_watcher_service": "",
    }
    findings = diagnose("file_watching", mine, before=partial(prepare, folder))
    (finding,) = fired(findings, check_id, status)
    assert finding["object"] == folder
    assert not fired(diagnose("file_watching", mine), check_id)


def test_a_small_file_system_with_few_inodes_is_quiet(folder):
    findings = diagnose("file_watching", LOW, before=partial(faults.fill_inodes, folder, 100, 99))
    assert not fired(findings, "file_watching.inode_use")


def test_a_machine_without_inotify_has_one_finding():
    findings = diagnose("file_watching", LOW, before=faults.hide_inotify)
    assert fired(findings, "file_watching.no_inotify", "critical")
    assert {name for name in findings if fired(findings, name)} == {"file_watching.no_inotify"}


def test_events_that_cannot_arrive(folder):
    """The user that measures has no inotify instance left."""
    limit = int((faults.LIMITS / "max_user_instances").read_text())
    mine = {**LOW, "file_watching_directories": [folder], "file_watching_watcher_service": ""}
    become = partial(faults.become, OTHER_UID)
    with faults.watching([], OTHER_UID, instances=limit):
        findings = diagnose("file_watching", mine, before=become)
    assert fired(findings, "file_watching.events_do_not_arrive", "critical")
    assert not fired(diagnose("file_watching", mine, before=become), "file_watching.events_do_not_arrive")


def test_without_privilege_the_use_is_unknown():
    findings = diagnose("file_watching", LOW, before=partial(faults.become, OTHER_UID))
    assert fired(findings, "file_watching.unprivileged", "info")
    for check_id in ("file_watching.watches_used", "file_watching.instances_used"):
        assert [finding["status"] for finding in findings[check_id]] == ["unknown"]


def test_the_counted_use_is_enough_to_be_critical(folder):
    """Hidden processes can only add to it."""
    limit = int((faults.LIMITS / "max_user_instances").read_text())
    with faults.watching([folder], OTHER_UID, instances=limit):
        findings = diagnose("file_watching", LOW, before=partial(faults.become, OTHER_UID))
        (finding,) = fired(findings, "file_watching.instances_used", "critical")
        assert finding["object"] == str(OTHER_UID)
    # Below that, a warning.
    with faults.watching([folder], OTHER_UID, instances=int(limit * 0.75)):
        assert fired(diagnose("file_watching", LOW), "file_watching.instances_used", "warning")


def test_the_watchers_settings_are_shown(settings):
    findings = diagnose("file_watching", {**settings, "file_watching_not_watched_warning": 0})
    (finding,) = fired(findings, "file_watching.subdirectories_not_watched", "warning")
    assert "WATCH_DIRECTORY=/music, WATCH_EXTENSIONS=.mp3,.flac,.wav." in finding["hint"]


def test_limits_below_their_floors():
    now = int((faults.LIMITS / "max_queued_events").read_text())
    findings = diagnose("file_watching", {**LOW, "file_watching_max_queued_events": now + 1})
    (finding,) = fired(findings, "file_watching.limits_below_floor", "info")
    assert (finding["object"], finding["observed"]) == ("max_queued_events", {"floor": now + 1, "runtime": now})
    assert finding["remedy"]["vars"]["max_queued_events"] == now + 1


def test_the_remedy_asks_for_twice_the_use(settings, folder):
    """The thresholds are so low that a few watches are too many."""
    low = {"file_watching_watches_floor": 1, "file_watching_used_warning": 0, "file_watching_used_critical": 2}
    low["file_watching_directories_left_warning"] = 1 << 31
    with faults.watching([folder], OTHER_UID, instances=9):
        findings = diagnose("file_watching", {**settings, **low})
    used = {finding["object"]: finding for finding in fired(findings, "file_watching.watches_used", "warning")}
    assert used[str(OTHER_UID)]["remedy"]["risk"] == "safe"
    assert used[str(OTHER_UID)]["remedy"]["vars"] == {
        "max_user_watches": 18,
        "max_user_instances": 18,
        "max_queued_events": 1,
    }
    (finding,) = fired(findings, "file_watching.watches_would_not_fit", "warning")
    # The watcher holds one watch for the library and one for its directory, and needs no more.
    assert finding["remedy"]["vars"]["max_user_watches"] == 4


def test_every_check_has_a_fault_here():
    rows = yaml.safe_load((ROOT / "roles/file_watching/diagnosis/checks.yml").read_text())
    ids = {row["id"] for row in rows}
    by_stack = {check_id for fault in FAULTS.values() for check_id in fault.fires}
    files = [Path(__file__).with_name("test_%s.py" % name) for name in HERE]
    in_here = "".join(file.read_text() for file in files)
    assert by_stack <= ids
    assert {name for name in (each.partition(".")[2] for each in ids - by_stack) if name not in in_here} == set()


def test_the_playbook_reports_the_same(lab, tmp_path):
    with lab.fault("watcher-stopped"):
        run = run_playbook("diagnose", lab.inventory, tmp_path, extra={"tracktion_areas": ["file_watching"], **LOW})
    assert run.code == 0, run.output
    (finding,) = run.findings("file_watching.watcher_not_running")
    assert finding["status"] == "critical"
    assert lab.container("file_watcher") in finding["summary"]
