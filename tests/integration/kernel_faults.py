# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes real kernel messages: about memory, and about a disk backed by a file."""

from __future__ import annotations

import contextlib
import subprocess
import time

from tests.lab.images import ensure_image
from tests.lab.servers import LABEL
from tests.lab.shell import attempt, run

# In a mount namespace of its own, so that tests that list mounts do not see this one.
READ_ONLY = """
mount "$1" "$2"
echo broken by a test > /sys/fs/ext4/$(basename "$1")/trigger_fs_error
umount "$2"
"""


@contextlib.contextmanager
def killed_for_memory(lab):
    """Run a container in which a process is killed at the memory limit; yield its name."""
    name = "%s-hungry-1" % lab.project
    attempt("docker", "rm", "--force", name)
    image = ensure_image(lab.state["suite"])
    options = ["--label", "%s=%s" % (LABEL, lab.project), "--memory", "24m", "--memory-swap", "24m"]
    script = "held = []\nwhile True: held.append(bytearray(1 << 20))"
    try:
        done = attempt("docker", "run", "--name", name, *options, image, "python3", "-c", script)
        assert done.returncode == 137, done
        assert run("docker", "inspect", "--format", "{{.State.OOMKilled}}", name).strip() == "true"
        yield name
    finally:
        attempt("docker", "rm", "--force", name)


def broken_disk(folder):
    """Create a loop disk whose ext4 turns read-only, then truncate it so that reads fail; return its name."""
    image = folder / "disk"
    with open(image, "wb") as stream:
        stream.truncate(16 << 20)
    run("mkfs.ext4", "-q", "-F", "-e", "remount-ro", image)
    device = run("losetup", "--find", "--show", image).strip()
    try:
        (folder / "mnt").mkdir()
        run("unshare", "--mount", "sh", "-ec", READ_ONLY, "sh", device, folder / "mnt")
        with open(image, "r+b") as stream:
            stream.truncate(1 << 20)
        read = ["dd", "if=" + device, "of=/dev/null", "bs=4096", "skip=2048", "count=1", "iflag=direct"]
        assert subprocess.run(read, capture_output=True, check=False).returncode
    finally:
        run("losetup", "--detach", device)
    return device.rpartition("/")[2]


def kernel_says(priority, text, seconds_ago, number=1):
    """Return a record in the format of /dev/kmsg."""
    microseconds = int((time.monotonic() - seconds_ago) * 1e6)
    return b"%d,%d,%d,-;%s\n SUBSYSTEM=test\n" % (priority, number, microseconds, text.encode())
