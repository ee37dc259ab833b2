# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry of faults, and that they are mended however the test in them ends."""

from __future__ import annotations

import pytest

from tests.lab import faults
from tests.lab.shell import LabError


@pytest.fixture
def registry(monkeypatch):
    """An empty registry, in which only this test's faults are found."""
    monkeypatch.setattr(faults, "_registry", {})
    monkeypatch.setattr(faults.pkgutil, "iter_modules", lambda path: [])
    return faults


def define(log, fires=("area.check",)):
    @faults.fault(fires=list(fires))
    def full_disk(lab):
        """The disk
        is full."""
        log.append(f"broken {lab}")
        yield
        log.append(f"mended {lab}")

    return full_disk


def test_a_fault_is_known_by_its_function_name_with_dashes(registry):
    define([])

    fault = registry.named("full-disk")
    assert (fault.area, fault.fires, fault.summary) == ("test_faults", ("area.check",), "The disk is full.")


def test_an_unknown_name_is_answered_with_the_known_ones(registry):
    define([])

    with pytest.raises(LabError, match="full-disk"):
        registry.named("fool-disk")


def test_two_faults_cannot_have_one_name(registry):
    define([])

    with pytest.raises(ValueError, match="full-disk"):
        define([])


def test_a_fault_without_an_explanation_is_refused(registry):
    with pytest.raises(ValueError, match="docstring"):

        @faults.fault(fires=[])
        def silent(lab):
            yield


def test_it_is_broken_inside_and_mended_after(registry):
    log = []
    define(log)

    with registry.injected("full-disk", "lab"):
        assert log == ["broken lab"]
    assert log == ["broken lab", "mended lab"]


def test_it_is_mended_after_a_failed_test_too(registry):
    log = []
    define(log)

    with pytest.raises(AssertionError), registry.injected("full-disk", "lab"):
        raise AssertionError
    assert log == ["broken lab", "mended lab"]


def test_every_real_fault_names_its_area_and_what_it_fires():
    for name, fault in faults.every().items():
        assert fault.fires, name
        assert all(check.startswith(f"{fault.area}.") for check in fault.fires), name
