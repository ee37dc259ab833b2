# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights of the area network."""

from __future__ import annotations

from tests.rights import Right

PATHS = (
    "service_not_looked_from",
    "not_on_common_network",
    "path_dns",
    "path_refused",
    "path_timeout",
    "path_no_route",
    "path_paused",
    "path_http",
    "path_http_timeout",
    "name_leads_elsewhere",
    "path_mtu",
)
PORTS = ("published_port_dropped", "published_port_not_answering", "published_port_taken")
NETWORKS = ("subnet_overlap", "unused_network")

FILES = Right("network", "root", "--become", (*PATHS, *PORTS, "docker_rules_missing"))
SOCKET = Right("network", "docker", "--become", NETWORKS)
REQUEST = Right("network", "GET /networks", "Allow this request", NETWORKS)
NAMESPACES = Right("network", "CAP_SYS_ADMIN", "has no CAP_SYS_ADMIN", PATHS)
RULES = Right("network", "CAP_NET_ADMIN", "has no CAP_NET_ADMIN", ("docker_rules_missing",))
CONFIGURATION = Right("network", "daemon.json", "--become", ("daemon_json_invalid",))

RIGHTS = [FILES, SOCKET, REQUEST, NAMESPACES, RULES, CONFIGURATION]
