# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and values of kernel parameters, as in sysctl(8). Private to this collection."""

from __future__ import annotations

import os
import re

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sysctl
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut

PROC = "/proc/sys"
# Characters with another meaning in a file of sysctl.d (spaces, =, patterns, comments) or in a path.
NOT_IN_A_NAME = re.compile(r"[\s=*?\[\]#;\\\x00-\x1f]")


class InvalidParameter(Exception):
    """The parameter cannot have a floor. The message gives the reason, without the name."""


def normalize(key: str) -> str:
    """Return the canonical spelling of a key: dots separate, and a dot in a name (eth0.1) is a slash.

    Raises InvalidParameter.
    """
    key = _sysctl.dotted(key)
    parts = path_of(key)[len(PROC) + 1 :].split("/")
    if NOT_IN_A_NAME.search(key) or key.startswith("-"):
        raise InvalidParameter("it is not the name of one kernel parameter")
    if len(parts) < 2 or not all(part.strip(".") for part in parts):
        raise InvalidParameter("it is not the name of one kernel parameter, such as net.core.somaxconn")
    return key


def path_of(key: str) -> str:
    """Return the file of a parameter."""
    return "%s/%s" % (PROC, key.translate(str.maketrans("./", "/.")))


def current(key: str) -> int:
    """Return the current value of a parameter. Raises InvalidParameter unless it is a whole number of 0 or more."""
    try:
        with open(path_of(key), encoding="utf-8", errors="replace") as stream:
            text = stream.read().strip()
    except FileNotFoundError:
        raise InvalidParameter("this kernel has no such parameter: correct the name, or load its kernel module")
    except IsADirectoryError:
        raise InvalidParameter("it is a group of parameters: name one of them")
    except OSError as exc:
        raise InvalidParameter("it cannot be read: %s" % exc.strerror)
    value = _sysctl.whole_number(text)
    if value is not None and value >= 0:
        return value
    if value is not None:
        raise InvalidParameter("it is %d: a floor needs a value of 0 or more" % value)
    if len(text.split()) > 1:
        raise InvalidParameter(
            "it holds several values (%s), and a floor is one whole number" % cut(" ".join(text.split()), 60)
        )
    raise InvalidParameter("it is %s, and only a whole number has a floor" % (repr(cut(text, 60)) if text else "empty"))


def write(key: str, value: int) -> None:
    """Set a parameter. Raises OSError if the kernel rejects the value."""
    with open(path_of(key), "w", encoding="utf-8") as stream:
        stream.write("%d\n" % value)


def read_only(key: str) -> bool:
    """Return whether the parameter is on a file system mounted read-only, as in every ordinary container."""
    return bool(os.statvfs(existing_parent(path_of(key))).f_flag & os.ST_RDONLY)


def writable(key: str) -> bool:
    """Return whether this user may write the parameter. It may still be on a read-only file system."""
    return os.access(path_of(key), os.W_OK)


def existing_parent(path: str) -> str:
    """Return the nearest directory above ``path`` that exists."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
