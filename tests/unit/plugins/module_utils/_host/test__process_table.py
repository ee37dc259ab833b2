# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process table, from lines of /proc/<pid>/stat as the kernel writes them."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _process_table
from tests.unit.plugins.module_utils._host.trees import context, process, stat, table


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"),
        ("a) R 1 (b", "a) R 1 (b"),
        ("two\nlines", "two lines"),
        ("\udcf6l", "\\xf6l"),
        ("\x1b[31mred", "red"),
        ("(sd-pam)", "(sd-pam)"),
    ],
)
def test_a_name_may_contain_anything(name, expected):
    line = stat(7, name, "R", 3, 20, 22, 4, 555, 10).encode("utf-8", "surrogateescape")
    found = _process_table.parse(line)
    assert found == process(7, expected, "R", 3, 42, 555, 4, 10 * _process_table.PAGE)


@pytest.mark.parametrize("text", [b"", b"7 (cat", b"7 (cat) R 1 2 3", b"x (cat) " + b"1 " * 50])
def test_a_malformed_line_is_no_process(text):
    assert _process_table.parse(text) is None


def test_processes_that_end_meanwhile_are_left_out(tmp_path):
    made = context(tmp_path, {"proc/7/stat": stat(7), "proc/stat": "", "proc/self/stat": stat(9)})
    (tmp_path / "proc/8").mkdir()
    assert set(made.read_processes()) == {7}
    assert made.read_processes().read_at > 0


def test_the_processes_of_a_diagnosis_descend_from_the_parent():
    processes = table(process(1, parent=0), process(5), process(6, parent=5), process(7, parent=6), process(8))
    assert _process_table.family(processes, 5) == {5, 6, 7}
    assert _process_table.family(processes, 1) == frozenset()
