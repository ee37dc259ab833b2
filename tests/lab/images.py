# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One image per Debian release, with every server, client and library of the lab, made without an image registry."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

from .engine import debian_mirror, docker, ensure, install_programs
from .paths import MACHINE
from .shell import LabError, locked, run, step, succeeds

SUITES = ("bookworm", "trixie")
REPOSITORY = "tracktion-lab"

RECIPE = {
    "packages": [
        # servers
        "postgresql",
        "pgbouncer",
        "redis-server",
        "rabbitmq-server",
        "openssh-server",
        # what modules and services import
        "python3",
        "python3-psycopg2",
        "python3-redis",
        "python3-hiredis",
        "python3-pika",
        "python3-docker",
        "python3-watchdog",
        # what people type
        "procps",
        "iproute2",
        "curl",
        "openssl",
        "sudo",
    ],
    "dpkg": [
        "path-exclude=/usr/share/doc/*",
        "path-exclude=/usr/share/man/*",
        "path-exclude=/usr/share/info/*",
        "path-exclude=/usr/share/locale/*",
        "force-unsafe-io",
    ],
    # Run in the image's tree ("$1") at the end.
    "finish": [
        'chroot "$1" rabbitmq-plugins enable --offline rabbitmq_management',
        # A database cluster is made by each container for itself.
        'rm -rf "$1"/var/lib/postgresql/* "$1"/etc/postgresql/* "$1"/var/lib/rabbitmq/mnesia "$1"/var/log/*/*',
        # The names of these directories hold the version; commands in a container should not need it.
        'ln -s $(cd "$1" && echo usr/lib/postgresql/*/bin) "$1"/postgresql-bin',
        'mkdir -p "$1"/run/sshd "$1"/lab',
    ],
    "environment": {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/postgresql-bin",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    },
}


def tag(suite: str) -> str:
    """The image's name; it changes with the recipe, so that a checkout never runs on another one's image."""
    if suite not in SUITES:
        raise LabError(f"no suite {suite!r}: the lab knows {' and '.join(SUITES)}")
    recipe = hashlib.sha256(json.dumps([suite, RECIPE], sort_keys=True).encode()).hexdigest()
    return f"{REPOSITORY}:{suite}-{recipe[:10]}"


@functools.cache
def ensure_image(suite: str) -> str:
    """Leave the suite's image behind, and return its name."""
    ensure()
    name = tag(suite)
    if not present(name):
        with locked(MACHINE / f"image-{suite}.lock"):
            if not present(name):
                build(suite, name)
    return name


def ensure_image_with(suite: str, *packages: str) -> str:
    """Leave behind the suite's image with more Debian packages in it, and return its name."""
    base = ensure_image(suite)
    name = f"{base}-{'-'.join(packages)}"
    with locked(MACHINE / f"image-{suite}.lock"):
        if not present(name):
            with step(f"building {name}"):
                install = f"apt-get update && apt-get install --yes --no-install-recommends {' '.join(packages)}"
                recipe = f"FROM {base}\nRUN {install} && rm -rf /var/lib/apt/lists/*\n"
                # The builder of old knows the engine's images, and needs no plugin.
                quiet = ("--quiet", "--tag", name)
                run("docker", "build", *quiet, "-", stdin=recipe, timeout=300, env={"DOCKER_BUILDKIT": "0"})
    return name


def present(name: str) -> bool:
    """Whether the engine has this image."""
    return succeeds("docker", "image", "inspect", name)


def build(suite: str, name: str) -> None:
    """Make a minimal Debian of the wanted packages and import it as an image."""
    install_programs({"mmdebstrap": ("mmdebstrap",)})
    mirror = debian_mirror()
    tree = MACHINE / f"{suite}-{os.getpid()}.tar"
    try:
        with step(f"building {name} from Debian packages (about a minute)"):
            run(
                "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(RECIPE['packages'])}",
                "--aptopt=Acquire::Languages none",
                # A mirror may have an old copy of a release that changes daily. Its signature is checked.
                '--aptopt=Acquire::Check-Valid-Until "false"',
                *(f"--dpkgopt={option}" for option in RECIPE["dpkg"]),
                *(f"--customize-hook={command}" for command in RECIPE["finish"]),
                suite,
                tree,
                *([mirror] if mirror else []),
                timeout=900,
            )
        with step(f"importing {tree.stat().st_size >> 20} MiB"):
            changes = [
                word for key, value in RECIPE["environment"].items() for word in ("--change", f"ENV {key}={value}")
            ]
            docker("import", *changes, str(tree), name, timeout=300)
            # A name for people; the lab itself uses the exact one.
            docker("tag", name, f"{REPOSITORY}:{suite}")
    finally:
        Path(tree).unlink(missing_ok=True)
