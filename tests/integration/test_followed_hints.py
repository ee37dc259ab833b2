# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hint of every fault of the lab is followed: by the test that injects the fault, or here."""

from __future__ import annotations

import pytest

from tests.integration.areas import diagnose
from tests.integration.followed_hints import BY_AREA, MESSAGE_QUEUE
from tests.integration.following import Operator, follow
from tests.lab.faults import every
from tests.lab.inventory import variables
from tests.lab.shell import wait_until


@pytest.mark.parametrize("area", BY_AREA)
def test_each_check_of_a_fault_is_listed(area):
    faults = {name: fault for name, fault in every().items() if fault.area == area}
    assert set(BY_AREA[area]) == set(faults)
    for name, fault in faults.items():
        assert set(fault.fires) <= set(BY_AREA[area][name]), name


def test_every_area_is_listed():
    assert set(BY_AREA) == {fault.area for fault in every().values()}


def test_a_missing_queue_of_the_stack(lab):
    def measure():
        return diagnose("message_queue", variables(lab))

    with lab.fault("deleted-queue"):
        findings = wait_until(lambda: with_check(measure(), "message_queue.missing_queue"), "the finding", 20)
        follow(Operator(directory=lab.directory), MESSAGE_QUEUE["deleted-queue"], findings, measure)


def with_check(findings, check):
    return findings if check in findings else None
