# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of check rows from earlier runs: which were found right, and their compiled scans.

Private to this collection. Parsing and compiling 130 rows costs half a second of every run; reading it back, a
twentieth. Losing the cache costs time and nothing else: where it cannot be written, there is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from jinja2 import FileSystemBytecodeCache

from ansible import constants as C

KEPT_SECONDS = 30 * 86400


def directory():
    return Path(C.config.get_config_value("ANSIBLE_HOME")) / "tracktion_ops"


class Bytecode(FileSystemBytecodeCache):
    """Jinja's own cache of compiled templates; it knows itself when Jinja, Python or a source has changed."""

    def __init__(self):
        super().__init__(str(directory()), "scan-%s")

    def dump_bytecode(self, bucket):
        with contextlib.suppress(OSError):
            _make_directory()
            super().dump_bytecode(bucket)


def fingerprint(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def is_right(key):
    """Whether rows of this fingerprint were found right before."""
    return (directory() / ("right-" + key)).exists()


def remember(key):
    """Note that the rows of this fingerprint are right, and forget what nobody has used for a month."""
    with contextlib.suppress(OSError):
        _make_directory()
        (directory() / ("right-" + key)).touch(mode=0o600)
        for entry in directory().iterdir():
            if entry.stat().st_mtime < time.time() - KEPT_SECONDS:
                entry.unlink()


def _make_directory():
    os.makedirs(directory(), mode=0o700, exist_ok=True)
