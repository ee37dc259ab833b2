# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The label of a command line."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/bin/python3", "-u", "/app/main.py", "--password", "x"], "python3 /app/main.py"),
        (["python3.11", "-m", "file_watcher", "--token=x"], "python3.11 -m file_watcher"),
        (["python3", "-c", "print('secret')"], "python3 -c"),
        (["java", "-Xmx1g", "-jar", "app.jar", "secret"], "java -jar app.jar"),
        (["redis-server", "--requirepass", "x"], "redis-server"),
        (["nginx: worker process"], "nginx:"),
        (["python3"], "python3"),
        ([], None),
        ([""], None),
    ],
)
def test_a_label_has_no_arguments(words, expected):
    assert _processes.label(words) == expected
