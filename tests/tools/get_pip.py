# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installs pip from Python's own copy. ansible-test is given it in place of an installer that it would download."""

from __future__ import annotations

import ensurepip
import os
import runpy
import sys

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

ensurepip.bootstrap()
# The pip in Python's copy knows only its own certificate authorities, not those of this machine.
if os.path.exists(AUTHORITIES):
    os.environ.setdefault("PIP_CERT", AUTHORITIES)
# Options of the installer, not of pip.
own = ("--no-setuptools", "--no-wheel")
sys.argv = ["pip", "install", "--quiet"] + [argument for argument in sys.argv[1:] if argument not in own]
runpy.run_module("pip", run_name="__main__")
