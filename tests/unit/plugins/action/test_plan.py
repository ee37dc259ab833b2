# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible.errors import AnsibleActionFail
from ansible_collections.tracktion.ops.plugins.action import plan
from ansible_collections.tracktion.ops.plugins.plugin_utils import _plan

IDS = {"dumps.fill", "dumps.replace", "dumps.empty_safe"}


@pytest.mark.parametrize(
    ("option", "entry"),
    [
        ("only", "dumps.emtpy_safe"),
        ("skip", "dump.*"),
        ("confirm", "dumps.replace"),
        ("confirm", "dumps.destroy:a"),
    ],
)
def test_an_entry_that_matches_nothing_is_rejected_with_the_name_of_the_option(option, entry):
    with pytest.raises(AnsibleActionFail, match="tracktion_%s: '%s'" % (option, entry.replace("*", r"\*"))):
        plan._reject_unmatched(_plan.Limits(**{option: [entry]}), IDS)


def test_entries_that_match_are_accepted():
    limits = _plan.Limits(only=["dumps.fill"], skip=["dumps.*"], confirm=["dumps.replace:c"])
    plan._reject_unmatched(limits, IDS)
