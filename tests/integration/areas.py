# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Diagnoses one area in this process, as a visit and the report do, a second faster than a playbook."""

from __future__ import annotations

import json
from functools import partial

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.tracktion.ops.plugins.module_utils import _measures, _side_by_side
from ansible_collections.tracktion.ops.plugins.module_utils import _presence as presence
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._host_visit import probes_of
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _areas,
    _checks,
    _evaluation,
    _presence,
    _probe_options,
    _settings,
    _shape,
)
from tests.integration import firings


def visit(name, settings=None, before=None):
    """Measure an area as a visit does: return ``(area, outcome, settings)``.

    ``settings`` are the user's variables. ``before`` is called in the measuring process, to drop privileges or to
    mount something in a private namespace.
    """
    (area,) = _areas.find([name])
    loader = DataLoader()

    def load(path):
        return loader.load_from_file(str(path), trusted_as_template=True)

    given = list(settings or {})
    variables = {**_settings.shared_defaults(), **load(area.file("defaults", "main.yml")), **(settings or {})}
    templar = Templar(loader=loader, variables=variables)
    settings = templar.template(variables)
    values = _settings.Settings(settings)
    probes, error = _settings.probes(area, values, values, variables, templar)
    assert not error, error
    # A measuring process without privileges may not read the files of a private checkout.
    for probe in probes.values():
        _measures.load(probe["module"])
    deadline = float(settings["%s_deadline" % name])
    callables = probes_of({"deadline": deadline, "probes": _probe_options.validated(probes)})
    if before:
        first = next(iter(callables))
        callables[first] = partial(_after, before, callables[first])
    outcome = validated(_side_by_side.run({name: (deadline, callables)})[name], probes)
    _settings.name_variables(area, outcome["measurement"])
    return area, {**outcome, "given": given, "presence": find_services(area, given, settings)}, settings


def find_services(area, given, settings):
    """Return the services that belong to this host, as a visit does if a default of the area depends on them."""
    if not _presence.applying(_presence.load(area), given):
        return None
    engine = settings.get("containers_docker_host", _engine.DEFAULT_HOST)
    files = settings.get("containers_compose_files", [])
    return presence.measure(settings["tracktion_docker_root"], engine, files, 5.0)


def validated(outcome, probes):
    """Return the outcome as on the controller. Fails if a measurement has not the shape that its module documents."""
    received = _shape.Document(json.dumps(outcome["measurement"])).value
    for name, measurement in received.items():
        module = probes[name]["module"]
        _shape.checked(measurement, module)
        assert _shape.undeclared(measurement, module) == [], "%s: RETURN does not document these" % module
    return {**outcome, "measurement": received}


def _after(before, measure):
    before()
    return measure()


def diagnose(name, settings=None, before=None):
    """Return the area's findings of any status by id."""
    return evaluate(*visit(name, settings, before))


def evaluate(area, outcome, settings):
    """Return the findings of any status about what ``visit()`` measured, by id."""
    checks = _checks.load(area)
    left = _presence.apply(_presence.load(area), {**outcome, "settings": settings}, outcome.get("presence"))
    findings, _counts = (
        _evaluation.evaluate(area.name, checks, "here", left.outcome, settings) if left.outcome else ([], {})
    )
    firings.record(findings, (check.id for check in checks))
    by_id = {}
    for finding in findings:
        by_id.setdefault(finding["id"], []).append(finding)
    return by_id


def fired(findings, check_id, status=None):
    """Return the findings of a check that are not ``unknown``; with ``status``, assert that all have it."""
    found = [finding for finding in findings.get(check_id, ()) if finding["status"] != "unknown"]
    if status:
        assert {finding["status"] for finding in found} == {status}, findings
    return found
