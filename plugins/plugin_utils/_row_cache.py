# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cache over runs: parsed YAML of the roles, fingerprints of valid rows, compiled templates.

Private to this collection. Reading the role files and compiling the rows takes more than a second of CPU time in every
process, with the cache less than a tenth. If it cannot be written, there is none. Its entries can run code (marshal,
byte code), so a directory or a file that another user can change is not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

from ansible import constants as C
from ansible.utils.display import Display
from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files

KEPT_SECONDS = 30 * 86400
PREFIXES = ("data-", "valid-", "template-")
# The largest entry is the code of all measuring modules, half a MiB.
ENTRY_BYTES = 16 << 20

_opened: dict[str, _safe_files.Directory] = {}


@cache
def directory() -> Path:
    """Return the directory of the cache, below the ``ANSIBLE_HOME`` of the controller."""
    return Path(C.config.get_config_value("ANSIBLE_HOME")) / "tracktion_ops"


class Bytecode(BytecodeCache):
    """Compiled templates. Jinja itself rejects an entry of another source, Python or Jinja."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with contextlib.suppress(OSError):
            bucket.bytecode_from_string(_read("template-" + bucket.key))

    def dump_bytecode(self, bucket: Bucket) -> None:
        with contextlib.suppress(OSError):
            _put("template-" + bucket.key, bucket.bytecode_to_string())


def fingerprint(*texts: str) -> str:
    """Return a hash of the texts, which no other texts have: SHA-256 in hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def parsed(text: str, parse: Callable[[str], Any]) -> Any:
    """Return ``parse(text)``, which is plain data; from the cache if an earlier run parsed the same text."""
    name = "data-" + fingerprint(text)
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
        # _read() rejects a file that another user can have written.
        return marshal.loads(_read(name))  # noqa: S302
    data = parse(text)
    # Data that marshal cannot hold, such as a date, is parsed every time.
    with contextlib.suppress(OSError, ValueError):
        _put(name, marshal.dumps(data))
    return data


def is_valid(key: str) -> bool:
    """Return whether rows of this fingerprint were found valid before."""
    try:
        _read("valid-" + key)
    except OSError:
        return False
    return True


def remember_valid(key: str) -> None:
    """Note that the rows of this fingerprint are valid, and remove entries that are older than a month."""
    with contextlib.suppress(OSError):
        _put("valid-" + key, b"")
        folder = _directory().descriptor
        for name in os.listdir(folder):
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if name.lstrip(".").startswith(PREFIXES) and info.st_mtime < time.time() - KEPT_SECONDS:
                os.unlink(name, dir_fd=folder)


def _read(name: str) -> bytes:
    return _directory().read(name, ENTRY_BYTES)


def _put(name: str, content: bytes) -> None:
    # In one step: workers of several hosts read it at the same time.
    _directory(make=True).replace(name, content, sync=False)


def _directory(make: bool = False) -> _safe_files.Directory:
    """Return the directory, opened and checked once. Raises OSError if it is missing, or another user can change it."""
    path = str(directory())
    if path not in _opened:
        try:
            _opened[path] = _safe_files.Directory(path, make=make, trusted=_safe_files.behind_sudo())
        except _safe_files.Unsafe as exc:
            Display().warning("ANSIBLE_HOME: rows are parsed in every run: %s" % exc)
            raise
    return _opened[path]
