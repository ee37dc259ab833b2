# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carries out the remedy of a finding as remediate.yml does, without a playbook."""

from __future__ import annotations

import re

import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas
from tests.integration.modules import run_module

SETTING = re.compile(r"{{ lookup\('tracktion\.ops\.setting', '(\w+)'\) }}\Z")
EVIDENCE = re.compile(r"{{ tracktion_remedy\.(\w+)\b.*}}\Z")


def carry_out(proposal, login, check, **settings):
    """Run the module of the task of a remedy that acts. Return its result.

    Arguments: the remedy of a finding, the connection options of the module, whether to run it in check mode, and
    variables of the role that differ from its defaults.
    """
    area_name, _dot, name = proposal["id"].partition(".")
    (area,) = _areas.find([area_name])
    known = {**yaml.safe_load(area.file("defaults", "main.yml").read_text()), **settings}
    tasks = yaml.safe_load(area.file("tasks", "remediate", name + ".yml").read_text())
    (task,) = [each for each in tasks if each.get("register") == "tracktion_remedied"]
    (module,) = [each for each in task if each.startswith("tracktion.ops.")]

    def value(text):
        if isinstance(text, dict):
            given = {key: value(each) for key, each in text.items()}
            return {key: each for key, each in given.items() if each is not None}
        if isinstance(text, list):
            return [value(each) for each in text]
        setting, evidence = SETTING.match(str(text)), EVIDENCE.match(str(text))
        if setting:
            return known[setting.group(1)]
        return proposal["vars"].get(evidence.group(1)) if evidence else text

    return run_module(module.rpartition(".")[2], {**login, **value(task[module])}, check=check)
