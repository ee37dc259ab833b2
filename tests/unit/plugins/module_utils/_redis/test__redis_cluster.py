# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_cluster as cluster

NODES = b"""\
07c3 10.0.0.1:6379@16379,host-1 myself,master - 0 1 1 connected 0-100 102 [93->-292f]
a1b2 10.0.0.2:6379@16379 master,fail - 1 1 2 disconnected 103-16383
c3d4 10.0.0.3:6379@16379 slave,fail? a1b2 1 1 2 connected
e5f6 :0@0 master,noaddr - 1 1 3 disconnected
short line
"""


def test_missing_slots_and_failing_nodes_are_named():
    nodes = cluster.parse_nodes(NODES)
    assert cluster.missing_ranges(nodes) == ["101"]
    assert cluster.missing_ranges(nodes[:1]) == ["101", "103-16383"]
    found = cluster.build(True, {"cluster_state": "fail", "cluster_slots_assigned": "16383"}, nodes, 20)
    rows = [
        tuple(row[name] for name in ("address", "role", "confirmed", "slot_count")) for row in found["failing_nodes"]
    ]
    assert rows == [
        ("10.0.0.2:6379", "primary", True, 16281),
        ("10.0.0.3:6379", "replica", False, 0),
        (":0", "primary", False, 0),
    ]
    assert (found["state"], found["slots_assigned"], found["slots_failing"]) == ("fail", 16383, None)


def test_what_is_denied_is_null_and_a_server_without_a_cluster_has_nothing_missing():
    assert cluster.build(True, {}, None, 5)["missing_slots"] is None
    found = cluster.build(False, {}, [], 5)
    assert (found["enabled"], found["missing_slots"], found["failing_nodes"]) == (False, [], [])
