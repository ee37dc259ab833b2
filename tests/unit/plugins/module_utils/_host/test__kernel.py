# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of the kernel, from recorded text."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host import _interfaces, _kernel
from tests.unit.plugins.module_utils._host.trees import context

FILES = {
    "proc/sys/fs/file-nr": "1860\t0\t2000\n",
    "proc/loadavg": "0.00 0.00 0.00 1/900 1\n",
    "proc/sys/kernel/pid_max": "1000\n",
    "proc/sys/kernel/threads-max": "192730\n",
    "proc/uptime": "52491.65 1.00\n",
}
CONNTRACK = {
    "proc/sys/net/netfilter/nf_conntrack_count": "26214\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
}


def test_the_lower_limit_of_threads_counts(tmp_path):
    found = _kernel.describe(context(tmp_path, {**FILES, **CONNTRACK}), None, None)
    assert found["pids_ratio"] == 0.9
    assert found["file_handles_ratio"] == 0.93
    assert found["conntrack_ratio"] == 0.1
    assert found["listen_overflows"] is None
    assert found["uptime_seconds"] == 52491.65


def test_without_connection_tracking_there_is_no_table(tmp_path):
    tcp = [_interfaces.Sample({}, {"ListenOverflows": number}) for number in (3, 5)]
    found = _kernel.describe(context(tmp_path, FILES), *tcp)
    assert found["conntrack"] is None
    assert found["conntrack_ratio"] is None
    assert (found["listen_overflows"], found["new_listen_overflows"]) == (5, 2)
