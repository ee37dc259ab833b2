# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.tracktion.ops.plugins.module_utils import _exit
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect


@pytest.fixture
def end(capsys):
    """Return a function that ends a module with ``work`` and returns its exit status and its result."""

    def run(work, diff=False):
        with patch_module_args({"_ansible_diff": diff}):
            module = AnsibleModule({}, supports_check_mode=True)
            with pytest.raises(SystemExit) as stop:
                _exit.exit_module(module, work)
        result = json.loads(capsys.readouterr().out)
        result.pop("invocation", None)
        return stop.value.code, result

    return run


def failing(failure):
    def work():
        raise failure

    return work


def test_a_measurement_changes_nothing(end):
    assert end(lambda: {"queues": []}) == (0, {"changed": False, "queues": []})


@pytest.mark.parametrize("asked", [True, False])
def test_a_diff_is_returned_only_in_diff_mode(end, asked):
    code, result = end(lambda: {"changed": True, "diff": {"before": 1, "after": 2}}, diff=asked)
    assert (code, result["changed"], "diff" in result) == (0, True, asked)


def test_a_failed_result_is_returned_complete(end):
    code, result = end(lambda: {"changed": True, "failed": True, "msg": "one stayed", "removed": ["a"]})
    assert (code, result) == (1, {"changed": True, "failed": True, "msg": "one stayed", "removed": ["a"]})


def test_the_message_of_a_failure_contains_its_hint(end):
    code, result = end(failing(CannotConnect("refused", "nothing listens at port 1.", "check login_port")))
    assert code == 1
    assert result["msg"] == "nothing listens at port 1. Fix: check login_port"
    assert (result["kind"], result["hint"]) == ("refused", "check login_port")


def test_the_message_of_a_failure_without_a_hint_has_no_fix(end):
    _code, result = end(failing(BadOption("top: must be at least 1, got 0")))
    assert (result["msg"], result["kind"], result["hint"]) == ("top: must be at least 1, got 0", "bad_option", None)
