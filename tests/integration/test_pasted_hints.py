# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in hints work, and run nothing else, with any name of a container, log or directory."""

from __future__ import annotations

import json
import os
import time
from functools import partial

import pytest

from tests.integration import areas
from tests.integration.containers import own_project
from tests.integration.inotify_faults import dead_mount
from tests.integration.pasting import HOSTILE, Shell, commands, is_inert
from tests.lab.throwaway import COMPOSE, inspect, wait_for

NOT_UTF8 = "Mot\udcf6.log"


@pytest.fixture
def shell(tmp_path):
    (tmp_path / "shell").mkdir()
    return Shell(tmp_path / "shell", "docker", "findmnt", "setfacl")


def hinted_commands(findings, check_id):
    """Return the commands of a check's findings by object."""
    found = {}
    for finding in areas.fired(findings, check_id):
        assert is_inert("".join(commands(finding["hint"])))
        found[finding["object"]] = commands(finding["hint"])
    return found


def only(found):
    """Return the only command of the only finding."""
    ((command,),) = list(found.values())
    return command


def test_logs_can_be_read_with_any_name(tmp_path, shell):
    folder = tmp_path / "logs"
    folder.mkdir()
    names = [*(name + ".log" for name in HOSTILE), NOT_UTF8]
    for name in names:
        text = "".join("%.3f ERROR broken %d\n" % (time.time(), number) for number in range(3))
        with open(folder / name, "w", encoding="utf-8") as stream:
            stream.write(text + "this is %r\n" % name)
    settings = {
        "logs_containers": False,
        "logs_kernel_log": "",
        "logs_files": [str(folder / "*.log")],
        "logs_errors_warning": 1,
    }
    findings = areas.diagnose("logs", settings)
    # Valid, and the name is shown with the byte that is not UTF-8 as an escape.
    json.dumps(findings, ensure_ascii=False).encode("utf-8")
    assert str(folder / "Mot\\xf6.log") in {finding["object"] for finding in findings["logs.errors"]}
    pasted = [shell.paste(command) for (command,) in hinted_commands(findings, "logs.errors").values()]
    assert sorted(text.splitlines()[-1] for text in pasted) == sorted("this is %r" % name for name in names)


def dead_mounts(folders):
    for folder in folders:
        dead_mount(folder)


def test_mounts_can_be_inspected_with_any_name(tmp_path, shell):
    folders = [str(tmp_path / name) for name in (*HOSTILE, NOT_UTF8)]
    for folder in folders:
        os.mkdir(folder)
    settings = {
        "file_watching_directories": folders,
        "file_watching_watcher_service": "",
        "file_watching_timeout": 0.1,
    }
    findings = areas.diagnose("file_watching", settings, before=partial(dead_mounts, folders))
    json.dumps(findings, ensure_ascii=False).encode("utf-8")
    found = hinted_commands(findings, "file_watching.directory_not_answering").values()
    words = [shell.words(command) for (command,) in found]
    assert sorted(words) == sorted([["findmnt", "--target=" + folder]] for folder in folders)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A project with forged labels: an exited container, and one that may not read its mount."""
    tmp_path = tmp_path_factory.mktemp("hostile")
    name = "; ".join(HOSTILE)
    with own_project(tmp_path) as app:
        files = [str(tmp_path / ("%s.yaml" % each)) for each in HOSTILE]
        labels = {
            COMPOSE + ".project": "p " + name,
            COMPOSE + ".service": "-s " + name,
            COMPOSE + ".project.config_files": ",".join(files),
            COMPOSE + ".project.working_dir": str(tmp_path / name),
            COMPOSE + ".project.environment_file": name,
        }
        shared = tmp_path / "it's $(touch pwned) `touch pwned`"
        shared.mkdir(mode=0o700)
        mounted = ("--mount", "type=bind,source=%s,target=/data,readonly" % shared)
        app.ended = app.run("web", "false", labels=labels, options=("--restart", "on-failure:1"))
        app.reader = app.run("web", labels=labels, options=(*mounted, "--user", "12345:12345", "--memory", "32m"))
        wait_for(app.ended, "ended", lambda state: state["Status"] == "exited" and inspect(app.ended)["RestartCount"])
        app.labels, app.shared, app.files, app.directory = labels, shared, files, str(tmp_path / name)
        yield app


def test_forged_labels_are_quoted_words(hostile, shell):
    settings = {
        "tracktion_compose_project": hostile.labels[COMPOSE + ".project"],
        "containers_expected_services": ["-x $(touch pwned)"],
        "containers_memory_warning": 0.0,
        "containers_memory_critical": 2.0,
    }
    findings = areas.diagnose("containers", settings)
    json.dumps(findings, ensure_ascii=False).encode("utf-8")
    options = ["--project-name", hostile.labels[COMPOSE + ".project"], "--project-directory", hostile.directory]
    options += ["--env-file", os.path.join(hostile.directory, hostile.labels[COMPOSE + ".project.environment_file"])]
    options += [word for path in hostile.files for word in ("--file", path)]
    up = ["docker", "compose", *options, "up", "-d", "--no-deps", "--"]
    missing = only(hinted_commands(findings, "containers.missing_service"))
    assert shell.words(missing) == [[*up, "-x $(touch pwned)"]]
    raised = only(hinted_commands(findings, "containers.memory_near_limit"))
    assert shell.words(raised) == [[*up, hostile.labels[COMPOSE + ".service"]]]
    log = only(hinted_commands(findings, "containers.crash_loop"))
    assert shell.words(log) == [["docker", "logs", "--tail", "50", hostile.ended]]
    let_in = only(hinted_commands(findings, "containers.path_denied"))
    assert shell.words(let_in) == [["setfacl", "-R", "-m", "u:12345:rX", "--", str(hostile.shared)]]
    for listed in findings.values():
        for finding in listed:
            for command in commands(finding["hint"] or ""):
                shell.paste(command)
