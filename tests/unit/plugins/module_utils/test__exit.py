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
def ended(capsys):
    """What a module prints that ends with a piece of work."""

    def end(work, diff=False):
        with patch_module_args({"_ansible_diff": diff}):
            module = AnsibleModule({}, supports_check_mode=True)
            with pytest.raises(SystemExit) as stop:
                _exit.exit_module(module, work)
        said = json.loads(capsys.readouterr().out)
        said.pop("invocation", None)
        return stop.value.code, said

    return end


def failing(failure):
    def work():
        raise failure

    return work


def test_a_measurement_changes_nothing(ended):
    assert ended(lambda: {"queues": []}) == (0, {"changed": False, "queues": []})


@pytest.mark.parametrize("asked", [True, False])
def test_a_diff_is_for_those_who_ask_for_one(ended, asked):
    code, said = ended(lambda: {"changed": True, "diff": {"before": 1, "after": 2}}, diff=asked)
    assert (code, said["changed"], "diff" in said) == (0, True, asked)


def test_what_was_done_before_it_failed_is_told(ended):
    code, said = ended(lambda: {"changed": True, "failed": True, "msg": "one stayed", "removed": ["a"]})
    assert (code, said) == (1, {"changed": True, "failed": True, "msg": "one stayed", "removed": ["a"]})


def test_a_failure_says_its_cure_in_the_same_line(ended):
    code, said = ended(failing(CannotConnect("refused", "nothing listens at port 1.", "check login_port")))
    assert code == 1
    assert said["msg"] == "nothing listens at port 1. Fix: check login_port"
    assert (said["kind"], said["hint"]) == ("refused", "check login_port")


def test_a_failure_without_a_cure_does_not_speak_of_one(ended):
    _code, said = ended(failing(BadOption("top: must be at least 1, got 0")))
    assert (said["msg"], said["kind"], said["hint"]) == ("top: must be at least 1, got 0", "bad_option", None)
