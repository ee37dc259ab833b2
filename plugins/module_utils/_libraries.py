# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports the client libraries on the host that a module runs on. Private to this collection."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import MissingLibrary

# The prepare playbook installs what the distribution lacks into this virtual environment, made by the interpreter that
# Ansible uses on the host. Reading its packages directly saves the second start of an interpreter (0.2 s per run) that
# a respawn would cost.
PREPARED_ENVIRONMENT = "/opt/tracktion-ops/venv"

DEBIAN_PACKAGES = {
    "psycopg2": "python3-psycopg2",
    "pika": "python3-pika",
    "docker": "python3-docker",
    "redis": "python3-redis",
    "hiredis": "python3-hiredis",
    "yaml": "python3-yaml",
}


def require(name: str) -> Any:
    """Return the imported library ``name``. Raises MissingLibrary with the hint if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as first:
        packages = os.path.join(PREPARED_ENVIRONMENT, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
        if os.path.isdir(packages) and packages not in sys.path:
            sys.path.append(packages)
            try:
                return importlib.import_module(name)
            except ImportError:
                pass
        raise MissingLibrary(
            "The Python library %s cannot be imported by %s on %s: %s" % (name, sys.executable, platform.node(), first),
            hint="Install it: `ansible-playbook tracktion.ops.prepare --limit HOST`, or the package %s"
            % DEBIAN_PACKAGES.get(name, name),
        ) from first
