# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""URLs, and percentiles of latencies."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._http import _endpoint
from ansible_collections.tracktion.ops.plugins.module_utils._http._endpoint import Target


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://localhost:8001/health", "localhost", 8001, "/health"),
        ("https://api.example.org", "api.example.org", 443, "/"),
        ("HTTP://Example.org?a=b c", "example.org", 80, "/?a=b%20c"),
        ("http://[::1]:8001/ä?q=%20#part", "::1", 8001, "/%C3%A4?q=%20"),
        ("http://u:p@host/", "host", 80, "/"),
    ],
)
def test_parts_of_a_url(url, host, port, path):
    target = Target(url)
    assert (target.host, target.port, target.path) == (host, port, path)


def test_login_in_a_url():
    target = Target("http://a%40b:p%3Aw@host:1/")
    assert (target.user, target.password, target.host_port) == ("a@b", "p:w", "host:1")
    assert Target("http://host/").user is None
    assert Target("http://[::1]:1/").host_port == "[::1]:1"


@pytest.mark.parametrize("url", ["ftp://host/", "host/path", "http://", "http://host:port/", "http://host:70000/"])
def test_invalid_url_is_rejected(url):
    with pytest.raises(ValueError):  # noqa: PT011 (some of the messages are the library's)
        Target(url)


def test_percentiles_by_nearest_rank():
    took = [number / 100 for number in range(100, 0, -1)]
    assert _endpoint.latency(took, [], 100) == {
        "wanted": 100,
        "made": 100,
        "failed": 0,
        "failures": [],
        "p50_seconds": 0.5,
        "p95_seconds": 0.95,
        "max_seconds": 1.0,
    }
    one = _endpoint.latency([0.2], ["closed", "status 503", "closed"], 5)
    assert (one["p50_seconds"], one["p95_seconds"], one["max_seconds"]) == (0.2, 0.2, 0.2)
    assert (one["made"], one["failed"], one["failures"]) == (4, 3, ["closed", "status 503"])
    assert _endpoint.latency([], ["closed"], 1)["p95_seconds"] is None


def test_p95_of_fewer_than_20_is_the_slowest():
    took = [float(number) for number in range(1, 21)]
    assert _endpoint.latency(took, [], 20)["p95_seconds"] == 19.0
    assert _endpoint.latency(took[:19], [], 19)["p95_seconds"] == 19.0
