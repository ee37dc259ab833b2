# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses in /proc/net."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners


def test_addresses_of_both_families():
    assert _listeners.readable_address("0100007F") == "127.0.0.1"
    assert _listeners.readable_address("0000000000000000FFFF0000040014AC") == "::ffff:172.20.0.4"
