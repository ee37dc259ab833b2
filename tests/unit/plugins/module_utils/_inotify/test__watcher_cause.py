# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a watcher does without inotify: its log, its limits, and whether it polls on purpose."""

from __future__ import annotations

import json

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _polling, _watcher_cause, _watcher_log
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._budgets import Budget
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher_cause import Files
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher_log import Line

NAMES = {1000: "tracktion"}
MANY = Files(20, 1048576)


def budget(watches=5, instances=1, namespace=None, known=True):
    return Budget(1000, namespace, namespace and 4711, 100, 10, watches, instances, known)


# Lines that programs have written


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OSError: [Errno 28] inotify watch limit reached", "watches"),
        ("Error: ENOSPC: System limit for number of file watchers reached, watch '/music'", "watches"),
        ("Failed to watch /music; upper limit on inotify watches reached!", "watches"),
        ("inotify_add_watch(/music): No space left on device", "watches"),
        ("OSError: [Errno 24] inotify instance limit reached", "instances"),
        ("failed to create fsnotify watcher: too many open files", "instances"),
        ("Couldn't initialize inotify: Too many open files", "instances"),
        ("Error: EMFILE: too many open files, watch '/music'", "instances"),
        ("OSError: [Errno 24] Too many open files: '/music/a.mp3'", "files"),
        ("fsnotify: queue or buffer overflow", "overflow"),
        ("inotify event queue overflow", "overflow"),
        ("watcher error: IN_Q_OVERFLOW, 3 directories rescanned", "overflow"),
        ("inotify unavailable, falling back to polling", "fallback"),
        ("using polling instead of inotify", "fallback"),
        ("OSError: [Errno 28] No space left on device: '/music/a.part'", None),
        ("stack overflow in decoder", None),
        ("watching /music for .mp3", None),
        ("polled 3 messages", None),
    ],
)
def test_kinds_of_lines(tmp_path, text, kind):
    log = tmp_path / "x-json.log"
    log.write_text(json.dumps({"log": text + "\n", "stream": "stderr", "time": "2026-01-02T03:04:05.6Z"}) + "\n")
    assert list(_watcher_log.read(str(log), None)) == ([kind] if kind else [])


def test_only_lines_after_the_start_count(tmp_path):
    log = tmp_path / "x-json.log"
    rows = [
        {"log": "inotify watch limit reached\n", "time": "2026-01-01T00:00:00Z"},
        {"log": "password=hunter2 inotify instance limit reached\n", "time": "2026-01-02T00:00:00Z"},
    ]
    log.write_text("cut off\n" + "".join(json.dumps(row) + "\n" for row in rows) + "[1]\n")
    found = _watcher_log.read(str(log), 1767270000.0)
    assert list(found) == ["instances"]
    assert "hunter2" not in found["instances"].text
    assert found["instances"].time == 1767312000.0
    assert _watcher_log.read(None, None) == _watcher_log.read(str(tmp_path / "missing"), None) == {}


EMFILE = {"instances": Line("inotify instance limit reached", None)}
ENOSPC = {"watches": Line("inotify watch limit reached", None)}


@pytest.mark.parametrize(
    ("log", "budgets", "files", "kind", "message"),
    [
        ({}, [budget()], MANY, None, None),
        ({}, [], MANY, None, None),
        (EMFILE, [budget(instances=10)], MANY, "instances", "tracktion holds 10 of 10 inotify instances"),
        (
            EMFILE,
            [budget(instances=10, namespace=7), budget()],
            MANY,
            "instances",
            "tracktion in its user namespace holds 10 of 10 inotify instances",
        ),
        (EMFILE, [budget()], Files(63, 64), "open_files", "it has 63 of 64 files open (nofile)"),
        # Both limits are reached: that of the process is the nearer one.
        (EMFILE, [budget(instances=10)], Files(64, 64), "open_files", "it has 64 of 64 files open (nofile)"),
        (
            EMFILE,
            [budget()],
            Files(None, 8),
            "open_files",
            "it may open 8 files (nofile), and inotify instances are left",
        ),
        (EMFILE, [budget()], MANY, "past", "its log names the limit of inotify instances or open files, which is not"),
        # Without the use, nothing is certain.
        (EMFILE, [budget(known=False)], Files(None, 8), "past", "could be counted, and it may open 8 files (nofile)"),
        (EMFILE, [], Files(None, None), "past", "not all of the use could be counted"),
        (ENOSPC, [budget(watches=100)], MANY, "watches", "tracktion holds 100 of 100 inotify watches"),
        # A limit of files is no cause of ENOSPC.
        (ENOSPC, [budget()], Files(64, 64), "past", "its log names the limit of inotify watches, which is not reached"),
        ({}, [budget(watches=100)], MANY, "watches", "tracktion holds 100 of 100 inotify watches"),
        ({}, [budget()], Files(64, 64), "open_files", "it has 64 of 64 files open (nofile)"),
        ({}, [budget()], Files(None, 8), None, None),
    ],
)
def test_the_cause(log, budgets, files, kind, message):
    found = _watcher_cause.find(log, budgets, files, NAMES)
    assert (found and found["kind"]) == kind
    if kind:
        assert message in found["message"]
        assert found["line"] == next((line.text for line in log.values()), None)


def test_the_hint_raises_the_limit_that_is_reached():
    found = _watcher_cause.find(EMFILE, [budget(instances=10)], MANY, NAMES)
    assert found["hint"].startswith("Raise the limit: `sysctl -w fs.inotify.max_user_instances=20`")
    found = _watcher_cause.find(ENOSPC, [budget(watches=100, namespace=7), budget()], MANY, NAMES)
    assert found["hint"].endswith("`nsenter --user --target 4711 sysctl -w user.max_inotify_watches=328`")


CAUSE = {"kind": "instances"}
SAYS_SO = Line("falling back to polling", None)


@pytest.mark.parametrize(
    ("declared", "observed", "has_instances", "cause", "fallback", "polls", "fell_back"),
    [
        (None, None, True, CAUSE, SAYS_SO, False, False),
        ("POLL=1", None, False, CAUSE, None, True, False),
        (None, True, False, None, None, True, False),
        (None, True, False, CAUSE, None, False, True),
        (None, False, False, CAUSE, SAYS_SO, False, True),
        (None, False, False, CAUSE, None, False, False),
        (None, None, False, None, None, False, False),
        (None, None, False, None, SAYS_SO, True, False),
    ],
)
def test_polling_on_purpose_and_by_a_limit(declared, observed, has_instances, cause, fallback, polls, fell_back):
    found = _watcher_cause.polling(declared, observed, has_instances, cause, fallback)
    assert (found["polls"], found["fell_back"]) == (polls, fell_back)


@pytest.mark.parametrize(
    ("name", "value", "polls"),
    [
        ("CHOKIDAR_USEPOLLING", "1", True),
        ("WATCHPACK_POLLING", "true", True),
        ("WATCHFILES_FORCE_POLLING", "true", True),
        ("USE_POLLING", "yes", True),
        ("WATCHER_BACKEND", "polling", True),
        ("OBSERVER", "PollingObserver", True),
        ("TSC_WATCHFILE", "FixedPollingInterval", True),
        ("CHOKIDAR_USEPOLLING", "false", False),
        ("POLL_INTERVAL", "5", False),
        ("QUEUE_POLL_SECONDS", "5", False),
        ("WATCH_DIRECTORY", "/srv/polling/in", False),
    ],
)
def test_variables_that_turn_on_polling(name, value, polls):
    assert _polling.by_environment({"PATH": "/bin", name: value}) == ("%s=%s" % (name, value) if polls else None)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["node", "watch.js", "--poll"], "--poll"),
        (["tool", "--use-polling=true"], "--use-polling=true"),
        (["nodemon", "--legacy-watch", "x.js"], "--legacy-watch"),
        (["tool", "--poll=false"], None),
        (["tool", "--poll-interval=5"], None),
        (["tool", "--watch"], None),
    ],
)
def test_options_that_turn_on_polling(words, option):
    assert _polling.by_option(words) == option


@pytest.mark.parametrize(
    ("text", "polls"),
    [
        ("from watchdog.observers.polling import PollingObserver\nobserver = PollingObserver()", True),
        ("from watchdog.observers.polling import PollingObserver as Observer\nobserver = Observer()", True),
        ("for changes in watch(path, force_polling=True):", True),
        ("chokidar.watch('/music', {usePolling: true})", True),
        ("try:\n    o = Observer()\nexcept OSError:\n    o = PollingObserver()", False),
        ("from watchdog.observers import Observer\nObserver = PollingObserver if poll else Observer", False),
        ("from watchdog.observers import Observer", False),
        ("", False),
    ],
)
def test_code_that_can_only_poll(text, polls):
    assert _polling.by_code([("watch.py", text)]) == ("its program watch.py" if polls else None)
