# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""log_errors_info against real containers, files and a real journal, and with failures of each."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import DEFAULT_HOST
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_sources
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _log_errors_info
from tests.integration import inotify_faults
from tests.integration.modules import run_module
from tests.lab.engine import docker, ensure
from tests.lab.images import ensure_image
from tests.lab.servers import LABEL
from tests.lab.shell import attempt, run, wait_until
from tests.slack import SLACK

# Writes messages with a priority to a journal of its own.
JOURNAL = """
mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal
/lib/systemd/systemd-journald & journald=$!
for try in $(seq 100); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
for number in $(seq 40); do
  printf 'MESSAGE=lost the broker %s\\nPRIORITY=3\\nSYSLOG_IDENTIFIER=worker\\n\\n' "$number" | logger --journald
done
printf 'MESSAGE=fine\\nPRIORITY=6\\nSYSLOG_IDENTIFIER=quiet\\n\\n' | logger --journald
for try in $(seq 100); do
  [ -n "$(journalctl -q -D /run/log/journal SYSLOG_IDENTIFIER=quiet)" ] && break; sleep 0.1
done
kill $journald; wait $journald || :
cp -r /run/log/journal "$1"
"""


def measure(before=None, **options):
    options = {"kernel_log": "", "containers": False, **options}
    result = run_module("log_errors_info", options, before=before)
    assert "failed" not in result, result
    return result


def by_name(result):
    return {entry["name"]: entry for entry in result["services"]}


@pytest.fixture(scope="session")
def image():
    ensure()
    return ensure_image("bookworm")


@pytest.fixture
def container(image):
    """Return a function that runs a script in a container until it ends, and returns the container's name."""
    names = []

    def start(script, *options):
        names.append("tracktion-lab-test-" + secrets.token_hex(4))
        run(
            "docker", "run", "--name", names[-1], "--label", LABEL + "=server", *options, image, "python3", "-c", script
        )
        return names[-1]

    yield start
    for name in names:
        attempt("docker", "rm", "--force", name)


def of_container(name, **options):
    (entry,) = measure(containers=True, services=[name], **options)["services"]
    return entry


def output(name):
    """Return the output of a container, by the engine."""
    outcome = attempt("docker", "logs", name)
    return outcome.stdout + outcome.stderr


TALK = """
import sys
for number in range(3000):
    print("request", number, "took 7 ms", "x" * 60, flush=True)
    # The engine keeps the order only within one stream.
    if number % 10 == 0:
        print("ERROR request", number, "failed", file=sys.stderr if number % 20 else sys.stdout, flush=True)
"""


def test_rotated_logs_of_a_container_are_counted_exactly(container):
    name = container(TALK, "--log-opt", "max-size=100k", "--log-opt", "max-file=20")
    entry = of_container(name, progress={name: "took 7 ms"})
    assert (entry["lines"], entry["errors"], entry["progress"]["count"]) == (3300, 300, 3000)
    assert (entry["complete"], entry["bytes_skipped"], entry["driver"]) == (True, 0, "json-file")
    assert entry["state"] == "exited"


def test_deleted_rotated_logs_are_incomplete(container):
    """The engine keeps two files of 100 kB."""
    name = container(TALK, "--log-opt", "max-size=100k", "--log-opt", "max-file=2")
    entry = of_container(name)
    assert entry["lines"] == output(name).count("\n")
    assert entry["lines"] < 3300
    assert not entry["complete"]


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_api_is_used_without_files(container, tmp_path, driver):
    name = container(TALK, "--log-driver", driver)
    root = {"docker_root": str(tmp_path)} if driver == "json-file" else {}
    entry = of_container(name, **root)
    assert (entry["error"], entry["driver"]) == (None, driver)
    assert (entry["lines"], entry["errors"], entry["complete"]) == (3300, 300, True)
    little = of_container(name, max_bytes=100000, **root)
    assert not little["complete"]
    assert little["left_out"]
    assert 500 < little["lines"] < 1500
    assert little["errors"] > 20


@pytest.mark.parametrize("driver", ["none", "syslog"])
def test_driver_without_local_log(container, driver):
    """The engine keeps a copy of logs that it sends to syslog; nothing listens at the address here."""
    options = ["--log-opt", "syslog-address=udp://127.0.0.1:9"] if driver == "syslog" else []
    name = container(TALK, "--log-driver", driver, *options)
    entry = of_container(name)
    assert entry["driver"] == driver
    if driver == "none":
        assert (entry["lines"], entry["errors"]) == (None, None)
        assert "log driver none" in entry["error"]
    else:
        assert entry["error"] is None
        # The engine's copy of an ended container is complete after a moment.
        wait_until(lambda: of_container(name)["errors"] == output(name).count("ERROR") > 250, "the engine's copy", 10)


def test_container_removed_meanwhile(container):
    name = container("print('ERROR')")
    options = {"project": "", "services": [name], "exclude": [], "docker_host": DEFAULT_HOST, "docker_root": None}
    (log,) = _log_sources.containers(Engine(), options)
    docker("rm", name)
    with pytest.raises(_log_sources.Unreadable, match="removed meanwhile"):
        log.open(0, 1000, 1)


def test_missing_services_and_projects_are_named(container):
    name = container("print('ERROR')")
    services = by_name(measure(containers=True, services=[name, "missing"]))
    assert (services[name]["errors"], services["missing"]["error"]) == (1, "no such container")
    services = by_name(measure(containers=True, project="no-such-project"))
    assert {key: entry["error"] for key, entry in services.items()} == {
        "no-such-project": "no container of this compose project"
    }


def test_container_that_was_never_started(image):
    name = "tracktion-lab-test-" + secrets.token_hex(4)
    docker("create", "--name", name, "--label", LABEL + "=server", image, "true")
    try:
        entry = of_container(name)
    finally:
        docker("rm", name)
    assert (entry["error"], entry["lines"], entry["complete"]) == (None, 0, True)


def test_hanging_engine(tmp_path):
    path = str(tmp_path / "docker.sock")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(path)
        server.listen()
        (tmp_path / "app.log").write_text("%.3f ERROR x\n" % time.time())
        began = time.monotonic()
        result = measure(
            containers=True,
            docker_root=str(tmp_path),
            docker_host="unix://" + path,
            files=[str(tmp_path / "*.log")],
            timeout=0.5,
        )
    assert time.monotonic() - began < 5 * SLACK
    services = by_name(result)
    assert services[str(tmp_path / "app.log")]["errors"] == 1
    assert services["containers"]["errors"] is None
    assert result["unknown"][0]["part"] == "services.containers"
    # The socket exists and nothing listens.
    result = measure(containers=True, docker_root=str(tmp_path), docker_host="unix://" + path)
    assert "no Docker engine answers" in by_name(result)["containers"]["error"]


def test_named_engine_is_used(container, tmp_path):
    """Such as a rootless engine or Podman, whose files are not those of the default engine."""
    name = container("print('ERROR')")
    path = tmp_path / "docker.sock"
    path.symlink_to("/var/run/docker.sock")
    entry = of_container(name, docker_host="unix://%s" % path)
    assert (entry["error"], entry["errors"], entry["path"]) == (None, 1, None)
    (entry,) = measure(containers=True, docker_host="unix://%s/none.sock" % tmp_path)["services"]
    assert (entry["name"], entry["error"]) == ("containers", "there is no Docker engine at %s/none.sock" % tmp_path)


def test_containers_are_unknown_without_privilege():
    result = measure(before=partial(inotify_faults.become, inotify_faults.OTHER_UID), containers=True)
    (entry,) = result["services"]
    assert "--become" in entry["hint"]


def test_dead_mount_does_not_delay_others(tmp_path):
    alive, dead = tmp_path / "alive.log", tmp_path / "dead"
    dead.mkdir()
    alive.write_text("%.3f ERROR x\n" % time.time())
    began = time.monotonic()
    options = {
        "files": [str(dead / "*.log")],
        "journal_units": ["*"],
        "journal_directory": str(tmp_path),
    }
    result = measure(before=partial(inotify_faults.dead_mount, str(dead)), timeout=0.5, **options)
    assert time.monotonic() - began < 6 * SLACK
    services = by_name(result)
    assert "no answer within" in services["files"]["error"]
    assert "no journal files" in services["journal"]["error"]
    assert by_name(measure(files=[str(alive)]))[str(alive)]["errors"] == 1


# Files


@pytest.fixture
def log(tmp_path):
    """Return a function that measures a file with this content."""

    def look(data, **options):
        path = tmp_path / "app.log"
        path.write_bytes(data)
        result = measure(files=[str(path)], **options)
        return SimpleNamespace(result=result, **by_name(result)[str(path)])

    return look


def test_budget_reads_the_newest_part(log):
    now = time.time()
    count = 200000
    data = b"".join(
        b"%.3f %s line %06d of some length, as lines of a service have\n"
        % (now - 800 + 799 * number / count, b"ERROR" if number in (5, count - 1) else b"INFO", number)
        for number in range(count)
    )
    entry = log(data, max_bytes=1 << 20)
    assert entry.bytes_read <= (1 << 20) * 1.5
    assert entry.bytes_read + entry.bytes_skipped >= len(data)
    assert not entry.complete
    assert entry.left_out == "its budget of bytes was used up"
    assert entry.errors == 1
    # The rate is that of the part that was read.
    assert entry.lines_per_minute == pytest.approx(count / 799 * 60, rel=0.05)
    assert entry.covered_seconds == pytest.approx(799 * (1 << 20) / len(data), rel=0.1)
    whole = log(data)
    assert (whole.lines, whole.errors, whole.complete, whole.bytes_skipped) == (count, 2, True, 0)


def test_timeout_reads_the_newest_part(log):
    now = time.time()
    letters = "abcdefghij"
    data = b"".join(
        b"%.3f ERROR no two alike %s\n"
        % (now - 800 + number / 100, "".join(letters[int(digit)] for digit in str(number)).encode())
        for number in range(79000)
    )
    began = time.monotonic()
    entry = log(data, timeout=1.5, deadline=4)
    assert time.monotonic() - began < 5 * SLACK
    assert (entry.complete, entry.left_out) == (False, "its time was used up")
    assert 0 < entry.errors < 79000
    assert entry.newest == pytest.approx(now - 800 + 789.99, abs=0.01)


def test_signature_in_two_windows(log):
    now = time.time()
    lines = [b"%.3f ERROR lost 7\n" % (now - age) for age in (170, 160, 100, 50, 40, 30, 20)]
    entry = log(b"".join(lines), minutes=1)
    assert (entry.errors, entry.previous["errors"]) == (4, 1)
    assert (entry.errors_per_minute, entry.errors_ratio) == (4.0, 4.0)
    (signature,) = entry.result["signatures"]
    assert (signature["count"], signature["previous_count"], signature["signature"]) == (4, 1, "lost <n>")
    assert signature["last"] - signature["first"] == pytest.approx(30, abs=0.01)
    only = log(b"".join(lines), minutes=1, since=now - 35)
    assert (only.errors, only.previous["errors"]) == (2, 0)


def test_signature_is_not_new_if_not_all_was_read(log):
    now = time.time()
    before = b"".join(b"%.3f ERROR lost %d\n" % (now - 110 + number / 1000, number) for number in range(40000))
    entry = log(before + b"%.3f ERROR odd\n%.3f ERROR lost 1\n" % (now - 9, now - 8), minutes=1, max_bytes=200000)
    counts = {event["signature"]: event["previous_count"] for event in entry.result["signatures"]}
    assert counts["odd"] is None
    assert counts["lost <n>"] > 1000
    assert (entry.complete, entry.previous["complete"]) == (True, False)


def test_lines_without_a_time(log):
    entry = log(b"ERROR when?\n")
    assert (entry.errors, entry.error) == (None, "its lines have no time in a known format")


def test_unusual_endings_and_wrong_clock(log):
    now = time.time()
    assert log(b"").error is None
    assert log(b"%.3f ERROR without an end" % now).errors == 1
    assert log(b"%.3f ERROR \x1b[31mred\x1b[0m \xff\x00\n" % now).errors == 1
    future = log(b"%.3f ERROR x\n%.3f ERROR x\n" % (now - 5, now + 300))
    assert future.errors == 2
    assert future.newest > now + 200
    long = log(b"%.3f ERROR %s\n%.3f ERROR x\n" % (now - 5, b"y" * (3 << 20), now))
    assert long.errors == 2
    assert max(len(event["sample"]) for event in long.result["signatures"]) <= 300


def test_times_in_another_zone(log, tmp_path):
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - 7200)).encode()
    assert log(written + b" ERROR x\n").errors == 1


def test_compressed_file_is_left_out(log, tmp_path):
    (tmp_path / "app.log.1.gz").write_bytes(b"x" * 100)
    entry = log(b"%.3f ERROR x\n" % time.time())
    assert (entry.complete, entry.left_out) == (False, "app.log.1.gz is compressed")


def test_missing_file():
    (entry,) = measure(files=["/nonexistent/*.log"])["services"]
    assert (entry["name"], entry["error"]) == ("/nonexistent/*.log", "no such file")


def test_paths_that_are_not_logs(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "app.log.gz").write_bytes(b"x")
    (tmp_path / "gone.log").symlink_to("nowhere")
    names = ("folder", "pipe", "app.log.gz", "gone.log")
    services = by_name(measure(files=[str(tmp_path / name) for name in names]))
    assert {os.path.basename(name): entry["error"] for name, entry in services.items()} == {
        "folder": "it is a directory: name its files, such as %s/folder/*.log" % tmp_path,
        "pipe": "it is not a regular file",
        "app.log.gz": "it is compressed",
        "gone.log": "it is not a regular file",
    }
    # Not reported if the pattern also matches a log.
    (tmp_path / "app.log").write_text("%.3f ERROR x\n" % time.time())
    assert list(by_name(measure(files=[str(tmp_path / "*")]))) == [str(tmp_path / "app.log")]


def test_files_without_permission():
    with tempfile.TemporaryDirectory() as folder:
        closed, mine = os.path.join(folder, "closed"), os.path.join(folder, "app.log")
        os.mkdir(closed)
        for path in (mine, closed + "/app.log"):
            Path(path).write_text("%.3f ERROR x\n" % time.time())
        os.chmod(folder, 0o755)
        os.chmod(mine, 0o600)
        os.chmod(closed, 0o700)
        unprivileged = partial(inotify_faults.become, inotify_faults.OTHER_UID)
        result = measure(
            before=unprivileged, files=[mine, closed + "/*.log", closed + "/in/x.log", folder + "/none.log"]
        )
    reason = "the directory %s cannot be read" % closed
    assert {entry["name"]: entry["error"] for entry in result["services"]} == {
        mine: "Permission denied",
        closed + "/*.log": reason,
        closed + "/in/x.log": reason,
        folder + "/none.log": "no such file",
    }


def test_truncated_file_with_a_hole(tmp_path):
    """With logrotate's copytruncate, the file begins with a hole of its former size."""
    path = tmp_path / "app.log"
    with open(path, "wb") as stream:
        stream.truncate(50 << 20)
        stream.seek(50 << 20)
        stream.write(b"".join(b"%.3f ERROR x\n" % (time.time() - age) for age in (9, 8, 7)))
    entry = by_name(measure(files=[str(path)]))[str(path)]
    assert (entry["error"], entry["errors"], entry["complete"]) == (None, 3, True)
    assert entry["bytes_read"] < 10000


def test_named_file_of_the_engine(tmp_path):
    path = tmp_path / "abc-json.log"
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    entry = '{"log":"%s\\n","stream":"stderr","time":"' + moment + '.5Z"}\n'
    texts = ("Traceback (most recent call last):", '  File \\"x\\", line 1', "ValueError: x", "INFO the last error")
    path.write_text("".join(entry % text for text in texts))
    result = measure(files=[str(path)])
    assert [event["signature"] for event in result["signatures"]] == ["ValueError: x"]
    assert by_name(result)[str(path)]["lines"] == 4


def test_file_that_grows_and_rotates_meanwhile(tmp_path):
    path = tmp_path / "app.log"
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            with open(path, "ab") as stream:
                for _line in range(500):
                    number += 1
                    stream.write(b"%.3f ERROR %d\n" % (time.time(), number))
            with contextlib.suppress(FileNotFoundError):
                os.replace(tmp_path / "app.log.1", tmp_path / "app.log.2")
            os.replace(path, tmp_path / "app.log.1")

    writer = threading.Thread(target=write)
    path.touch()
    writer.start()
    try:
        for _look in range(5):
            for entry in measure(files=[str(path)])["services"]:
                # Between two files there may be none for a moment.
                assert entry["error"] in (None, "no such file", "No such file or directory")
                assert entry["errors"] is None or entry["errors"] <= 1500
    finally:
        stop.set()
        writer.join()


# The journal


def test_journal(tmp_path):
    run("unshare", "--mount", "sh", "-c", JOURNAL, "sh", tmp_path / "journal", timeout=60)
    options = {"journal_units": ["*"], "journal_directory": str(tmp_path / "journal")}
    services = by_name(measure(**options))
    worker, quiet = services["worker"], services["quiet"]
    assert (worker["source"], worker["lines"], worker["errors"], worker["complete"]) == ("journal", 40, 40, True)
    assert (quiet["lines"], quiet["errors"]) == (1, 0)
    little = by_name(measure(max_bytes=9000, **options))["worker"]
    assert 0 < little["errors"] < 40
    assert (little["complete"], little["left_out"]) == (False, "it is larger than the budget of 9000 bytes")
    assert "journal" not in by_name(measure(since=time.time() + 60, **options))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"minutes": 0}, "minutes"),
        ({"minutes": "nan"}, "minutes: must be more than 0"),
        ({"timeout": 0}, "timeout: must be more than 0"),
        ({"deadline": -1}, "deadline: must be more than 0"),
        ({"top": -1}, "top: must be 1 or more"),
        ({"max_bytes": 0}, "max_bytes: must be 1 or more"),
        ({"sample_length": -5}, "sample_length: must be 1 or more"),
        ({"files": [""]}, "files: an entry is empty"),
        ({"progress": {"a": "("}}, "progress: a"),
        ({"known": [{"id": "x", "pattern": "("}]}, "known: x"),
        ({"own": [{"pattern": "x"}]}, "known: each entry needs id and pattern"),
        ({"docker_host": "tcp://10.0.0.1:2376"}, "docker_host: tcp://10.0.0.1:2376 is not a socket of this machine"),
    ],
)
def test_invalid_option_is_named(options, named):
    result = run_module("log_errors_info", options)
    assert result["failed"]
    assert named in result["msg"]


def test_kernel_log_is_read_without_blocking():
    began = time.monotonic()
    result = measure(kernel_log="/dev/kmsg", minutes=1)
    assert time.monotonic() - began < 3 * SLACK
    assert result["kernel"]["oldest"] < time.time()
    assert subprocess.run(["dmesg"], capture_output=True, check=True).stdout
    assert measure(kernel_log="/nonexistent")["kernel"] is None


def test_hanging_thread_does_not_delay_others():
    """The first function never returns."""
    deadline = _log_errors_info.Deadline(1)
    done, never = [], threading.Event()
    began = time.monotonic()
    _log_errors_info.run_in_threads(
        [lambda limit: never.wait(), *[done.append] * 50], _log_errors_info.Deadline(0.5), deadline
    )
    assert time.monotonic() - began < 2 * SLACK
    assert len(done) == 50
    never.set()
    wait_until(lambda: len(done) == 50, "the last function", 1)
