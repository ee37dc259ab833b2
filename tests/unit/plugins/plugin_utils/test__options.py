# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _options

SECONDS = "must be a number of seconds above 0"


@pytest.mark.parametrize(
    ("value", "option", "expected"),
    [
        ("15", {"type": "float"}, 15),
        (" 1.5 ", {"type": "float"}, 1.5),
        (3, {"type": "float"}, 3),
        ("7", {"type": "int"}, 7),
        (7.0, {"type": "int"}, 7),
        ("9007199254740993", {"type": "int"}, 9007199254740993),
        ("yes", {"type": "bool"}, True),
        (0, {"type": "bool"}, False),
        (5432, {"type": "str"}, "5432"),
        ("~/x", {"type": "path"}, "~/x"),
        ("a, b", {"type": "list", "elements": "str"}, ["a", "b"]),
        ([1, "2"], {"type": "list", "elements": "int"}, [1, 2]),
        ('{"a": 1}', {"type": "dict"}, {"a": 1}),
        ("b", {"type": "str", "choices": ["a", "b"]}, "b"),
        ({"n": "3"}, {"type": "dict", "options": {"n": {"type": "int"}}}, {"n": 3}),
        ({"any": object}, {"type": "raw"}, {"any": object}),
        ("text", {}, "text"),
    ],
)
def test_a_value_gets_the_type_of_its_option(value, option, expected):
    checked = _options.checked("cache_x", value, option)
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    "value", ["abc", "-1", -1, 0, "0", "inf", float("inf"), "nan", float("nan"), True, [], {}, "1e999"]
)
@pytest.mark.parametrize(
    "name", ["cache_deadline", "cache_timeout", "tracktion_sample_seconds", "tracktion_lock_seconds"]
)
def test_a_duration_must_be_above_zero(name, value):
    with pytest.raises(_options.BadValue) as caught:
        _options.checked(name, value, {"type": "float"}, 0)
    assert str(caught.value) == "%s: %s" % (name, SECONDS)


@pytest.mark.parametrize("value", [0, 65536, -1, "x", 1.5])
def test_a_port_is_a_port(value):
    with pytest.raises(_options.BadValue, match=r"^cache_login_port: must be a whole number between 1 and 65535$"):
        _options.checked("cache_login_port", value, {"type": "int"})


@pytest.mark.parametrize(
    ("value", "option", "wanted"),
    [
        ("much", {"type": "float"}, "a number of 0 or more"),
        (-0.5, {"type": "float"}, "a number of 0 or more"),
        ("1.5", {"type": "int"}, "a whole number of 0 or more"),
        (10**400, {"type": "float"}, "a number of 0 or more"),
        ("maybe", {"type": "bool"}, "true or false"),
        (["a"], {"type": "str"}, "a text"),
        ({"a": 1}, {"type": "list"}, "a list"),
        ("[a", {"type": "list"}, "a list, or text separated by commas or newlines"),
        ("a=1", {"type": "dict"}, "a mapping"),
        ("c", {"type": "str", "choices": ["a", "b"]}, "one of a, b"),
    ],
)
def test_an_invalid_value_is_rejected_with_the_name_of_its_option(value, option, wanted):
    with pytest.raises(_options.BadValue) as caught:
        _options.checked("cache_x", value, option, 0)
    assert str(caught.value) == "cache_x: must be %s" % wanted


def test_values_inside_of_a_value_are_validated():
    queue = {"name": {"type": "str", "required": True}, "min_consumers": {"type": "int"}}
    option = {"type": "list", "elements": "dict", "options": queue}
    assert _options.checked("q", [{"name": "a", "min_consumers": "2"}], option) == [{"name": "a", "min_consumers": 2}]
    with pytest.raises(_options.BadValue, match=r"^q\[1\]\.min_consumers: must be a whole number$"):
        _options.checked("q", [{"name": "a"}, {"name": "b", "min_consumers": "few"}], option)
    with pytest.raises(_options.BadValue, match=r"^q\[0\]\.name: is required$"):
        _options.checked("q", [{}], option)


def test_a_number_without_a_least_may_be_negative():
    assert _options.checked("spool_temperature_warning", "-5", {"type": "int"}) == -5


def test_a_message_never_holds_the_value():
    for option in ({"type": "float"}, {"type": "bool"}, {"type": "dict"}, {"type": "str", "choices": ["a"]}):
        with pytest.raises(_options.BadValue) as caught:
            _options.checked("cache_x", "hunter2", option)
        assert "hunter2" not in str(caught.value)


def test_an_option_is_private_if_any_part_of_it_is():
    assert _options.is_private({"no_log": True})
    assert _options.is_private({"options": {"url": {}, "auth": {"options": {"password": {"no_log": True}}}}})
    assert not _options.is_private({"no_log": False, "options": {"url": {}}})
