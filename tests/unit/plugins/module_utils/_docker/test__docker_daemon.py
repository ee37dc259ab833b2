# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration file of the engine and conflicting flags, as in dockerd 20.10."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_daemon


def describe(tmp_path, text, *flags, version=None):
    path = tmp_path / "daemon.json"
    path.write_text(text)
    return _docker_daemon.describe(str(path), _docker_daemon.parsed(["/usr/bin/dockerd", *flags]), version)


@pytest.mark.parametrize(
    ("text", "flags", "conflicts"),
    [
        ('{"hosts": ["unix:///x"]}', ["-H", "fd://", "--containerd=/run/containerd/containerd.sock"], ["hosts"]),
        ('{"hosts": []}', ["-Hfd://"], ["hosts"]),
        ('{"log-level": "debug", "debug": true}', ["--log-level", "info", "-D"], ["debug", "log-level"]),
        ('{"labels": ["a=b"], "storage-opts": ["a=b"]}', ["--label", "c=d"], ["labels"]),
        (
            '{"default-address-pools": []}',
            ["--default-address-pool=base=10.0.0.0/8,size=24"],
            ["default-address-pools"],
        ),
        ('{"iptables": true}', ["--iptables=false"], ["iptables"]),
        ('{"runtimes": {}}', ["--add-runtime", "x=/bin/true"], []),
        ('{"dns": ["192.0.2.1"]}', ["--dns-search", "example"], []),
        ('{"dns": ["192.0.2.1"]}', ["--dns", "192.0.2.1", "--config-file=/elsewhere"], []),
    ],
)
def test_settings_that_are_also_flags(tmp_path, text, flags, conflicts):
    described = describe(tmp_path, text, *flags)
    assert (described["conflicts"], described["valid"]) == (conflicts, not conflicts)
    assert all(name in described["problem"] for name in conflicts)


@pytest.mark.parametrize("text", ["{", "[]", " ", '{"dns": ["192.0.2.1"],}'])
def test_invalid_configurations(tmp_path, text):
    described = describe(tmp_path, text)
    assert not described["valid"]
    assert described["problem"]


@pytest.mark.parametrize(("text", "version"), [("{}", None), ("null", None), ("\n", 23), ("", 28)])
def test_valid_configurations(tmp_path, text, version):
    assert describe(tmp_path, text, version=version)["valid"]


def test_flags_are_settings(tmp_path):
    described = describe(tmp_path, '{"userland-proxy": false}', "--iptables=false", "--bridge", "none")
    assert (described["iptables"], described["userland_proxy"], described["ip_forward"]) == (False, False, None)
    absent = _docker_daemon.describe(str(tmp_path / "none.json"), {"iptables": "false"})
    assert (absent["exists"], absent["valid"], absent["iptables"]) == (False, True, False)
