# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which limit of inotify is reached, for whom, by which programs, and what changes it."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.integration import inotify_faults as faults
from tests.integration.areas import diagnose, fired
from tests.integration.inotify_faults import LIMITS, OTHER_UID

# No watcher is expected, and no floor.
NOTHING = {"file_watching_watcher_service": ""}
CODE = (
    "import ctypes, sys, time; libc = ctypes.CDLL(None); "
    "fds = [libc.inotify_init1(0) for _ in range(int(sys.argv[1]))]; "
    "[libc.inotify_add_watch(fds[0], path.encode(), 256) for path in sys.argv[2:]]; print('ready', flush=True); "
    "time.sleep(600)"
)


def limit(name):
    return int((LIMITS / name).read_text())


def one(findings, check_id, name):
    """Return the finding of a check about an object, or null."""
    found = [finding for finding in fired(findings, check_id) if finding["object"] == name]
    return found[0] if found else None


def commands(finding):
    """Return the commands in a hint."""
    return re.findall("`([^`]+)`", finding["hint"])


def paste(command):
    return subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True, timeout=20).stdout


def test_the_holders_of_a_limit_are_those_of_its_user():
    used = int(limit("max_user_instances") * 0.75)
    watched = ["/srv"]
    # The neighbour has more watches, and another limit.
    with (
        faults.watching(watched, OTHER_UID, instances=used - 1) as pid,
        faults.watching([], OTHER_UID) as second,
        faults.watching([*watched, "/", "/etc", "/usr"], OTHER_UID + 1, instances=used // 2) as neighbour,
    ):
        findings = diagnose(
            "file_watching", {**NOTHING, "file_watching_watches_floor": 1, "file_watching_used_warning": 0}
        )
    found = one(findings, "file_watching.instances_used", str(OTHER_UID))
    assert found["status"] == "warning"
    assert "holds %d of %d inotify instances" % (used, limit("max_user_instances")) in found["summary"]
    watches = one(findings, "file_watching.watches_used", str(OTHER_UID))
    for hint in (found["hint"], watches["hint"]):
        assert "pid %d" % neighbour not in hint
        # Both processes run the same program: one entry.
        assert "pid %d and 1 more" % min(pid, second) in hint
    assert found["remedy"]["id"] == "file_watching.raise_limits"


def in_namespace(name, value, *words):
    """Return the words that run a program in a user namespace with a limit of its own."""
    script = 'echo %d >/proc/sys/user/%s && exec "$@"' % (value, name)
    user = ["setpriv", "--reuid", str(OTHER_UID), "--regid", str(OTHER_UID), "--clear-groups"]
    return [*user, "unshare", "-Ur", "sh", "-c", script, "sh", faults.python(), "-c", CODE, *words]


@pytest.mark.parametrize(
    ("check", "name", "value", "words"),
    [
        ("instances_used", "max_inotify_instances", 3, ["3"]),
        ("watches_used", "max_inotify_watches", 2, ["1", "/etc", "/usr"]),
    ],
)
def test_the_limit_of_a_user_namespace_counts(check, name, value, words):
    """The hint, followed to the letter, raises it; a higher limit of the machine would not help."""
    check_id = "file_watching." + check
    with faults.program(*in_namespace(name, value, *words), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        found = one(diagnose("file_watching", NOTHING), check_id, "%d in the user namespace of python3 -c" % OTHER_UID)
        assert found["status"] == "critical"
        assert "%d of %d" % (value, value) in found["summary"]
        assert found["remedy"] is None
        (command,) = commands(found)
        assert "user.%s" % name in paste(command)
        assert not one(diagnose("file_watching", NOTHING), check_id, found["object"])


# Files of sysctl


@pytest.fixture
def files(tmp_path):
    """Return a function that writes files of sysctl.d and evaluates the limits; no kernel limit is changed."""

    def evaluated(texts=None, **settings):
        for name, text in (texts or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return diagnose("file_watching", {**NOTHING, "file_watching_sysctl_root": str(tmp_path), **settings})

    return evaluated


def test_a_hint_about_files_is_right_when_followed(files):
    """Line 2 sets the same as line 3, and an earlier file is overridden: the last line has to be corrected."""
    now = limit("max_queued_events")
    low = "fs.inotify.max_queued_events = %d\n" % (now - 1)
    findings = files(
        {
            "etc/sysctl.d/10-ours.conf": "fs.inotify.max_queued_events = %d\n" % now,
            "etc/sysctl.d/99-theirs.conf": "# theirs\n" + low + low,
        }
    )
    found = one(findings, "file_watching.limit_overridden_by_file", "max_queued_events")
    assert found["status"] == "warning"
    assert found["summary"].startswith("Line 3 of /etc/sysctl.d/99-theirs.conf takes precedence")
    assert "line 1 of /etc/sysctl.d/10-ours.conf has no effect" in found["summary"]
    (command,) = commands(found)
    paste(command)
    assert not fired(files(), "file_watching.limit_overridden_by_file")
    assert limit("max_queued_events") == now


def test_a_file_that_breaks_a_floor_is_a_warning_without_a_remedy(files):
    """The remedy would be undone at the next boot. A file of a package is overridden, not edited."""
    now = limit("max_queued_events")
    floor = {"file_watching_max_queued_events": now}
    texts = {
        "etc/sysctl.d/README": "",
        "usr/lib/sysctl.d/70-vendor.conf": "fs/inotify/max_queued_events = %d\n" % (now - 1),
    }
    findings = files(texts, **floor)
    found = one(findings, "file_watching.limit_overridden_by_file", "max_queued_events")
    assert (found["status"], found["remedy"]) == ("warning", None)
    assert not fired(findings, "file_watching.limits_below_floor")
    (command,) = commands(found)
    assert "/etc/sysctl.d/70-vendor_local.conf" in command
    paste(command)
    assert not fired(files(**floor), "file_watching.limit_overridden_by_file")
    # Read before the drop-in of the remedy, it can be corrected by the remedy.
    texts = {"usr/lib/sysctl.d/70-vendor.conf": "", "etc/sysctl.d/70-vendor_local.conf": ""}
    texts["usr/lib/sysctl.d/50-vendor.conf"] = "fs.inotify.max_queued_events = %d\n" % now
    findings = files(texts, file_watching_max_queued_events=now + 1)
    assert one(findings, "file_watching.limits_below_floor", "max_queued_events")["remedy"]
    assert not fired(findings, "file_watching.limit_overridden_by_file")


def test_a_file_that_no_boot_reads_is_named(files, tmp_path):
    (tmp_path / "usr/lib/systemd").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/systemd-sysctl").touch()
    texts = {"etc/sysctl.conf": "\n\nfs.inotify.max_queued_events = 99999\n"}
    with faults.limits_put_back():
        (LIMITS / "max_queued_events").write_text("99999")
        found = one(files(texts), "file_watching.limits_not_persisted", "max_queued_events")
    assert found["status"] == "warning"
    assert "systemd-sysctl does not read /etc/sysctl.conf, which sets it in line 3" in found["summary"]
