# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of the roles' files from earlier runs: their YAML parsed, which rows were right, compiled scans.

Private to this collection. Parsing and compiling 130 rows costs half a second of every run; reading it back, a
twentieth. Losing the cache costs time and nothing else: where it cannot be written, there is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
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


def parsed(text, parse):
    """``parse(text)``, plain data, from an earlier run where there was one."""
    path = directory() / ("data-" + fingerprint(text))
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
        # As private and as trusted as the byte code beside it, which is kept in the same format.
        return marshal.loads(path.read_bytes())  # noqa: S302
    data = parse(text)
    # What marshal cannot hold (a date, say) is parsed every time.
    with contextlib.suppress(OSError, ValueError):
        _make_directory()
        _put(path, marshal.dumps(data))
    return data


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


def _put(path, content):
    """In one step: hosts are visited side by side, and none may read half a file."""
    temporary = path.with_name("%s.%d" % (path.name, os.getpid()))
    temporary.write_bytes(content)
    temporary.replace(path)


def _make_directory():
    os.makedirs(directory(), mode=0o700, exist_ok=True)
