# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""promtool of Debian's package prometheus, unpacked without being installed: the package would start a server."""

from __future__ import annotations

import shutil

from .engine import LOCK_FILE
from .paths import MACHINE
from .shell import SEARCH_PATH, LabError, locked, run, step

OWN = MACHINE / "promtool"


def promtool() -> str:
    """Return the path of promtool: that of the machine, or the lab's own copy."""
    found = shutil.which("promtool", path=SEARCH_PATH)
    if found:
        return found
    with locked(LOCK_FILE):
        if not OWN.exists():
            unpack()
    return str(OWN)


def unpack() -> None:
    """Download the package and keep promtool, a static program."""
    if not shutil.which("apt-get"):
        raise LabError("promtool is missing, and this is no Debian: install it with this system's tools")
    with step("unpacking promtool from Debian's package prometheus"):
        work = MACHINE / "prometheus-package"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        # apt-get download writes into the working directory and has no option for it.
        download = 'cd "$1" && exec apt-get -o APT::Sandbox::User=root download prometheus'
        run("sh", "-c", download, "sh", str(work), timeout=180)
        package = next(work.glob("prometheus_*.deb"))
        run("dpkg", "-x", str(package), str(work / "tree"), timeout=120)
        shutil.move(work / "tree/usr/bin/promtool", OWN)
        shutil.rmtree(work)
