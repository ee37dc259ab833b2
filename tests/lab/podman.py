# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Podman of its own: its storage, containers and service are in one directory and gone with it.

with podman() as engine:                    # as root, or podman(OTHER_USER): without
    engine.run("run", "--detach", IMAGE, "sleep", "60")
    look_at(engine.host)

Containers have no network, so that nothing of the machine's own is changed for them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .engine import install_programs
from .shell import LabError, attempt, run, succeeds, wait_until

PROGRAMS = {
    "podman": ("podman",),
    "runc": ("runc",),
    "busybox": ("busybox-static",),
    "setpriv": ("util-linux",),
    "curl": ("curl",),
}
# An account of every Debian system that no person uses.
OTHER_USER = "games"
IMAGE = "lab/box:1"
APPLETS = ("sh", "sleep", "true", "false", "cat", "dd", "echo", "test", "timeout", "touch")

# What a machine that runs no systemd, and may not raise limits, can do.
CONTAINERS = """
[containers]
default_ulimits = []
log_driver = "k8s-file"
[engine]
# Named here, as crun, where it is the default, rejects hybrid control groups.
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{home}/run/libpod"
volume_path = "{home}/volumes"
[network]
network_config_dir = "{home}/networks"
"""
STORAGE = """
[storage]
driver = "vfs"
runroot = "{home}/run/storage"
graphroot = "{home}/storage"
[storage.options.vfs]
ignore_chown_errors = "true"
"""


class Podman:
    """An engine whose service runs."""

    def __init__(self, home: Path, user: str | None) -> None:
        self.home = home
        self.user = user
        self.socket = home / "run" / "podman.sock"
        self.host = f"unix://{self.socket}"
        self.environment = {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "CONTAINERS_CONF": str(home / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
        }

    def run(self, *arguments: str, timeout: float = 60) -> str:
        """Run a command of podman and return its output."""
        return run(*self.command(*arguments), timeout=timeout, env=self.environment)

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess:
        """The same where it may fail."""
        return attempt(*self.command(*arguments), env=self.environment)

    def start(
        self, name: str, *command: str, options: tuple[str, ...] = (), labels: dict[str, str] | None = None
    ) -> str:
        """Run a container and return its name; without a command it sleeps."""
        marks = (word for key, value in (labels or {}).items() for word in ("--label", f"{key}={value}"))
        words = ("run", "--detach", "--network", "none", "--stop-timeout", "0", "--name", name)
        self.run(*words, *marks, *options, IMAGE, *(command or ("sleep", "infinity")))
        return name

    def inspect(self, name: str, field: str) -> str:
        """A field of what podman says about a container, as text."""
        return self.run("inspect", "--type", "container", "--format", "{{%s}}" % field, name).strip()

    def command(self, *arguments: str) -> tuple[str, ...]:
        """The words of a command of podman, as the user whose engine it is."""
        # Not from a directory that the user may not enter.
        words = ("env", f"--chdir={self.home}", "podman", *arguments)
        if self.user is None:
            return words
        return ("setpriv", f"--reuid={self.user}", f"--regid={gid(self.user)}", "--clear-groups", *words)


def gid(user: str) -> str:
    return str(pwd.getpwnam(user).pw_gid)


@contextlib.contextmanager
def podman(user: str | None = None) -> Iterator[Podman]:
    """An engine with the image IMAGE and nothing else: of root, or of a user without privileges."""
    install_programs(PROGRAMS)
    home = Path(tempfile.mkdtemp(prefix="lab-podman-"))
    engine = Podman(home, user)
    try:
        (home / "run").mkdir(mode=0o700)
        (home / "containers.conf").write_text(CONTAINERS.format(home=home))
        (home / "storage.conf").write_text(STORAGE.format(home=home))
        pack(home / "box.tar")
        if user is not None:
            run("chown", "--recursive", f"{user}:{gid(user)}", home)
        # Its directory is searchable, so that what is kept from others is kept by the engine's own.
        home.chmod(0o711)
        engine.run("import", "--change", 'CMD ["sleep", "infinity"]', str(home / "box.tar"), IMAGE)
        with serving(engine):
            yield engine
    finally:
        remove_containers(engine)
        # Without root, a process holds the user's namespace open; this ends it.
        engine.attempt("system", "migrate")
        shutil.rmtree(home)


def remove_containers(engine: Podman) -> None:
    """Remove them all, with one that is restarted for ever, which may just be beginning again."""

    def gone() -> bool:
        engine.attempt("rm", "--all", "--force", "--time", "0")
        return engine.attempt("ps", "--all", "--quiet").stdout == ""

    wait_until(gone, "the end of podman's containers", 20)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        where = line.split()[4]
        if where.startswith(f"{engine.home}/"):
            attempt("umount", where)


@contextlib.contextmanager
def serving(engine: Podman) -> Iterator[None]:
    """The service of an engine runs."""
    with open(engine.home / "service.log", "wb") as log:
        service = subprocess.Popen(
            engine.command("system", "service", "--time=0", engine.host),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **engine.environment},
        )

    def answers() -> bool:
        if service.poll() is not None:
            raise LabError(f"podman's service ended at once: {(engine.home / 'service.log').read_text()[-500:]}")
        return succeeds("curl", "--silent", "--fail", "--unix-socket", str(engine.socket), "http://podman/_ping")

    try:
        wait_until(answers, "podman's service", 20)
        yield
    finally:
        service.terminate()
        service.wait(20)


def pack(path: Path) -> None:
    """A tree with a shell and little else, as an archive."""
    program = shutil.which("busybox")
    with tarfile.open(path, "w") as archive:
        archive.add(os.path.realpath(program), "bin/busybox")
        # Where it is no static one.
        for library in re.findall(r"(/\S+) \(0x", attempt("ldd", program).stdout):
            archive.add(os.path.realpath(library), library.lstrip("/"))
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
