# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validates the options of probes on the controller, as Ansible does on the host when a module runs by itself.

Private to this collection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.tracktion.ops.plugins.module_utils import _measures
from ansible_collections.tracktion.ops.plugins.plugin_utils import _measuring_code, _row_cache
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

# Each probe gets its share of the time on the host, unless a row sets another one.
DEADLINE = "deadline"


def validated(probes: Mapping[str, Values]) -> dict[str, Values]:
    """Return the probes of an area with all options of their modules, or with ``invalid``: what is wrong with them.

    A module that this collection does not have is left to the host, which reports it.
    """
    return {name: _validated(name, probe) for name, probe in probes.items()}


def _validated(name: str, probe: Values) -> Values:
    validator = validators().get(probe["module"])
    if not validator:
        return probe
    try:
        # The validator copies what it gets, which takes ten times as long for Ansible's own types.
        given = json.loads(json.dumps(probe["options"]))
    except (TypeError, ValueError, RecursionError) as exc:
        return _invalid(name, probe, [str(exc)])
    found = validator.validate(given)
    if found.error_messages:
        return _invalid(name, probe, found.error_messages)
    options = found.validated_parameters
    if DEADLINE not in given:
        options.pop(DEADLINE, None)
    return {**probe, "options": options}


def _invalid(name: str, probe: Values, messages: Iterable[str]) -> Values:
    text = "probe %s (%s): %s" % (name, probe["module"], "; ".join(messages))
    return {"module": probe["module"], "options": {}, "invalid": text}


@cache
def validators() -> dict[str, ArgumentSpecValidator]:
    """Return the validators by module. Called once before Ansible forks a process for each host: they take 10 ms."""
    key = json.dumps(["argument specs", _measuring_code.files()])
    return {name: ArgumentSpecValidator(spec) for name, spec in _row_cache.parsed(key, _specs).items()}


def _specs(_key: str) -> dict[str, Any]:
    folder = _measuring_code.FOLDER / "_measures"
    names = sorted(path.stem[1:] for path in folder.glob("_[a-z]*.py"))
    return {name: _portable(_measures.load(name).ARGUMENT_SPEC) for name in names}


def _portable(spec: Any) -> Any:
    """Return an argument spec in which paths are text: the host replaces ``~`` and variables in them."""
    if isinstance(spec, Mapping):
        texts = {key: "str" for key in ("type", "elements") if spec.get(key) == "path"}
        return {**{key: _portable(value) for key, value in spec.items()}, **texts}
    return spec
