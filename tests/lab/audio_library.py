# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installs the audio library of the lab's analysis service, once per machine, from the package index of pip.

Essentia (AGPL-3.0) is a test dependency: it is mounted into one container of the lab and is no part of the collection.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .paths import MACHINE
from .shell import locked, run, step

PACKAGES = ("essentia==2.1b6.dev1389", "numpy==2.2.6")
# The Python of each Debian release.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def ensure_audio_library(suite: str) -> Path:
    """Leave the library for the Python of a suite behind, and return its directory."""
    names = "-".join(package.replace("==", "-") for package in PACKAGES)
    directory = MACHINE / f"audio-{PYTHONS[suite]}-{names}"
    if not directory.exists():
        with locked(MACHINE / f"audio-{suite}.lock"):
            if not directory.exists():
                install(suite, directory)
    return directory


def install(suite: str, directory: Path) -> None:
    """Install the packages into a directory, which is complete when it has its name."""
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
    with step(f"installing {', '.join(PACKAGES)} for the analysis service"):
        try:
            run(
                sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                "--only-binary=:all:", "--target", temporary, "--implementation", "cp",
                "--python-version", PYTHONS[suite], *(f"--platform={each}" for each in PLATFORMS), *PACKAGES,
                timeout=600,
            )  # fmt: skip
            # Readable for the user of the service, whatever the umask.
            run("chmod", "-R", "a+rX", temporary)
            temporary.rename(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
