# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check of host_resources fires on its fault, and is quiet without it.

What this machine cannot have (a hypervisor that takes its time, swapping, a cable that is pulled) is evaluated with
recorded values.
"""

from __future__ import annotations

import contextlib
import copy
import os
import socket
import threading
import time

import pytest

from tests.integration.areas import diagnose, evaluate, fired, visit
from tests.integration.followed_hints import HOST_RESOURCES
from tests.integration.following import Operator, follow
from tests.integration.inotify_faults import OTHER_UID, become
from tests.integration.network_faults import private_network, program
from tests.lab.faults import every
from tests.lab.inventory import variables
from tests.lab.shell import wait_until
from tests.lab.throwaway import project

FAULTS = {name: fault for name, fault in every().items() if fault.area == "host_resources"}
CPU_HOG = "host_resources.cpu_hog"
# Other tests run beside these: what they use is not a fault of this machine.
BUSY = {"host_resources_clock_synchronised": False, "tracktion_sample_seconds": 1, "host_resources_top": 40}
LARGE = "import time; held = bytearray(300 << 20); print('ready', flush=True); time.sleep(36000)"
# Thresholds below what every machine has: the figure and its limit are the kernel's.
LOW = {
    "host_resources_pids_warning": 0,
    "host_resources_file_handles_warning": 0,
    "host_resources_conntrack_warning": 0,
    "host_resources_memory_available_warning": 1.1,
    "host_resources_memory_harmless_bytes": 1 << 60,
    "host_resources_disk_latency_warning": 0,
    "host_resources_disk_busy": 0,
    "host_resources_disk_pressure": 0,
    "host_resources_disk_requests_floor": 1,
    "host_resources_io_pressure_warning": 0,
    "host_resources_memory_pressure_warning": 0,
}


# Parts of the summaries that name who causes a fault.
NAMED = {
    "cpu_saturated": "of transcoder asks for",
    "cpu_hog": "of transcoder",
    "zombies": "25 zombies (python",
    "oom_kill": "of importer",
}


def only(findings, check):
    """Return the finding of a check about the fault of this test."""
    found = [each for each in fired(findings, "host_resources." + check) if NAMED[check] in each["summary"]]
    assert len(found) == 1, (check, findings)
    return found[0]


def all_named():
    """Return what is measured, and its findings, once all faults are; on a busy machine, a sample may miss a moment."""
    area, outcome, settings = visit("host_resources", {**BUSY, **LOW})
    findings = evaluate(area, outcome, settings)
    summaries = {name: [each["summary"] for each in fired(findings, "host_resources." + name)] for name in NAMED}
    if all(part in " ".join(summaries[name]) for name, part in NAMED.items()):
        return outcome["measurement"]["resources"], findings
    print(summaries)
    return None


@contextlib.contextmanager
def writing(folder):
    """Write to a disk, and wait for it, until the context is left."""
    ended = threading.Event()

    def write():
        with open(folder / "written", "wb", buffering=0) as stream:
            while not ended.wait(0.02):
                stream.seek(0)
                stream.write(os.urandom(4096))
                os.fsync(stream.fileno())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_healthy_stack_is_quiet(lab):
    findings = diagnose("host_resources", variables(lab))
    assert findings == {}


def test_faults_fire_their_checks_and_name_who_causes_them(lab, tmp_path):
    with project("host_resources") as others, contextlib.ExitStack() as stack:
        large = others.run("library", "python3", "-c", LARGE)
        for name in FAULTS:
            stack.enter_context(lab.fault(name))
        stack.enter_context(writing(tmp_path))
        measured, findings = wait_until(all_named, "all findings", 20)
        follow(
            Operator(directory=lab.directory),
            # Another test may use more than the container of the fault, and must not be changed.
            {
                **HOST_RESOURCES["repeated-oom-kills"],
                "host_resources.cpu_hog": HOST_RESOURCES["cpu-hog"]["host_resources.cpu_hog"],
            },
            findings,
            lambda: diagnose("host_resources", BUSY),
        )
        zombies = only(findings, "zombies")
        mine = {"host_resources.zombies": [zombies]}
        follow(Operator(), HOST_RESOURCES["zombies"], mine, lambda: diagnose("host_resources", BUSY))
    assert only(findings, "cpu_saturated")["status"] in ("warning", "critical")
    hog = only(findings, "cpu_hog")
    assert hog["status"] == "warning"
    assert "such as sh -c (pid " in hog["summary"]
    assert "docker update --cpus 1 tracktion-lab-" in hog["hint"]
    assert zombies["object"] == "python -c"
    killed = only(findings, "oom_kill")
    assert killed["status"] in ("info", "critical")
    assert "whose limit is 32.0 MiB (see the area containers)" in killed["summary"]

    (container,) = [each for each in measured["containers"] if each["container"] == large]
    assert (container["service"], container["memory_limit_bytes"]) == ("library", None)
    assert container["memory_bytes"] > 300 << 20
    assert large in [each["container"] for each in measured["processes"]["by_memory"]]
    for check in ("pids_near_limit", "file_handles_near_limit", "memory_low"):
        (finding,) = fired(findings, "host_resources." + check, "warning")
        assert "None" not in finding["summary"]
    if any(disk["requests"] and not disk["stacked"] for disk in measured["disks"]):
        assert fired(findings, "host_resources.disk_slow", "warning")
    if measured["pressure"]["available"]:
        assert fired(findings, "host_resources.io_pressure", "warning")
        assert fired(findings, "host_resources.memory_pressure", "warning")


def without_acceptance(port):
    """Listen on a port without accepting, and connect to it until the queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen(1)
    clients = []

    def connect():
        while True:
            client = socket.socket()
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
            clients.append(client)
            time.sleep(0.02)

    threading.Thread(target=connect, daemon=True).start()
    return listener


def send_unknown_packets(interface):
    """Send packets of a protocol that no program handles: the kernel drops them on receipt."""
    packet = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5" + b"\0" * 50

    def send():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((interface, 0))
            while True:
                sender.send(packet)
                time.sleep(0.01)

    threading.Thread(target=send, daemon=True).start()


# Sockets that stay open.
_kept = []


def faulty_network():
    """A network namespace in which a queue overflows and packets are dropped."""
    private_network()
    program("ip", "link", "add", "lab0", "type", "veth", "peer", "name", "lab1")
    for interface in ("lab0", "lab1"):
        program("ip", "link", "set", interface, "up")
    _kept.append(without_acceptance(18080))
    send_unknown_packets("lab0")


def test_faults_of_a_network(tmp_path):
    findings = diagnose("host_resources", BUSY, before=faulty_network)
    (dropped,) = fired(findings, "host_resources.interface_drops", "warning")
    assert dropped["object"] == "lab1"
    assert "packets dropped on receipt" in dropped["summary"]
    (overflow,) = fired(findings, "host_resources.listen_overflows", "warning")
    assert "at port 18080 (python" in overflow["summary"]
    assert not fired(findings, "host_resources.interface_errors")


def test_a_quiet_network_has_no_finding():
    findings = diagnose("host_resources", BUSY, before=private_network)
    of_network = ("interface_drops", "interface_errors", "listen_overflows", "carrier_changes", "conntrack_near_limit")
    assert not [name for name in of_network if "host_resources." + name in findings], findings


@pytest.fixture(scope="module")
def measured():
    """What a visit measures here: area, outcome and settings."""
    return visit("host_resources", BUSY)


# Healthy values, whatever this machine does meanwhile.
SOUND = {
    "cpu": {
        "cores": 8, "load": {"one": 8.0, "five": 8.0, "fifteen": 8.0}, "load_per_core": 1.0, "load_five_per_core": 1.0,
        "busy_ratio": 0.99, "runnable_per_core": 1.0, "steal_ratio": 0.01, "iowait_ratio": 0.0, "blocked": 0,
    },
    "memory": {
        "total_bytes": 32 << 30, "available_bytes": 20 << 30, "available_ratio": 0.62, "free_bytes": 1 << 20,
        "swap_bytes": 2 << 30, "swap_used_bytes": 1 << 30, "swap_used_ratio": 0.5, "swap_in_bytes_per_second": 0.0,
        "swap_out_bytes_per_second": 0.0, "oom_kills": 0, "new_oom_kills": 0, "new_oom_kills_outside": 0,
    },
    "pressure": {
        "available": True, "reason": None, "cpu": None,
        "memory": {"some": None, "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0}},
        "io": {"some": None, "full": {"avg10": 0.1, "avg60": 0.1, "avg300": 0.1}},
    },
    "kernel": {
        "uptime_seconds": 9e6, "conntrack": 26, "conntrack_max": 256, "conntrack_ratio": 0.1, "threads": 500,
        "pids_ratio": 0.1, "pid_max": 4194304, "threads_max": 5000, "file_handles": 1, "file_handles_max": 100,
        "file_handles_ratio": 0.01, "listen_overflows": 763, "new_listen_overflows": 0,
    },
    "clock": {
        "synchronised": True, "offset_seconds": 0.001, "estimated_error_seconds": 0.0, "maximum_error_seconds": 0.1,
    },
    "disks": [{
        "name": "nvme0n1", "stacked": False, "parallel": True, "utilisation_ratio": 1.0, "latency_seconds": 0.002,
        "queue_length": 30.0, "requests": 15000, "read_bytes_per_second": 1e9, "written_bytes_per_second": 0.0,
    }],
    "interfaces": [{
        "name": "eth0", "virtual": False, "new_receive_errors": 0, "new_send_errors": 0, "new_receive_drops": 3,
        "new_send_drops": 0, "receive_errors": 500, "send_errors": 0, "receive_drops": 9000, "send_drops": 0,
        "new_packets": 9000, "new_carrier_changes": 0, "carrier_changes": 2,
    }],
    "zombies": [], "containers": [], "listeners": [], "file_systems": [], "deleted_open_files": [], "largest": [],
    "container_logs": [],
}  # fmt: skip
SETTINGS = {"host_resources_clock_synchronised": True}


def changed(**parts):
    """Return ``SOUND`` with other values: part -> fields."""
    found = copy.deepcopy(SOUND)
    for name, fields in parts.items():
        if isinstance(found[name], list):
            found[name][0].update(fields)
        else:
            found[name].update(fields)
    return found


def looked(measured, values):
    """Return the findings if these parts had been measured."""
    area, outcome, settings = copy.deepcopy(measured)
    resources = outcome["measurement"]["resources"]
    resources.update(values, unknown=[])
    for name in ("cpu", "memory"):
        resources[name].setdefault("most", None)
    resources["processes"].update(consumers=[], stuck=[])
    return evaluate(area, outcome, {**settings, **SETTINGS})


def test_what_is_high_and_harmless_is_no_finding(measured):
    # Load 8 on 8 processors, memory full of page cache, a disk that serves 30 requests at once, a small table at 10 %.
    assert looked(measured, SOUND) == {}
    # A disk that was slow for a moment.
    burst = changed(disks={"latency_seconds": 0.7}, pressure={"io": {"some": {"avg60": 0.01}, "full": None}})
    assert looked(measured, burst) == {}


BUSY_NOW = {"runnable_per_core": 5.0, "load_per_core": 6.0, "load_five_per_core": 5.0}
NO_PRESSURE = {"available": False, "memory": None, "io": None}
FREE_RUNNING = {"synchronised": False, "offset_seconds": None, "maximum_error_seconds": 16.0}
WAITS = {"avg10": 0.1, "avg60": 0.1, "avg300": 0.1}
WAITING = {"some": WAITS, "full": WAITS}
FULL = {"avg10": 0.0, "avg60": 0.5, "avg300": 0.7}
HARD = {"avg10": 0.7, "avg60": 0.5, "avg300": 0.7}


@pytest.mark.parametrize(
    ("check", "status", "values"),
    [
        ("cpu_stolen", "warning", {"cpu": {"steal_ratio": 0.3}}),
        ("cpu_stolen", "critical", {"cpu": {"steal_ratio": 0.6}}),
        ("cpu_saturated", "critical", {"cpu": BUSY_NOW}),
        ("memory_low", "warning", {"memory": {"available_bytes": 3 << 30, "available_ratio": 0.09}}),
        ("memory_low", "critical", {"memory": {"available_bytes": 1 << 30, "available_ratio": 0.03}}),
        ("swapping", "warning", {"memory": {"swap_in_bytes_per_second": 2e6}}),
        ("swapping", "critical", {"memory": {"swap_in_bytes_per_second": 2e7, "swap_out_bytes_per_second": None}}),
        ("swap_full", "info", {"memory": {"swap_used_ratio": 0.95}}),
        ("memory_pressure", "warning", {"pressure": {"memory": {"full": FULL}}}),
        ("memory_pressure", "critical", {"pressure": {"memory": {"full": HARD}}}),
        ("io_pressure", "critical", {"pressure": {"io": {"some": None, "full": FULL}}}),
        ("oom_kill", "critical", {"memory": {"oom_kills": 3, "new_oom_kills": 1, "new_oom_kills_outside": 1}}),
        ("oom_kill", "info", {"memory": {"oom_kills": 3, "new_oom_kills": 1}}),
        ("oom_kill", "warning", {"memory": {"oom_kills": 3}, "kernel": {"uptime_seconds": 600.0}}),
        ("iowait", "warning", {"cpu": {"iowait_ratio": 0.5}, "pressure": NO_PRESSURE}),
        ("disk_slow", "critical", {"disks": {"latency_seconds": 0.7, "queue_length": 1.0}}),
        ("disk_slow", "warning", {"disks": {"latency_seconds": 0.03}, "pressure": {"io": WAITING}}),
        ("interface_errors", "warning", {"interfaces": {"new_receive_errors": 200}}),
        ("interface_drops", "warning", {"interfaces": {"new_send_drops": 900}}),
        ("carrier_changes", "warning", {"interfaces": {"new_carrier_changes": 2}}),
        ("conntrack_near_limit", "warning", {"kernel": {"conntrack_ratio": 0.8}}),
        ("conntrack_near_limit", "critical", {"kernel": {"conntrack_ratio": 0.95}}),
        ("pids_near_limit", "critical", {"kernel": {"pids_ratio": 0.97}}),
        ("file_handles_near_limit", "critical", {"kernel": {"file_handles_ratio": 0.95}}),
        ("clock_not_synchronised", "warning", {"clock": FREE_RUNNING}),
        ("clock_offset", "warning", {"clock": {"offset_seconds": -0.2}}),
    ],
)  # fmt: skip
def test_recorded_values(measured, check, status, values):
    findings = looked(measured, changed(**values))
    assert set(findings) == {"host_resources." + check}, findings
    (finding,) = findings["host_resources." + check]
    assert finding["status"] == status
    assert "None" not in finding["summary"]
    assert not finding["summary"].startswith(finding["title"])


@pytest.mark.parametrize(
    ("hidden", "words"), [(True, "what uses them is hidden from this account"), (False, "no single program stands out")]
)
def test_a_saturated_host_whose_programs_are_hidden(measured, hidden, words):
    area, outcome, settings = copy.deepcopy(measured)
    outcome["measurement"]["resources"]["processes"]["hidden"] = hidden
    (finding,) = looked((area, outcome, settings), changed(cpu=BUSY_NOW))["host_resources.cpu_saturated"]
    assert words in finding["summary"]
    assert finding["hint"] == "List the processes by their CPU use: `top -b -n 1 -o %CPU`"


@pytest.mark.parametrize(
    ("check", "values"),
    [
        ("cpu_saturated", {"cpu": {"busy_ratio": None}}),
        ("swapping", {"memory": {"swap_in_bytes_per_second": None}}),
        ("clock_offset", {"clock": {"synchronised": None, "offset_seconds": None}}),
    ],
)
def test_what_was_not_measured_is_unknown(measured, check, values):
    (finding,) = looked(measured, changed(**values))["host_resources." + check]
    assert finding["status"] == "unknown"


def test_a_user_sees_what_is_not_hidden(lab):
    """Without privileges, the control groups of containers are read, but the files that name them are closed."""
    _area, outcome, _settings = visit("host_resources", BUSY, before=lambda: become(OTHER_UID))
    measured = outcome["measurement"]["resources"]
    (container,) = [
        each
        for each in measured["containers"]
        if each["id"] == lab.docker("inspect", "--format", "{{.Id}}", lab.container("rabbitmq")).strip()
    ]
    assert container["container"] == container["id"][:12]
    assert container["memory_bytes"] > 1 << 20
    assert {entry["part"] for entry in measured["unknown"]} <= {
        "listeners.*",
        "processes.consumers[...]",
        "zombies[...]",
        "file_systems[...]",
        "deleted_open_files[...]",
        "container_logs",
    }
