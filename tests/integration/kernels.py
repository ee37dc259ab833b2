# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private kernel parameters for tests: most parameters net.* belong to a network namespace."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.integration.inotify_faults import call, libc

CLONE_NEWNET = 0x40000000
_numbers = count(1)


@dataclass
class Kernel:
    """The network namespace ``name``, and ``root``, the root directory of its sysctl files."""

    name: str
    root: Path

    def run(self, *words):
        """Run a program in the namespace and return its output."""
        words = ["ip", "netns", "exec", self.name, *words]
        return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, timeout=20).stdout.strip()

    def get(self, key):
        """Return the value of a parameter in the kernel."""
        return int(self.run("cat", "/proc/sys/" + key.replace(".", "/")))

    def set(self, key, value):
        self.run("sh", "-c", "echo %d >/proc/sys/%s" % (value, key.replace(".", "/")))

    def file(self, name):
        """Return the path of a file of sysctl.d below the root."""
        return self.root / "etc/sysctl.d" / name

    def enter(self):
        """Move this process into the namespace."""
        with open("/run/netns/" + self.name) as namespace:
            call(libc.setns, namespace.fileno(), CLONE_NEWNET)

    def interpreter(self, folder, before="true"):
        """Return a Python that runs in the namespace, with private mounts, after the shell command ``before``."""
        script = folder / ("python-" + self.name)
        script.write_text(
            '#!/bin/sh\nexec ip netns exec %s unshare --mount sh -c \'%s && exec "$0" "$@"\' %s "$@"\n'
            % (self.name, before, sys.executable)
        )
        script.chmod(0o755)
        return str(script)


@contextlib.contextmanager
def kernel(folder):
    """Create a network namespace with an empty configuration below ``folder``."""
    name = "tracktion-test-%d-%d" % (os.getpid(), next(_numbers))
    root = folder / name
    (root / "etc/sysctl.d").mkdir(parents=True)
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=20)
    try:
        yield Kernel(name, root)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=20)
