# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What service_health reports for a user without a right."""

from __future__ import annotations

import os

from tests.integration.areas import diagnose
from tests.integration.http_servers import answers, free_port, page, serving
from tests.integration.inotify_faults import OTHER_UID, become
from tests.lab.shell import wait_until
from tests.lab.throwaway import project
from tests.rights import service_health as rights

COMMAND = {"name": "it", "service": "worker"}


def in_group_docker():
    """Keep the group of the engine's socket, and nothing else."""
    group = os.stat("/var/run/docker.sock").st_gid
    os.setgroups([group])
    os.setresgid(OTHER_UID, OTHER_UID, OTHER_UID)
    os.setresuid(OTHER_UID, OTHER_UID, OTHER_UID)


def test_without_the_group_docker():
    with project("service_health") as services, serving({"/": page()}) as served:
        port = free_port()
        published = ("--publish", "127.0.0.1:%d:8000" % port)
        services.run("worker", "python3", "-m", "http.server", "8000", options=published)
        own, closed = ("http://127.0.0.1:%d/" % number for number in (port, free_port()))
        wait_until(lambda: answers(own), "the server in the container", 60)
        settings = {
            "service_health_endpoints": [
                {"name": "well", "url": served.url()},
                {"name": "own", "url": own, "service": "worker"},
                {"name": "closed", "url": closed},
            ],
            "tracktion_compose_project": services.name,
            "service_health_command_slow_warning_by_name": {"it": 60},
        }

        def look(before, *argv):
            commands = [{**COMMAND, "argv": list(argv)}]
            return diagnose("service_health", {**settings, "service_health_commands": commands}, before=before)

        found = look(lambda: become(OTHER_UID), "false")
        unknown = {check for check, same in found.items() if same[0]["status"] == "unknown"}
        assert unknown == rights.ENGINE.checks
        assert all(rights.ENGINE.grant in found[check][0]["hint"] for check in unknown)
        # The answers of endpoints need no right.
        assert set(found) - unknown == {"service_health.unreachable"}
        assert set(look(in_group_docker, "true")) == {"service_health.unreachable"}
        assert set(look(in_group_docker, "false")) == {"service_health.unreachable", "service_health.command_failed"}
