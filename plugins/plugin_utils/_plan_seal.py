# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The seal of a plan: an HMAC with a key that only controllers have. Private to this collection.

The key is the variable ``tracktion_plan_key``, else a file that is created when it is first needed. The files of an AWX
job are lost at its end, so there the variable is the only key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache

FILE = "plan.key"
LENGTH_LEAST = 16
KEY_BYTES = 4096
GUARD_SECONDS = 10.0
CONTEXT = b"tracktion.ops/plan\n"
HOW_TO = (
    "set tracktion_plan_key, or the environment variable TRACKTION_PLAN_KEY, to the same text in the run that makes a "
    "plan and in the run that carries it out (`openssl rand -hex 32` makes one; docs/awx.md shows a credential type)"
)


class NoKey(Exception):
    """There is no key for a seal. The message explains how to set one."""


def key(given: str | None, awx: bool) -> bytes:
    """Return the key that is given, else the key of the file, which is created if it is missing.

    Raises NoKey.
    """
    given = (given or "").strip()
    if given:
        if len(given) < LENGTH_LEAST:
            raise NoKey("tracktion_plan_key: must have at least %d characters: %s" % (LENGTH_LEAST, HOW_TO))
        return given.encode("utf-8", "surrogateescape")
    if awx:
        raise NoKey("no tracktion_plan_key is set, and the files of this job are lost at its end: %s" % HOW_TO)
    try:
        return _from_file()
    except OSError as exc:
        raise NoKey("the key of this controller cannot be used: %s. Or %s" % (exc.strerror or exc, HOW_TO)) from exc


def _from_file() -> bytes:
    folder = str(_row_cache.directory())
    with (
        _safe_files.Directory(folder, make=True, trusted=_safe_files.behind_sudo()) as directory,
        directory.locked(FILE + ".guard", GUARD_SECONDS),
    ):
        try:
            content = directory.read(FILE, KEY_BYTES).strip()
        except FileNotFoundError:
            content = secrets.token_hex(32).encode("ascii")
            directory.replace(FILE, content + b"\n")
        if len(content) < LENGTH_LEAST:
            raise _safe_files.Unsafe(directory.file(FILE), "is not a key; remove it, and make the plan again")
        return content


def name_of(secret: bytes) -> str:
    """Return a short hash that identifies the key."""
    return hmac.new(secret, CONTEXT + b"name", hashlib.sha256).hexdigest()[:16]


def seal(plan: dict, secret: bytes) -> str:
    """Return the seal of a plan that has none yet."""
    return hmac.new(secret, CONTEXT + json.dumps(plan, sort_keys=True).encode("ascii"), hashlib.sha256).hexdigest()


def fits(plan: dict, secret: bytes) -> bool:
    """Return whether the seal was made with this key and the plan is unchanged. Takes the same time for every seal."""
    found = plan.get("seal")
    expected = seal({name: value for name, value in plan.items() if name != "seal"}, secret)
    return isinstance(found, str) and hmac.compare_digest(found.encode("utf-8", "replace"), expected.encode("ascii"))
