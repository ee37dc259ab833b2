# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names, images and processes of the lab."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess

import pytest

from tests.lab import images, servers
from tests.lab.shell import LabError, run
from tests.lab.stack import Stack, broker_definitions


def test_stacks_of_different_names_share_nothing():
    one, other = Stack("one"), Stack("other")

    assert (one.project, one.network) == ("tracktion-lab-one", "tracktion-lab-one_default")
    assert one.directory != other.directory


@pytest.mark.parametrize("name", ["Upper", "../up", "with space", "-dash"])
def test_a_name_that_compose_or_the_file_system_cannot_bear_is_refused(name):
    with pytest.raises(LabError, match="cannot name a stack"):
        Stack(name)


def test_a_stack_that_is_not_up_says_how_to_bring_it_up():
    with pytest.raises(LabError, match="lab up --name absent"):
        Stack("absent").ports  # noqa: B018


def test_the_broker_can_verify_its_users_passwords():
    user = broker_definitions("secret")["users"][0]

    stored = base64.b64decode(user["password_hash"])
    assert stored[4:] == hashlib.sha256(stored[:4] + b"secret").digest()


def test_an_image_is_named_for_its_suite_and_recipe(monkeypatch):
    before = {suite: images.tag(suite) for suite in images.SUITES}
    monkeypatch.setitem(images.RECIPE, "packages", ["something-else"])

    assert len(set(before.values())) == len(images.SUITES)
    assert all(images.tag(suite) != before[suite] for suite in images.SUITES)


def test_an_unknown_suite_is_refused():
    with pytest.raises(LabError, match="bookworm and trixie"):
        images.tag("sarge")


def test_a_process_differs_from_a_later_one_with_the_same_pid():
    assert servers.is_alive(servers.this_process())
    assert not servers.is_alive(f"{os.getpid()}:1")


def test_a_process_that_only_waits_for_its_parent_is_gone():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert servers.start_time(child.pid) is None
    child.wait()


def test_a_failed_command_is_quoted_with_its_words():
    with pytest.raises(LabError, match=r"`sh -c echo no >&2; exit 3` failed with exit code 3: no"):
        run("sh", "-c", "echo no >&2; exit 3")
