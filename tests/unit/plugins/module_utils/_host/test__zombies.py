# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zombies, by the parent that does not collect them."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host import _zombies
from tests.unit.plugins.module_utils._host.trees import context, process, table


def test_zombies_of_both_samples_are_counted_by_parent(tmp_path):
    made = context(tmp_path, {"proc/uptime": "100.00 50.00\n", "proc/40/cmdline": b"/app/\xf6 worker\0-x\0"})
    lasting = [process(pid, "child", "Z", parent=40, started=2000 + pid) for pid in (51, 52, 53)]
    made.first = table(process(40), *lasting, process(60, state="S", parent=1), process(61, state="Z", parent=2))
    made.second = table(process(40), *lasting, process(60, state="Z", parent=1), process(62, state="Z", parent=40))
    found = _zombies.describe(made)
    assert found["zombies_total"] == 3
    (item,) = found["zombies"]
    assert (item["pid"], item["count"], item["names"], item["pids"]) == (40, 3, ["child"], [51, 52, 53])
    assert item["command"] == "\\xf6"
    assert item["oldest_seconds"] == round(100 - 2051 / 100, 1)


def test_a_parent_that_is_hidden_has_its_pid_as_a_name(tmp_path):
    made = context(tmp_path, {"proc/uptime": "100.00 50.00\n"})
    made.first = made.second = table(process(51, state="Z", parent=7))
    assert _zombies.describe(made)["zombies"][0]["command"] == "pid 7"
