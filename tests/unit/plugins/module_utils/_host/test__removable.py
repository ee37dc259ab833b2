# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which directories and names may be deleted."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _removable
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption


@pytest.mark.parametrize("path", ["/var/log", "/tmp", "/var/tmp/analysis", "/home/user/tmp", "/srv/logs", "/etcetera"])
def test_directories_of_logs_and_temporary_files(path):
    _removable.reject(path, "roots")


@pytest.mark.parametrize(
    "path",
    ["/", "//", "/etc/logrotate.d", "/usr/lib", "/home", "/var", "/var/lib", "/var/lib/redis", "relative"],
)
def test_directories_of_the_system(path):
    with pytest.raises(BadOption, match=r"^roots: "):
        _removable.reject(path, "roots")


@pytest.mark.parametrize("name", ["a.gz", "-rf.gz", "new\nline.gz", "\udcf6.gz", ".gz"])
def test_names_that_match(name):
    assert _removable.compiled(["*.gz", "*.[0-9]"]).match(name)


@pytest.mark.parametrize("name", ["a.gz.part", "app.log", "a.gzip", "gz"])
def test_names_that_do_not_match(name):
    assert not _removable.compiled(["*.gz", "*.[0-9]"]).match(name)


def test_no_patterns_match_nothing():
    assert not _removable.compiled([]).match("")


def test_the_default_patterns_leave_active_logs():
    patterns = ["*.gz", "*.xz", "*.bz2", "*.zst", "*.[0-9]", "*.[0-9][0-9]", "*.old"]
    pattern = _removable.compiled([*patterns, "*-20[0-9][0-9][01][0-9][0-3][0-9]"])
    for name in ("syslog", "auth.log", "system.journal", "wtmp", "catalina.out", "access.log-2026", "error.log"):
        assert not pattern.match(name), name
    for name in ("syslog.1", "auth.log.2.gz", "access.log-20261129", "dpkg.log.10", "boot.log.old"):
        assert pattern.match(name), name
