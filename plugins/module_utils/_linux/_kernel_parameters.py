# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and values of kernel parameters, as sysctl(8) calls them. Private to this collection."""

from __future__ import annotations

import os
import re

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sysctl
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut

PROC = "/proc/sys"
# What would mean something else in a file of sysctl.d (spaces, =, patterns, comments), or in a path.
NOT_IN_A_NAME = re.compile(r"[\s=*?\[\]#;\\\x00-\x1f]")


class Unusable(Exception):
    """A parameter that has no floor; the message says why, without naming it."""


def normal(key):
    """The one spelling of a key: dots separate, and a dot in a name (eth0.1) is a slash. Raises Unusable."""
    key = _sysctl.dotted(key)
    parts = path_of(key)[len(PROC) + 1 :].split("/")
    if NOT_IN_A_NAME.search(key) or key.startswith("-"):
        raise Unusable("it is not the name of one kernel parameter")
    if len(parts) < 2 or not all(part.strip(".") for part in parts):
        raise Unusable("it is not the name of one kernel parameter: it has to look like net.core.somaxconn")
    return key


def path_of(key):
    """The file of a parameter."""
    return "%s/%s" % (PROC, key.translate(str.maketrans("./", "/.")))


def current(key):
    """The whole number that a parameter is now. Raises Unusable where it is none, or nothing at all."""
    try:
        with open(path_of(key), encoding="utf-8", errors="replace") as stream:
            text = stream.read().strip()
    except FileNotFoundError:
        raise Unusable("this kernel has no such parameter: mend its spelling, or load the module that brings it")
    except IsADirectoryError:
        raise Unusable("it is a group of parameters: name one of them")
    except OSError as exc:
        raise Unusable("it cannot be read: %s" % exc.strerror)
    value = _sysctl.whole_number(text)
    if value is not None and value >= 0:
        return value
    if value is not None:
        raise Unusable("it is %d, which is no amount: whether more is higher cannot be told" % value)
    if len(text.split()) > 1:
        raise Unusable(
            "it holds several values (%s), and a floor is one whole number" % cut(" ".join(text.split()), 60)
        )
    raise Unusable("it is %s, and only a whole number has a floor" % (repr(cut(text, 60)) if text else "empty"))


def write(key, value):
    """Set a parameter; raises OSError with what the kernel has against it."""
    with open(path_of(key), "w", encoding="utf-8") as stream:
        stream.write("%d\n" % value)


def read_only(key):
    """Whether the parameter lies on a file system that is mounted read-only, as in every ordinary container."""
    return bool(os.statvfs(existing_parent(path_of(key))).f_flag & os.ST_RDONLY)


def writable(key):
    return os.access(path_of(key), os.W_OK)


def existing_parent(path):
    """The nearest directory above ``path`` that exists."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
