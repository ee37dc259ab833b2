# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of logs fires on its fault, and is quiet without it."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time

import pytest

from tests.integration import areas
from tests.integration.areas import diagnose, visit
from tests.integration.followed_hints import LOGS
from tests.integration.following import Operator, follow
from tests.integration.kernel_faults import broken_disk, kernel_says, killed_for_memory
from tests.lab.faults import every
from tests.lab.faults.logs import talker
from tests.lab.images import ensure_image
from tests.lab.inventory import variables
from tests.lab.paths import CONTAINER_FILES
from tests.lab.servers import LABEL
from tests.lab.shell import attempt, run, wait_until

FAULTS = {name: fault for name, fault in every().items() if fault.area == "logs"}
KERNEL_CHECKS = ("oom_killed", "io_errors", "hung_tasks", "read_only_fs", "segfaults", "conntrack_full")


@pytest.fixture
def settings(lab):
    return variables(lab)


def fired(findings, name, **fields):
    """Return the findings of a check that fired and have these ``fields``."""
    found = areas.fired(findings, "logs." + name)
    return [finding for finding in found if all(finding[field] == value for field, value in fields.items())]


def output(name):
    """Return the output of a container, by the engine."""
    outcome = attempt("docker", "logs", name)
    return outcome.stdout + outcome.stderr


def unknown(findings, name):
    return [finding for finding in findings.get("logs." + name, ()) if finding["status"] == "unknown"]


def test_healthy_stack_has_no_finding(lab, settings):
    # Earlier tests have left errors in the logs of the same services.
    began = time.time()
    lab.docker("restart", "--time", "5", lab.container("redis"))
    lab.docker("restart", "--time", "5", lab.container("tracklist_service"))
    lab.wait_healthy()
    restarted = {**settings, "logs_services": ["redis", "tracklist_service"], "logs_since": began}
    assert diagnose("logs", restarted) == {}
    assert diagnose("logs", {**settings, "logs_since": began}) == {}
    _area, outcome, _settings = visit("logs", settings)
    services = {entry["name"]: entry for entry in outcome["measurement"]["errors"]["services"]}
    assert {"postgres", "redis", "rabbitmq", "analysis_service", "tracklist_service", "file_watcher"} <= set(services)
    assert services["redis"]["lines"] > 5


@pytest.mark.parametrize("name", FAULTS)
def test_fault_fires_its_checks(lab, settings, name):
    fires = [check.partition(".")[2] for check in FAULTS[name].fires]
    before = diagnose("logs", settings)
    with lab.fault(name):
        during = diagnose("logs", settings)
        follow(Operator(directory=lab.directory), LOGS[name], during, lambda: diagnose("logs", settings))
    after = diagnose("logs", settings)
    for check in fires:
        new = {finding["object"] for finding in fired(during, check)} - {f["object"] for f in fired(before, check)}
        assert new, (check, during)
        assert not new & {finding["object"] for finding in fired(after, check)}
    assert "s3cr3t" not in json.dumps(during)


def test_unreadable_log_is_not_healthy(lab, settings):
    with talker(lab, "silent_service", "print('ERROR')", "--log-driver", "none"):
        findings = diagnose("logs", settings)
    (finding,) = fired(findings, "unreadable", object="silent_service")
    assert "log driver none" in finding["summary"]
    assert [entry["object"] for entry in unknown(findings, "errors")] == ["silent_service"]


def test_incomplete_log(lab, settings):
    with lab.fault("errors-burst"):
        assert not fired(diagnose("logs", settings), "logs_incomplete")
        findings = diagnose("logs", {**settings, "logs_max_bytes": 20000})
    (finding,) = fired(findings, "logs_incomplete", object="bursting_service", status="info")
    assert "its budget of bytes was used up" in finding["summary"]
    assert not unknown(findings, "error_burst")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (1, 300, {"error_burst": "critical"}),
        (1, 30, {"error_burst": "warning"}),
        (0, 30, {"error_burst": "warning"}),
        # The same rate as before.
        (29, 30, {"errors": "warning"}),
        (290, 300, {"errors": "warning"}),
        (1, 5, {}),
    ],
)
def test_many_errors_are_a_burst_or_constant_and_never_both(tmp_path, before, after, found):
    """In a file with the given times."""
    now = time.time()
    times = [now - 230 + 100 * number / max(1, before) for number in range(before)]
    times += [now - 110 + 109 * number / after for number in range(after)]
    (tmp_path / "app.log").write_text("".join("%.3f ERROR lost the broker\n" % moment for moment in times))
    mine = {"logs_containers": False, "logs_files": [str(tmp_path / "*.log")], "logs_minutes": 2, "logs_kernel_log": ""}
    findings = diagnose("logs", mine)
    checks = ("errors", "error_burst")
    assert {check: finding["status"] for check in checks for finding in fired(findings, check)} == found


def test_new_signature(tmp_path):
    """Beside known ones. If all are new, error_burst reports them."""
    now = time.time()
    mine = {"logs_containers": False, "logs_files": [str(tmp_path / "*.log")], "logs_minutes": 1, "logs_kernel_log": ""}

    def findings(*events):
        lines = ("%.3f ERROR %s\n" % (now - age, text) for age, text in events)
        (tmp_path / "app.log").write_text("".join(lines))
        return diagnose("logs", mine)

    before = [(90 - number, "lost the broker") for number in range(10)]
    after = [(50 - number, "lost the broker") for number in range(15)]
    new = [(30 - number, "no space left") for number in range(6)]
    (finding,) = fired(findings(*before, *after, *new), "new_error_signature", status="info")
    assert finding["object"] == "%s: no space left" % (tmp_path / "app.log")
    assert not fired(findings(*before, *after, *new[:4]), "new_error_signature")
    all_new = findings(*after, *new)
    assert not fired(all_new, "new_error_signature")
    (burst,) = fired(all_new, "error_burst")
    assert "Most frequent (15 times): lost the broker" in burst["summary"]
    assert "6 times: no space left." in burst["hint"]


def test_two_errors_after_a_repair_are_no_burst(tmp_path):
    """Two errors in ten seconds are twelve per minute."""
    now = time.time()
    (tmp_path / "app.log").write_text("".join("%.3f ERROR lost the broker\n" % (now - age) for age in (20, 9, 2)))
    mine = {"logs_containers": False, "logs_files": [str(tmp_path / "*.log")], "logs_kernel_log": ""}
    assert diagnose("logs", {**mine, "logs_since": now - 10}) == {}


def test_service_without_progress(lab, settings):
    mine = {
        **settings,
        "logs_services": ["working_service"],
        "logs_progress": {"working_service": "completed"},
        "logs_minutes": 0.05,
    }
    with talker(lab, "working_service", "for number in range(20): print('INFO completed', number, flush=True)"):
        assert not fired(diagnose("logs", mine), "no_progress")
        finding = wait_until(lambda: fired(diagnose("logs", mine), "no_progress"), "logs.no_progress", 15)[0]
    assert (finding["object"], finding["status"]) == ("working_service", "warning")
    assert ", 20 in the" in finding["summary"]


def test_own_signature(lab, settings):
    own = [
        {"id": "broken_frame", "pattern": "invalid frame", "meaning": "the file is damaged", "hint": "Rip it again."}
    ]
    with lab.fault("errors-burst"):
        findings = diagnose("logs", {**settings, "logs_own_signatures": own})
    (finding,) = fired(findings, "known_signature", object="bursting_service: broken_frame")
    assert finding["hint"].startswith("Rip it again.")
    assert "(600 times, the last " in finding["summary"]


# Messages of monitors


@contextlib.contextmanager
def checked_by_pg_isready(lab):
    """Run a PostgreSQL whose health check names neither a role nor a database, and yield the container's name."""
    name = f"{lab.project}-checked-1"
    labels = {LABEL: lab.project, "com.docker.compose.project": lab.project, "com.docker.compose.service": "checked"}
    words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    words += ["--volume", f"{CONTAINER_FILES}:/lab:ro", "--env", "POSTGRES_PASSWORD=x", "--stop-signal", "SIGINT"]
    words += ["--health-cmd", "pg_isready", "--health-interval", "1s", "--memory", "256m"]
    image = ensure_image(lab.state["suite"])
    run("docker", "run", "--detach", "--init", "--name", name, *words, image, "/bin/sh", "/lab/postgres.sh")
    try:
        yield name
    finally:
        attempt("docker", "rm", "--force", "--volumes", name)


def send(address, data):
    with socket.create_connection(address, 5) as client:
        client.sendall(data)
        client.settimeout(5)
        with contextlib.suppress(OSError):
            client.recv(100)


def test_messages_of_monitors_are_no_errors(lab, settings):
    began = time.time()
    request = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
    with checked_by_pg_isready(lab) as name:
        fatal = 'role "root" does not exist'
        wait_until(lambda: output(name).count(fatal) >= 2, "errors of the health check", 30)
        # A service that connects as root is another thing.
        psql = ("docker", "exec", name, "psql", "-c", "SELECT 1")
        for _try in range(12):
            attempt(*psql)
        mine = {**settings, "logs_since": began, "logs_services": ["checked", "redis", "rabbitmq"]}

        def are_logged():
            # Redis logs such a request once a minute only, and another test may have sent one.
            send(("127.0.0.1", settings["cache_login_port"]), request)
            send(("127.0.0.1", settings["message_queue_amqp_port"]), request)
            return len(fired(diagnose("logs", mine), "monitor_errors")) == 3

        wait_until(are_logged, "the messages of monitors", 90, 2)
        findings = diagnose("logs", mine)
    found = {finding["object"]: finding for finding in fired(findings, "monitor_errors", status="info")}
    assert set(found) == {"checked: health_check", "redis: monitor_of_redis", "rabbitmq: monitor_of_amqp"}
    assert (
        f"the health check of {name} (pg_isready) connects as root to the database root"
        in (found["checked: health_check"]["summary"])
    )
    assert "`pg_isready -U postgres -d postgres`" in found["checked: health_check"]["hint"]
    assert "{bad_header" in found["rabbitmq: monitor_of_amqp"]["summary"]
    known = {finding["object"] for finding in fired(findings, "known_signature")}
    # The health check may run before the server has started.
    assert known - {"checked: database_starting"} == {"checked: database_role"}
    assert not fired(findings, "error_burst", object="redis")


# What still happens


def over(tmp_path, ages, others=()):
    """Return the findings about a file with errors of these ages in seconds, and other lines."""
    now = time.time()
    lines = [(now - age, "ERROR disk: No space left on device: '/music/incoming/a.mp3'") for age in ages]
    lines += [(now - age, "INFO completed") for age in others]
    (tmp_path / "app.log").write_text("".join("%.3f %s\n" % line for line in sorted(lines)))
    return diagnose("logs", {"logs_containers": False, "logs_files": [str(tmp_path / "*.log")], "logs_kernel_log": ""})


@pytest.mark.parametrize(
    ("ages", "others", "status"),
    [
        (range(3, 300, 5), (), "warning"),
        (range(120, 400, 5), (1, 2), "info"),
        # Nothing else is written since: silence proves nothing.
        (range(120, 400, 5), (), "warning"),
        # A job that runs every six minutes.
        ((200, 560, 920, 1280), (1, 2), "warning"),
    ],
)
def test_what_has_stopped_is_info(tmp_path, ages, others, status):
    findings = over(tmp_path, ages, others)
    (finding,) = fired(findings, "known_signature")
    assert finding["status"] == status
    assert "'/music/incoming/a.mp3'" in finding["summary"]
    assert (", none since)" in finding["summary"]) == (status == "info")
    if len(ages) > 20:
        (burst,) = fired(findings, "error_burst")
        assert (burst["status"] == "info") == (status == "info")


def test_a_state_lasts_until_its_end_is_written(tmp_path):
    """20 minutes ago is in the previous window."""
    now = time.time()
    mine = {"logs_containers": False, "logs_files": [str(tmp_path / "*.log")], "logs_kernel_log": ""}
    alarm = "%.3f [warning] <0.9.0> disk resource limit alarm %s on node rabbit@a\n"
    (tmp_path / "app.log").write_text(alarm % (now - 1200, "set") + "%.3f [info] <0.9.0> x\n" % (now - 1))
    assert fired(diagnose("logs", mine), "known_signature", status="warning")
    with open(tmp_path / "app.log", "a", encoding="utf-8") as stream:
        stream.write(alarm % (now - 1, "cleared"))
    assert not fired(diagnose("logs", mine), "known_signature")


def test_what_a_start_writes_is_info_unless_it_lasts(tmp_path):
    line = "2026-11-25 08:24:08 UTC [29] FATAL:  the database system is starting up"
    now = time.time()
    mine = {"logs_containers": False, "logs_files": [str(tmp_path / "*.log")], "logs_kernel_log": ""}
    for ages, status in (((9, 8, 7), "info"), ((99, 50, 7), "warning")):
        lines = ("%.3f %s\n" % (now - age, line[24:]) for age in ages)
        (tmp_path / "app.log").write_text("".join(lines))
        (finding,) = fired(diagnose("logs", mine), "known_signature")
        assert finding["status"] == status


def test_a_burst_is_reported_with_its_own_rate(tmp_path):
    """20 errors per second for 20 s are no 27 errors per minute."""
    now = time.time()
    times = [now - 300 + number / 20 for number in range(400)] + [now - 30 * number - 15 for number in range(29)]
    (tmp_path / "app.log").write_text("".join("%.3f ERROR lost the broker\n" % moment for moment in sorted(times)))
    mine = {"logs_containers": False, "logs_files": [str(tmp_path / "*.log")], "logs_kernel_log": ""}
    # The burst is over, and single errors are not.
    (finding,) = fired(diagnose("logs", mine), "error_burst", status="warning")
    assert re.search(
        r": 40\d errors within 2[01] s \((?:19|20)\.\d per second\), 429 in the 15 min that were read",
        finding["summary"],
    )


def test_a_restarted_service_is_over_the_errors_before(lab, settings):
    script = (
        "import os\nprint('INFO up' if os.path.exists('/tmp/done') else 'OSError: [Errno 24] Too many open files: 1')"
    )
    mine = {**settings, "logs_services": ["mended_service"], "logs_over_seconds": 1}
    with talker(lab, "mended_service", script) as name:
        (before,) = fired(diagnose("logs", mine), "known_signature")
        # What is written less than a second before the start may be of the new run.
        time.sleep(1)
        attempt("docker", "restart", "--time", "1", name)
        after = wait_until(lambda: fired(diagnose("logs", mine), "known_signature", status="info"), "the end", 20)
    assert before["status"] == "warning"
    assert ", none since)" in after[0]["summary"]


def test_an_alarm_is_reported_until_it_is_cleared(lab, settings):
    """It is written once, so silence does not end it."""
    mine = {**settings, "logs_since": time.time(), "logs_services": ["rabbitmq"]}
    mine.update(logs_over_seconds=0, logs_over_once_seconds=0)

    def alarm(status):
        found = fired(diagnose("logs", mine), "known_signature", object="rabbitmq: queue_memory_alarm")
        return [finding for finding in found if finding["status"] == status]

    with lab.fault("memory-alarm"):
        wait_until(lambda: alarm("warning"), "the alarm", 20)
    wait_until(lambda: alarm("info"), "its end", 20)


# The kernel


def kernel(since, **settings):
    return diagnose("logs", {"logs_containers": False, "logs_since": since, **settings})


def test_process_killed_by_the_oom_killer(lab):
    began = time.time()
    with killed_for_memory(lab) as name:
        (finding,) = fired(kernel(began), "oom_killed", object="%s: python3" % name)
    assert finding["status"] == "warning"
    assert not fired(kernel(time.time()), "oom_killed", object="%s: python3" % name)


def test_crashed_process(tmp_path):
    began = time.time()
    program = tmp_path / ("crash%d" % (began % 100000))
    program.symlink_to(sys.executable)
    done = subprocess.run([program, "-c", "import ctypes; ctypes.string_at(0)"], check=False, cwd=tmp_path)
    assert done.returncode < 0
    (finding,) = fired(kernel(began), "segfaults", object=program.name)
    assert finding["status"] == "warning"
    assert not fired(kernel(time.time()), "segfaults", object=program.name)


def test_failing_disk_and_read_only_file_system(tmp_path):
    began = time.time()
    disk = broken_disk(tmp_path)
    findings = kernel(began)
    assert fired(findings, "io_errors", object=disk, status="critical")
    assert fired(findings, "read_only_fs", object=disk, status="critical")
    later = kernel(time.time())
    assert not fired(later, "io_errors", object=disk)
    assert not fired(later, "read_only_fs", object=disk)


@pytest.mark.parametrize(
    ("check", "status", "text", "name"),
    [
        ("hung_tasks", "warning", "INFO: task kworker/u4:2:123 blocked for more than 120 seconds.", "kworker/u4:2"),
        ("conntrack_full", "critical", "nf_conntrack: nf_conntrack: table full, dropping packet", "nf_conntrack"),
    ],
)
def test_records_that_a_test_cannot_provoke(tmp_path, check, status, text, name):
    """Records in the format of the kernel, in a file."""
    log = tmp_path / "kmsg"
    log.write_bytes(kernel_says(3, text, 30) + kernel_says(11, text, 20))
    mine = {"logs_kernel_log": str(log), "logs_minutes": 1}
    (finding,) = fired(kernel(0, **mine), check)
    # The record of a program does not count.
    assert (finding["object"], finding["status"], finding["observed"].get("count", 1)) == (name, status, 1)
    log.write_bytes(kernel_says(3, text, 600))
    assert not fired(kernel(0, **mine), check)


def test_overwritten_kernel_log(tmp_path):
    log = tmp_path / "kmsg"
    mine = {"logs_kernel_log": str(log), "logs_minutes": 1}
    log.write_bytes(kernel_says(6, "eth0: link up", 30, number=77))
    assert fired(kernel(0, **mine), "kernel_log_incomplete", status="info")
    log.write_bytes(kernel_says(6, "eth0: link up", 30, number=0))
    assert kernel(0, **mine) == {}


def test_unreadable_kernel_log_is_unknown():
    findings = kernel(0, logs_kernel_log="/nonexistent")
    for check in KERNEL_CHECKS:
        (finding,) = unknown(findings, check)
        assert "/nonexistent" in finding["summary"]


def test_playbook_shows_no_secret(lab, tmp_path):
    from tests.integration.playbooks import run_playbook

    with lab.fault("secrets-in-log"):
        run = run_playbook("diagnose", lab.inventory, tmp_path, "-vvv", extra={"tracktion_areas": ["logs"]})
        assert "s3cr3t-one" in attempt("docker", "logs", "%s-gossiping_service-1" % lab.project).stdout
    assert run.findings("logs.error_burst", object="gossiping_service")
    assert "s3cr3t" not in run.output + json.dumps(run.report)
