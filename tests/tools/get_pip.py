# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gives an environment of ansible-test the pip that its Python ships.

ansible-test runs it in place of an installer that it would download. It makes an environment for each of its tests:
they refer to one copy of pip, which is unpacked and compiled once.
"""

from __future__ import annotations

import ensurepip
import os
import sys
import sysconfig
import zipfile
from pathlib import Path

# Distributions keep the wheels of ensurepip in a directory of their own.
DIRECTORIES = (sysconfig.get_config_var("WHEEL_PKG_DIR"), os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"))


def main() -> None:
    wheels = [wheel for directory in DIRECTORIES if directory for wheel in sorted(Path(directory).glob("pip-*.whl"))]
    if not wheels:
        sys.exit("get_pip: %s ships no pip for environments" % sys.executable)
    unpacked = Path(__file__).resolve().parent / wheels[0].stem
    if not unpacked.exists():
        with zipfile.ZipFile(str(wheels[0])) as archive:
            archive.extractall(str(unpacked))
    # ansible-test removes pip from an environment at the end, which leaves this copy alone, as it is outside.
    Path(sysconfig.get_path("purelib"), "pip.pth").write_text("%s\n" % unpacked, encoding="utf-8")


if __name__ == "__main__":
    main()
