# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths of compose files."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_drift


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["/srv/app/compose.yaml"], ["/srv/app/compose.yaml"]),
        (["docker-compose.yml", "more.yml"], ["/srv/app/docker-compose.yml", "/srv/app/more.yml"]),
        # Called from the parent directory, which contains the other file.
        (["app/docker-compose.yml", "app/more.yml"], ["/srv/app/docker-compose.yml", "/srv/app/more.yml"]),
        (["app/docker-compose.yml", "more.yml"], ["/srv/app/docker-compose.yml", "/srv/more.yml"]),
        (["srv/app/docker-compose.yml"], ["/srv/app/docker-compose.yml"]),
        (["../app/docker-compose.yml"], ["/srv/app/docker-compose.yml"]),
        # With a project directory that is not that of the file.
        (["deploy/docker-compose.yml"], ["/srv/app/deploy/docker-compose.yml"]),
    ],
)
def test_files_are_located_from_the_directory_of_the_call(files, expected):
    assert _compose_drift.located(files, "/srv/app") == expected
