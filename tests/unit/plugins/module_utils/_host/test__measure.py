# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole measurement of this machine."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _host_resources_info


def measure(**options):
    defaults = {name: option.get("default") for name, option in _host_resources_info.ARGUMENT_SPEC.items()}
    return _host_resources_info.measure({**defaults, **options})


def test_both_samples_are_complete_if_the_deadline_is_shorter_than_the_interval():
    found = measure(sample_seconds=60, deadline=1.0)
    assert 0.2 < found["sample_seconds"] < 2
    assert found["processes"]["complete"]
    assert found["processes"]["total"] > 0
    assert found["cpu"]["runnable_per_core"] is not None


def test_all_parts_are_there_without_an_interval():
    found = measure(sample_seconds=0)
    assert set(_host_resources_info.PARTS) <= set(found)
    assert found["memory"]["total_bytes"] > 1 << 20
    assert found["kernel"]["threads"] > 0
