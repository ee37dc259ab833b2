# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_sentinel as sentinel


def test_the_hint_names_the_servers_that_it_monitors():
    info = {"sentinel_masters": "1", "master0": "name=mymaster,status=ok,address=10.0.0.5:6379,slaves=0,sentinels=1"}
    assert sentinel.hint(info).endswith("that it monitors: mymaster at 10.0.0.5:6379.")
    assert sentinel.hint({}).endswith("that it monitors.")
