# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventories of the lab. `variables` is the one place that knows what the roles call their options."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .engine import compose_command

if TYPE_CHECKING:
    from .stack import Stack

# Ports inside the stack's network, where services have names instead of published ports.
INNER = {
    "postgres": ("postgres", 5432),
    "redis": ("redis", 6379),
    "amqp": ("rabbitmq", 5672),
    "management": ("rabbitmq", 15672),
    "analysis": ("analysis_service", 8001),
    "tracklist": ("tracklist_service", 8002),
    "watcher": ("file_watcher", 8003),
}
# The services with an HTTP endpoint, by the names of their ports.
SERVICES = {"analysis": "analysis_service", "tracklist": "tracklist_service", "watcher": "file_watcher"}

# The ways that the services go inside the stack.
PATHS = [
    {"from": service, "to": to}
    for service, targets in {
        "analysis_service": ("postgres:5432", "redis:6379", "rabbitmq:5672", "http://tracklist_service:8002/health"),
        "tracklist_service": ("postgres:5432", "redis:6379", "rabbitmq:5672"),
        "file_watcher": ("rabbitmq:5672", "http://analysis_service:8001/health"),
    }.items()
    for to in targets
]

# A machine of tests is busy with the tests themselves.
BUSY_MACHINE = {
    "tracktion_starved_slowdown": 1000000,
    "host_resources_runnable_warning": 1000000,
    "host_resources_hog_ratio": 1000000,
    "host_resources_steal_warning": 1000000,
    "host_resources_steal_critical": 1000000,
    "host_resources_disk_latency_warning": 1000000,
    "host_resources_disk_latency_critical": 1000000,
    "host_resources_disk_queue_latency": 1000000,
    "host_resources_io_pressure_warning": 1000000,
    "host_resources_io_pressure_critical": 1000000,
    "host_resources_iowait_warning": 1000000,
    # Tests beside this one kill processes, drop packets and fill queues.
    "host_resources_oom_kills_critical": 1000000,
    "host_resources_oom_recent": 0,
    "host_resources_interface_floor": 1000000,
    "host_resources_listen_overflows_warning": 1000000,
    # They fill file systems, and their own mounts hang.
    "host_resources_space_info": 1000000,
    "host_resources_space_warning": 1000000,
    "host_resources_space_critical": 1000000,
    "host_resources_deleted_bytes": 1 << 60,
    "host_resources_deleted_ratio": 1000000,
    "host_resources_inodes_floor": 1 << 60,
    "host_resources_ignored_mounts": ["/tmp/*"],
    # It may have no time server.
    "host_resources_clock_synchronised": False,
}


def variables(stack: Stack, inside: bool = False) -> dict[str, object]:
    """The roles' variables for this stack, seen from this machine or from inside the stack's network."""
    address = INNER if inside else {name: ("127.0.0.1", port) for name, port in stack.ports.items()}
    passwords = stack.passwords

    def endpoint(service: str, name: str, path: str = "/health", **asked: object) -> dict[str, object]:
        host, port = address[service]
        return {"name": name, "service": SERVICES[service], "url": f"http://{host}:{port}{path}", **asked}

    return {
        "database_login_host": address["postgres"][0],
        "database_login_port": address["postgres"][1],
        "database_login_user": "tracktion_operator",
        "database_login_password": passwords["operator"],
        "database_login_db": "tracktion",
        "cache_login_host": address["redis"][0],
        "cache_login_port": address["redis"][1],
        "cache_login_password": passwords["redis"],
        "message_queue_login_host": address["amqp"][0],
        "message_queue_amqp_port": address["amqp"][1],
        "message_queue_management_port": address["management"][1],
        "message_queue_login_user": "tracktion",
        "message_queue_login_password": passwords["rabbitmq"],
        # Some sandboxes keep their own pid 1 even from root.
        "file_watching_hidden_processes_accepted": int(pid_1_is_hidden()),
        "file_watching_directories": ["/music"] if inside else [str(stack.watched_directory)],
        "audio_processing_directories": ["/music"],
        # Managed hosts are containers without an engine: no service starts from there.
        "network_paths": [] if inside else PATHS,
        # The machine's own DNS server is no part of the stack, and a machine of tests may have none.
        "network_check_resolver": False,
        # A fault that was mended stays in the logs for as long, and the kernel's log is that of every stack here.
        "logs_minutes": 2,
        "logs_kernel_log": "",
        "tracktion_compose_project": stack.project,
        **BUSY_MACHINE,
        # The lab's compose may be a copy of its own.
        "containers_compose_command": [] if inside else list(compose_command()),
        "service_health_endpoints": [
            *(endpoint(service, name, body_json={"service": name}) for service, name in SERVICES.items()),
            endpoint(
                "tracklist",
                "track matching",
                "/match?title=Track%201&artist=Artist%202",
                body_json={"0.title": "Track 1"},
                requests=5,
            ),
        ],
    }


def pid_1_is_hidden() -> bool:
    """Return whether even root cannot read the first process of this machine."""
    try:
        return not os.readlink("/proc/1/fd/0")
    except FileNotFoundError:
        return False
    except PermissionError:
        return os.geteuid() == 0


def of_stack(stack: Stack) -> str:
    """An inventory of one host, `lab`: this machine, looking at the stack's published ports."""
    host = {
        "ansible_connection": "local",
        # The libraries that measure live where Ansible lives.
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        **variables(stack),
    }
    return as_yaml({"all": {"hosts": {"lab": host}}})


def of_hosts(stack: Stack, hosts: dict[str, dict[str, str]], key: Path) -> str:
    """An inventory of the managed hosts, group `fleet`: they reach the stack by its services' names."""
    settings = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        # Made a moment ago and gone tomorrow: there is no host key worth remembering.
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=600s -o StrictHostKeyChecking=no "
        "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        "ansible_python_interpreter": "/usr/bin/python3",
        **variables(stack, inside=True),
    }
    return as_yaml({"fleet": {"hosts": hosts, "vars": settings}})


def as_yaml(value: object) -> str:
    """A document of mappings, lists, strings, numbers and booleans, in block style."""
    return "---\n" + "\n".join(lines(value, 0)) + "\n"


def lines(value: object, depth: int) -> list[str]:
    """The lines of one value. Scalars are written as JSON, which is YAML and never guesses a type."""
    indent = "  " * depth
    written = []
    entries = (
        ((f"{key}:", child) for key, child in value.items())
        if isinstance(value, dict)
        else (("-", child) for child in value)
    )
    for label, child in entries:
        if isinstance(child, (dict, list)) and child:
            written += [f"{indent}{label}", *lines(child, depth + 1)]
        else:
            written.append(f"{indent}{label} {json.dumps(child)}")
    return written
