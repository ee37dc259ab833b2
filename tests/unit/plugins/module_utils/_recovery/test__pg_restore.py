# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which database an undo goes back to."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_restore import NoDatabase, _last

FIRST, SECOND = "shop_before_20261129T130000Z", "shop_before_20261129T140000Z"
OTHERS = ["shop", "shop_old", "shop_before_lunch", "other_before_20261129T150000Z", "other_undone_20261129T150000Z"]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([FIRST], FIRST),
        ([FIRST, SECOND], SECOND),
        ([FIRST, FIRST + "_2"], FIRST + "_2"),
        # A restore after an undo, maybe within one second.
        (["shop_undone_20261129T135959Z", SECOND], SECOND),
        (["shop_undone_20261129T140000Z", SECOND], SECOND),
    ],
)
def test_the_last_restore_is_undone(names, wanted):
    assert _last([*OTHERS, *names], "shop") == wanted


@pytest.mark.parametrize("before", [[], [FIRST]])
def test_a_restore_that_is_undone_is_not_undone_again(before):
    undone = "shop_undone_20261129T140000Z"
    with pytest.raises(NoDatabase, match=undone) as caught:
        _last([*OTHERS, undone, *before], "shop")
    assert undone in caught.value.hint
    assert (FIRST in caught.value.hint) == bool(before)


def test_without_a_restore_there_is_no_way_back():
    with pytest.raises(NoDatabase, match="no restore has put a database shop aside"):
        _last(OTHERS, "shop")
