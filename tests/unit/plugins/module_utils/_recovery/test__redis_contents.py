# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contents of a Redis backup, and their comparison."""

from __future__ import annotations

import shlex

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _broker_backups, _redis_contents

CONTENTS = {"databases": {"0": {"keys": 12, "expires": 2}, "10": {"keys": 1, "expires": 0}}, "functions": {"lib": "a"}}


def compare(databases=None, functions=None):
    found = _redis_contents.compare(
        CONTENTS, CONTENTS["databases"] if databases is None else databases, functions or {"lib": "a"}
    )
    return [(each["item"], each["expected"], each["found"]) for each in found]


def test_equal_contents():
    assert compare() == []


def test_each_difference_is_named():
    assert compare({"0": {"keys": 11, "expires": 2}, "2": {"keys": 1, "expires": 0}}, {"lib": "b", "other": "c"}) == [
        ("databases.0.keys", 12, 11),
        ("databases.2.keys", 0, 1),
        ("databases.10.keys", 1, 0),
        ("functions.lib", "a", "b"),
        ("functions.other", None, "c"),
    ]


def test_functions_that_could_not_be_read_are_not_compared():
    assert _redis_contents.compare({"databases": {}, "functions": None}, {}, {"lib": "a"}) == []


def test_a_user_has_no_password_in_the_manifest():
    line = "user worker on sanitize-payload #%s ~cache:* resetchannels -@all +get" % ("ab" * 32)
    found = _redis_contents.user(line)
    assert (found["name"], found["enabled"], found["passwords"]) == ("worker", True, 1)
    assert "ab" * 32 not in str(found)
    # The password is no part of the checksum, the rules are.
    assert found["rules_sha256"] == _redis_contents.user(line.replace("abab", "cdcd"))["rules_sha256"]
    assert found["rules_sha256"] != _redis_contents.user(line.replace("+get", "+set"))["rules_sha256"]


@pytest.mark.parametrize(
    ("version", "number"), [("8.0.2", 80002), ("7.2", 70200), ("4.0.5-rc.1", 40005), ("", None), (None, None)]
)
def test_versions_as_numbers(version, number):
    assert _broker_backups.version_number(version) == number


def test_the_undo_command_is_quoted():
    words = shlex.split(_broker_backups.command("redis", "it's", recovery_undo="f76273c8"))
    assert words[:3] == ["ansible-playbook", "tracktion.ops.restore", "-e"]
    assert '"tracktion_confirm": ["recovery.restore:it\'s"]' in words[3]
