# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_statements


@pytest.mark.parametrize(
    ("columns", "total", "reading"),
    [
        (["total_time", "mean_time", "blk_read_time"], "s.total_time", "s.blk_read_time"),
        (["total_plan_time", "total_exec_time", "blk_read_time"], "s.total_exec_time", "s.blk_read_time"),
        (
            ["total_exec_time", "shared_blk_read_time", "local_blk_read_time"],
            "s.total_exec_time",
            "s.shared_blk_read_time",
        ),
    ],
    ids=["1.7", "1.8", "1.11"],
)
def test_column_names_of_each_version(columns, total, reading):
    names = _pg_statements.column_names(columns)
    assert names["total"] == total
    assert names["mean"] == total.replace("total", "mean")
    assert names["longest"] == total.replace("total", "max")
    assert names["read_time"] == reading
