# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of the roles' files from earlier runs: their YAML parsed, which rows were right, compiled scans.

Private to this collection. Parsing and compiling 130 rows costs half a second of every run; reading it back, a
twentieth. Losing the cache costs time and nothing else: where it cannot be written, there is none. What is read back
can run code (marshal, byte code), so a directory or a file that another user can change is not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import time
from pathlib import Path

from jinja2 import BytecodeCache

from ansible import constants as C
from ansible.utils.display import Display
from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files

KEPT_SECONDS = 30 * 86400
PREFIXES = ("data-", "right-", "scan-")
# The largest entry is the code of all measuring modules, half a MiB.
ENTRY_BYTES = 16 << 20

_opened = {}


def directory():
    return Path(C.config.get_config_value("ANSIBLE_HOME")) / "tracktion_ops"


class Bytecode(BytecodeCache):
    """Compiled templates, in Jinja's format; Jinja knows itself when it, Python or a source has changed."""

    def load_bytecode(self, bucket):
        with contextlib.suppress(OSError):
            bucket.bytecode_from_string(_read("scan-" + bucket.key))

    def dump_bytecode(self, bucket):
        with contextlib.suppress(OSError):
            _put("scan-" + bucket.key, bucket.bytecode_to_string())


def fingerprint(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def parsed(text, parse):
    """``parse(text)``, plain data, from an earlier run where there was one."""
    name = "data-" + fingerprint(text)
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
        # Nobody but the user of this process can have written it.
        return marshal.loads(_read(name))  # noqa: S302
    data = parse(text)
    # What marshal cannot hold (a date, say) is parsed every time.
    with contextlib.suppress(OSError, ValueError):
        _put(name, marshal.dumps(data))
    return data


def is_right(key):
    """Whether rows of this fingerprint were found right before."""
    try:
        _read("right-" + key)
    except OSError:
        return False
    return True


def remember(key):
    """Note that the rows of this fingerprint are right, and forget what nobody has used for a month."""
    with contextlib.suppress(OSError):
        _put("right-" + key, b"")
        folder = _directory().descriptor
        for name in os.listdir(folder):
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if name.lstrip(".").startswith(PREFIXES) and info.st_mtime < time.time() - KEPT_SECONDS:
                os.unlink(name, dir_fd=folder)


def _read(name):
    return _directory().read(name, ENTRY_BYTES)


def _put(name, content):
    """In one step: hosts are visited side by side, and none may read half a file."""
    _directory(make=True).replace(name, content, sync=False)


def _directory(make=False):
    """The directory, opened and checked once. Raises OSError where it is missing, or another user can change it."""
    path = str(directory())
    if path not in _opened:
        try:
            _opened[path] = _safe_files.Directory(path, make=make, trusted=_safe_files.behind_sudo())
        except _safe_files.Unsafe as exc:
            Display().warning("ANSIBLE_HOME: rows are parsed in every run: %s" % exc)
            raise
    return _opened[path]
