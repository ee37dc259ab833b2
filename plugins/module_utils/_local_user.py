# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The user who runs this process, for messages and logs. Private to this collection."""

from __future__ import annotations

import getpass
import os


def local_user() -> str:
    """Return ``root (alice)@host``: the user, the one behind sudo, and the name of the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "uid %d" % os.getuid()
    behind = os.environ.get("SUDO_USER")
    return "%s@%s" % ("%s (%s)" % (user, behind) if behind else user, os.uname().nodename)
