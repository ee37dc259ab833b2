# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A diagnosis leaves no traces that look like faults."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_levels
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _network_path
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas
from tests.integration.areas import diagnose
from tests.lab.inventory import variables
from tests.lab.servers import redis_server
from tests.lab.shell import attempt

SERVICES = ("postgres", "redis", "rabbitmq", "analysis_service", "tracklist_service", "file_watcher")


def complaints(lab, service, since):
    """Return the lines of a service's log with a warning or an error."""
    done = attempt("docker", "logs", "--since", "%.3f" % since, lab.container(service))
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if _log_levels.read(line)[0] in _log_levels.COUNTED]


def test_diagnoses_add_no_warning_to_the_logs_of_a_healthy_stack(lab):
    lab.wait_healthy()
    settings, began = {**variables(lab), "tracktion_sample_seconds": 0.2}, time.time()
    areas = [area.name for area in _areas.find() if area.name != "logs"]
    assert {"network", "containers", "database", "cache", "message_queue"} <= set(areas)
    for area in [*areas, "network", "network"]:
        diagnose(area, settings)
    assert {service: complaints(lab, service, began) for service in SERVICES} == {service: [] for service in SERVICES}
    assert diagnose("logs", {**settings, "logs_since": began}) == {}


def test_a_tls_port_is_tested_with_tls():
    with redis_server("trixie", "--tls-auth-clients", "no", tls=True) as server:

        def go(to):
            target = _network_path.Target(to % (server.host, server.port), validate_certs=False)
            before = len(server.logs())
            result = _network_path.follow(target, _dns.Configuration(), 3, Deadline(10))
            assert result["ok"], result
            time.sleep(0.2)
            return server.logs()[before:]

        assert "Error accepting a client connection" not in go("tls://%s:%d")
        # Without, the server complains.
        assert "Error accepting a client connection" in go("%s:%d")
