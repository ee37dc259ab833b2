# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths of compose files, and differences to containers."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_drift

HUB = "docker.io/library/"


@pytest.mark.parametrize(
    ("file", "running", "expected"),
    [
        ("web:1", "web:1", False),
        ("web:1", "web:2", True),
        ("web", "web:latest", False),
        ("web:1", "other/web:1", True),
        # With its registry.
        ("web", HUB + "web:latest", False),
        ("other/web:1", "docker.io/other/web:1", False),
        ("web:1", "localhost/web:1", False),
        ("web:1", "quay.io/web:1", False),
        ("team/web:1", "registry.example:5000/team/web:1", False),
        ("quay.io/web:1", HUB + "web:1", True),
        ("web@sha256:0", HUB + "web@sha256:0", False),
        # By its id.
        ("web:1", "sha256:" + "0" * 64, False),
        ("web:1", None, True),
    ],
)
def test_an_image_has_several_names(file, running, expected):
    assert _compose_drift.differs("image", file, running) is expected


def test_other_values_are_compared_as_they_are():
    assert _compose_drift.differs("memory_limit_bytes", 0, 1)
    assert not _compose_drift.differs("memory_limit_bytes", 1, 1)


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
