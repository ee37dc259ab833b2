# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private directories for the files of one run, such as decrypted backups. Private to this collection.

Their names have the mark of the process that made them, so that a later run removes what a killed one has left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from typing import Iterator

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _process_mark

PREFIX = ".scratch-"


@contextlib.contextmanager
def made(parent: str) -> Iterator[str]:
    """Yield a new directory in ``parent``, which is removed at the end. Raises OSError."""
    sweep(parent)
    # A colon in a path cannot be given to --volume of docker.
    mark = _process_mark.own().replace(":", ".")
    path = tempfile.mkdtemp(prefix="%s%s-" % (PREFIX, mark), dir=parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(parent: str) -> None:
    """Remove the directories of this user whose process has ended. Raises OSError."""
    for name in os.listdir(parent):
        mark = name[len(PREFIX) :].partition("-")[0].replace(".", ":")
        if name.startswith(PREFIX) and _process_mark.is_dead(mark):
            path = os.path.join(parent, name)
            # In /tmp, others can use the prefix, too.
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(path).st_uid == os.geteuid():
                    shutil.rmtree(path, ignore_errors=True)


def sweep_if_possible(parent: str) -> None:
    """Remove them for a run that needs none, such as an undo: a decrypted backup must not wait for the next proof."""
    with contextlib.suppress(OSError):
        sweep(parent)
