# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests for where the name of an endpoint comes from."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._http import _http_exchange


def test_a_name_of_the_hosts_file(tmp_path, monkeypatch):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.0.0.5\tapi.example.org API # other\n# 10.0.0.6 old\n")
    monkeypatch.setattr(_http_exchange, "HOSTS", str(hosts))
    found = [name for name in ("api", "api.example.org", "other", "old", "10.0.0.5") if _http_exchange.in_hosts(name)]
    assert found == ["api", "api.example.org"]
    hosts.unlink()
    assert not _http_exchange.in_hosts("api")
