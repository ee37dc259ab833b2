# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a watcher in a container detects no files: real containers, evaluated by the checks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from tests.integration import inotify_faults as faults
from tests.integration.areas import diagnose, fired
from tests.integration.inotify_faults import LIMITS, OTHER_UID
from tests.lab.engine import docker
from tests.lab.inventory import pid_1_is_hidden
from tests.lab.shell import wait_until
from tests.lab.throwaway import inspect, project

HANDLER = (
    "import sys, time; from watchdog.events import FileSystemEventHandler; from watchdog.observers import Observer; "
    "from watchdog.observers.polling import PollingObserver\n"
    "def start(observer):\n"
    " observer.schedule(FileSystemEventHandler(), '/music', recursive=True); observer.start()\n"
)
INOTIFY = HANDLER + "start(Observer()); print('ready', flush=True); time.sleep(3600)"
# Chooses while it runs: neither its code nor its environment shows it.
POLLING = HANDLER + "start(PollingObserver()); print('ready', flush=True); time.sleep(3600)\nObserver()"
FALLS_BACK = HANDLER + (
    "try:\n start(Observer())\n"
    "except OSError as error:\n print(error, 'falling back to polling', flush=True); start(PollingObserver())\n"
    "print('ready', flush=True); time.sleep(3600)"
)
# A leak of descriptors.
LEAKS = HANDLER + "kept = []\ntry:\n while True: kept.append(open('/dev/null'))\nexcept OSError:\n start(Observer())"
ONLY_POLLS = POLLING.replace("from watchdog.observers import Observer; ", "").replace("\nObserver()", "")
SLEEP = ("sleep", "3600")
RESTART = ("--restart", "always")
OVERFLOW = "echo 'inotify event queue overflow (IN_Q_OVERFLOW)'; exec sleep 3600"


def python(code):
    return ("python3", "-u", "-c", code)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Start one container for each case, and yield what the tests need of them."""
    root = tmp_path_factory.mktemp("watchers")
    for folder in (root, *root.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)
    folders = {}
    for name in ("music", "closed/music", "library/music", "library/musci", "old/music"):
        folders[name] = root / name
        (root / name / "incoming").mkdir(parents=True)
    (root / "library/musci/incoming").rmdir()
    folders["closed/music"].chmod(0o700)
    # One leads out of the library, as the container sees it; the other one to a watched directory.
    (root / "music/outside").symlink_to("/srv")
    (root / "music/again").symlink_to("/music/incoming")

    def mount(name, target="/music", setting="/music"):
        return ("--volume", "%s:%s" % (folders[name], target), "--env", "WATCH_DIRECTORY=" + setting)

    ids = {
        "uid": ("--user", str(OTHER_UID)),
        "few": ("--ulimit", "nofile=64:64", *RESTART),
    }
    instances = int((LIMITS / "max_user_instances").read_text())
    with project("tests") as found:
        with faults.watching([], OTHER_UID, instances=instances):
            found.run("fell-back", *python(FALLS_BACK), options=(*mount("music"), *ids["uid"]))
            wait_until(lambda: "ready" in docker("logs", found.containers[0]), "the watcher to poll", 30)
        found.run("inotify", *python(INOTIFY), options=mount("music"))
        found.run("polls", *python(POLLING), options=mount("music"))
        found.run("only-polls", *python(ONLY_POLLS), options=mount("music"))
        found.run("switched", *SLEEP, options=(*mount("music"), "--env", "CHOKIDAR_USEPOLLING=true"))
        found.run("dead", *SLEEP, options=mount("music"))
        found.run("aimless", *SLEEP)
        found.run("few-files", *python(LEAKS), options=(*mount("music"), *ids["few"], *ids["uid"]))
        found.run("denied", "false", options=(*mount("closed/music"), "--user", "nobody", *RESTART))
        found.run("misspelt", *python(INOTIFY), options=mount("library/musci"))
        found.run("elsewhere", *SLEEP, options=mount("music", target="/musik"))
        found.run("replaced", *python(INOTIFY), options=mount("old/music"))
        found.run("overflow", "sh", "-c", OVERFLOW, options=(*mount("music"), "--env", "WATCH_POLLING=1"))
        for name in found.containers:
            if re.search("-(?:polls|inotify|misspelt|replaced)-", name):
                wait_until(lambda name=name: "ready" in docker("logs", name), "%s to watch" % name, 30)
            if re.search("-(?:few-files|denied)-", name):
                wait_until(lambda name=name: inspect(name)["RestartCount"] >= 3, "%s to restart" % name, 30)
        folders["old/music"].rename(root / "old/away")
        folders["old/music"].mkdir()
        yield SimpleNamespace(project=found.name, folders=folders, containers=found.containers)


@pytest.fixture
def watched(made):
    """Return a function that evaluates the area for the watcher of one case."""

    def evaluated(service, **settings):
        mine = {"file_watching_watcher_service": service, "tracktion_compose_project": made.project, **settings}
        mine["file_watching_hidden_processes_accepted"] = int(pid_1_is_hidden())
        findings = diagnose("file_watching", mine)
        # The machine and the broker are other subjects, and some processes may be hidden.
        other = ("limit", "watches_used", "instances_used", "unprivileged", "broker", "inode")
        return {
            name.partition(".")[2]: fired(findings, name)[0]
            for name in findings
            if fired(findings, name) and not any(word in name for word in other)
        }

    return evaluated


def statuses(findings):
    return {name: finding["status"] for name, finding in findings.items()}


@pytest.mark.parametrize(
    ("service", "why"),
    [
        ("polls", "it lists the directory again and again"),
        ("only-polls", "because of its program -c"),
        ("switched", "because of CHOKIDAR_USEPOLLING=true"),
    ],
)
def test_a_watcher_that_polls_on_purpose_is_no_fault(watched, service, why):
    findings = watched(service)
    assert statuses(findings) == {"watcher_polls": "info"}
    assert why in findings["watcher_polls"]["summary"]


def test_a_watcher_that_polls_because_of_a_limit(watched):
    limit = int((LIMITS / "max_user_instances").read_text())
    with faults.watching([], OTHER_UID, instances=limit):
        findings = watched("fell-back")
    assert statuses(findings) == {"watcher_fell_back_to_polling": "warning"}
    summary = findings["watcher_fell_back_to_polling"]["summary"]
    assert "%d holds %d of %d inotify instances" % (OTHER_UID, limit, limit) in summary
    assert "instance limit reached" in summary
    # The limit is free again, and the watcher polls on.
    assert "which is not reached now" in watched("fell-back")["watcher_fell_back_to_polling"]["summary"]


def test_a_watcher_with_inotify_is_quiet(watched):
    findings = watched("inotify")
    assert statuses(findings) == {"links_not_followed": "info"}
    assert findings["links_not_followed"]["summary"].endswith("not watched: /music/outside -> /srv")


def test_a_watcher_without_watches(watched):
    assert statuses(watched("dead")) == {"directory_not_watched": "critical"}
    assert statuses(watched("aimless")) == {"watcher_without_watches": "critical"}


def test_a_limit_of_open_files_is_none_of_inotify(watched):
    """watchdog calls it the limit of inotify instances."""
    found = watched("few-files")["watcher_restarting"]
    assert "instance limit reached" in found["summary"]
    assert "it may open 64 files (nofile), and inotify instances are left" in found["summary"]
    assert found["hint"].startswith("Raise its limit of open files")


def test_a_directory_that_the_user_of_a_looping_container_cannot_read(watched, made):
    """The user is given by name; the container is down most of the time."""
    found = watched("denied")
    assert found["directory_unreadable"]["status"] == "critical"
    assert "%s denies access" % made.folders["closed/music"] in found["directory_unreadable"]["summary"]
    (command,) = re.findall("`([^`]+)`", found["directory_unreadable"]["hint"])
    assert command == "setfacl -R -m u:65534:rX -- %s" % made.folders["closed/music"]
    if shutil.which("setfacl"):
        subprocess.run(["sh", "-c", command], check=True, capture_output=True, timeout=30)
    else:
        made.folders["closed/music"].chmod(0o755)
    assert "directory_unreadable" not in watched("denied")


def test_an_empty_directory_beside_one_of_a_similar_name(watched, made):
    findings = watched("misspelt")
    assert statuses(findings) == {"directory_misspelt": "warning"}
    folders = made.folders["library/musci"], made.folders["library/music"]
    assert findings["directory_misspelt"]["summary"] == "%s is empty, and %s is not" % folders


def test_a_directory_that_is_not_mounted(watched, made):
    """By the environment of the watcher, and by the inventory."""
    findings = watched("elsewhere")
    assert findings["directory_not_mounted"]["status"] == "warning"
    assert "%s on /musik" % made.folders["music"] in findings["directory_not_mounted"]["summary"]
    assert "directory_missing" not in findings
    found = watched("inotify", file_watching_directories=[str(made.folders["library/music"])])
    assert statuses(found) == {"directory_not_mounted": "critical"}
    found = watched("inotify", file_watching_directories=[str(made.folders["music"])])
    assert "directory_not_mounted" not in found


def test_a_directory_that_was_replaced_after_the_start(watched, made):
    """The hint restarts the container, which mounts the present directory."""
    for settings in ({}, {"file_watching_directories": [str(made.folders["old/music"])]}):
        findings = watched("replaced", **settings)
        assert statuses(findings) == {"directory_replaced": "critical"}
    (command,) = re.findall("`([^`]+)`", findings["directory_replaced"]["hint"])
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, timeout=30)
    name = command.split()[-1]
    wait_until(lambda: docker("logs", name).count("ready") == 2, "the watcher to watch", 30)
    assert "directory_replaced" not in watched("replaced")


def test_events_that_were_lost_are_found_in_the_log(watched):
    findings = watched("overflow")
    assert findings["events_lost"]["status"] == "warning"
    assert "IN_Q_OVERFLOW" in findings["events_lost"]["summary"]
    assert "events_lost" not in watched("overflow", file_watching_overflow_within=0)


def test_the_limit_of_the_measuring_user_is_not_that_of_the_watcher(watched, made):
    """Another user has no instance left; the watcher runs as root and has its own."""
    limit = int((LIMITS / "max_user_instances").read_text())
    mine = {"file_watching_watcher_service": "inotify", "tracktion_compose_project": made.project}
    mine["file_watching_directories"] = [str(made.folders["music"])]
    with faults.watching([], OTHER_UID, instances=limit):
        findings = diagnose("file_watching", mine, before=lambda: os.seteuid(OTHER_UID))
    assert not fired(findings, "file_watching.events_do_not_arrive")
