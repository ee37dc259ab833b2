# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values of compose files beside those of containers."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_compare
from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_compare import Pair

HUB = "docker.io/library/"


@pytest.mark.parametrize(
    ("file", "running", "expected"),
    [
        ("web:1", "web:1", True),
        ("web:1", "web:2", False),
        ("web", "web:latest", True),
        ("web:1", "other/web:1", False),
        # With its registry.
        ("web", HUB + "web:latest", True),
        ("other/web:1", "docker.io/other/web:1", True),
        ("web:1", "localhost/web:1", True),
        ("web:1", "quay.io/web:1", True),
        ("team/web:1", "registry.example:5000/team/web:1", True),
        ("quay.io/web:1", HUB + "web:1", False),
        ("web@sha256:0", HUB + "web@sha256:0", True),
        # By its id.
        ("web:1", "sha256:" + "0" * 64, True),
    ],
)
def test_an_image_has_several_names(file, running, expected):
    assert _compose_compare.is_same_image(file, running) is expected


@pytest.mark.parametrize(
    ("what", "text", "running", "expected"),
    [
        ("memory_limit_bytes", "64m", str(64 << 20), False),
        ("memory_limit_bytes", "64m", "0", True),
        ("memory_limit_bytes", "${LIMIT:-64m}", "0", False),
        ("memory_limit_bytes", "much", "0", False),
        ("image", "${REGISTRY:-docker.io}/web:1", "registry/web:1", False),
        ("image", "${NAME:-web}", "web", False),
        ("image", "web:${TAG:-1}", "other:1", True),
        ("image", "web:${TAG:-1}", "sha256:0", False),
        ("environment", "1", None, True),
        ("environment", None, "1", True),
    ],
)
def test_only_what_is_certain_differs(what, text, running, expected):
    assert _compose_compare.differs(Pair(what, "", text, running)) is expected


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ("80", [("80/tcp", ":")]),
        (8080, [("8080/tcp", ":")]),
        ("8000:80/udp", [("80/udp", ":8000")]),
        ("127.0.0.1:8000:80", [("80/tcp", "127.0.0.1:8000")]),
        ("0.0.0.0:8000:80", [("80/tcp", ":8000")]),
        ("[::1]:8000:80", [("80/tcp", "::1:8000")]),
        ("${PORT:-8000}:80", [("80/tcp", ":${PORT:-8000}")]),
        ("8000-8001:80-81", [("80/tcp", ":8000"), ("81/tcp", ":8001")]),
        # The engine takes one of them.
        ("8000-8010:80", None),
        ("8000:${PORT}", None),
        ("${ADDRESS}:8000:80", None),
        ({"target": 80, "published": "8000", "host_ip": "127.0.0.1"}, [("80/tcp", "127.0.0.1:8000")]),
        ({"target": 80, "protocol": "udp"}, [("80/udp", ":")]),
    ],
)
def test_ports_in_all_forms(port, expected):
    assert _compose_compare.published(port) == expected
