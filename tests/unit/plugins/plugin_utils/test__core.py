# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import yaml

from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.plugin_utils import _core

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("version", ["2.19.0", "2.19.14", "2.20.0b1", "2.21.2", "3.0.0"])
def test_a_newer_core_is_accepted(version):
    assert _core.reason_to_reject(version, "/lib/ansible", False) is None


def test_an_older_core_is_rejected_with_a_hint():
    assert _core.reason_to_reject("2.18.6", "/lib/ansible", False) == (
        "tracktion.ops needs ansible-core 2.19 or later; this is 2.18.6 (/lib/ansible). "
        "Install a newer one on the controller: `pip install 'ansible-core>=2.19'`."
    )


def test_in_a_job_of_awx_the_execution_environment_is_named():
    reason = _core.reason_to_reject("2.18.6", "/lib/ansible", True)
    assert "this is 2.18.6 (execution environment, /lib/ansible)" in reason
    assert "Select an execution environment" in reason


def test_the_version_is_the_one_that_the_collection_declares():
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    assert runtime["requires_ansible"] == ">=%d.%d.0" % _core.OLDEST


def test_on_an_older_core_the_import_fails_with_the_reason(monkeypatch):
    monkeypatch.delattr("ansible.template.trust_as_template")
    monkeypatch.setattr("ansible.release.__version__", "2.18.6")
    with pytest.raises(AnsibleError, match=r"^tracktion\.ops needs ansible-core 2\.19 or later; this is 2\.18\.6 \("):
        runpy.run_path(_core.__file__)
