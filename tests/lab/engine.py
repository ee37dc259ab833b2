# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A working Docker engine with compose v2: found, or installed from Debian packages and started."""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from .paths import MACHINE
from .shell import SEARCH_PATH, LabError, attempt, locked, run, say, step, succeeds, wait_until

PID_FILE = MACHINE / "dockerd.pid"
LOG_FILE = MACHINE / "dockerd.log"
LOCK_FILE = MACHINE / "engine.lock"
OWN_COMPOSE = MACHINE / "docker" / "cli-plugins" / "docker-compose"

# Every network of an engine we start lies in here, in small pieces: by its own default it has room for 31 only.
CONTAINER_NETWORKS = ipaddress.ip_network("172.16.0.0/12")
ADDRESS_POOL = "base=172.20.0.0/14,size=24"

# What must be installed -> the packages that bring it, first candidate wins.
PROGRAMS = {
    "dockerd": ("docker.io",),
    "docker": ("docker-cli", "docker.io"),
    "iptables": ("iptables",),
    "ip": ("iproute2",),
}


def docker(*arguments: str | Path, timeout: float = 60, stdin: str | None = None) -> str:
    """Run a docker command and return its output."""
    return run("docker", *arguments, timeout=timeout, stdin=stdin)


def answers() -> bool:
    """Whether an engine answers this user."""
    return succeeds("docker", "version", "--format", "{{.Server.Version}}", timeout=20)


def ensure() -> None:
    """Leave a running engine behind."""
    if answers():
        return
    with locked(LOCK_FILE):
        if answers():
            return
        if os.geteuid() != 0:
            raise LabError(
                "no Docker engine answers, and only root can install or start one. Either run this as root, or have "
                "docker.io installed and running and join its group: adduser $USER docker (then log in again)"
            )
        # Before the packages: their installation may start the engine.
        keep_lost_packets_home()
        install_programs(PROGRAMS)
        if not answers():
            start()
        say(f"  engine {docker('version', '--format', '{{.Server.Version}}').strip()} answers")


def start() -> None:
    """Start the engine: by systemd where it runs the machine, else as a process of its own."""
    if Path("/run/systemd/system").is_dir():
        with step("starting docker.service"):
            run("systemctl", "start", "docker.service", timeout=120)
        return
    with step("starting dockerd"):
        PID_FILE.parent.mkdir(parents=True, exist_ok=True)
        with open(LOG_FILE, "ab") as log:
            daemon = subprocess.Popen(
                ["dockerd", f"--pidfile={PID_FILE}", f"--default-address-pool={ADDRESS_POOL}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": SEARCH_PATH},
            )

        def up() -> bool:
            if daemon.poll() is not None:
                raise LabError(f"dockerd ended at once: {log_tail()}")
            return answers()

        wait_until(up, f"dockerd (its log: {LOG_FILE})", timeout=60, interval=0.3)


def stop() -> None:
    """Stop the engine if the lab started this process and it has no other containers."""
    with locked(LOCK_FILE):
        pid = own_pid()
        if pid is None:
            return
        in_use = docker("ps", "--format", "{{.Names}}").split()
        if in_use:
            say(f"  the engine stays, for {', '.join(in_use)}")
            return
        with step("stopping dockerd"):
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: own_pid() is None, f"dockerd {pid} to end", timeout=60)
            PID_FILE.unlink(missing_ok=True)
            attempt("ip", "route", "del", "unreachable", str(CONTAINER_NETWORKS))


def own_pid() -> int | None:
    """The process id of the engine that the lab started, while it lives."""
    try:
        pid = int(PID_FILE.read_text(encoding="ascii"))
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # A process id may have been given to another program since; only ours names our pid file.
    return pid if f"--pidfile={PID_FILE}".encode() in arguments else None


def log_tail() -> str:
    """The engine's last words."""
    return " | ".join(LOG_FILE.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


def keep_lost_packets_home() -> None:
    """Packets for a bridge that is gone must end here and not leave by the default route."""
    overlapping = [
        route["dst"]
        for route in json.loads(attempt("ip", "-json", "route", "show").stdout or "[]")
        if route["dst"] != "default" and ipaddress.ip_network(route["dst"]).overlaps(CONTAINER_NETWORKS)
    ]
    # A machine that already lives in this range knows its own ways.
    if not overlapping:
        attempt("ip", "route", "add", "unreachable", str(CONTAINER_NETWORKS))


def install_programs(programs: dict[str, tuple[str, ...]]) -> None:
    """Install the packages of the programs that are missing."""
    missing = {name: packages for name, packages in programs.items() if not shutil.which(name, path=SEARCH_PATH)}
    if not missing:
        return
    if os.geteuid() != 0:
        raise LabError(f"missing programs; as root: apt-get install {' '.join(p[0] for p in missing.values())}")
    if not shutil.which("apt-get"):
        raise LabError(f"{', '.join(missing)} missing, and this is no Debian: install them with this system's tools")
    if not any(has_candidate(package) for packages in missing.values() for package in packages):
        with step("apt-get update"):
            run("apt-get", "update", timeout=300)
    wanted = []
    for name, packages in missing.items():
        found = next((package for package in packages if has_candidate(package)), None)
        if found is None:
            raise LabError(f"{name} is missing, and apt offers none of: {', '.join(packages)}")
        wanted.append(found)
    install_packages(*dict.fromkeys(wanted))


def install_packages(*packages: str) -> None:
    """apt-get install, without questions and without recommendations."""
    with step(f"apt-get install {' '.join(packages)}"):
        run(
            "apt-get",
            "install",
            "--yes",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=300",
            *packages,
            timeout=600,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )


def has_candidate(package: str) -> bool:
    """Whether apt could install this package now."""
    return bool(candidate_version(package))


def candidate_version(package: str) -> str:
    """The version apt would install, or nothing."""
    for line in attempt("apt-cache", "policy", package).stdout.splitlines():
        if line.strip().startswith("Candidate:"):
            version = line.split(":", 1)[1].strip()
            return "" if version == "(none)" else version
    return ""


@functools.cache
def debian_mirror() -> str | None:
    """The Debian archive that this machine's own apt uses, whatever form its lists have; None off Debian."""
    wanted = ("apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")
    for line in attempt(*wanted).stdout.splitlines():
        origin, label, uri = line.split(" ", 2)
        if (origin, label) == ("Debian", "Debian"):
            return uri.rstrip("/")
    return None


@functools.cache
def compose_command() -> tuple[str, ...]:
    """The words that run compose v2 on this machine, after making sure that there is one."""
    found = find_compose()
    if found:
        return found
    with locked(LOCK_FILE):
        return find_compose() or install_compose()


def find_compose() -> tuple[str, ...] | None:
    """Compose v2 of the machine, else the lab's own copy of it."""
    for words in (("docker", "compose"), (str(OWN_COMPOSE),)):
        if attempt(*words, "version", "--short").stdout.strip().lstrip("v").startswith(("2.", "5.")):
            return words
    return None


def install_compose() -> tuple[str, ...]:
    """From the machine's own packages where they have it; else unpacked from the next Debian, for the lab alone."""
    if os.geteuid() == 0:
        for package in ("docker-compose-v2", "docker-compose-plugin", "docker-compose"):
            if candidate_version(package).startswith("2."):
                install_packages(package)
                break
    found = find_compose()
    if not found:
        unpack_compose_of_trixie()
        found = find_compose()
    if not found:
        raise LabError("compose v2 could not be installed; install it as docker's `compose` plugin")
    return found


def unpack_compose_of_trixie() -> None:
    """Trixie's compose needs nothing but a C library as old as bookworm's, so it runs without being installed."""
    mirror = debian_mirror()
    if mirror is None:
        raise LabError("no compose v2, and this is no Debian to take one from: install docker's `compose` plugin")
    with step("unpacking compose v2 from Debian trixie"):
        work = MACHINE / "compose-package"
        shutil.rmtree(work, ignore_errors=True)
        for directory in ("lists/partial", "cache/archives/partial"):
            (work / directory).mkdir(parents=True)
        (work / "sources.list").write_text(
            f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} trixie main\n", encoding="utf-8"
        )
        apart = (
            "-o",
            f"Dir::Etc::sourcelist={work}/sources.list",
            "-o",
            "Dir::Etc::sourceparts=/dev/null",
            "-o",
            f"Dir::State::lists={work}/lists",
            "-o",
            f"Dir::Cache={work}/cache",
            "-o",
            "APT::Sandbox::User=root",
        )
        run("apt-get", *apart, "update", timeout=180)
        # apt-get download writes into the working directory and has no option for it.
        run(
            "sh",
            "-c",
            'cd "$1" && shift && exec apt-get "$@" download docker-compose',
            "sh",
            str(work),
            *apart,
            timeout=180,
        )
        package = next(work.glob("docker-compose_*.deb"))
        run("dpkg", "-x", str(package), str(work / "tree"))
        OWN_COMPOSE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(work / "tree/usr/libexec/docker/cli-plugins/docker-compose", OWN_COMPOSE)
        shutil.rmtree(work)
