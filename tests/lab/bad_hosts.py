# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Managed hosts that fail in one way each: containers with sshd, and addresses where no host answers."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .engine import docker, install_programs
from .hosts import greets
from .images import ensure_image
from .servers import LABEL, PROCESS_LABEL, this_process
from .shell import attempt, run, wait_until

SSH = "-o ControlMaster=auto -o ControlPersist=20s -o ConnectTimeout=20 -o LogLevel=ERROR"
IMPATIENT = SSH.replace("ConnectTimeout=20", "ConnectTimeout=2")
ACCEPT_ANY_KEY = " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"

# Python interpreters that fail. Each is /opt/<name>/python3.
PYTHONS = {
    # What CPython 3.6 prints for a module of ansible-core 2.19 (there is no package of it to install).
    "python36": "cat >/dev/null; echo '  File \"<stdin>\", line 3' >&2; "
    'echo "SyntaxError: future feature annotations is not defined" >&2; exit 1',
    "garbage": "cat >/dev/null; echo 'Segfault in module loader, core dumped to /var/crash'; exit 0",
    "killed": "cat >/dev/null; kill -9 $$",
    "crashed": "cat >/dev/null; kill -SEGV $$",
    # The ssh connection breaks while the module runs.
    "closing": "cat >/dev/null; pkill -9 -u closing sshd; sleep 5",
    "hung": "exec sleep 617",
    "flood": "cat >/dev/null; exec head -c 200000000 /dev/zero",
    "broken": "cat >/dev/null; echo 'Traceback (most recent call last):' >&2; "
    'for i in $(seq 40); do echo "  File \\"/usr/lib/python3/frame_$i.py\\", line $i, in call" >&2; done; '
    'echo "ImportError: cannot import name zlib from zipimport" >&2; exit 1',
    # The module, and a line behind what it prints.
    "chatty": '/usr/bin/python3 "$@"; echo goodbye',
    # A clock that is two minutes late, for Python.
    "skewed": 'PYTHONPATH=/opt/skewed exec /usr/bin/python3 "$@"',
}
WORKING = ("chatty", "skewed")
SUDOERS = """\
Defaults !lecture
wrong_password ALL=(ALL) ALL
no_password ALL=(ALL) ALL
requiretty ALL=(ALL) NOPASSWD: ALL
Defaults:requiretty requiretty
"""
USERS = ("plain", "not_allowed", "wrong_password", "no_password", "requiretty", "banner", "motd", "closing")


def _setup() -> str:
    """The commands that make the host with many users of one container."""
    lines = ["set -eu", "mkdir -p /run/sshd", "cat >/etc/sudoers.d/lab <<'END'", SUDOERS + "END"]
    for user in USERS:
        lines += [
            f"useradd --create-home --shell /bin/bash {user}",
            f"echo {user}:right | chpasswd",
            f"install -d -m 700 -o {user} /home/{user}/.ssh",
            f"install -m 600 -o {user} /authorized_key /home/{user}/.ssh/authorized_keys",
        ]
    for name, script in PYTHONS.items():
        lines += [f"mkdir -p /opt/{name}", f"cat >/opt/{name}/python3 <<'END'", f"#!/bin/bash\n{script}", "END"]
    lines += [
        'echo "import time; now = time.time; time.time = lambda: now() - 120" >/opt/skewed/sitecustomize.py',
        "chmod 755 /opt/*/python3",
        # A brace opens a JSON object for Ansible, which skips only lines before it.
        """echo "echo '{ Welcome to $(hostname) }'" | cat - /home/banner/.bashrc >/tmp/rc""",
        "mv /tmp/rc /home/banner/.bashrc",
        "echo 'echo Last login: yesterday' | cat - /home/motd/.bashrc >/tmp/rc; mv /tmp/rc /home/motd/.bashrc",
        "exec /usr/sbin/sshd -D -e -o UseDNS=no -o MaxStartups=200 -o MaxSessions=50",
    ]
    return "\n".join(lines)


ROOT_ONLY = (
    "set -eu; mkdir -p /run/sshd; install -d -m 700 /root/.ssh; "
    "install -m 600 /authorized_key /root/.ssh/authorized_keys; "
    "{first} exec /usr/sbin/sshd -D -e -o UseDNS=no -o MaxStartups=100"
)
CONTAINERS = {
    "users": ((), _setup()),
    "nopython": ((), ROOT_ONLY.format(first="rm -f /usr/bin/python3*;")),
    # Nothing can be written but what sshd needs.
    "readonly": (("--read-only", "--tmpfs", "/run", "--tmpfs", "/root/.ssh"), ROOT_ONLY.format(first="")),
    "full": (
        ("--read-only", "--tmpfs", "/run", "--tmpfs", "/root/.ssh", "--tmpfs", "/tmp:size=16k"),
        ROOT_ONLY.format(first=""),
    ),
    "noexec": (("--tmpfs", "/tmp:noexec"), ROOT_ONLY.format(first="")),
    # Nothing is wrong, and nothing runs there.
    "plain": ((), ROOT_ONLY.format(first="")),
    # A tenth of one CPU.
    "starved": (("--cpus", "0.1"), ROOT_ONLY.format(first="")),
}


# No route leads to this address.
NO_ROUTE = "172.31.255.254"


@dataclass
class BadHosts:
    """Inventory variables of the hosts by name, and the names of their containers by kind."""

    variables: dict[str, dict[str, object]]
    containers: dict[str, str]

    @property
    def gateway(self) -> str:
        """The address of this machine as the containers see it."""
        name = next(iter(self.containers.values()))
        return docker("inspect", "--format", "{{.NetworkSettings.Gateway}}", name).strip()

    def processes(self, kind: str) -> list[str]:
        """The command lines in a container, but for those that belong to its sshd."""
        own = ("ps ", "sshd", "/usr/sbin/sshd", "/sbin/docker-init")
        lines = docker("exec", self.containers[kind], "ps", "-eo", "args=").splitlines()
        return [line for line in lines if not line.startswith(own)]


@contextlib.contextmanager
def bad_hosts(owner: str, containers: tuple[str, ...] = tuple(CONTAINERS)) -> Iterator[BadHosts]:
    """The hosts; their containers are gone when the context is left."""
    install_programs({"ssh-keygen": ("openssh-client",)})
    prefix = f"tracktion-lab-{owner}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder, "key")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", owner, "-f", key)
        try:
            with ThreadPoolExecutor(len(containers)) as pool:
                addresses = dict(zip(containers, pool.map(lambda name: _start(prefix, owner, name, key), containers)))
            with _silent_server() as silent, _unreachable(NO_ROUTE):
                names = {name: f"{prefix}-{name}" for name in containers}
                yield BadHosts(_variables(addresses, key, Path(folder), silent), names)
        finally:
            attempt("docker", "rm", "--force", "--volumes", *(f"{prefix}-{name}" for name in containers))


def _start(prefix: str, owner: str, name: str, key: Path) -> str:
    """Start one container and return its address once its sshd answers."""
    options, script = CONTAINERS[name]
    container = f"{prefix}-{name}"
    docker(
        "run", "--detach", "--init", "--name", container, "--hostname", name,
        "--label", f"{LABEL}={owner}", "--label", f"{PROCESS_LABEL}={this_process()}",
        "--volume", f"{key}.pub:/authorized_key:ro", *options, ensure_image("bookworm"), "/bin/sh", "-c", script,
    )  # fmt: skip
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container).strip()
    wait_until(lambda: greets(address), f"sshd of {container}", timeout=30)
    return address


@contextlib.contextmanager
def _unreachable(address: str) -> Iterator[None]:
    """Make the kernel reject connections to an address, so that no packet to it leaves this machine."""
    run("ip", "route", "replace", "unreachable", address)
    try:
        yield
    finally:
        attempt("ip", "route", "delete", "unreachable", address)


@contextlib.contextmanager
def _silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _variables(addresses: dict[str, str], key: Path, folder: Path, silent: int) -> dict[str, dict[str, object]]:
    def host(container: str, **own: object) -> dict[str, object]:
        return {
            "ansible_host": addresses[container],
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_args": SSH + ACCEPT_ANY_KEY,
            "ansible_python_interpreter": "/usr/bin/python3",
            # How long to wait for the prompt of sudo.
            "ansible_ssh_timeout": 30,
            **own,
        }

    def user(name: str, **own: object) -> dict[str, object]:
        return host("users", ansible_user=name, **own)

    def sudo(name: str, **own: object) -> dict[str, object]:
        return user(name, ansible_become=True, **own)

    def python(name: str) -> dict[str, object]:
        return user("closing" if name == "closing" else "plain", ansible_python_interpreter=f"/opt/{name}/python3")

    found: dict[str, dict[str, object]] = {}
    local = {"ansible_host": "127.0.0.1", "ansible_user": "root", "ansible_ssh_args": IMPATIENT + ACCEPT_ANY_KEY}
    found["refused"] = {**local, "ansible_port": 1}
    found["silent"] = {**local, "ansible_port": silent}
    found["unresolved"] = {**local, "ansible_host": "nosuchhost.invalid"}
    found["no_route"] = {**local, "ansible_host": NO_ROUTE}
    if "users" in addresses:
        changed = folder / "known_hosts"
        changed.write_text(f"{addresses['users']} {key.with_suffix('.pub').read_text()}")
        strict = f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={changed} -o ControlPath=none"
        found |= {
            "good": user("plain"),
            "motd": user("motd"),
            **{name: python(name) for name in PYTHONS},
            "host_key": user("plain", ansible_ssh_args=f"{SSH} {strict}"),
            "wrong_user": user("unknown_user"),
            "not_allowed": sudo("not_allowed", ansible_become_password="right"),
            "wrong_password": sudo("wrong_password", ansible_become_password="wrong"),
            "no_password": sudo("no_password"),
            "requiretty": sudo("requiretty"),
            "banner": user("banner"),
            "wrong_interpreter": user("plain", ansible_python_interpreter="/usr/bin/python9.9"),
        }
    if "nopython" in addresses:
        nopython = host("nopython")
        del nopython["ansible_python_interpreter"]
        found["no_python"] = nopython
    if "starved" in addresses:
        found["starved"] = host("starved")
    if "plain" in addresses:
        found["plain"] = host("plain")
    for name, variables in (("readonly", {}), ("full", {"ansible_remote_tmp": "/tmp"}), ("noexec", {})):
        if name in addresses:
            found[name] = host(name)
            found[name + "_unpipelined"] = host(name, ansible_pipelining=False, **variables)
    return found


def main() -> None:
    """Hold the hosts until standard input ends, their inventory on standard output: for trying things by hand."""
    with bad_hosts("by-hand") as hosts:
        print(json.dumps({"all": {"hosts": hosts.variables}}, indent=1), flush=True)
        with contextlib.suppress(EOFError):
            input()


if __name__ == "__main__":
    main()
