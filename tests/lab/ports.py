# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free ports of the loopback interface."""

from __future__ import annotations

import itertools
import random
import socket

from .shell import LabError

# Below the range from which the kernel picks ports for outgoing connections: those come and go.
RANGE = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether nothing listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """So many different free ports; at random, so that two labs that start together rarely choose alike."""
    chosen = list(itertools.islice(filter(is_free, random.sample(RANGE, len(RANGE))), count))
    if len(chosen) < count:
        raise LabError(f"no {count} free ports on 127.0.0.1 between {RANGE.start} and {RANGE.stop}")
    return chosen
