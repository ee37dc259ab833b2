# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of inotify, the watcher and its connection to the broker.

inotify's limits apply to each user of the kernel, including containers, and the services of the stack run as a user of
their own: exhausting the limits of that user affects this stack only. No limit of the host is lowered.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from ..images import ensure_image
from ..paths import CONTAINER_FILES
from ..servers import LABEL
from ..shell import LabError, attempt, wait_until
from . import fault
from .message_queue import evaluate


@contextlib.contextmanager
def hog(lab, what: str):
    """Run a container that holds all watches or instances of the services' user."""
    state = lab.state
    name = f"{lab.project}-hog-{what}"
    user = f"{state['service_uid']}:{state['service_uid']}"
    try:
        lab.docker(
            "run", "--detach", "--init", "--name", name, "--label", f"{LABEL}={lab.project}", "--user", user,
            "--network", "none", "--volume", f"{CONTAINER_FILES}:/lab:ro", ensure_image(state["suite"]),
            "python3", "/lab/inotify_hog.py", what,
        )  # fmt: skip

        def holding() -> bool:
            if lab.docker("inspect", "--format", "{{.State.Status}}", name).strip() == "exited":
                raise LabError(f"{name} ended: {lab.docker('logs', name)}")
            return "holding" in lab.docker("logs", name)

        wait_until(holding, f"{name} to hold all {what}", 60)
        yield
    finally:
        lab.docker("rm", "--force", name)


@fault(fires=["file_watching.watches_used", "file_watching.watches_would_not_fit"])
def watches_exhausted(lab):
    """Another process of the watcher's user holds all inotify watches of the user."""
    with hog(lab, "watches"):
        yield


@fault(fires=["file_watching.instances_used"])
def instances_exhausted(lab):
    """Another process of the watcher's user holds all inotify instances of the user."""
    with hog(lab, "instances"):
        yield


@fault(fires=["file_watching.watcher_not_running"])
def watcher_stopped(lab):
    """The file watcher's container is stopped."""
    with lab.stopped("file_watcher"):
        yield


@fault(fires=["file_watching.watcher_not_connected_to_broker"])
def watcher_disconnected(lab):
    """The file watcher runs, but the broker has closed its connection and rejects its password."""
    user = "/users/file_watcher"
    before = lab.rabbitmq_api("GET", user)
    try:
        lab.rabbitmq_api("PUT", user, {"password": "changed", "tags": ""})
        evaluate(lab, 'rabbit_networking:close_all_user_connections(<<"file_watcher">>, <<"password changed">>)')
        wait_until(lambda: not has_broker(lab), "the watcher to lose the broker", 20)
        yield
    finally:
        lab.rabbitmq_api("PUT", user, {key: before[key] for key in ("password_hash", "hashing_algorithm", "tags")})
    wait_until(lambda: has_broker(lab), "the watcher to reconnect to the broker", 30)


@fault(fires=["file_watching.watcher_restarting"])
def watcher_restarting(lab):
    """The watcher gets no inotify instance at its start, exits, and is restarted again and again."""
    container = lab.container("file_watcher")
    # It has to release its own instance first.
    lab.docker("stop", "--time", "5", container)
    try:
        with hog(lab, "instances"):
            lab.docker("start", container)
            wait_until(
                lambda: int(lab.docker("inspect", "--format", "{{.RestartCount}}", container)) >= 3, "restarts", 30
            )
            yield
    finally:
        lab.docker("stop", "--time", "5", container)
        lab.docker("start", container)
        lab.wait_healthy("file_watcher")


@fault(fires=["file_watching.subdirectories_not_watched"])
def new_directories_not_watched(lab):
    """A directory was created while no inotify watch was left."""
    folder = lab.watched_directory / "incoming" / "made-without-watches"
    try:
        with hog(lab, "watches"):
            folder.mkdir()
            # The watcher has to try while no watch is left.
            time.sleep(1)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()


@fault(fires=["file_watching.duplicate_watchers"])
def directory_watched_twice(lab):
    """A second observer in the watcher's container watches the same directory."""
    container = lab.container("file_watcher")
    second = (
        "import time; from watchdog.observers import Observer; from watchdog.events import FileSystemEventHandler; "
        "observer = Observer(); observer.schedule(FileSystemEventHandler(), '/music', recursive=True); "
        "observer.start(); "
        "print(len(observer.emitters), flush=True); time.sleep(36000)"
    )
    process = subprocess.Popen(
        ["docker", "exec", "-i", container, "timeout", "36000", "python3", "-c", second],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        if process.stdout.readline().strip() != "1":
            raise LabError("the second observer did not start")
        yield
    finally:
        process.kill()
        process.communicate()
        # Killing docker exec does not end the process in the container.
        lab.exec("file_watcher", "python3", "-c", STOP_TIMEOUT)


STOP_TIMEOUT = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if open(f"/proc/{pid}/cmdline").read().startswith("timeout\\0" "36000\\0"):
            os.kill(int(pid), signal.SIGTERM)
    except OSError:
        pass
"""


@fault(fires=["file_watching.directory_missing"])
def directory_gone(lab):
    """The watched directory was moved away."""
    away = lab.watched_directory.with_name("music-away")
    lab.watched_directory.rename(away)
    try:
        yield
    finally:
        if away.exists():
            away.rename(lab.watched_directory)


@fault(fires=["file_watching.directory_replaced"])
def directory_replaced(lab):
    """The watched directory was replaced by another, as after a restore; the watcher watches the old one."""
    away = lab.watched_directory.with_name("music-away")
    lab.watched_directory.rename(away)
    try:
        (lab.watched_directory / "incoming").mkdir(parents=True)
        yield
    finally:
        if away.exists():
            shutil.rmtree(lab.watched_directory, ignore_errors=True)
            away.rename(lab.watched_directory)


@fault(fires=["file_watching.directory_unreadable"])
def directory_closed(lab):
    """The watcher's user has no permission for the watched directory."""
    before = stat.S_IMODE(lab.watched_directory.stat().st_mode)
    lab.watched_directory.chmod(0o700)
    try:
        yield
    finally:
        lab.watched_directory.chmod(before)


@fault(fires=["file_watching.queue_overflow_risk"])
def events_pile_up(lab):
    """The watcher is paused while many files are created."""
    folder = lab.watched_directory / "incoming" / "burst"
    folder.mkdir()
    # It has to watch the new directory before it is paused.
    time.sleep(1)
    lab.docker("pause", lab.container("file_watcher"))
    try:
        for number in range(6000):
            (folder / f"{number}.part").touch()
        yield
    finally:
        # Its hint does the same.
        attempt("docker", "unpause", lab.container("file_watcher"))
        shutil.rmtree(folder, ignore_errors=True)
    lab.wait_healthy("file_watcher")


@fault(fires=["file_watching.limits_not_persisted"])
def limit_raised_by_hand(lab):
    """max_queued_events was raised in the running kernel, but not in a file."""
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    before = limit.read_text(encoding="ascii")
    try:
        limit.write_text(f"{int(before) + 1000}\n", encoding="ascii")
        yield
    finally:
        limit.write_text(before, encoding="ascii")


@fault(fires=["file_watching.limit_overridden_by_file", "file_watching.broken_sysctl_file"])
def sysctl_files_disagree(lab):
    """A later sysctl file lowers the value of an earlier one, and one line has no value."""
    folder = Path("/etc/sysctl.d")
    texts = {
        folder / f"60-{lab.project}.conf": "fs.inotify.max_queued_events = 32768\nfs.inotify.max_user_watches\n",
        folder / f"98-{lab.project}.conf": "fs/inotify/max_queued_events = 16000\n",
    }
    try:
        for file, text in texts.items():
            file.write_text(f"# Made by the lab, to be removed with it.\n{text}", encoding="utf-8")
        yield
    finally:
        for file in texts:
            file.unlink(missing_ok=True)


def has_broker(lab) -> bool:
    """Return whether the health endpoint of the watcher reports a connection to the broker."""
    try:
        with urllib.request.urlopen(lab.url("watcher"), timeout=5) as answer:
            health = json.load(answer)
    except urllib.error.HTTPError as error:
        health = json.load(error)
    return health["checks"]["broker"]["healthy"]
